"""Same words, other feeling: whether replies to the same words differ, and fit, where only the voice differs.

Questions of one corpus, language and speaker with the same words are a group; two of a group with other emotions are
a pair. A pair is *passed* where each reply fits its own question better than the other one's does it: with s(r, q)
the fit of a reply to a question, s(a, A) > s(a, B) and s(b, B) > s(b, A). It is *swapped* where both fit the other
question better. Nothing is asked of a judge, unless the fit asks one.

A system that reads the words alone gives a pair two replies from one distribution. If it takes the likeliest words,
they are the same reply r, and s(r, A) > s(r, B) and s(r, B) > s(r, A) cannot both hold: it passes none. If it draws,
passed and swapped are equally probable, so ``advantage``, the share of the passed minus that of the swapped, is 0 in
the mean, and the test of it permutes the replies within each group. (A recogniser before it may mishear one feeling
more than another; that is heard in the voice too, though it is no feeling.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.fits import Fit, LikeReferences, NamesEmotion
from empathy_lightning.evaluation.intervals import ratio
from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.text import words
from empathy_lightning.utterance import Utterance

Key = tuple[str, str | None, str | None, tuple[str, ...]]
"""Corpus, language, speaker and words of a group."""


class SameWords:
    """Passed, swapped and different pairs of replies to the same words in other feelings.

    Args:
        fit: How well a reply fits a question; None takes the likeness to the references where every question of a
            group has some, else the emotion that a reply names.
        permutations: Of the test; 0 leaves it out.
        seed: Of the permutations.

    Raises:
        InputError: If the number of permutations is below 0.
    """

    name = "same_words"
    needs = ("transcript", "emotion")

    def __init__(self, fit: Fit | None = None, permutations: int = 2000, seed: int = 0) -> None:
        if permutations < 0:
            raise InputError("same_words.permutations has to be 0 or more")
        self.fit = fit
        self.permutations = permutations
        self.seed = seed

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with the shares of a reply's pairs that are ``passed``, ``swapped`` and ``different``.

        Figures are shares of pairs, with intervals over the groups.
        """
        groups = [_Group.of([replies[place] for place in places], places, self.fit) for places in _groups(replies)]
        rows: list[dict[str, Any] | None] = [None] * len(replies)
        for group in groups:
            for place, row in zip(group.places, group.rows(), strict=True):
                rows[place] = row
        pairs = [len(group.pairs) for group in groups]
        figures: dict[str, Any] = {"replies": len(rows) - rows.count(None), "groups": len(groups), "pairs": sum(pairs)}
        if not groups:
            return Measured(rows, figures)
        figures["fit"] = ", ".join(sorted({group.fit for group in groups}))
        outcomes = [group.outcomes() for group in groups]
        passed = [float(own.sum()) for own, _ in outcomes]
        swapped = [float(others.sum()) for _, others in outcomes]
        advantages = [ours - theirs for ours, theirs in zip(passed, swapped, strict=True)]
        figures["passed"] = ratio(passed, pairs)
        figures["swapped"] = ratio(swapped, pairs)
        figures["different"] = ratio([float(group.different.sum()) for group in groups], pairs)
        figures["advantage"] = ratio(advantages, pairs)
        if self.permutations:
            figures["p"] = self._probability(groups, sum(advantages))
        return Measured(rows, figures)

    def _probability(self, groups: Sequence[_Group], advantage: float) -> float:
        """Of as large an advantage where the replies of each group are dealt out by chance; one-sided."""
        generator = np.random.default_rng(self.seed)
        totals = np.zeros(self.permutations)
        for group in groups:
            size = len(group.places)
            dealt = generator.permuted(np.tile(np.arange(size), (self.permutations, 1)), axis=1)
            passed, swapped = group.outcomes(dealt)
            totals += passed.sum(axis=1) - swapped.sum(axis=1)
        return float((1 + (totals >= advantage).sum()) / (1 + self.permutations))


class _Group:
    """Replies to the same words.

    Attributes:
        places: Of the replies among all.
        pairs: Positions in the group of two that differ in emotion, shape (P, 2).
        fits: Of each reply to each question, shape (K, K).
        different: Whether the words of the replies of a pair differ, shape (P,).
        fit: Name of the fit.
    """

    def __init__(
        self, places: Sequence[int], pairs: NDArray[np.int_], fits: NDArray[np.float64], texts: Sequence[str], fit: str
    ) -> None:
        self.places = places
        self.pairs = pairs
        self.fits = fits
        self.different = np.array([words(texts[a]) != words(texts[b]) for a, b in pairs])
        self.fit = fit

    @classmethod
    def of(cls, replies: Sequence[Utterance], places: Sequence[int], fit: Fit | None) -> _Group:
        """A group of replies."""
        if fit is None:
            fit = LikeReferences() if all(reply.references for reply in replies) else NamesEmotion()
        texts = [reply.response or "" for reply in replies]
        # The same words fit alike, whoever says them.
        known = {text: fit(text, replies) for text in dict.fromkeys(texts)}
        fits = np.array([known[text] for text in texts], dtype=np.float64)
        return cls(places, np.array(_pairs(replies)), fits, texts, fit.name)

    def outcomes(self, dealt: NDArray[np.int_] | None = None) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
        """Whether each pair is passed, and whether it is swapped, each shape (..., P), 0 or 1.

        Args:
            dealt: Which reply stands at each question, shape (..., K); None leaves them where they are.
        """
        if dealt is None:
            dealt = np.arange(len(self.places))
        first, second = self.pairs.T
        left = self.fits[dealt[..., first], first] - self.fits[dealt[..., first], second]
        right = self.fits[dealt[..., second], second] - self.fits[dealt[..., second], first]
        return ((left > 0) & (right > 0)).astype(int), ((left < 0) & (right < 0)).astype(int)

    def rows(self) -> list[dict[str, Any]]:
        """Shares of the pairs of each reply."""
        passed, swapped = self.outcomes()
        found = []
        for position in range(len(self.places)):
            own = (self.pairs == position).any(axis=1)
            shares = {"passed": passed[own], "swapped": swapped[own], "different": self.different[own]}
            found.append({name: round(float(share.mean()), 6) for name, share in shares.items()})
        return found


def _groups(replies: Sequence[Utterance]) -> list[list[int]]:
    """Places of the replies of each group that has two emotions or more."""
    groups: dict[Key, list[int]] = defaultdict(list)
    for place, reply in enumerate(replies):
        said = tuple(words(reply.transcript or ""))
        if said and reply.emotion and reply.response is not None:
            groups[reply.corpus, reply.language, reply.speaker, said].append(place)
    return [places for places in groups.values() if _pairs([replies[place] for place in places])]


def _pairs(replies: Sequence[Utterance]) -> list[tuple[int, int]]:
    places = range(len(replies))
    return [(a, b) for a, b in combinations(places, 2) if replies[a].emotion != replies[b].emotion]
