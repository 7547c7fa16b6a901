"""Frozen Whisper encoder that hears only what was said: no padding to 30 seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from empathy_lightning.modules.pretrained import commit_of, load
from empathy_lightning.modules.silence import trim_silence


def length_mask(lengths: Tensor, width: int) -> Tensor:
    """Mask of a right-padded batch.

    Args:
        lengths: Valid lengths, shape (B,).
        width: Width of the padded axis.

    Returns:
        Shape (B, width), True where valid.
    """
    return torch.arange(width, device=lengths.device) < lengths[:, None]


def freeze(module: nn.Module) -> nn.Module:
    """Switch gradients off, put the module in eval mode and keep it there under ``train()``."""
    module.requires_grad_(False)
    module.eval()
    module.train = lambda mode=True: module  # type: ignore[method-assign]
    return module


class LogMel(nn.Module):
    """Whisper's log-mel spectrogram, computed per utterance over its own length.

    Follows Radford et al. 2022 (arXiv 2212.04356) as transformers'
    ``WhisperFeatureExtractor`` does: 25 ms windows, 10 ms hop, the dynamic range
    limited to 8 decades below the utterance's own maximum, scaled by (x + 4) / 4.

    Args:
        num_mel_bins: 80, or 128 for large-v3.
        n_fft: Samples of a window; Whisper's own by default.
        hop_length: Samples from one window to the next; Whisper's own by default.
    """

    sample_rate = 16_000
    hop_length = 160

    def __init__(self, num_mel_bins: int = 80, n_fft: int = 400, hop_length: int = 160) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.hop_length = hop_length
        filters = WhisperFeatureExtractor(feature_size=num_mel_bins, n_fft=n_fft, hop_length=hop_length).mel_filters
        self.register_buffer("filters", torch.as_tensor(filters, dtype=torch.float32).T.contiguous(), persistent=False)
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)
        self.filters: Tensor
        self.window: Tensor

    @torch.no_grad()
    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the spectrogram.

        Args:
            waveform: Samples at 16 kHz in -1..1, right-padded, shape (B, T).
            lengths: Valid samples, shape (B,).

        Returns:
            Log-mel spectrogram (B, mel bins, M), zero past each length, and the
            numbers of valid frames (B,), one per started hop (10 ms).
        """
        with torch.autocast(waveform.device.type, enabled=False):
            return self._compute(waveform.float(), lengths)

    def _compute(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        # The silence that a released model heard after the speech is part of its last window.
        waveform = nn.functional.pad(waveform * length_mask(lengths, waveform.shape[1]), (0, self.n_fft))
        spectrum = torch.stft(
            waveform, self.n_fft, self.hop_length, window=self.window, return_complex=True, pad_mode="reflect"
        )
        frames = (lengths + self.hop_length - 1) // self.hop_length
        spectrum = spectrum[..., : int(frames.max())]
        power = spectrum.real.square() + spectrum.imag.square()
        mel = (self.filters @ power).clamp(min=1e-10).log10()
        valid = length_mask(frames, mel.shape[2])[:, None]
        peak = mel.masked_fill(~valid, -math.inf).amax(dim=(1, 2), keepdim=True)
        mel = (torch.maximum(mel, peak - 8.0) + 4.0) / 4.0
        return mel * valid, frames


@dataclass
class EncodedSpeech:
    """What an encoder heard.

    Attributes:
        frames: Encoder output after its final norm, shape (B, T, D), zero past each length.
        layers: Raw output of every block, before the final norm, each (B, T, D).
        mask: Shape (B, T), True where valid.
    """

    frames: Tensor
    layers: tuple[Tensor, ...]
    mask: Tensor


class SpeechEncoder(nn.Module):
    """Whisper encoder over speech of any length up to its positions (30 s), frozen by default.

    The weights are transformers' ``WhisperEncoder``; only the forward differs:
    utterances keep their own length, padding is zeroed before each convolution and
    masked in attention, so that a result never depends on the rest of the batch.

    Args:
        config: Configuration of the Whisper model.
        pad_to_30s: Pad every utterance with silence to the full window, as released
            models were trained; exact to transformers' own forward, and slower.
        frozen: Without gradients and always in eval mode.
        cut_padding: With ``pad_to_30s``, cut the frames of the silence off again, as BLSP-Emo does.
        trim: Leave out silence at both ends (more than 40 dB below the loudest) but for 50 ms of it, so that how long
            a recording goes on tells nothing.
    """

    def __init__(
        self,
        config: WhisperConfig,
        pad_to_30s: bool = False,
        frozen: bool = True,
        cut_padding: bool = False,
        trim: bool = False,
    ) -> None:
        super().__init__()
        self.encoder: Any = WhisperEncoder(config)
        self.encoder.config._attn_implementation = "sdpa"
        self.log_mel = LogMel(config.num_mel_bins)
        self.hidden_size: int = config.d_model
        self.num_layers: int = config.encoder_layers
        self.max_seconds = config.max_source_positions / 50  # frames a second
        self.pad_to_30s = pad_to_30s
        self.cut_padding = cut_padding
        self.trim = trim
        self.source: dict[str, Any] | None = None
        if frozen:
            freeze(self)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        revision: str | None = None,
        pad_to_30s: bool = False,
        frozen: bool = True,
        cut_padding: bool = False,
        trim: bool = False,
    ) -> SpeechEncoder:
        """Load the encoder of a Whisper checkpoint.

        Args:
            name_or_path: Folder or model id, for example ``openai/whisper-large-v3``.
            revision: Commit of the model id.
            pad_to_30s: See the class.
            frozen: See the class.
            cut_padding: See the class.
            trim: See the class.

        Raises:
            PretrainedError: If the files cannot be used.
        """
        model = load(WhisperModel, name_or_path, revision, "encoder.", dtype=torch.float32)
        encoder = cls(model.config, pad_to_30s, False, cut_padding, trim)
        encoder.encoder.load_state_dict(model.encoder.state_dict())
        resolved = commit_of(name_or_path, revision)
        encoder.source = {"name_or_path": name_or_path, "revision": resolved, "pad_to_30s": pad_to_30s}
        encoder.source |= {name: True for name in ("cut_padding", "trim") if getattr(encoder, name)}
        if frozen:
            freeze(encoder)
        return encoder

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Number of encoder frames (50 per second) for a number of samples, shape (B,) of shape (B,)."""
        mel_frames = (lengths + LogMel.hop_length - 1) // LogMel.hop_length
        return (mel_frames + 1) // 2

    def forward(self, waveform: Tensor, lengths: Tensor) -> EncodedSpeech:
        """Encode speech.

        Args:
            waveform: Samples at 16 kHz, right-padded, shape (B, T).
            lengths: Valid samples, shape (B,).

        Raises:
            ValueError: If an utterance is longer than the encoder's positions.
        """
        if self.trim:
            waveform, lengths = trim_silence(waveform, lengths, margin=LogMel.sample_rate // 20)
        own_lengths = self.frame_lengths(lengths).clamp(max=self.encoder.max_source_positions)
        if self.pad_to_30s:
            full = round(self.max_seconds * LogMel.sample_rate)
            waveform = nn.functional.pad(waveform, (0, max(0, full - waveform.shape[1])))[:, :full]
            mel, mel_frames = self.log_mel(waveform, torch.full_like(lengths, full))
        else:
            mel, mel_frames = self.log_mel(waveform, lengths)
        frame_lengths = (mel_frames + 1) // 2
        width = int(frame_lengths.max())
        if width > self.encoder.max_source_positions:
            raise ValueError(f"speech of {width / 50:.1f} s is longer than the encoder's {self.max_seconds:.0f} s")
        encoder = self.encoder
        hidden = nn.functional.gelu(encoder.conv1(mel.to(encoder.conv1.weight.dtype)))
        hidden = hidden * length_mask(mel_frames, hidden.shape[2])[:, None]
        hidden = nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        hidden = hidden + encoder.embed_positions.weight[:width]
        hidden = nn.functional.dropout(hidden, p=encoder.dropout, training=encoder.training)
        mask = length_mask(frame_lengths, width)
        # Without a mask, where nothing is padded, the fused kernels are fastest.
        attention_mask = None if bool(mask.all()) else mask[:, None, None, :].expand(-1, 1, width, -1)
        layers = []
        for layer in encoder.layers:
            hidden = layer(hidden, attention_mask)
            layers.append(hidden)
        if self.cut_padding:
            longest = int(own_lengths.max())
            mask = length_mask(own_lengths, longest)
            hidden = hidden[:, :longest]
            layers = [layer[:, :longest] for layer in layers]
        frames = encoder.layer_norm(hidden) * mask[..., None]
        return EncodedSpeech(frames, tuple(layers), mask)
