"""The voice: from the units of recordings back to their sound."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from empathy_lightning.audio import SAMPLE_RATE, resample
from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.errors import InputError
from empathy_lightning.losses.spectral import MelDistance
from empathy_lightning.modules.contracts import check_part
from empathy_lightning.modules.speech_encoder import freeze
from empathy_lightning.outputs import VocoderOutput
from empathy_lightning.part_weights import quantizer_digest
from empathy_lightning.tasks.schedule import Schedule
from empathy_lightning.tasks.task import TrainedPartsTask


class VocoderTask(TrainedPartsTask):
    """Train a vocoder to say the recordings of any manifest from their units; transcripts and labels are not needed.

    Recordings are read at the vocoder's rate, and a step takes one stretch of each, drawn anew. With
    :class:`empathy_lightning.losses.AdversarialLoss` among the auxiliary losses, its discriminators learn in the same
    step, by the same optimiser.

    Args:
        vocoder: Is trained, such as :class:`.modules.vocoder.NeuralVocoder`; it has ``samples_per_unit``, and
            ``unclipped(units)`` if its ``forward`` cuts off what is too loud.
        quantizer: Gives the units, at a rate of its own where it has one; it stays as it is.
        initial_weights: Folder of a vocoder to begin with.
        optimizer: Makes the optimiser of vocoder and discriminators.
        schedule: Of the learning rate; None takes :class:`.schedule.Cosine`.
        auxiliary_losses: Modules with ``forward(output, batch)``, by name; output is a :class:`.outputs.VocoderOutput`.
        loss_weights: Weight of each auxiliary loss by name, and of ``mel``; 1 where not given.
        stretch: Units of a recording in a step.

    Raises:
        InputError: If vocoder and quantizer do not fit each other.
    """

    own_loss = "mel"

    def __init__(
        self,
        vocoder: nn.Module,
        quantizer: nn.Module,
        initial_weights: list[str] | None = None,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=1e-3, betas=(0.8, 0.98), weight_decay=0.01),
        schedule: Schedule | None = None,
        auxiliary_losses: dict[str, nn.Module] | None = None,
        loss_weights: dict[str, float] | None = None,
        stretch: int = 12,
    ) -> None:
        check_part(vocoder, "vocoder", "sample_rate", "samples_per_unit")
        check_part(quantizer, "quantizer", "encode")
        self._check_rates(vocoder, quantizer)
        if getattr(quantizer, "num_units", 0) > getattr(vocoder, "num_units", torch.inf):
            raise InputError(f"vocoder: num_units {vocoder.num_units}, and the quantizer has {quantizer.num_units}")
        metrics: dict[str, Metric] = {}
        super().__init__(vocoder, optimizer, schedule, auxiliary_losses, loss_weights, metrics, initial_weights)
        self.quantizer: Any = freeze(quantizer)
        self.model.quantizer_digest = quantizer_digest(quantizer)
        self.sample_rate = int(self.model.sample_rate)
        self.mel_distance = MelDistance(sample_rate=self.sample_rate)
        self.stretch = stretch

    @staticmethod
    def _check_rates(vocoder: Any, quantizer: Any) -> None:
        """A unit has to be as long to the one as to the other."""
        each, rate = vocoder.samples_per_unit, vocoder.sample_rate
        theirs = getattr(quantizer, "samples_per_unit", None)
        their_rate = getattr(quantizer, "sample_rate", SAMPLE_RATE)
        if theirs is not None and theirs * rate != each * their_rate:
            raise InputError(
                f"vocoder: {each} samples a unit at {rate} Hz, and the quantizer has {theirs} at {their_rate} Hz"
            )

    def output(self, batch: SpeechBatch) -> VocoderOutput:
        """A stretch of each recording, and what the vocoder makes of its units."""
        units, recorded = self._stretches(batch)
        spoken = getattr(self.model, "unclipped", self.model)(units)
        return VocoderOutput(self.mel_distance(spoken, recorded), spoken, recorded, units)

    @torch.no_grad()
    def _stretches(self, batch: SpeechBatch) -> tuple[Tensor, Tensor]:
        """Units (B, stretch) and samples (B, stretch * samples_per_unit): drawn in training, else from the middle."""
        each = int(self.model.samples_per_unit)
        units, recorded = [], []
        for waveform, length in zip(batch.waveform, batch.lengths.tolist(), strict=True):
            # Units begin wherever a recording does.
            shift = int(torch.randint(min(each, length), ())) if self.training else 0
            missing = max(0, (self.stretch + 1) * each - (length - shift))
            heard = nn.functional.pad(waveform[shift:length], (0, missing))
            found = self._encoded(heard)
            last = min(len(found), len(heard) // each) - self.stretch
            start = int(torch.randint(last + 1, ())) if self.training else last // 2
            units.append(found[start : start + self.stretch])
            recorded.append(heard[start * each : (start + self.stretch) * each])
        return torch.stack(units), torch.stack(recorded)

    def _encoded(self, waveform: Tensor) -> Tensor:
        """Units (U,) of a whole recording, as `prepare units` hears it.

        Raises:
            InputError: If a unit is not as long to the quantizer as to the vocoder.
        """
        quantized = getattr(self.quantizer, "sample_rate", SAMPLE_RATE)
        # In 16 bits they would be other units.
        with torch.autocast(waveform.device.type, enabled=False):
            units: Tensor = self.quantizer.encode(resample(waveform, self.sample_rate, quantized))
        expected = len(waveform) / self.model.samples_per_unit
        if abs(len(units) - expected) > 1.5 + 0.1 * expected or len(units) < self.stretch:
            raise InputError(
                f"vocoder: {self.model.samples_per_unit} samples a unit make {expected:.0f} units of a recording, and "
                f"the quantizer gives {len(units)}: give the vocoder as many samples a unit as the quantizer hears"
            )
        return units

    def untrained_parts(self) -> list[str]:
        """The vocoder, unless it began with the weights of a folder."""
        return [] if self.initial_weights else ["vocoder"]
