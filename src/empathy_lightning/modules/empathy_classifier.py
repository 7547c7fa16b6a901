"""EPITOME: how strongly a reply shows one mechanism of empathy (Sharma et al. 2020, arXiv 2009.08441)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

from empathy_lightning.modules.pretrained import opened


@dataclass
class EmpathyEstimate:
    """What the classifier finds in replies.

    Attributes:
        logits: Scores of the levels none, weak and strong, shape (B, 3).
        rationale_logits: Scores for each token of the reply of being no part or part of the reason, shape (B, T, 2).
        truncated: Which replies were longer than the model reads, shape (B,); None for ids from elsewhere.
    """

    logits: Tensor
    rationale_logits: Tensor
    truncated: Tensor | None = None


class EmpathyClassifier(nn.Module):
    """Two RoBERTa encoders, for what was said and for the reply, and attention from the second to the first.

    One model per mechanism: emotional reaction, interpretation or exploration. The attention hears padding of
    what was said, so that logits depend on its width; always pad to the same, as :meth:`estimate` does (64).

    Args:
        vocab_size: Word pieces of RoBERTa's tokenizer.
        hidden_size: Width of both encoders.
        num_layers: Their layers.
        num_heads: Their attention heads.
        intermediate_size: Width of their feed-forward part.
        max_positions: Their positions; two are never used.
        dropout: Dropout of attention, heads and residual.
        lower_case: Texts are put in lower case and begin with a space, as transformers 2.7 did for the original.
            False for weights that were trained with a later version, which does neither.
    """

    def __init__(
        self,
        vocab_size: int = 50265,
        hidden_size: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        intermediate_size: int = 3072,
        max_positions: int = 514,
        dropout: float = 0.1,
        lower_case: bool = True,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.intermediate_size = intermediate_size
        self.max_positions = max_positions
        self.dropout = dropout
        self.lower_case = lower_case
        config = RobertaConfig(
            vocab_size=vocab_size, hidden_size=hidden_size, num_hidden_layers=num_layers,
            num_attention_heads=num_heads, intermediate_size=intermediate_size,
            max_position_embeddings=max_positions, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1,
        )  # fmt: skip
        width = hidden_size
        self.seeker_encoder: Any = RobertaModel(config, add_pooling_layer=False)
        self.response_encoder: Any = RobertaModel(config, add_pooling_layer=False)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.output = nn.Linear(width, width)
        self.rationale_head = nn.Linear(width, 2)
        self.empathy_dense = nn.Linear(width, width)
        self.empathy_head = nn.Linear(width, 3)
        self.tokenizer: Any = None

    def forward(
        self, seeker_ids: Tensor, seeker_mask: Tensor, response_ids: Tensor, response_mask: Tensor
    ) -> EmpathyEstimate:
        """Score replies.

        Args:
            seeker_ids: Token ids of what was said, shape (B, S).
            seeker_mask: Shape (B, S), True where valid.
            response_ids: Token ids of the replies, shape (B, T).
            response_mask: Shape (B, T), True where valid.
        """
        seeker = self.seeker_encoder(seeker_ids, attention_mask=seeker_mask.long()).last_hidden_state
        response = self.response_encoder(response_ids, attention_mask=response_mask.long()).last_hidden_state
        scores = self.query(response) @ self.key(seeker).transpose(1, 2) * self.hidden_size**-0.5
        heard = self._drop(scores.softmax(-1)) @ self.value(seeker)
        response = response + self._drop(self.output(heard))
        first = nn.functional.relu(self.empathy_dense(self._drop(response[:, 0])))
        return EmpathyEstimate(self.empathy_head(self._drop(first)), self.rationale_head(self._drop(response)))

    def _drop(self, values: Tensor) -> Tensor:
        return nn.functional.dropout(values, self.dropout, self.training)

    @torch.no_grad()
    def estimate(self, seekers: Sequence[str], responses: Sequence[str], max_length: int = 64) -> EmpathyEstimate:
        """Score replies given as texts; each counts alone, whatever else is in the list.

        Args:
            seekers: What was said.
            responses: The reply to each.
            max_length: Tokens read and padded to, with both ends' marks; the released script's is 64.

        Raises:
            ValueError: If a text is empty or there is no tokenizer.
        """
        if self.tokenizer is None:
            raise ValueError("this classifier has no tokenizer: load it with checkpoints.load_empathy_classifier")
        device = self.empathy_head.weight.device
        seeker_ids, seeker_mask, _ = encode_posts(self.tokenizer, seekers, max_length, self.lower_case)
        ids, mask, truncated = encode_posts(self.tokenizer, responses, max_length, self.lower_case)
        estimate = self(seeker_ids.to(device), seeker_mask.to(device), ids.to(device), mask.to(device))
        estimate.truncated = truncated
        return estimate


def encode_posts(
    tokenizer: Any, posts: Sequence[str], max_length: int = 64, lower_case: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids of texts as the classifier reads them.

    Args:
        tokenizer: RoBERTa's.
        posts: Texts, not empty.
        max_length: Tokens to cut at and pad to, with both ends' marks.
        lower_case: See :class:`EmpathyClassifier`.

    Returns:
        Ids (B, max_length), mask (B, max_length), True where valid, and which texts were cut (B,).

    Raises:
        ValueError: If a text is empty.
    """
    # A control token written out in a text is characters like any others.
    encode = partial(tokenizer, _as_read(posts, lower_case), split_special_tokens=True)
    lengths = torch.tensor([len(ids) for ids in encode().input_ids])
    encoded = encode(max_length=max_length, truncation=True, padding="max_length", return_tensors="pt")
    return encoded.input_ids, encoded.attention_mask.bool(), lengths > max_length


def _as_read(posts: Sequence[str], lower_case: bool) -> list[str]:
    """Texts as the tokenizer is given them."""
    if not all(post.strip() for post in posts):
        raise ValueError("an empty text has no empathy to score: leave it out")
    if not lower_case:
        return list(posts)
    read = []
    for post in posts:
        space = "" if post[0].isspace() else " "
        read.append(space + post.lower())
    return read


def rationale_tokens(
    tokenizer: Any,
    posts: Sequence[str],
    rationales: Sequence[Sequence[str]],
    max_length: int = 64,
    lower_case: bool = True,
) -> Tensor:
    """Which tokens of replies belong to a rationale, in the places of :func:`encode_posts`.

    As in the original, all of a reply is the rationale where none of its parts is named; where the named ones are not
    in the reply, word by word, none is.

    Args:
        tokenizer: RoBERTa's.
        posts: Replies, not empty.
        rationales: Parts of each reply; empty ones do not count.
        max_length: As there.
        lower_case: As there.

    Returns:
        Shape (B, max_length), bool.
    """
    texts = _as_read(posts, lower_case)
    encoded = tokenizer(
        texts, max_length=max_length, truncation=True, padding="max_length", return_offsets_mapping=True,
        split_special_tokens=True,
    )  # fmt: skip
    found = torch.zeros(len(posts), max_length, dtype=torch.bool)
    for row, (text, parts) in enumerate(zip(texts, rationales, strict=True)):
        wanted = [part.strip() for part in parts if part.strip()]
        if lower_case:
            wanted = [part.lower() for part in wanted]
        if not wanted:
            found[row] = torch.tensor(encoded["attention_mask"][row], dtype=torch.bool)
        for begin, end in _spans(text, wanted):
            for place, (first, last) in enumerate(encoded["offset_mapping"][row]):
                found[row, place] |= first < end and begin < last
    return found


def _spans(text: str, parts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """First and last character of each part of a text, each time that it is there."""
    for part in parts:
        begin = text.find(part)
        while begin >= 0:
            yield begin, begin + len(part)
            begin = text.find(part, begin + len(part))


def from_roberta(name_or_path: str, lower_case: bool = True) -> EmpathyClassifier:
    """A classifier to be trained: both encoders and the tokenizer of a RoBERTa, all other layers new.

    Args:
        name_or_path: Folder or model id, such as ``roberta-base``.
        lower_case: See :class:`EmpathyClassifier`.

    Raises:
        PretrainedError: If it cannot be loaded.
    """
    with opened(name_or_path) as (place, where):
        roberta = RobertaModel.from_pretrained(place, add_pooling_layer=False, **where)
        tokenizer = RobertaTokenizer.from_pretrained(place, **where)
    config = roberta.config
    classifier = EmpathyClassifier(
        config.vocab_size, config.hidden_size, config.num_hidden_layers, config.num_attention_heads,
        config.intermediate_size, config.max_position_embeddings, lower_case=lower_case,
    )  # fmt: skip
    for encoder in (classifier.seeker_encoder, classifier.response_encoder):
        encoder.load_state_dict(roberta.state_dict())
    for layer in classifier.children():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
    classifier.tokenizer = tokenizer
    return classifier
