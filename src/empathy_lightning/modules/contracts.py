"""What a part must be able to do, whoever wrote it: any ``nn.Module`` with these attributes and this ``forward``.

Nothing has to derive from this library. The arguments of a part's constructor are kept as attributes of their names,
so that a folder can name it by class path and build it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from torch import Tensor, nn

from empathy_lightning.errors import InputError
from empathy_lightning.modules.emotion_heads import EmotionEstimate
from empathy_lightning.modules.speech_encoder import EncodedSpeech
from empathy_lightning.modules.unit_choice import UnitDecoding


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


class UnitWriter(Protocol):
    """Units of several replies, written while their texts come in, such as :class:`.unit_stream.UnitStream`.

    One that ends replies at the most units that they may have tells their numbers in ``cut``.
    """

    def read(self, states: Sequence[Tensor], tokens: Sequence[Tensor], ended: Sequence[bool]) -> None:
        """Take new tokens (T_i,) of each reply with the states (T_i, D) that chose them; whether its text ends here."""

    def write(self) -> Iterator[list[Tensor]]:
        """Yield new units (U_i,) of each reply, as long as the text so far allows some; all of it, where it ended."""

    def drop(self, row: int) -> None:
        """Write no more of a reply; one that has ended already may be dropped too."""


class SpeechDecoder(Protocol):
    """A reply's hidden states and tokens to units, such as :class:`.speech_decoder.SpeechDecoder`.

    One with ``num_units`` is refused beside a vocoder that has another. To be trained by ``SpeechDecoderTask``, it is
    called with the states (T_i, D), tokens (T_i,) and units (U_i,) of replies, and returns the loss.
    """

    def begin(
        self, count: int, decoding: UnitDecoding, seeds: Sequence[int], stopped: Callable[[], bool]
    ) -> UnitWriter:
        """Begin to say replies, each with a seed of its own; once ``stopped()`` is true, nothing more is written."""


class Vocoder(Protocol):
    """Units to speech, such as :class:`.vocoder.NeuralVocoder`.

    One with ``samples_per_unit`` and ``context`` can speak while its units are coming in, see
    :class:`.vocoder_stream.VocoderStream`: what is more than that many units away, on either side, does not change a
    unit's samples. One without them speaks whole replies only, unless it has ``begin()``, which gives a
    :class:`SoundStream` of its own: so does one that keeps a state between blocks, or is another process.

    Attributes:
        sample_rate: Of the waveform, in Hz.
        num_units: Size of its vocabulary, against which units are checked; None, or no such attribute, for any.
        samples_per_unit: Samples of each unit; None, or no such attribute, where they differ from unit to unit.
        context: Units on either side that are heard in a unit's samples; None, or no such attribute, for all.
    """

    sample_rate: int

    def __call__(self, units: Tensor) -> Tensor:
        """Waveforms (B, T) in -1..1 of units (B, N), rows of one length; no units give empty ones."""


class SoundStream(Protocol):
    """One reply, spoken while its units come in; the blocks behind one another are the whole reply's waveform."""

    def push(self, units: Tensor) -> Tensor:
        """Take the next units (n,), and give what can be heard now: a waveform (t,), which may be empty."""

    def end(self) -> Tensor:
        """Take no more units, and give the rest of the waveform (t,)."""

    def close(self) -> None:
        """Let go of what the stream holds, at any time and more than once; nothing follows it."""


class VocoderError(InputError):
    """A vocoder that cannot speak on: the reply's text stands, and its sound ends. The message is one line."""


class Quantizer(Protocol):
    """Speech to units, such as :class:`.kmeans_quantizer.KMeansQuantizer`; a vocoder may be one too.

    One that is faster with many recordings at a time has ``encode_many(waveform (B, T), lengths (B,))``, a list of
    units (U_i,), each as its recording gives alone.

    Attributes:
        sample_rate: Of the waveform, in Hz; 16000 where it has none.
        num_units: Size of its vocabulary; None, or no such attribute, where nobody checks it.
    """

    def encode(self, waveform: Tensor) -> Tensor:
        """Units (U,), from 0 on, of a waveform (T,)."""


def check_units(units: Tensor, part: object) -> None:
    """Refuse units that a vocoder does not know.

    Args:
        units: Of any shape.
        part: A vocoder, or anything with ``num_units``; without it, every unit from 0 on is known.

    Raises:
        VocoderError: If one is beyond its vocabulary.
    """
    if not units.numel():
        return
    size = getattr(part, "num_units", None)
    low, high = (int(bound) for bound in units.aminmax())
    if low < 0 or (size is not None and high >= size):
        known = "from 0 on" if size is None else f"0 to {size - 1}"
        unknown = low if low < 0 else high
        raise VocoderError(
            f"unit {unknown} is unknown to {type(part).__name__}, which has {known}: use the vocoder "
            "of the units' own vocabulary"
        )


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
