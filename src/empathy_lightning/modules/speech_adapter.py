"""From encoder frames to the language model's embedding space."""

from __future__ import annotations

from torch import Tensor, nn

from empathy_lightning.modules.speech_encoder import length_mask


class SpeechAdapter(nn.Module):
    """Concatenate neighbouring frames and project them, as FreezeEmpath and LLaMA-Omni2 do.

    Frames past each length are zeroed first and a started group counts as a token,
    so that no word at the end is lost and nothing depends on the rest of the batch.

    Args:
        input_size: Width of the encoder's frames.
        output_size: Width of the language model's embeddings.
        hidden_size: Width between the two projections (paper: 2048).
        downsampling: Frames joined into one embedding (paper: 5, hence 10 embeddings per second).
        drop_incomplete: Drop the last group if it is not full, as the reference does.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int = 2048,
        downsampling: int = 5,
        drop_incomplete: bool = False,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.output_size = output_size
        self.hidden_size = hidden_size
        self.downsampling = downsampling
        self.drop_incomplete = drop_incomplete
        self.linear1 = nn.Linear(input_size * downsampling, hidden_size)
        self.linear2 = nn.Linear(hidden_size, output_size)

    def forward(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Project frames.

        Args:
            frames: Encoder output, right-padded, shape (B, T, input_size).
            mask: Shape (B, T), True where valid.

        Returns:
            Embeddings (B, ceil(T / downsampling), output_size) and their mask.
        """
        lengths = mask.sum(1)
        if self.drop_incomplete:
            lengths = lengths // self.downsampling
            frames = frames[:, : frames.shape[1] // self.downsampling * self.downsampling]
        else:
            lengths = (lengths + self.downsampling - 1) // self.downsampling
            frames = frames * mask[..., None]
            frames = nn.functional.pad(frames, (0, 0, 0, -frames.shape[1] % self.downsampling))
        groups = frames.reshape(len(frames), -1, self.input_size * self.downsampling)
        embeddings = self.linear2(nn.functional.relu(self.linear1(groups)))
        return embeddings, length_mask(lengths, groups.shape[1])
