"""How like the replies are to what was expected in an encoder's eyes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from empathy_lightning.devices import own_device
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.metrics.text import greedy_match
from empathy_lightning.modules.model_files import PretrainedError
from empathy_lightning.modules.pretrained import opened
from empathy_lightning.preparation.identity import model_identity
from empathy_lightning.progress import progress_bar
from empathy_lightning.utterance import Utterance


class BertScore:
    """F-measure of BERTScore against the first reference, neither weighted nor rescaled.

    The marks at both ends are left out; a text without a token scores 0.
    torchmetrics' own (1.9) confuses the pairs of a batch when it sorts them (its issue 2728).

    Args:
        folder: Of an encoder with its tokenizer, for example a roberta-large.
        layer: Hidden states that are compared (roberta-large: 17); None takes the last.
        batch_size: Pairs at a time.

    Raises:
        InputError: If there is no encoder that can be loaded, or it has no such layer.
    """

    name = "bert_score"
    needs = ("references",)
    incidental = ("batch_size",)

    def __init__(self, folder: str, layer: int | None = None, batch_size: int = 64) -> None:
        self.folder, self.layer, self.batch_size = folder, layer, batch_size
        self._encoder, self._tokenizer = _load_encoder(Path(folder))
        config = self._encoder.config
        if layer is not None and not 0 <= layer <= config.num_hidden_layers:
            raise InputError(f"{folder} has layers 0 to {config.num_hidden_layers}, not {layer}")
        # RoBERTa and its kin count positions from the one after that of the padding.
        first = getattr(getattr(self._encoder, "embeddings", None), "padding_idx", -1) + 1
        positions = getattr(config, "max_position_embeddings", 512) - first
        self._longest = min(512, self._tokenizer.model_max_length, positions)

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with ``bert_score``."""
        scores = self.scores([reply.response or "" for reply in replies], [reply.references[0] for reply in replies])
        rows: list[dict[str, Any] | None] = [{"bert_score": round(score, 6)} for score in scores]
        return Measured(rows, {})

    @torch.no_grad()
    def scores(self, replies: Sequence[str], references: Sequence[str]) -> list[float]:
        """F-measure of each reply against its reference."""
        scores = [0.0] * len(replies)
        said = [i for i, reply in enumerate(replies) if reply.strip() and references[i].strip()]
        for start in progress_bar(range(0, len(said), self.batch_size), what="BERTScore"):
            rows = said[start : start + self.batch_size]
            own = self._tokens([replies[i] for i in rows])
            expected = self._tokens([references[i] for i in rows])
            for i, score in zip(rows, greedy_match(*own, *expected).tolist(), strict=True):
                scores[i] = score
        return scores

    def _tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Hidden states (B, T, D) and which of them count (B, T)."""
        encoded = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._longest, return_tensors="pt",
            return_special_tokens_mask=True, split_special_tokens=True,
        ).to(self._encoder.device)  # fmt: skip
        counts = encoded.attention_mask.bool() & ~encoded.pop("special_tokens_mask").bool()
        hidden = self._encoder(**encoded, output_hidden_states=True).hidden_states
        layer = -1 if self.layer is None else self.layer
        return hidden[layer].float(), counts

    def made_from(self) -> dict[str, str]:
        """The encoder's content."""
        return {"encoder": model_identity(self.folder)}


def _load_encoder(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    if not folder.is_dir():
        raise InputError(f"no folder at {folder}: BERTScore needs that of an encoder, for example a roberta-large")
    try:
        with opened(str(folder)) as (_, where):
            encoder = AutoModel.from_pretrained(folder, **where).eval()
            tokenizer = AutoTokenizer.from_pretrained(folder, **where)
    except PretrainedError as error:
        raise InputError(f"BERTScore: {error}"[:300]) from None
    if encoder.config.is_encoder_decoder or tokenizer.pad_token is None:
        raise InputError(f"{folder} is no encoder: give bert_score.folder one such as a roberta-large")
    return encoder.to(own_device()), tokenizer
