"""What a part must be able to do, whoever wrote it: any ``nn.Module`` with these attributes and this ``forward``.

Nothing has to derive from this library. The arguments of a part's constructor are kept as attributes of their names,
so that a folder can name it by class path and build it again.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from empathy_lightning.errors import InputError
from empathy_lightning.modules.emotion_nuance import EmotionEstimate
from empathy_lightning.modules.speech_encoder import EncodedSpeech


class SpeechEncoder(Protocol):
    """Speech to frames, such as :class:`.speech_encoder.SpeechEncoder`.

    ``max_seconds`` is the longest speech that it takes at once; 30 where it has none. What is longer is cut at pauses.
    """

    def __call__(self, waveform: Tensor, lengths: Tensor) -> EncodedSpeech:
        """Encode a right-padded waveform (B, T) at 16 kHz with its valid samples (B,)."""


class SpeechAdapter(Protocol):
    """Frames to embeddings of the language model, such as :class:`.speech_adapter.SpeechAdapter`."""

    def __call__(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (B, S, E) and their mask (B, S) of frames (B, T, D) with their mask (B, T)."""


class EmotionHead(Protocol):
    """What was heard to the emotion, such as :class:`.emotion_nuance.EmotionNuance`.

    ``reads`` says what it is given: ``"layers"``, all of the encoder's, which is the default, or ``"embeddings"``, the
    adapter's output, as :class:`.pooled_heads.PooledEmotionHeads`. The embedding of one that reads layers stands in the
    prompt, so it has the language model's width; what a head does not estimate is NaN.

    Attributes:
        num_emotions: Number of categories.
    """

    num_emotions: int

    def __call__(self, heard: tuple[Tensor, ...] | Tensor, mask: Tensor) -> EmotionEstimate:
        """Estimate from layers, each (B, T, D), or embeddings (B, T, E), with their mask (B, T)."""


class Vocoder(Protocol):
    """Units to speech, such as :class:`.vocoder.Vocoder`.

    One with a ``context`` can speak while its units are coming in: what is more than that many units away, on either
    side, does not change a unit's samples. One without it speaks whole replies only.

    Attributes:
        sample_rate: Of the waveform, in Hz.
        samples_per_unit: Samples of each unit; None, or no such attribute, where they differ from unit to unit.
        context: Units on either side that are heard in a unit's samples; None, or no such attribute, for all.
    """

    sample_rate: int

    def __call__(self, units: Tensor) -> Tensor:
        """Waveforms (B, T) in -1..1 of units (B, N), rows of one length; no units give empty ones."""


class Quantizer(Protocol):
    """Speech to units, such as :class:`.vocoder.Vocoder`, which is both; only ``prepare units`` needs it.

    ``sample_rate`` is that of the waveform, in Hz; 16000 where it has none.
    """

    def encode(self, waveform: Tensor) -> Tensor:
        """Units (U,), from 0 on, of a waveform (T,)."""


def check_part(part: nn.Module, name: str, *needed: str) -> None:
    """Refuse a part that lacks an attribute, before anything is done with it.

    Args:
        part: Of any class.
        name: What it is here, such as ``vocoder``.
        *needed: Attributes that its contract asks for.

    Raises:
        InputError: If one is missing.
    """
    for attribute in needed:
        if not hasattr(part, attribute):
            raise InputError(
                f"{name}: {type(part).__name__} has no attribute {attribute!r}: give it one, as "
                "empathy_lightning.modules.contracts says"
            )
