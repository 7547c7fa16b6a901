"""What stands in the prompt's slots: what was heard, or, where it is measured what that is worth, what is known."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from empathy_lightning.errors import InputError

SpeechSlot = Literal["speech", "transcript"]
"""The adapter's embeddings of the speech, or the words that were said."""

EmotionSlot = Literal["embedding", "label", "random label", "random embedding"]
"""The emotion embedding, the true label's word, a drawn label's word, or the embedding of a drawn utterance."""


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
        slot: Which of them; draws may hit the true label, or the utterance itself.
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
    if slot == "random embedding":
        order = torch.randperm(len(embedding), generator=torch.Generator().manual_seed(seed))
        return embedding[order.to(embedding.device)]
    return embedding
