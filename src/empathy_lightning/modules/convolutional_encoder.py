"""A small speech encoder to train from scratch, where there is no pretrained one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from empathy_lightning.modules.silence import trim_silence
from empathy_lightning.modules.speech_encoder import EncodedSpeech, LogMel, length_mask


class _Residual(nn.Module):
    """Two 3x3 convolutions over (mel, time) around a shortcut; halves the mel axis, and time if asked."""

    def __init__(self, channels_in: int, channels_out: int, time_stride: int, dropout: float) -> None:
        super().__init__()
        stride = (2, time_stride)
        self.time_stride = time_stride
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
        self.norm3 = nn.BatchNorm2d(channels_out)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, image: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, C, mel, time) with valid lengths (B,) to the next level's."""
        lengths = (lengths + self.time_stride - 1) // self.time_stride
        hidden = nn.functional.relu(self.norm1(self.conv1(image)))
        mask = length_mask(lengths, hidden.shape[3])[:, None, None]
        hidden = self.norm2(self.conv2(hidden * mask))
        return self.dropout(nn.functional.relu(hidden + self.norm3(self.shortcut(image)))) * mask, lengths


class ConvolutionalEncoder(nn.Module):
    """Residual convolutions over the log-mel spectrogram, with augmentation while training.

    In training mode the spectrogram is warped in time and frequency (other speeds and
    vocal tracts), made louder or softer, and bands and stretches of it are masked
    (SpecAugment, Park et al. 2019). Padding is zeroed before each convolution, so that
    a result never depends on the batch. The windows are long (64 ms, every 16 ms), so
    that the harmonics of a voice stand apart and its pitch can be seen. Silence at both
    ends is cut off first: how long a recording goes on says nothing of an emotion.

    Args:
        hidden_size: Width of the frames.
        channels: Channels of the residual blocks; the first three halve the frame rate.
        dropout: Dropout between blocks.
        warp: Largest relative stretch of either axis in training; 0 switches it off.
        gain: Largest change of loudness in training, in dB; 0 switches it off.
        num_masks: Masked bands, and masked stretches, per utterance in training.
        trim: Cut silence off both ends, see :func:`trim_silence`.
    """

    def __init__(
        self,
        hidden_size: int = 192,
        channels: tuple[int, ...] = (16, 32, 64, 96),
        dropout: float = 0.05,
        warp: float = 0.2,
        gain: float = 6.0,
        num_masks: int = 1,
        trim: bool = True,
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.channels = tuple(channels)
        self.dropout = dropout
        self.warp = warp
        self.gain = gain
        self.num_masks = num_masks
        self.trim = trim
        self.log_mel = LogMel(80, n_fft=1024, hop_length=256)
        self.blocks = nn.ModuleList()
        width = 1
        for level, wider in enumerate(self.channels):
            time_stride = 2 if level < 3 else 1
            self.blocks.append(_Residual(width, wider, time_stride, dropout))
            width = wider
        self.project = nn.Linear(self.channels[-1] * -(-80 // 2 ** len(self.channels)), hidden_size)

    def forward(self, waveform: Tensor, lengths: Tensor) -> EncodedSpeech:
        """Encode speech.

        Args:
            waveform: Samples at 16 kHz, right-padded, shape (B, T).
            lengths: Valid samples, shape (B,).
        """
        if self.trim:
            waveform, lengths = trim_silence(waveform, lengths)
        mel, frames = self.log_mel(waveform, lengths)
        if self.training and self.warp > 0:
            mel, frames = warp(mel, frames, self.warp)
        if self.training and self.gain > 0:
            # A unit of this spectrogram is a factor of 10^4 in power, hence 40 dB.
            mel = mel + (2 * torch.rand(len(mel), 1, 1, device=mel.device) - 1) * self.gain / 40
        mel = 2 * mel * length_mask(frames, mel.shape[2])[:, None]
        if self.training:
            mel = self._mask(mel, frames)
        image, sizes = mel[:, None], frames
        for block in self.blocks:
            image, sizes = block(image, sizes)
        mask = length_mask(sizes, image.shape[3])
        hidden = nn.functional.relu(self.project(image.flatten(1, 2).transpose(1, 2))) * mask[..., None]
        return EncodedSpeech(hidden, (hidden,), mask)

    def _mask(self, mel: Tensor, frames: Tensor) -> Tensor:
        """Zero random bands of up to 12 mel bins and stretches of up to 15 % of the frames."""
        for axis, sizes, longest in ((1, torch.full_like(frames, mel.shape[1]), 0.15), (2, frames, 0.15)):
            position = torch.arange(mel.shape[axis], device=mel.device)
            for _ in range(self.num_masks):
                draw = torch.rand(2, len(mel), 1, device=mel.device)
                length = draw[0] * longest * sizes[:, None]
                start = draw[1] * (sizes[:, None] - length)
                kept = (position < start) | (position >= start + length)
                # For every bin, or every frame: along the other axis.
                mel = mel * kept.unsqueeze(3 - axis)
        return mel


def warp(mel: Tensor, frames: Tensor, amount: float) -> tuple[Tensor, Tensor]:
    """Stretch time and the frequency scale of each spectrogram by random factors: other speeds, other vocal tracts.

    Args:
        mel: Spectrograms, right-padded, shape (B, mel bins, M).
        frames: Valid frames, shape (B,).
        amount: Largest relative stretch of either axis.

    Returns:
        Warped spectrograms and their valid frames.
    """
    rows, bins, width = mel.shape
    scale = 1 + (2 * torch.rand(2, rows, device=mel.device) - 1) * amount
    frames = (frames / scale[0]).long().clamp(min=4)
    width_out = int(frames.max())
    time = torch.arange(width_out, device=mel.device) * scale[0][:, None] / max(1, width - 1) * 2 - 1
    frequency = torch.arange(bins, device=mel.device) * scale[1][:, None] / (bins - 1) * 2 - 1
    grid = torch.stack([time[:, None, :].expand(-1, bins, -1), frequency[:, :, None].expand(-1, -1, width_out)], dim=-1)
    warped = nn.functional.grid_sample(mel[:, None], grid, padding_mode="border", align_corners=True)
    return warped[:, 0], frames
