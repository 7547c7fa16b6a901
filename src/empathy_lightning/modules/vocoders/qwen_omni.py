"""Qwen2.5-Omni's token2wav: flow matching from units to a mel spectrogram, and BigVGAN from there to a waveform."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2_5OmniConfig, Qwen2_5OmniPreTrainedModel, Qwen2_5OmniToken2WavModel
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import RungeKutta4ODESolver
from transformers.utils.hub import cached_file

from empathy_lightning.errors import InputError
from empathy_lightning.modules.contracts import VocoderError, check_units
from empathy_lightning.modules.model_files import PretrainedError
from empathy_lightning.modules.pretrained import commit_of, load, opened
from empathy_lightning.modules.speech_encoder import freeze


class _Place(Qwen2_5OmniPreTrainedModel):
    """The vocoder's place in a checkpoint, of which nothing else is read."""

    def __init__(self, config: Qwen2_5OmniConfig) -> None:
        super().__init__(config)
        inner: Any = config.token2wav_config
        self.token2wav = Qwen2_5OmniToken2WavModel(inner)
        self.post_init()


class QwenVocoder(nn.Module):
    """Qwen2.5-Omni's vocoder (Xu et al. 2025, arXiv 2503.20215), frozen: 50 units a second to 24 kHz, a whole reply.

    The flow starts from noise that the seed alone decides, the same for each row, so a reply sounds the same alone, in
    a batch and again. Its attention goes by blocks that are counted from the reply's start, so it speaks when all
    units are there.

    Args:
        config: Configuration of the whole model.
        voice: What decides the voice: the speaker's embedding (D,) and a mel spectrogram (M, mel bins) of the speaker.
        steps: Of the flow; more are slower and finer.
        guidance: How far the flow is pushed from what it would say without units and speaker.
        seed: Of the noise.
    """

    def __init__(
        self,
        config: Qwen2_5OmniConfig,
        voice: tuple[Tensor, Tensor],
        steps: int = 10,
        guidance: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        inner: Any = config.token2wav_config
        self.token2wav: Any = Qwen2_5OmniToken2WavModel(inner).float()
        self.register_buffer("speaker_embedding", voice[0].float().flatten(), persistent=False)
        self.register_buffer("speaker_mel", voice[1].float().reshape(-1, voice[1].shape[-1]), persistent=False)
        self.speaker_embedding: Tensor
        self.speaker_mel: Tensor
        flow, waveform = inner.dit_config, inner.bigvgan_config
        self.num_units: int = flow.num_embeds
        self.sample_rate = 24_000
        self.samples_per_unit: int = flow.repeats * math.prod(waveform.upsample_rates)
        self.context = None
        self.longest: int = flow.max_position_embeddings // flow.repeats
        self.steps = steps
        self.guidance = guidance
        self.seed = seed
        self.source: dict[str, Any] | None = None
        freeze(self)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        revision: str | None = None,
        speaker: str = "Chelsie",
        steps: int = 10,
        guidance: float = 0.5,
        seed: int = 0,
    ) -> QwenVocoder:
        """Load the vocoder out of a Qwen2.5-Omni checkpoint, with one of its voices from ``spk_dict.pt``.

        Args:
            name_or_path: Folder or model id, for example ``Qwen/Qwen2.5-Omni-7B``.
            revision: Commit of the model id.
            speaker: Name of the voice.
            steps: See the class.
            guidance: See the class.
            seed: See the class.

        Raises:
            PretrainedError: If the files cannot be used.
            InputError: If there is no such voice.
        """
        model = load(_Place, name_or_path, revision, dtype=torch.float32)
        with opened(name_or_path, revision) as (folder, where):
            file = cached_file(folder, "spk_dict.pt", **where)
        voice = _voice(Path(str(file)), speaker)
        vocoder = cls(model.config, voice, steps, guidance, seed)
        vocoder.token2wav.load_state_dict(model.token2wav.state_dict())
        vocoder.source = {
            "name_or_path": name_or_path,
            "revision": commit_of(name_or_path, revision),
            "speaker": speaker,
            "steps": steps,
            "guidance": guidance,
            "seed": seed,
        }
        return vocoder

    @torch.no_grad()
    def forward(self, units: Tensor) -> Tensor:
        """Waveforms (B, T) in -1..1 of units (B, U), T = U * ``samples_per_unit``.

        Raises:
            VocoderError: If a unit is beyond ``num_units``, or there are more units than the flow has positions.
        """
        check_units(units, self)
        rows, count = units.shape
        if not count:
            return torch.zeros(rows, 0, device=units.device)
        if count > self.longest:
            raise VocoderError(f"{count} units are more than the vocoder's {self.longest}: say it in several replies")
        waveform: Tensor = self.token2wav.code2wav_bigvgan_model(self._mel(units))
        # Their forward drops a batch of one and leaves the device.
        return waveform.reshape(rows, -1).to(units.device)

    def _mel(self, units: Tensor) -> Tensor:
        """Mel spectrograms (B, mel bins, M): the flow from noise along the released schedule."""
        flow, rows = self.token2wav.code2wav_dit_model, len(units)
        width = units.shape[1] * flow.repeats
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(1, width, flow.mel_dim, generator=generator).to(units.device).expand(rows, -1, -1)
        speaker = self.speaker_embedding.expand(rows, width, -1)
        mel = self.speaker_mel.expand(rows, -1, -1)

        def _velocity(time: Tensor, state: Tensor) -> Tensor:
            with_units: Tensor = flow(state, mel, speaker, units, time, apply_cfg=False)
            if self.guidance < 1e-5:
                return with_units
            # Both at once, as they have it, takes no batches in older transformers.
            nothing = {"drop_audio_conditioning": True, "drop_code": True}
            without: Tensor = flow(state, mel, speaker, units, time, apply_cfg=False, **nothing)
            return with_units + (with_units - without) * self.guidance

        even = torch.linspace(0, 1, self.steps, device=units.device)
        # Sway sampling: the smallest steps come first.
        schedule = even - (torch.cos(torch.pi / 2 * even) - 1 + even)
        solved: Tensor = RungeKutta4ODESolver(_velocity, noise).integrate(schedule)[-1]
        return solved.mT


def _voice(file: Path, speaker: str) -> tuple[Tensor, Tensor]:
    """Embedding and mel spectrogram of a speaker; tensors alone are read from the file."""
    try:
        voices = torch.load(file, map_location="cpu", weights_only=True)
        found = voices.get(speaker)
        if found is None:
            raise InputError(f"{file.name} has no voice {speaker!r}: give speaker one of {', '.join(sorted(voices))}")
        return found["cond"], found["ref_mel"]
    except pickle.UnpicklingError:
        raise PretrainedError(f"{file} holds more than tensors and is not opened: it could run code") from None
    except (RuntimeError, EOFError, KeyError, AttributeError, TypeError) as error:
        raise PretrainedError(f"{file} holds no voices ({' '.join(str(error).split())[:80]}); get it again") from None
