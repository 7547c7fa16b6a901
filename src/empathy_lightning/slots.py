"""What fills the slots of a prompt: what was heard, or what is known, where the difference is to be measured.

A slot's filler is an object named by its class path in YAML (``speech_slot``, ``emotion_slot``), so that another
ablation is another class. FreezeEmpath's Table 5 compares those of this file.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from torch import Tensor

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.errors import InputError
from empathy_lightning.listener import Heard

Content = Tensor | str | None
"""Embeddings, words, or nothing for a prompt without the slot."""


class SlotFiller:
    """Base of the fillers; a subclass keeps its constructor's arguments as attributes of the same names."""

    uses_voice = False
    """Whether what was heard in the voice reaches the prompt, and with it a gradient."""

    def __call__(self, batch: SpeechBatch, heard: Heard) -> Sequence[Content]:
        """Contents for each utterance: embeddings (T_i, D) or (D,), or words.

        Args:
            batch: What is known of the utterances.
            heard: What was heard.

        Raises:
            InputError: If what is needed is missing.
        """
        raise NotImplementedError


class HeardSpeech(SlotFiller):
    """The adapter's embeddings of the speech."""

    uses_voice = True

    def __call__(self, batch: SpeechBatch, heard: Heard) -> Sequence[Content]:
        """Embeddings (T_i, D)."""
        if heard.said is None:
            raise InputError("there is no speech_adapter to hear what was said: give one, or fill the slot otherwise")
        return heard.said


class Transcript(SlotFiller):
    """The words that were said."""

    def __call__(self, batch: SpeechBatch, heard: Heard) -> Sequence[Content]:
        """Words."""
        return known(batch.transcripts, batch.ids, "transcript")


class HeardEmotion(SlotFiller):
    """The emotion embedding; without an emotion nuance module, as in stage 1, the true label's word."""

    uses_voice = True

    def __call__(self, batch: SpeechBatch, heard: Heard) -> Sequence[Content]:
        """Embeddings (D,), or words."""
        if heard.emotion_embedding is not None:
            return list(heard.emotion_embedding)
        if heard.emotion is None:
            return batch.emotions
        return [None] * len(batch)


class TrueLabel(SlotFiller):
    """The word of the true label."""

    def __call__(self, batch: SpeechBatch, heard: Heard) -> Sequence[Content]:
        """Words."""
        return known(batch.emotions, batch.ids, "emotion label")


class PredictedLabel(SlotFiller):
    """The word of the category that the classifier finds likeliest: a cascade of recognition and reply."""

    def __call__(self, batch: SpeechBatch, heard: Heard) -> Sequence[Content]:
        """Words."""
        if heard.emotion is None or bool(heard.emotion.logits.isnan().any()):
            raise InputError("the emotion slot wants the classifier's category, but no classifier was trained")
        return [batch.categories[index] for index in heard.emotion.logits.argmax(1).tolist()]


class RandomLabel(SlotFiller):
    """The word of a category that is drawn for each utterance, by its id alone; it may hit the true one.

    Args:
        seed: Of the draws.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(self, batch: SpeechBatch, heard: Heard) -> Sequence[Content]:
        """Words."""
        # A generator for each, so that a draw depends on neither batch nor order.
        return [random.Random(f"{self.seed} {name}").choice(list(batch.categories)) for name in batch.ids]


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
