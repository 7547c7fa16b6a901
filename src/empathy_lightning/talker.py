"""Speaking: from a reply's hidden states to units, and on to a waveform, while the reply is being written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from empathy_lightning.errors import InputError
from empathy_lightning.modules.contracts import check_part
from empathy_lightning.modules.unit_choice import UnitDecoding
from empathy_lightning.speaking import Speech
from empathy_lightning.writing import Piece


@dataclass
class Spoken:
    """A reply as speech.

    Attributes:
        units: Shape (U,).
        waveform: Shape (T,), in -1..1; None without a vocoder.
    """

    units: Tensor
    waveform: Tensor | None


class Talker(nn.Module):
    """Speech decoder and vocoder; each may be any module that keeps its contract, see :mod:`.modules.contracts`.

    Args:
        speech_decoder: Hidden states and tokens of a reply to units, as
            :class:`.modules.speech_decoder.SpeechDecoder`.
        vocoder: Units to a waveform at its ``sample_rate``, as :class:`.modules.vocoder.NeuralVocoder`; None
            leaves it at the units.
        patience: Seconds after which a vocoder that says nothing has stalled, and those in which a program may start
            (``start_timeout``) beside them. All replies that are said together are mute from there on.

    Raises:
        InputError: If a part lacks what its contract asks for, or the vocoder speaks other units, as far as they say.
    """

    def __init__(self, speech_decoder: nn.Module, vocoder: nn.Module | None = None, patience: float = 60.0) -> None:
        super().__init__()
        if vocoder is not None:
            check_part(vocoder, "vocoder", "sample_rate")
        check_part(speech_decoder, "speech_decoder", "begin")
        self.speech_decoder: Any = speech_decoder
        self.vocoder: Any = vocoder
        self.patience = patience
        self.check_units()

    def check_units(self) -> None:
        """Compare the units of the two, as far as they say what they know.

        Raises:
            InputError: If their vocabularies have two sizes, or come from two quantizers.
        """
        writes, knows = _known(self.speech_decoder, "num_units"), _known(self.vocoder, "num_units")
        if None not in (writes, knows) and writes != knows:
            raise InputError(
                f"the speech decoder writes {writes} units, but the vocoder knows {knows}: give the vocoder of the "
                "units on which the speech decoder is trained"
            )
        writes, knows = _known(self.speech_decoder, "quantizer_digest"), _known(self.vocoder, "quantizer_digest")
        if None not in (writes, knows) and writes != knows:
            raise InputError(
                f"the speech decoder writes units of the quantizer {writes}, but the vocoder knows those of {knows}: "
                "give the vocoder that was trained with the quantizer of `prepare units`"
            )

    @property
    def sample_rate(self) -> int | None:
        """Of the speech, in Hz; None without a vocoder."""
        return None if self.vocoder is None else int(self.vocoder.sample_rate)

    def forward(self, states: Sequence[Tensor], tokens: Sequence[Tensor], units: Sequence[Tensor]) -> Tensor:
        """Mean cross-entropy of the units of spoken replies, for training.

        Args:
            states: Hidden states that predicted the tokens, each (T_i, D).
            tokens: Token ids of each reply, each (T_i,).
            units: Units of each reply's speech, each (U_i,).

        Returns:
            A scalar.
        """
        loss: Tensor = self.speech_decoder(states, tokens, units)
        return loss

    def begin(
        self,
        count: int,
        decoding: UnitDecoding | None = None,
        seeds: Sequence[int] = (),
        stopped: Callable[[], bool] | None = None,
    ) -> Speech:
        """Begin to say replies that are still to be written.

        Args:
            count: How many together.
            decoding: How units are chosen; None for draws as :class:`.modules.unit_choice.UnitDecoding` has them.
            seeds: Of each reply's draws; empty for 0 for all.
            stopped: Looked at before every step; once it is true nothing more is said.
        """
        stopped = stopped or (lambda: False)
        units = self.speech_decoder.begin(count, decoding or UnitDecoding(), list(seeds) or [0] * count, stopped)
        return Speech(units, self.vocoder, count, self.patience, stopped)

    def speak(
        self, states: Tensor, tokens: Sequence[int], decoding: UnitDecoding | None = None, seed: int = 0
    ) -> Spoken:
        """Say a reply that is written.

        Args:
            states: Hidden states that predicted the tokens, shape (T, D).
            tokens: Their ids.
            decoding: As for :meth:`begin`.
            seed: Of the draws.

        Raises:
            InputError: If it cannot be said.
        """
        speech = self.begin(1, decoding, [seed])
        speech.read([Piece("", list(tokens), states, ended=True)])
        blocks = list(speech.write())
        for block in blocks:
            if block.fault is not None:
                raise InputError(block.fault)
        units = torch.cat([block.units for block in blocks])
        sounds = [block.waveform for block in blocks if block.waveform is not None]
        return Spoken(units, None if self.vocoder is None else torch.cat(sounds or [torch.zeros(0)]))


def _known(part: Any, name: str) -> Any:
    return getattr(part, name, None)
