"""Same words, other feeling: whether replies to the same words differ, and fit, where only the voice differs.

Questions of one corpus, language and speaker with the same words are a group; two of a group with other emotions are
a pair. A pair is *passed* where each reply fits its own question better than the other one's does it: with s(r, q)
the fit of a reply to a question, s(a, A) > s(a, B) and s(b, B) > s(b, A). It is *swapped* where both fit the other
question better. Nothing is asked of a judge, unless the fit asks one.

A system that reads the words alone gives a pair two replies from one distribution. If it takes the likeliest words,
they are the same reply r, and s(r, A) > s(r, B) and s(r, B) > s(r, A) cannot both hold: it passes none. If it draws,
passed and swapped are equally probable, so ``advantage``, the share of the passed minus that of the swapped, is 0 in
the mean, and the test of it deals out the replies of each group by chance. Shares are those of each reply's pairs,
averaged over the replies. (A recogniser before it may mishear one feeling more than another; that is heard in the
voice too, though it is no feeling.)
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
from empathy_lightning.evaluation.measured import Measured, means_of
from empathy_lightning.text import words
from empathy_lightning.utterance import Utterance

Key = tuple[str, str | None, str | None, tuple[str, ...]]
"""Corpus, language, speaker and words of a group."""

_AT_ONCE = 1_000_000
"""Pairs that are looked at together in the test."""


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
    needs: tuple[str, ...] = ("transcript", "emotion")

    def __init__(self, fit: Fit | None = None, permutations: int = 2000, seed: int = 0) -> None:
        if permutations < 0:
            raise InputError("same_words.permutations has to be 0 or more")
        self.fit = fit
        self.permutations = permutations
        self.seed = seed

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with the shares of a reply's pairs: ``passed``, ``swapped``, ``different``, and ``advantage``."""
        needs = () if self.fit is None else self.fit.needs
        groups = []
        for places in _groups(replies, needs):
            groups.append(_Group.of([replies[place] for place in places], places, self.fit))
        rows: list[dict[str, Any] | None] = [None] * len(replies)
        for group in groups:
            for place, row in zip(group.places, group.rows(), strict=True):
                rows[place] = row
        counts = {"groups": len(groups), "pairs": sum(len(group.pairs) for group in groups)}
        figures: dict[str, Any] = {**means_of(rows), **counts}
        if groups:
            figures["fit"] = ", ".join(sorted({group.fit for group in groups}))
        if groups and self.permutations:
            figures["p"] = self._probability(groups)
        return Measured(rows, figures)

    def _probability(self, groups: Sequence[_Group]) -> float:
        """Of as large an advantage where the replies of each group are dealt out by chance; one-sided."""
        generator = np.random.default_rng(self.seed)
        own, dealt = 0.0, np.zeros(self.permutations)
        for group in groups:
            size = len(group.places)
            order = generator.permuted(np.tile(np.arange(size), (self.permutations, 1)), axis=1)
            own += float(group.advantage(np.arange(size)))
            # Where no speaker is known, a group may be large.
            few = max(1, _AT_ONCE // len(group.pairs))
            for start in range(0, self.permutations, few):
                dealt[start : start + few] += group.advantage(order[start : start + few])
        # Sums of shares that are equal may differ in their last bits.
        return float((1 + (dealt >= own - 1e-9).sum()) / (1 + self.permutations))


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

    def outcomes(self, dealt: NDArray[np.int_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether each pair is passed, and whether it is swapped, each shape (..., P).

        Args:
            dealt: Which reply stands at each question, shape (..., K).
        """
        first, second = self.pairs.T
        left = self.fits[dealt[..., first], first] - self.fits[dealt[..., first], second]
        right = self.fits[dealt[..., second], second] - self.fits[dealt[..., second], first]
        return (left > 0) & (right > 0), (left < 0) & (right < 0)

    def advantage(self, dealt: NDArray[np.int_]) -> NDArray[np.float64]:
        """Sum over the questions of the shares of their pairs that are passed minus swapped, shape (...)."""
        passed, swapped = self.outcomes(dealt)
        # A pair counts for both of its questions, for each as one of that question's pairs.
        pairs_of = np.bincount(self.pairs.ravel(), minlength=len(self.places))
        weights = (1 / pairs_of[self.pairs]).sum(axis=1)
        shares: NDArray[np.float64] = (weights * passed).sum(axis=-1) - (weights * swapped).sum(axis=-1)
        return shares

    def rows(self) -> list[dict[str, Any]]:
        """Shares of the pairs of each reply."""
        passed, swapped = self.outcomes(np.arange(len(self.places)))
        found = []
        for position in range(len(self.places)):
            own = (self.pairs == position).any(axis=1)
            row: dict[str, Any] = {}
            for name, outcomes in (("passed", passed), ("swapped", swapped), ("different", self.different)):
                row[name] = round(float(outcomes[own].mean()), 6)
            row["advantage"] = round(row["passed"] - row["swapped"], 6)
            found.append(row)
        return found


def _groups(replies: Sequence[Utterance], needs: Sequence[str]) -> list[list[int]]:
    """Places of the replies of each group that has two emotions or more; those that lack what is needed are none."""
    groups: dict[Key, list[int]] = defaultdict(list)
    for place, reply in enumerate(replies):
        said = tuple(words(reply.transcript or ""))
        whole = all(getattr(reply, name) for name in needs)
        if said and whole and reply.emotion and reply.response is not None:
            groups[reply.corpus, reply.language, reply.speaker, said].append(place)
    return [places for places in groups.values() if len({replies[place].emotion for place in places}) > 1]


def _pairs(replies: Sequence[Utterance]) -> list[tuple[int, int]]:
    places = range(len(replies))
    return [(a, b) for a, b in combinations(places, 2) if replies[a].emotion != replies[b].emotion]
