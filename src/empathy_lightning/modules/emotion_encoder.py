"""Frozen wav2vec 2.0 that hears arousal, valence and dominance in a voice."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model, Wav2Vec2PreTrainedModel

from empathy_lightning.modules.pretrained import commit_of, load
from empathy_lightning.modules.speech_encoder import freeze, length_mask


@dataclass
class EncodedEmotion:
    """What the emotion encoder heard.

    The ratings are the model's own linear outputs, trained on ratings in 0..1; nothing clamps them.

    Attributes:
        frames: Encoder output after its final norm, 50 per second, shape (B, T, D), zero past each length.
        mask: Shape (B, T), True where valid.
        embedding: Mean of the valid frames, what the ratings are read from, shape (B, D).
        arousal: Calm to excited, shape (B,).
        valence: Negative to positive, shape (B,).
        dominance: Weak to strong, shape (B,).
    """

    frames: Tensor
    mask: Tensor
    embedding: Tensor
    arousal: Tensor
    valence: Tensor
    dominance: Tensor


class _Released(Wav2Vec2PreTrainedModel):
    """The checkpoint's layout, for transformers to load in any file format and spelling of its keys."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        self.wav2vec2 = Wav2Vec2Model(config)
        self.classifier = _head(config)
        self.post_init()


def _head(config: Wav2Vec2Config) -> nn.Sequential:
    width = config.hidden_size
    return nn.Sequential(OrderedDict(dense=nn.Linear(width, width), tanh=nn.Tanh(), out_proj=nn.Linear(width, 3)))


class EmotionEncoder(nn.Module):
    """Dimensional emotion model of Wagner et al. 2023 (arXiv 2203.07378), always frozen.

    transformers' ``Wav2Vec2Model`` and a head, with the keys of
    ``audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim``. That runs one utterance at a time; batches
    give the same: waveforms are normalised over their own samples; the convolutions do not pad and norm
    frame by frame, so that a valid frame hears nothing past the end; later frames are zeroed before the
    positional convolution, masked in attention and left out of the mean. Silence fills up to 25 ms.

    Args:
        config: Configuration of the backbone; ``id2label`` names the outputs in their order.

    Raises:
        ValueError: If the outputs have other names, or the backbone norms over time or has an adapter.
    """

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        labels: Any = config.id2label or {}
        self.dimensions = [str(labels[index]) for index in sorted(labels)]
        if sorted(self.dimensions) != ["arousal", "dominance", "valence"]:
            raise ValueError(f"outputs must be arousal, valence and dominance, not {', '.join(self.dimensions)}")
        if config.feat_extract_norm != "layer" or config.add_adapter:
            raise ValueError("only feat_extract_norm 'layer' without an adapter keeps results free of the batch")
        self.wav2vec2: Any = Wav2Vec2Model(config)
        self.classifier = _head(config)
        self._kernels = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        self._shortest = 1  # samples that one frame hears
        for kernel, stride in reversed(self._kernels):
            self._shortest = (self._shortest - 1) * stride + kernel
        self.hidden_size: int = config.hidden_size
        self.source: dict[str, Any] | None = None
        freeze(self)

    @classmethod
    def from_pretrained(cls, name_or_path: str, revision: str | None = None) -> EmotionEncoder:
        """Load a checkpoint; a local folder never touches the network.

        Args:
            name_or_path: Folder or model id.
            revision: Commit of the model id.

        Raises:
            PretrainedError: If the files cannot be used, or weights are missing, such as the head of a model that rates
                no emotion.
        """
        spare = ("wav2vec2.masked_spec_embed",)  # It serves training alone.
        model = load(_Released, name_or_path, revision, spare=spare, dtype=torch.float32)
        encoder = cls(model.config)
        encoder.load_state_dict(model.state_dict())
        encoder.source = {"name_or_path": name_or_path, "revision": commit_of(name_or_path, revision)}
        return encoder

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Number of frames for a number of samples, at least one, shape (B,) of shape (B,)."""
        for kernel, stride in self._kernels:
            lengths = (lengths - kernel).div(stride, rounding_mode="floor") + 1
        return lengths.clamp(min=1)

    def forward(self, waveform: Tensor, lengths: Tensor) -> EncodedEmotion:
        """Hear the emotion of each utterance.

        Args:
            waveform: Samples at 16 kHz, right-padded, shape (B, T).
            lengths: Valid samples, shape (B,).
        """
        waveform = normalise(waveform, lengths).to(self.wav2vec2.dtype)
        waveform = nn.functional.pad(waveform, (0, max(0, self._shortest - waveform.shape[1])))
        heard = length_mask(lengths.clamp(min=self._shortest), waveform.shape[1])
        frames = self.wav2vec2(waveform, attention_mask=heard.long()).last_hidden_state
        counts = self.frame_lengths(lengths)
        mask = length_mask(counts, frames.shape[1])
        frames = frames * mask[..., None]
        embedding = frames.sum(1) / counts[:, None]
        ratings = dict(zip(self.dimensions, self.classifier(embedding).unbind(1), strict=True))
        return EncodedEmotion(frames, mask, embedding, **ratings)


def normalise(waveform: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit variance per utterance, zero past its end, as ``Wav2Vec2FeatureExtractor`` does.

    Args:
        waveform: Right-padded, shape (B, T).
        lengths: Valid samples, shape (B,).
    """
    mask = length_mask(lengths, waveform.shape[1])
    counts = lengths.clamp(min=1)[:, None]
    waveform = waveform.float() * mask
    centred = (waveform - waveform.sum(1, keepdim=True) / counts) * mask
    return centred / (centred.square().sum(1, keepdim=True) / counts + 1e-7).sqrt()
