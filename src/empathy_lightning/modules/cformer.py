"""Continuous integrate-and-fire: an adapter that gives about one embedding per word piece."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoderLayer

from empathy_lightning.modules.speech_encoder import length_mask


@dataclass
class FiredSpeech:
    """What a CFormer made of speech.

    Attributes:
        embeddings: Inputs for the language model, shape (B, N, output_size).
        mask: Shape (B, N), True where valid.
        logits: Scores of the word pieces, shape (B, N, vocabulary), or None where they were not asked for.
        weights: Weight of each frame, scaled to sum to the number of tokens, shape (B, T).
        total: Sum of the weights before scaling, shape (B,): how many tokens were heard.
        expected: Word pieces that were said, shape (B,), 0 where unknown; None where nobody counted.
    """

    embeddings: Tensor
    mask: Tensor
    logits: Tensor | None
    weights: Tensor
    total: Tensor
    expected: Tensor | None = None


class CFormer(nn.Module):
    """BLSP's optional adapter: transformer layers, integrate-and-fire (arXiv 1905.11235), more layers.

    The last channel of the first layers' output weighs each frame. The weights are laid end to end,
    and every unit of length is one token: the mean of the frames in it. In closed form, so that no
    row waits for another; padding is masked unless ``reference_compat``. In training as many tokens
    are fired as the transcript has, where that is known; else as many as were heard.

    Args:
        input_size: Width of the encoder's frames.
        output_size: Width of the language model's embeddings.
        vocab_size: Word pieces of the auxiliary classifier.
        intermediate_size: Width of the layers' feed-forward part.
        num_heads: Their attention heads (BLSP: 8).
        layers_before: Layers before firing (BLSP-Emo: 4).
        layers_after: Layers after it (BLSP-Emo: 4).
        reference_compat: Let the first layers attend to frames past each length, as the reference does.
    """

    counts_tokens = True
    """The transcript's tokens are told, as ``num_tokens``."""

    def __init__(
        self,
        input_size: int,
        output_size: int,
        vocab_size: int,
        intermediate_size: int,
        num_heads: int = 8,
        layers_before: int = 4,
        layers_after: int = 4,
        reference_compat: bool = False,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.output_size = output_size
        self.vocab_size = vocab_size
        self.intermediate_size = intermediate_size
        self.num_heads = num_heads
        self.layers_before = layers_before
        self.layers_after = layers_after
        self.reference_compat = reference_compat
        config = WhisperConfig(d_model=input_size, encoder_attention_heads=num_heads, encoder_ffn_dim=intermediate_size)
        config._attn_implementation = "sdpa"
        self.pre_cif_layers = nn.ModuleList(WhisperEncoderLayer(config) for _ in range(layers_before))
        self.cif_proj = nn.Linear(input_size - 1, input_size)
        self.post_cif_layers = nn.ModuleList(WhisperEncoderLayer(config) for _ in range(layers_after))
        self.token_embed_proj = nn.Linear(input_size, output_size)
        self.lm_head = nn.Linear(input_size, vocab_size, bias=False)

    def forward(
        self, frames: Tensor, mask: Tensor, num_tokens: Tensor | None = None
    ) -> tuple[Tensor, Tensor, FiredSpeech]:
        """Adapt frames.

        Args:
            frames: Encoder output, right-padded, shape (B, T, input_size).
            mask: Shape (B, T), True where valid.
            num_tokens: Word pieces of each transcript, shape (B,), 0 where unknown.

        Returns:
            Embeddings (B, N, output_size), their mask, and what the losses of firing read.
        """
        # Where only some of it trains, the module itself is in eval mode.
        trains = self.training or self.cif_proj.training
        fired = self.fire(frames, mask, num_tokens if trains else None, words=False)
        fired.expected = num_tokens
        return fired.embeddings, fired.mask, fired

    def fire(self, frames: Tensor, mask: Tensor, num_tokens: Tensor | None = None, words: bool = True) -> FiredSpeech:
        """Adapt frames, to a given number of tokens if it is known.

        Args:
            frames: Encoder output, right-padded, shape (B, T, input_size).
            mask: Shape (B, T), True where valid.
            num_tokens: Shape (B,); 0, or None for all, takes the rounded sum of the weights.
            words: Score the word pieces too, which the embeddings do not need.
        """
        hidden = frames
        seen = None if self.reference_compat else _attention_mask(mask)
        for layer in self.pre_cif_layers:
            hidden = layer(hidden, seen)
        weights = hidden[..., -1].float().sigmoid() * mask
        total = weights.sum(1)
        # No token at all would leave a hole in the prompt.
        counts = total.detach().round().long().clamp(min=1)
        if num_tokens is not None:
            counts = torch.where(num_tokens > 0, num_tokens, counts)
        weights = weights * (counts / total)[:, None]
        hidden = self.cif_proj(_integrate(hidden[..., :-1], weights, counts))
        fired = length_mask(counts, hidden.shape[1])
        for layer in self.post_cif_layers:
            hidden = layer(hidden, _attention_mask(fired))
        logits = self.lm_head(hidden) if words else None
        return FiredSpeech(self.token_embed_proj(hidden), fired, logits, weights, total)


def _attention_mask(mask: Tensor) -> Tensor | None:
    """Shape (B, 1, T, T), True where attended; None if nothing is padded."""
    if bool(mask.all()):
        return None
    return mask[:, None, None].expand(-1, 1, mask.shape[1], -1)


def _integrate(hidden: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
    """Sum frames (B, T, D) into tokens (B, N, D), each by the length that it shares with the token's unit."""
    ends = weights.cumsum(1)[:, None]
    starts = ends - weights[:, None]
    units = torch.arange(int(counts.max()), device=weights.device)[None, :, None]
    # What rounding leaves beyond the last unit belongs to it.
    last = units == counts[:, None, None] - 1
    upper = torch.where(last, torch.full_like(ends, torch.inf), units + 1.0)
    shared = (torch.minimum(ends, upper) - torch.maximum(starts, units.float())).clamp(min=0)
    shared = shared * (units < counts[:, None, None])
    return shared.to(hidden.dtype) @ hidden
