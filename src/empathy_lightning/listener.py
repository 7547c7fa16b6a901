"""Hearing: from a waveform to what was said, and how."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from empathy_lightning.audio import SAMPLE_RATE, split_at_pauses
from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.errors import InputError
from empathy_lightning.modules.contracts import check_part
from empathy_lightning.modules.emotion_heads import EmotionEstimate
from empathy_lightning.modules.speech_encoder import EncodedSpeech


@dataclass
class Heard:
    """What a listener makes of a batch.

    Attributes:
        said: The adapter's embeddings of each utterance, each (T_i, D); None where the words were not asked for.
        emotion: How it was said, or None without an emotion nuance module.
        emotion_embedding: What of it is for the prompt, shape (B, D); None from heads that give nothing to it.
        fired: What the adapter gave beside embeddings and mask, for losses of its own: one for each of its calls, in
            the order of the speech; empty from an adapter that gives nothing else.
    """

    said: list[Tensor] | None
    emotion: EmotionEstimate | None
    emotion_embedding: Tensor | None = None
    fired: list[Any] = field(default_factory=list)


class Listener(nn.Module):
    """Speech encoder, speech adapter and emotion nuance module: each utterance is encoded once for all of them.

    Speech beyond the encoder's window is cut at pauses; the words of the pieces are joined, and what was heard in
    the voice is averaged by their length. Every part but the encoder may be left out, and each may be any module that
    keeps its contract, see :mod:`.modules.contracts`.

    Args:
        speech_encoder: Waveforms to frames and layers, as :class:`.modules.speech_encoder.SpeechEncoder`; its
            ``max_seconds`` is the window.
        speech_adapter: Frames to embeddings of the language model, as :class:`.modules.speech_adapter.SpeechAdapter`.
            A third value that it returns, of any kind, is kept in :attr:`Heard.fired`; one with ``counts_tokens`` is
            told how many word pieces were said (``num_tokens``), as :class:`.modules.cformer.CFormer`.
        emotion_nuance: Frames to the emotion, as :class:`.modules.emotion_nuance.EmotionNuance`. It has
            ``num_emotions``, and ``reads`` says whether its input is the encoder's ``"layers"`` or the adapter's
            ``"embeddings"``, as :class:`.modules.pooled_heads.PooledEmotionHeads`. One with ``knows_speakers`` is told
            who speaks, as :class:`.modules.layer_statistics.LayerStatistics`.
        emotion_encoder: Waveforms to an embedding that an adapter with an ``emotion_size`` reads, as
            :class:`.modules.emotion_encoder.EmotionEncoder`.
        untrained_heads: Heads of the emotion nuance module that no loss has reached; what they say is NaN.

    Raises:
        InputError: If parts that need each other are not both there, or one lacks an attribute of its contract.
    """

    def __init__(
        self,
        speech_encoder: nn.Module,
        speech_adapter: nn.Module | None = None,
        emotion_nuance: nn.Module | None = None,
        emotion_encoder: nn.Module | None = None,
        untrained_heads: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if (emotion_encoder is not None) != (getattr(speech_adapter, "emotion_size", 0) > 0):
            raise InputError("an emotion_encoder and an adapter with an emotion_size need each other")
        if emotion_nuance is not None:
            check_part(emotion_nuance, "emotion_nuance", "num_emotions")
            if getattr(emotion_nuance, "reads", "layers") not in ("layers", "embeddings"):
                raise InputError(
                    f"emotion_nuance: reads of {type(emotion_nuance).__name__} is 'layers' or 'embeddings'"
                )
        self.speech_encoder = speech_encoder
        self.speech_adapter: Any = speech_adapter
        self.emotion_nuance: Any = emotion_nuance
        self.emotion_encoder: Any = emotion_encoder
        self.untrained_heads = list(untrained_heads)
        if speech_adapter is None and self.reads_embeddings:
            raise InputError(f"{type(emotion_nuance).__name__} reads the speech_adapter's embeddings: give one")

    @property
    def reads_embeddings(self) -> bool:
        """Whether the emotion is read from the adapter's embeddings, not from the encoder's layers."""
        return getattr(self.emotion_nuance, "reads", "layers") == "embeddings"

    @property
    def counts_tokens(self) -> bool:
        """Whether the adapter wants to know how many word pieces were said."""
        return bool(getattr(self.speech_adapter, "counts_tokens", False))

    @property
    def fills_emotion_slot(self) -> bool:
        """Whether the emotion comes with an embedding for the prompt."""
        return self.emotion_nuance is not None and not self.reads_embeddings

    @property
    def window(self) -> float:
        """Seconds of speech that the encoder takes at once."""
        return float(getattr(self.speech_encoder, "max_seconds", 30.0))

    def forward(self, batch: SpeechBatch, words: bool = True, tokens: Tensor | None = None) -> Heard:
        """Hear a batch.

        Args:
            batch: Waveforms (B, T) at 16 kHz. Where it names other recordings for the emotion, that is heard there.
            words: Whether what was said is wanted.
            tokens: Word pieces of each transcript, shape (B,), 0 where unknown, for an adapter that counts them; of
                speech that is cut they are not known.

        Raises:
            InputError: If other recordings are named, and no part hears them.
        """
        speech = _Pieces.of(batch.waveform, batch.lengths, self.window)
        voice = self._voice(batch) or speech
        adapting = self.speech_adapter is not None and (words or self.reads_embeddings)
        tone = self._tone(voice) if adapting else None
        # Of speech that was cut, nobody knows how many words are in which piece.
        counted = tokens if len(speech.lengths) == len(batch) else None
        # The emotion of other recordings is read from their own layers.
        apart = voice is not speech and not self.reads_embeddings
        said: list[list[Tensor]] = [[] for _ in range(len(batch))]
        fired: list[Any] = []
        estimates: list[EmotionEstimate] = []
        for pieces in speech.few_at_a_time():
            encoded = self.speech_encoder(pieces.waveform, pieces.lengths)
            adapted = None
            if adapting:
                *adapted, more = self._adapt(encoded, pieces, tone, counted)
                fired += more
                for owner, row, valid in zip(pieces.owners.tolist(), *adapted, strict=True):
                    said[owner].append(row[valid])
            if not apart:
                estimates += self._feel(encoded, adapted, pieces, batch)
        if apart:
            for pieces in voice.few_at_a_time():
                encoded = self.speech_encoder(pieces.waveform, pieces.lengths)
                estimates += self._feel(encoded, None, pieces, batch)
        emotion: EmotionEstimate | None = None
        embedding: Tensor | None = None
        if estimates:
            emotion = self._whole(voice if apart else speech, estimates)
            embedding = emotion.embedding if self.fills_emotion_slot else None
        return Heard(_joined(said) if adapting else None, emotion, embedding, fired)

    def _voice(self, batch: SpeechBatch) -> _Pieces | None:
        """The other recordings in which the emotion is to be heard; None where there are none."""
        if batch.emotion_waveform is None or batch.emotion_lengths is None:
            return None
        if self.reads_embeddings and self.emotion_encoder is None:
            raise InputError("no part of this model hears another recording for the emotion: leave it out")
        return _Pieces.of(batch.emotion_waveform, batch.emotion_lengths, self.window)

    def _adapt(
        self, encoded: EncodedSpeech, pieces: _Pieces, tone: Tensor | None, tokens: Tensor | None
    ) -> tuple[Tensor, Tensor, list[Any]]:
        """Embeddings (P, T, D) of pieces, their mask (P, T), and what else the adapter gives."""
        own = () if tone is None else (tone[pieces.owners],)
        counted = {"num_tokens": tokens} if self.counts_tokens and tokens is not None else {}
        embeddings, mask, *more = self.speech_adapter(encoded.frames, encoded.mask, *own, **counted)
        return embeddings, mask, more

    @torch.no_grad()
    def enrol(self, batch: SpeechBatch) -> None:
        """Hear a batch to know the speakers' voices, whatever they feel.

        Raises:
            InputError: If the emotion nuance module does not tell speakers apart.
        """
        if not self._knows_speakers:
            raise InputError(f"{type(self.emotion_nuance).__name__} knows no speakers: take LayerStatistics")
        for pieces in _Pieces.of(batch.waveform, batch.lengths, self.window).few_at_a_time():
            encoded = self.speech_encoder(pieces.waveform, pieces.lengths)
            self.emotion_nuance.enrol(encoded.layers, encoded.mask, pieces.speakers(batch))

    @property
    def _knows_speakers(self) -> bool:
        return bool(getattr(self.emotion_nuance, "knows_speakers", False))

    def _feel(
        self, encoded: EncodedSpeech, adapted: Sequence[Tensor] | None, pieces: _Pieces, batch: SpeechBatch
    ) -> list[EmotionEstimate]:
        """The emotion of pieces; empty without a part for it."""
        if self.emotion_nuance is None:
            return []
        if not self.reads_embeddings:
            told = {"speakers": pieces.speakers(batch)} if self._knows_speakers else {}
            return [self.emotion_nuance(encoded.layers, encoded.mask, **told)]
        assert adapted is not None
        return [self.emotion_nuance(*adapted)]

    def _tone(self, voice: _Pieces) -> Tensor | None:
        """The emotion encoder's embedding of each utterance, shape (B, E)."""
        if self.emotion_encoder is None:
            return None
        pieces = [self.emotion_encoder(few.waveform, few.lengths).embedding for few in voice.few_at_a_time()]
        return voice.mean(torch.cat(pieces))

    def _whole(self, voice: _Pieces, estimates: Sequence[EmotionEstimate]) -> EmotionEstimate:
        """The estimate of each utterance from those of its pieces; NaN where a head was never trained."""
        values: dict[str, Any] = {}
        for name, first in vars(estimates[0]).items():
            if first is not None:
                values[name] = voice.mean(torch.cat([getattr(estimate, name) for estimate in estimates]))
        for head in self.untrained_heads:
            name = "logits" if head == "categorical" else head
            values[name] = torch.full_like(values[name], torch.nan)
        return EmotionEstimate(**values)


def _joined(said: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The embeddings of each utterance in one tensor (T_i, D); of a single piece they are not copied."""
    return [parts[0] if len(parts) == 1 else torch.cat(list(parts)) for parts in said]


@dataclass
class _Pieces:
    """Speech cut to the encoder's window.

    Attributes:
        waveform: Shape (P, T).
        lengths: Valid samples, shape (P,).
        owners: The utterance that each piece belongs to, shape (P,).
        total: Valid samples of each utterance, shape (B,).
    """

    waveform: Tensor
    lengths: Tensor
    owners: Tensor
    total: Tensor

    @classmethod
    def of(cls, waveform: Tensor, lengths: Tensor, window: float) -> _Pieces:
        """Cut what is longer than the window, in seconds, at pauses."""
        if int(lengths.max()) <= round(window * SAMPLE_RATE):
            return cls(waveform, lengths, torch.arange(len(lengths), device=lengths.device), lengths)
        pieces: list[Tensor] = []
        owners: list[int] = []
        for owner, (row, length) in enumerate(zip(waveform, lengths.tolist(), strict=True)):
            for piece in split_at_pauses(row[:length], window):
                pieces.append(piece)
                owners.append(owner)
        sizes = torch.tensor([len(piece) for piece in pieces], device=lengths.device)
        padded = nn.utils.rnn.pad_sequence(pieces, batch_first=True)
        return cls(padded, sizes, torch.tensor(owners, device=lengths.device), lengths)

    def few_at_a_time(self) -> Iterator[_Pieces]:
        """As many pieces at a time as there are utterances, so that long speech takes no more memory than short."""
        size = len(self.total)
        for start in range(0, len(self.lengths), size):
            few = slice(start, start + size)
            # The longest of a few may be shorter than that of all.
            longest = int(self.lengths[few].max()) if len(self.lengths) > size else self.waveform.shape[1]
            yield _Pieces(self.waveform[few, :longest], self.lengths[few], self.owners[few], self.total)

    def speakers(self, batch: SpeechBatch) -> list[str]:
        """Who speaks in each piece of a batch; empty where nobody said."""
        return [batch.speakers[owner] for owner in self.owners.tolist()] if batch.speakers else []

    def mean(self, values: Tensor) -> Tensor:
        """Values of the pieces (P, ...) averaged for each utterance by the length of its pieces, (B, ...)."""
        if len(values) == len(self.total):
            return values
        share = (self.lengths / self.total[self.owners]).to(values.dtype)
        ones = [1] * (values.ndim - 1)
        share = share.reshape(-1, *ones)
        empty = values.new_zeros(len(self.total), *values.shape[1:])
        return empty.index_add(0, self.owners, share * values)
