"""What is heard should be the transcript, token by token, before the language model is ever asked."""

from __future__ import annotations

import json
from functools import cached_property
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.errors import InputError
from empathy_lightning.modules.posterior_adapter import HeardTokens
from empathy_lightning.modules.pretrained import load_tokenizer
from empathy_lightning.outputs import EmpatheticOutput


class AlignmentLoss(nn.Module):
    """Connectionist temporal classification of the transcript's tokens (CTC, Graves et al. 2006).

    The transcript is written in the first tokens of the language model's vocabulary, as many as the adapter can hear:
    the tokenizer's merges beyond them are left out, so that rarer words come in more pieces. Utterances with more
    tokens than groups of frames, or without a transcript, count for nothing.

    Args:
        language_model: Folder or model id, for its tokenizer: a byte-pair encoding.
    """

    needs = ("transcript",)
    hears_only = True
    """It reads nothing that the language model makes, which therefore need not run."""

    def __init__(self, language_model: str) -> None:
        super().__init__()
        self.language_model = language_model

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.language_model)

    @cached_property
    def _written(self) -> dict[int, Any]:
        """Tokenizers by how many tokens they use."""
        return {}

    def tokens(self, text: str, count: int) -> list[int]:
        """Ids of a text, all below ``count``.

        Raises:
            InputError: If the tokenizer is no byte-pair encoding, or cannot write the text with so few.
        """
        if count not in self._written:
            self._written[count] = first_tokens(self._tokenizer, count)
        ids: list[int] = self._written[count].encode(text, add_special_tokens=False).ids
        if any(index >= count for index in ids):
            raise InputError(f"{count} tokens of {self.language_model} cannot write {text[:60]!r}: raise num_tokens")
        return ids

    def forward(self, output: EmpatheticOutput, batch: SpeechBatch) -> Tensor:
        """Mean over utterances of the negative log-likelihood per token, zero if there are no transcripts.

        Raises:
            InputError: If the speech adapter hears no tokens.
        """
        heard = output.heard.fired if output.heard is not None else []
        if not any(isinstance(one, HeardTokens) for one in heard):
            raise InputError("AlignmentLoss needs a speech_adapter that hears tokens, as PosteriorAdapter does")
        posterior = heard[0]
        if len(heard) > 1 or len(posterior.mask) != len(batch):
            # Speech that was cut: nobody knows which words are in which piece.
            return posterior.log_probabilities.sum() * 0.0
        count = posterior.log_probabilities.shape[-1] - 1
        targets: list[list[int]] = []
        for text in batch.transcripts:
            said = text.strip()
            targets.append(self.tokens(said, count) if said else [])
        return _mean_per_token(posterior, targets, count)


def _mean_per_token(heard: HeardTokens, targets: list[list[int]], blank: int) -> Tensor:
    lengths = heard.mask.sum(1)
    device = heard.mask.device
    sizes = torch.tensor([len(ids) for ids in targets], device=device)
    flat = torch.tensor(list(chain.from_iterable(targets)), dtype=torch.long, device=device)
    # Impossible alignments are infinite; they count for nothing, and neither do empty transcripts.
    each = nn.functional.ctc_loss(
        heard.log_probabilities.transpose(0, 1), flat, lengths, sizes, blank, reduction="none", zero_infinity=True
    )
    known = sizes > 0
    return (each[known] / sizes[known]).sum() / max(1, int(known.sum()))


def first_tokens(tokenizer: Any, count: int) -> Any:
    """A byte-pair tokenizer that makes only the first tokens of the vocabulary.

    Args:
        tokenizer: A fast tokenizer of transformers.
        count: How many tokens it may use.

    Raises:
        InputError: If it is no byte-pair encoding.
    """
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = json.loads(backend.to_str()) if backend is not None else {"model": {}}
    model = content["model"]
    if model.get("type") != "BPE":
        raise InputError("AlignmentLoss needs a tokenizer with a byte-pair encoding (BPE), which this one has not")
    merges = []
    for pair in model["merges"]:
        # Files of an older format have a pair as one text.
        parts = pair if isinstance(pair, list) else pair.split(" ")
        if model["vocab"]["".join(parts)] < count:
            merges.append(parts)
    model["merges"] = merges
    return Tokenizer.from_str(json.dumps(content))
