"""Which words an adapter heard, before any language model read them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.errors import InputError
from empathy_lightning.modules.posterior_adapter import HeardTokens
from empathy_lightning.modules.pretrained import load_tokenizer
from empathy_lightning.outputs import EmpatheticOutput
from empathy_lightning.text import words


def tokens_of(heard: HeardTokens) -> list[list[int]]:
    """The tokens of each utterance that the likeliest path gives: neighbours that are the same once, blanks left out.

    Args:
        heard: Posterior of a batch.
    """
    blank = heard.log_probabilities.shape[-1] - 1
    found = []
    for path, valid in zip(heard.log_probabilities.argmax(-1), heard.mask, strict=True):
        merged = torch.unique_consecutive(path[valid]).tolist()
        found.append([token for token in merged if token != blank])
    return found


class HeardWordErrorRate(Metric):
    """Word error rate of what the speech adapter hears, pooled over a split: of a :class:`.PosteriorAdapter`.

    Case and punctuation do not count. Speech that is cut to the encoder's window is left out.

    Args:
        language_model: Folder or model id, for its tokenizer.
    """

    hears_only = True
    full_state_update = False
    errors: Tensor
    said: Tensor

    def __init__(self, language_model: str) -> None:
        super().__init__()
        self.language_model = language_model
        self.add_state("errors", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("said", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.language_model)

    def update(self, output: EmpatheticOutput, batch: SpeechBatch) -> None:
        """Compare what was heard with the transcripts.

        Raises:
            InputError: If the adapter hears no tokens.
        """
        from torchaudio.functional import edit_distance

        heard = output.heard.fired if output.heard is not None else []
        if not heard or not isinstance(heard[0], HeardTokens):
            raise InputError("HeardWordErrorRate needs a speech_adapter that hears tokens, as PosteriorAdapter does")
        # Nobody knows which words are in which piece.
        if len(heard) > 1 or len(heard[0].mask) != len(batch):
            return
        for tokens, transcript in zip(tokens_of(heard[0]), batch.transcripts, strict=True):
            expected = words(transcript)
            if expected:
                self.errors += edit_distance(words(self._tokenizer.decode(tokens)), expected)
                self.said += len(expected)

    def compute(self) -> Tensor:
        """Errors over words; 0 at best, and above 1 where more is put in; NaN without transcripts."""
        return (self.errors / self.said).float()
