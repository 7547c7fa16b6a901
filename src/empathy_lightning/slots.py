"""What stands in the prompt and in its slots: what was heard, or what is known, where that is to be measured."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
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
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    speech: Tensor
    still: int
    prefix: list[int]


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
