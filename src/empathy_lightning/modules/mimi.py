"""Kyutai's codec Mimi as a frozen part: speech to codes of its codebooks, and codes to speech as they come."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MimiConfig, MimiModel

from empathy_lightning.errors import InputError
from empathy_lightning.modules.pretrained import commit_of, load
from empathy_lightning.modules.speech_encoder import freeze, length_mask
from empathy_lightning.modules.vocoders.receptive_field import history_of


class MimiCodec(nn.Module):
    """Mimi (Defossez et al. 2024, arXiv 2410.00037): 12.5 frames a second at 24 kHz, 2048 codes a codebook; frozen.

    The units of speech are the codes of its first codebook, which was trained to say what is said. All of it is
    causal, so that speech comes out as the codes come in, and what follows an utterance in a batch changes nothing.

    Args:
        config: Configuration of the model.

    Raises:
        InputError: If it hears what comes later.
    """

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        if not config.use_causal_conv or config.trim_right_ratio != 1:
            raise InputError("this Mimi hears what comes later: give one with use_causal_conv and trim_right_ratio 1")
        self.mimi: Any = MimiModel(config)
        self.sample_rate: int = config.sampling_rate
        self.num_units: int = config.codebook_size
        self.samples_per_unit = round(config.sampling_rate / config.frame_rate)
        self.width: int = config.hidden_size
        self.source: dict[str, Any] | None = None
        upsample, _, convolutions = self._stages()
        self.samples_per_state = self.samples_per_unit // upsample.conv.stride[0]
        self.upsample_history = history_of([upsample.conv])
        self.waveform_history = history_of([m for m in convolutions.modules() if _is_convolution(m)])
        freeze(self)

    @classmethod
    def from_pretrained(cls, name_or_path: str, revision: str | None = None) -> MimiCodec:
        """Load a checkpoint.

        Args:
            name_or_path: Folder or model id, for example ``kyutai/mimi``.
            revision: Commit of the model id.

        Raises:
            PretrainedError: If the files cannot be used.
        """
        model = load(MimiModel, name_or_path, revision, dtype=torch.float32)
        codec = cls(model.config)
        codec.mimi.load_state_dict(model.state_dict())
        codec.source = {"name_or_path": name_or_path, "revision": commit_of(name_or_path, revision)}
        return codec

    def _stages(self) -> tuple[Any, Any, Any]:
        """Upsampling, transformer and convolutions, which older transformers hold side by side."""
        decoder = self.mimi.decoder
        if hasattr(decoder, "decoder_transformer"):
            return decoder.upsample, decoder.decoder_transformer, decoder.decoder_seanet
        return self.mimi.upsample, self.mimi.decoder_transformer, decoder

    @torch.no_grad()
    def encode(self, waveform: Tensor) -> Tensor:
        """Units (U,) of a waveform (T,) at 24 kHz, the last one of what silence fills up."""
        lengths = torch.tensor([len(waveform)], device=waveform.device)
        return self.encode_many(waveform[None], lengths)[0]

    @torch.no_grad()
    def encode_many(self, waveform: Tensor, lengths: Tensor) -> list[Tensor]:
        """Units (U_i,) of right-padded waveforms (B, T) with their valid samples (B,), each as alone."""
        codes = self.codes(waveform, lengths, 1)[:, 0]
        return [row[: self.frames(int(length))] for row, length in zip(codes, lengths, strict=True)]

    def frames(self, samples: int) -> int:
        """Frames of so many samples."""
        return math.ceil(samples / self.samples_per_unit)

    @torch.no_grad()
    def codes(self, waveform: Tensor, lengths: Tensor, codebooks: int | None = None) -> Tensor:
        """Codes (B, Q, U) of right-padded waveforms (B, T), of the first codebooks or of all.

        Args:
            waveform: At 24 kHz.
            lengths: Valid samples, shape (B,).
            codebooks: Q; None for all.
        """
        # What a batch is padded with is silence, as it is at the end of an utterance alone.
        waveform = waveform * length_mask(lengths, waveform.shape[1])
        # Whole frames, or the codec would fill up within its layers, differently for each row of a batch.
        missing = -waveform.shape[1] % self.samples_per_unit
        waveform = nn.functional.pad(waveform, (0, missing))
        if not waveform.shape[1]:
            return torch.zeros(len(waveform), codebooks or 1, 0, dtype=torch.long, device=waveform.device)
        codes: Tensor = self.mimi.encode(waveform[:, None], num_quantizers=codebooks).audio_codes
        return codes

    def latents(self, codes: Tensor) -> Tensor:
        """What codes (B, Q, U) of the first Q codebooks stand for, shape (B, D, U)."""
        latents: Tensor = self.mimi.quantizer.decode(codes)
        return latents

    def upsampled(self, latents: Tensor) -> Tensor:
        """Latents (B, D, U) at the transformer's rate, shape (B, V, D)."""
        frames: Tensor = self._stages()[0](latents).mT
        return frames

    def attended(self, frames: Tensor, past: Any = None, keep: bool = False) -> tuple[Tensor, Any]:
        """The transformer's states (B, V, D), and its cache where that is kept.

        Args:
            frames: Shape (B, V, D).
            past: Cache of the frames before.
            keep: Whether to keep one.
        """
        output = self._stages()[1](frames, past_key_values=past, use_cache=keep)
        return output.last_hidden_state, output.past_key_values

    def waveform(self, states: Tensor) -> Tensor:
        """Waveforms (B, T) of the transformer's states (B, V, D)."""
        samples: Tensor = self._stages()[2](states.mT)[:, 0, : states.shape[1] * self.samples_per_state]
        return samples


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv1d | nn.ConvTranspose1d)
