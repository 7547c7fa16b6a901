"""Speaking: from a reply's hidden states to units, and on to a waveform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from empathy_lightning.decoding import UNIT_TEMPERATURE
from empathy_lightning.modules.contracts import check_part
from empathy_lightning.modules.unit_choice import UnitDecoding


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
    """Speech decoder and vocoder; each may be any module, the vocoder one like :class:`.modules.contracts.Vocoder`.

    Args:
        speech_decoder: Hidden states and tokens of a reply to units, as
            :class:`.modules.speech_decoder.SpeechDecoder`.
        vocoder: Units to a waveform at its ``sample_rate``, as :class:`.modules.vocoder.Vocoder`; None leaves it at
            the units.

    Raises:
        InputError: If the vocoder has no ``sample_rate``.
    """

    def __init__(self, speech_decoder: nn.Module, vocoder: nn.Module | None = None) -> None:
        super().__init__()
        if vocoder is not None:
            check_part(vocoder, "vocoder", "sample_rate")
        self.speech_decoder: Any = speech_decoder
        self.vocoder: Any = vocoder

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

    @torch.no_grad()
    def speak(self, states: Tensor, tokens: Sequence[int], temperature: float | None = None, seed: int = 0) -> Spoken:
        """Say a reply.

        Args:
            states: Hidden states that predicted the tokens, shape (T, D).
            tokens: Their ids.
            temperature: Of the units' draws, see :class:`.decoding.Decoding`.
            seed: Of the draws.
        """
        decoder = self.speech_decoder
        if temperature is None:
            temperature = 1.0 if getattr(decoder, "released_rules", False) else UNIT_TEMPERATURE
        stream = decoder.begin(1, UnitDecoding(temperature), [seed])
        stream.read([states], [torch.tensor(tokens, device=states.device)], [True])
        blocks = [block[0] for block in stream.write()]
        units = torch.cat(blocks) if blocks else torch.zeros(0, dtype=torch.long, device=states.device)
        return Spoken(units, None if self.vocoder is None else self.vocoder(units[None])[0].cpu())
