"""What stands in the prompt and in its slots: what was heard, or what is known, where that is to be measured."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Literal

import torch
from torch import Tensor

from empathy_lightning.errors import InputError
from empathy_lightning.prompts import Segment

SpeechSlot = Literal["speech", "transcript"]
"""The adapter's embeddings of the speech, or the words that were said."""

EmotionSlot = Literal["embedding", "label", "random label"]
"""The emotion embedding, the true label's word or a drawn label's word."""


class PromptRow(Tensor):
    """Embeddings (T, D) of a prompt that know which of them are speech; what is computed from them is plain.

    Attributes:
        speech: Shape (T,), True where the embedding came from the speech adapter.
        still: How many first embeddings need no gradient.
        prefix: Token ids of the words before the first slot.
        positions: Shape (T,), the place of each in the prompt; None where they are counted one after the other.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    speech: Tensor
    still: int
    prefix: list[int]
    positions: Tensor | None = None


def prompt_row(segments: Sequence[Segment], pieces: Sequence[Tensor], heard: Sequence[bool]) -> PromptRow:
    """One prompt of its segments' embeddings (T_i, D), each speech or not."""
    row = torch.cat(list(pieces)).as_subclass(PromptRow)
    row.speech = torch.cat([torch.full((len(p),), h, device=row.device) for p, h in zip(pieces, heard, strict=True)])
    row.still = sum(len(piece) for piece in takewhile(lambda piece: not piece.requires_grad, pieces))
    row.prefix = _beginning(segments)
    return row


def shared_prefix(prompts: Sequence[Tensor], own: Sequence[Segment]) -> list[int]:
    """Token ids with which all prompts begin before their first slots; one that cannot tell begins as ``own``."""
    beginnings = [getattr(row, "prefix", _beginning(own)) for row in prompts] or [_beginning(own)]
    return [ids[0] for ids in takewhile(lambda ids: len(set(ids)) == 1, zip(*beginnings, strict=False))]


def _beginning(segments: Sequence[Segment]) -> list[int]:
    return [] if isinstance(segments[0], str) else segments[0]


def pad_inside(
    rows: Sequence[PromptRow], segments: Sequence[Sequence[Segment]], contents: Sequence[Sequence[Tensor]]
) -> None:
    """Give prompts the positions that they have where each piece is padded on its own to the longest of the batch.

    So BLSP-Emo and RE-LLM lay out a batch. Nothing attends to the padding, so that all that is
    left of it is that each piece begins where the longest one before it ends.

    Args:
        rows: The prompts.
        segments: Words and slots of each.
        contents: The pieces of each, (T_i, D).

    Raises:
        InputError: If the prompts have not the same slots in the same places.
    """
    if len({tuple(s if isinstance(s, str) else "" for s in cut) for cut in segments}) > 1:
        raise InputError("reference_compat pads slot by slot: all prompts of a batch need the same slots")
    widths = [max(map(len, pieces)) for pieces in zip(*contents, strict=True)]
    starts = [0, *accumulate(widths[:-1])]
    for row, pieces in zip(rows, contents, strict=True):
        places = [start + torch.arange(len(piece)) for start, piece in zip(starts, pieces, strict=True)]
        row.positions = torch.cat(places).to(row.device)


def positions_of(prompts: Sequence[Tensor], width: int, left: bool = False) -> Tensor | None:
    """Positions of prompts and of what follows them, shape (B, width); None where they are counted one after the other.

    Args:
        prompts: Embeddings (T_i, D).
        width: Positions of the longest row of the batch.
        left: The rows are padded on the left, and nothing follows.
    """
    rows = []
    for prompt in prompts:
        places = getattr(prompt, "positions", None)
        if places is None:
            return None
        spare = torch.arange(max(0, width - len(places)), device=places.device)
        rows.append(torch.cat([spare, places] if left else [places, places[-1] + 1 + spare])[:width])
    return torch.stack(rows)


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation: what the user said, how, and the answer to it.

    Attributes:
        speech: Embeddings of what was said, shape (T, D), or a transcript.
        emotion: Embedding of how it was said, shape (D,), or a label; None for a prompt without that slot.
        reply: The answer; "" where it is still to be given.
    """

    speech: Tensor | str
    emotion: Tensor | str | None = None
    reply: str = ""


def known(words: Sequence[str], ids: Sequence[str], what: str) -> list[str]:
    """Words that have to be there.

    Args:
        words: One per utterance, "" where unknown.
        ids: Of the utterances, for the message.
        what: What the words are, for the message.

    Raises:
        InputError: If an utterance has none.
    """
    missing = [name for name, word in zip(ids, words, strict=True) if not word]
    if missing:
        raise InputError(f"utterance {missing[0]} has no {what}, but the prompt's slot is to be filled with it")
    return list(words)


def emotion_content(
    slot: EmotionSlot,
    embedding: Tensor | None,
    labels: Sequence[str],
    ids: Sequence[str],
    categories: Sequence[str],
    seed: int = 0,
) -> Tensor | list[str]:
    """What fills the emotion slot of each prompt (FreezeEmpath's Table 5).

    Args:
        slot: Which of them; draws may hit the true label.
        embedding: Emotion embeddings, shape (B, D); None without an emotion nuance module, when ``"embedding"``
            stands for the true label's word, as in stage 1.
        labels: True labels, "" where unknown.
        ids: Of the utterances; a random label depends on them and the seed alone.
        categories: Labels to draw from.
        seed: Of the draws.

    Raises:
        InputError: If a label is needed and is not known.
    """
    if slot == "random label":
        return [random.Random(f"{seed} {name}").choice(list(categories)) for name in ids]
    if slot == "label":
        return known(labels, ids, "emotion label")
    if embedding is None:
        return list(labels)
    return embedding
