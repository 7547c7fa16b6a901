"""From encoder frames to the language model's embedding space by strided convolutions, with or without emotion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from empathy_lightning.modules.speech_encoder import length_mask


class ConvolutionalAdapter(nn.Module):
    """Adapter of BLSP-Emo and RE-LLM: strided convolutions with gated linear units, then a bottleneck.

    Each convolution halves the rate, so that 50 frames per second become 6.25 embeddings. RE-LLM
    joins an emotion embedding, the same for every frame, on the channels after the encoder's.
    Frames past each length are zeroed before every convolution: what a released model makes of an
    utterance on its own, whatever else is in the batch.

    Args:
        input_size: Width of the encoder's frames.
        output_size: Width of the language model's embeddings.
        hidden_size: Width of the bottleneck (paper: 512).
        emotion_size: Width of the emotion embedding; 0 for BLSP-Emo's adapter, which has none.
        kernel_sizes: One kernel per convolution.
        reference_compat: Leave frames past each length as they come, as the reference does: the last
            embedding of a short utterance then depends on what follows it.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int = 512,
        emotion_size: int = 0,
        kernel_sizes: tuple[int, ...] = (5, 5, 5),
        reference_compat: bool = False,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.output_size = output_size
        self.hidden_size = hidden_size
        self.emotion_size = emotion_size
        self.kernel_sizes = tuple(kernel_sizes)
        self.reference_compat = reference_compat
        width = input_size + emotion_size
        self.convolutions = nn.ModuleList()
        for index, kernel in enumerate(kernel_sizes, 1):
            width_out = output_size if index == len(kernel_sizes) else width
            # Values and gates, of which the gated linear unit makes half as many channels.
            self.convolutions.append(nn.Conv1d(width, 2 * width_out, kernel, stride=2, padding=kernel // 2))
        self.linear1 = nn.Linear(output_size, hidden_size, bias=False)
        self.linear2 = nn.Linear(hidden_size, output_size, bias=False)
        self.layernorm = nn.LayerNorm(output_size)
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(self, frames: Tensor, mask: Tensor, emotion: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Adapt frames.

        Args:
            frames: Encoder output, right-padded, shape (B, T, input_size).
            mask: Shape (B, T), True where valid.
            emotion: Emotion embeddings, shape (B, emotion_size); None where emotion_size is 0.

        Returns:
            Embeddings (B, ceil(T / 8), output_size) for three convolutions, and their mask.

        Raises:
            ValueError: If an emotion embedding is missing, or given to an adapter without emotion.
        """
        if (emotion is not None) != (self.emotion_size > 0):
            raise ValueError(f"this adapter takes an emotion embedding of width {self.emotion_size}")
        if emotion is not None:
            everywhere = emotion[:, None].to(frames.dtype).expand(-1, frames.shape[1], -1)
            frames = torch.cat([frames, everywhere], 2)
        lengths = mask.sum(1)
        hidden = frames.transpose(1, 2).to(self.layernorm.weight.dtype)
        for convolution in self.convolutions:
            if not self.reference_compat:
                hidden = hidden * length_mask(lengths, hidden.shape[2])[:, None]
            hidden = nn.functional.glu(convolution(hidden), dim=1)
            lengths = (lengths + 1) // 2
        hidden = hidden.transpose(1, 2)
        hidden = hidden + self.linear2(nn.functional.gelu(self.linear1(hidden)))
        return self.layernorm(hidden), length_mask(lengths, hidden.shape[1])

    @torch.no_grad()
    def warm_start(self, adapter: ConvolutionalAdapter) -> None:
        """Start as an adapter without emotion: the same function, with the emotion's channels unread.

        The first half of a gated convolution's output is the value and the second the gate, so each is
        placed in its own half. Channels that later convolutions do not read keep their initial weights.

        Args:
            adapter: Trained adapter, for instance BLSP-Emo's.

        Raises:
            ValueError: If it differs in more than the emotion's width.
        """
        same = ("input_size", "output_size", "hidden_size", "kernel_sizes")
        if adapter.emotion_size or any(getattr(self, name) != getattr(adapter, name) for name in same):
            raise ValueError(f"the adapter to start from must agree in {', '.join(same)} and have no emotion")
        old, width = self.input_size, self.input_size + self.emotion_size
        last = len(self.convolutions) - 1
        for index, (new, given) in enumerate(zip(self.convolutions, adapter.convolutions, strict=True)):
            assert isinstance(new, nn.Conv1d) and isinstance(given, nn.Conv1d)
            assert new.bias is not None and given.bias is not None
            rows = torch.arange(len(given.weight))
            if index < last:
                rows = torch.cat([rows[:old], rows[:old] + width])
            # At first the emotion's channels are not read.
            new.weight[rows] = 0.0
            new.weight[rows, :old] = given.weight.to(new.weight)
            new.bias[rows] = given.bias.to(new.bias)
        for name in ("linear1", "linear2", "layernorm"):
            getattr(self, name).load_state_dict(getattr(adapter, name).state_dict())
