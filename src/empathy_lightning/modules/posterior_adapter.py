"""An adapter that hears tokens: the model reads its own embeddings, weighted by how likely each token is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from empathy_lightning.errors import InputError
from empathy_lightning.modules.speech_encoder import length_mask


@dataclass
class HeardTokens:
    """What a :class:`PosteriorAdapter` hears, group of frames by group of frames.

    Attributes:
        log_probabilities: Of the first tokens of the language model's vocabulary and, last, of none (the blank),
            shape (B, S, num_tokens + 1).
        mask: Shape (B, S), True where valid.
    """

    log_probabilities: Tensor
    mask: Tensor


class PosteriorAdapter(nn.Module):
    """Neighbouring frames joined, transformer layers, and a posterior over tokens; no token, no embedding.

    Groups of frames in which no token is likeliest give nothing, and neighbours with the same one are averaged (CTC,
    Graves et al. 2006). What is left is the mean of the language model's own embeddings under the posterior, as in
    LegoSLM (arXiv 2505.11352): the frozen model reads nearly what it would read of the transcript, before it was
    ever asked, and :class:`.losses.AlignmentLoss` trains that without running it.

    Byte-pair vocabularies have their commonest tokens first, and any text can be written with those alone, in more
    pieces: so few of them are enough, and words that were in no training text can be heard in parts.

    Args:
        input_size: Width of the encoder's frames.
        output_size: Width of the language model's embeddings.
        num_tokens: How many of the first tokens can be heard.
        hidden_size: Width of the layers.
        layers: How many there are.
        num_heads: Their attention heads.
        downsampling: Frames joined into one group (of 20 ms each, after Whisper).
        dropout: Share of the layers' values that training leaves out.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        num_tokens: int = 2000,
        hidden_size: int = 512,
        layers: int = 2,
        num_heads: int = 8,
        downsampling: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.output_size = output_size
        self.num_tokens = num_tokens
        self.hidden_size = hidden_size
        self.layers = layers
        self.num_heads = num_heads
        self.downsampling = downsampling
        self.dropout = dropout
        self.norm = nn.LayerNorm(input_size * downsampling)
        self.joined = nn.Linear(input_size * downsampling, hidden_size)
        self.blocks = nn.ModuleList(self._block() for _ in range(layers))
        self.final_norm = nn.LayerNorm(hidden_size)
        self.head = nn.Linear(hidden_size, num_tokens + 1)
        # In a tuple: the language model is no part of this one.
        self._words: tuple[nn.Module, ...] = ()

    def _block(self) -> nn.Module:
        width = 4 * self.hidden_size
        return nn.TransformerEncoderLayer(
            self.hidden_size, self.num_heads, width, self.dropout, "gelu", batch_first=True, norm_first=True
        )

    def attach(self, language_model: Any) -> None:
        """Take the embeddings of the language model that is to read; :class:`.models.EmpatheticLM` calls it.

        Raises:
            InputError: If they have another width, or there are fewer.
        """
        words = language_model.model.get_input_embeddings()
        count, width = words.weight.shape
        if width != self.output_size or count < self.num_tokens:
            raise InputError(
                f"speech_adapter: output_size {self.output_size} and num_tokens {self.num_tokens} do not fit the "
                f"language model's {count} embeddings of width {width}"
            )
        self._words = (words,)

    def forward(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, HeardTokens]:
        """Hear tokens.

        Args:
            frames: Encoder output, right-padded, shape (B, T, input_size).
            mask: Shape (B, T), True where valid.

        Returns:
            Embeddings (B, N, output_size), one or more for each utterance, their mask, and the posterior.

        Raises:
            InputError: If no language model was attached.
        """
        if not self._words:
            raise InputError("PosteriorAdapter hears with the language model's embeddings: give it a responder")
        heard = self.hear(frames, mask)
        tokens = heard.log_probabilities[..., :-1].softmax(-1)
        weight: Any = self._words[0].weight
        table: Tensor = weight[: self.num_tokens]
        embeddings, kept = _merged((tokens.to(table.dtype) @ table).to(frames.dtype), heard)
        return embeddings, kept, heard

    def hear(self, frames: Tensor, mask: Tensor) -> HeardTokens:
        """The posterior alone; arguments as of :meth:`forward`."""
        count = self.downsampling
        frames = nn.functional.pad(frames * mask[..., None], (0, 0, 0, -frames.shape[1] % count))
        groups = frames.reshape(len(frames), -1, self.input_size * count)
        valid = length_mask((mask.sum(1) + count - 1) // count, groups.shape[1])
        hidden = self.joined(self.norm(groups))
        for block in self.blocks:
            hidden = block(hidden, src_key_padding_mask=~valid)
        return HeardTokens(self.head(self.final_norm(hidden)).float().log_softmax(-1), valid)


def _merged(embeddings: Tensor, heard: HeardTokens) -> tuple[Tensor, Tensor]:
    """Means of neighbouring embeddings with the same likeliest token, those of none left out.

    Args:
        embeddings: Of all groups, shape (B, S, D).
        heard: Their posterior.

    Returns:
        Shape (B, N, D), right-padded with zeros, and the mask (B, N).
    """
    likeliest = heard.log_probabilities.argmax(-1)
    blank = heard.log_probabilities.shape[-1] - 1
    spoken = (likeliest != blank) & heard.mask
    # An utterance of which nothing was understood is not nothing: its likeliest group stands for it.
    best = heard.log_probabilities[..., :-1].amax(-1).masked_fill(~heard.mask, -torch.inf).argmax(1)
    silent = ~spoken.any(1)
    spoken[silent, best[silent]] = True
    before = nn.functional.pad(likeliest[:, :-1], (1, 0), value=-1)
    follows = nn.functional.pad(spoken[:, :-1], (1, 0)) & (likeliest == before)
    starts = spoken & ~follows
    place = (starts.cumsum(1) - 1).clamp(min=0)
    counts = starts.sum(1)
    # Sums as a product, so that no row waits for another.
    belongs = nn.functional.one_hot(place, int(counts.max())).to(embeddings.dtype) * spoken[..., None]
    sums = belongs.transpose(1, 2) @ embeddings
    means = sums / belongs.sum(1).clamp(min=1)[..., None]
    return means, length_mask(counts, means.shape[1])
