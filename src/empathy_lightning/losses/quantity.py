"""An adapter that fires should fire once for each word piece."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.errors import InputError
from empathy_lightning.modules.cformer import FiredSpeech
from empathy_lightning.outputs import EmpatheticOutput


class QuantityLoss(nn.Module):
    """How far the weights of the frames are from summing to the number of word pieces, as a share of these.

    Quantity loss of integrate-and-fire (arXiv 1905.11235) in BLSP's form: |sum / tokens - 1|. The sum is that before
    the weights are scaled.
    """

    hears_only = True

    def forward(self, output: EmpatheticOutput, batch: SpeechBatch) -> Tensor:
        """Mean over the utterances whose word pieces are known, zero if there are none.

        Raises:
            InputError: If the speech adapter does not fire.
        """
        total = torch.zeros((), device=batch.waveform.device)
        heard = output.heard
        if heard is None or heard.said is None:
            return total
        count = 0
        for fired in heard.fired:
            if isinstance(fired, FiredSpeech) and fired.expected is not None:
                known = fired.expected > 0
                total = total + (fired.total[known] / fired.expected[known] - 1).abs().sum()
                count += int(known.sum())
        if not any(isinstance(fired, FiredSpeech) for fired in heard.fired):
            raise InputError("QuantityLoss needs a speech_adapter that fires, as CFormer does")
        return total / max(1, count)
