"""Which responses are kept, and a report of what was dropped and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from empathy_lightning import text as cleaning
from empathy_lightning.errors import InputError
from empathy_lightning.preparation import diversity
from empathy_lightning.text import Rule
from empathy_lightning.utterance import Utterance

REFUSALS: dict[str, Rule | None] = {"published": cleaning.published_refusal, "wide": cleaning.refusal, "off": None}
"""Refusal filters by name."""

Embed = Callable[[Sequence[str]], Tensor]
"""Texts to their embeddings, shape (texts, D)."""


@dataclass(frozen=True)
class ResponseSelection:
    """What is kept: rules for each response first, then how far responses must differ, in the order given.

    Attributes:
        rules: Each drops single responses.
        repeats: How often the same words may come; None leaves repeats alone.
        overlap: N-gram overlap from which a response is a near-duplicate; None leaves these alone.
        similarity: Cosine of mean embeddings above which two responses are alike; None leaves these alone.
        count: Keep this many that lie farthest apart; None keeps all.
    """

    rules: tuple[Rule, ...] = (cleaning.published_refusal,)
    repeats: int | None = None
    overlap: float | None = None
    similarity: float | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        wrong = {
            "repeats": self.repeats is not None and self.repeats < 1,
            "overlap": self.overlap is not None and not 0 < self.overlap <= 1,
            "similarity": self.similarity is not None and not -1 <= self.similarity <= 1,
            "count": self.count is not None and self.count < 1,
        }
        for name, is_wrong in wrong.items():
            if is_wrong:
                raise InputError(f"{name} of {getattr(self, name)} keeps nothing: see `prepare responses --help`")


@dataclass(frozen=True)
class Dropped:
    """An utterance that is left out.

    Attributes:
        utterance: With its response.
        reason: Why.
        like: The kept utterance that it repeats, where that is why.
    """

    utterance: Utterance
    reason: str
    like: Utterance | None = None


def select(
    utterances: Sequence[Utterance], selection: ResponseSelection, embed: Embed
) -> tuple[list[Utterance], list[Dropped]]:
    """Keep what the selection lets pass.

    Args:
        utterances: With responses, in order of preference.
        selection: What to keep.
        embed: Called only where the selection compares embeddings.

    Returns:
        What is kept, in its order, and what is not.
    """
    kept = list(utterances)
    dropped: list[Dropped] = []

    def _drop(reasons: dict[int, str], twins: dict[int, int] | None = None) -> None:
        nonlocal kept
        for index, reason in reasons.items():
            like = kept[twins[index]] if twins else None
            dropped.append(Dropped(kept[index], reason, like))
        kept = [u for index, u in enumerate(kept) if index not in reasons]

    def _texts() -> list[str]:
        return [u.response or "" for u in kept]

    _drop(cleaning.apply_rules(kept, selection.rules))
    if selection.repeats is not None:
        _drop(dict.fromkeys(diversity.repeats(_texts(), selection.repeats), "repeated too often"))
    if selection.overlap is not None:
        twins = diversity.near_duplicates(_texts(), selection.overlap)
        _drop(dict.fromkeys(twins, "n-grams of another"), twins)
    if selection.similarity is not None and kept:
        twins = diversity.similar(embed(_texts()), selection.similarity)
        _drop(dict.fromkeys(twins, "means the same as another"), twins)
    if selection.count is not None and selection.count < len(kept):
        taken = set(diversity.farthest_points(embed(_texts()), selection.count))
        others = set(range(len(kept))) - taken
        _drop(dict.fromkeys(others, f"not among the {selection.count} farthest apart"))
    return kept, dropped


def report(kept: Sequence[Utterance], dropped: Sequence[Dropped]) -> dict[str, Any]:
    """Counts by reason and by emotion, and each drop."""
    still = Counter(u.emotion or "unlabelled" for u in kept)
    asked = still + Counter(d.utterance.emotion or "unlabelled" for d in dropped)
    return {
        "utterances": len(kept) + len(dropped),
        "kept": len(kept),
        "cut_and_kept": sum(u.response_cut for u in kept),
        "reasons": dict(Counter(d.reason for d in dropped).most_common()),
        "emotions": {name: {"utterances": asked[name], "kept": still[name]} for name in sorted(asked)},
        "dropped": [_row(d) for d in dropped],
    }


def _row(dropped: Dropped) -> dict[str, Any]:
    utterance = dropped.utterance
    row = {"corpus": utterance.corpus, "id": utterance.id, "reason": dropped.reason, "response": utterance.response}
    if dropped.like is not None:
        row["like"] = dropped.like.id
    return row


def table(figures: dict[str, Any]) -> str:
    """The counts of a report, for the screen."""
    rows = [("utterances", figures["utterances"])]
    rows += [(f"  {reason}", -count) for reason, count in figures["reasons"].items()]
    rows += [("kept", figures["kept"]), ("  of these cut, without an end", figures["cut_and_kept"])]
    return "\n".join(f"{name:<46}{count:>8}" for name, count in rows)
