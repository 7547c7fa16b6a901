"""The code HiFi-GAN of SeamlessM4T, as transformers has it: 10,000 units, many languages and voices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    SeamlessM4TCodeHifiGan,
    SeamlessM4TConfig,
    SeamlessM4TPreTrainedModel,
    SeamlessM4Tv2Config,
    SeamlessM4Tv2PreTrainedModel,
)
from transformers.models.seamless_m4t_v2.modeling_seamless_m4t_v2 import SeamlessM4Tv2CodeHifiGan

from empathy_lightning.errors import InputError
from empathy_lightning.modules.contracts import check_units
from empathy_lightning.modules.model_files import PretrainedError
from empathy_lightning.modules.pretrained import commit_of, load, opened
from empathy_lightning.modules.speech_encoder import freeze
from empathy_lightning.modules.vocoders.receptive_field import Branches, Layer, context_of, samples_per_unit


class _First(SeamlessM4TPreTrainedModel):
    """The vocoder's place in a checkpoint, of which nothing else is read."""

    def __init__(self, config: SeamlessM4TConfig) -> None:
        super().__init__(config)
        self.vocoder = SeamlessM4TCodeHifiGan(config)
        self.post_init()


class _Second(SeamlessM4Tv2PreTrainedModel):
    """The same in version 2."""

    def __init__(self, config: SeamlessM4Tv2Config) -> None:
        super().__init__(config)
        self.vocoder = SeamlessM4Tv2CodeHifiGan(config)
        self.post_init()


_PLACES: dict[str, Any] = {"seamless_m4t": _First, "seamless_m4t_v2": _Second}


class SeamlessVocoder(nn.Module):
    """SeamlessM4T's vocoder (Barrault et al. 2023, arXiv 2308.11596), frozen.

    With ``durations`` it says for each unit how long it lasts, for units of which repetitions were dropped, as
    SeamlessM4T writes them; such a reply is spoken whole. Without, each unit lasts as long as the next, 20 ms in the
    released weights, and the reply streams.

    Args:
        config: Configuration of the model, of version 1 or 2.
        speaker: Number of the voice.
        language: Number of the language, as in the model's ``vocoder_lang_code_to_id``.
        durations: Whether it predicts how long a unit lasts.

    Raises:
        InputError: If there is no such speaker or language.
    """

    def __init__(
        self,
        config: SeamlessM4TConfig | SeamlessM4Tv2Config,
        speaker: int = 0,
        language: int = 0,
        durations: bool = False,
    ) -> None:
        super().__init__()
        for name, number, size in (
            ("speaker", speaker, config.vocoder_num_spkrs),
            ("language", language, config.vocoder_num_langs),
        ):
            if not 0 <= number < size:
                raise InputError(f"{name} {number} is none of the vocoder's: give one from 0 to {size - 1}")
        self.vocoder: Any = _PLACES[config.model_type](config).vocoder
        self.num_units: int = config.unit_hifi_gan_vocab_size
        self.sample_rate: int = config.sampling_rate
        self.speaker = speaker
        self.language = language
        self.durations = durations
        self.source: dict[str, Any] | None = None
        layers = _layers(self.vocoder.hifi_gan)
        self._samples = samples_per_unit(layers)
        self.samples_per_unit = None if durations else self._samples
        self.context = None if durations else context_of(layers)
        freeze(self)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        revision: str | None = None,
        speaker: int = 0,
        language: int = 0,
        durations: bool = False,
    ) -> SeamlessVocoder:
        """Load the vocoder out of a SeamlessM4T checkpoint.

        Args:
            name_or_path: Folder or model id, for example ``facebook/hf-seamless-m4t-medium``.
            revision: Commit of the model id.
            speaker: See the class.
            language: See the class.
            durations: See the class.

        Raises:
            PretrainedError: If the files cannot be used.
            InputError: If there is no such speaker or language.
        """
        with opened(name_or_path, revision) as (folder, where):
            config = AutoConfig.from_pretrained(folder, **where)
        if config.model_type not in _PLACES:
            raise PretrainedError(f"{name_or_path} is a {config.model_type}, not one of {', '.join(_PLACES)}")
        model = load(_PLACES[config.model_type], name_or_path, revision, dtype=torch.float32)
        vocoder = cls(model.config, speaker, language, durations)
        vocoder.vocoder.load_state_dict(model.vocoder.state_dict())
        vocoder.source = {
            "name_or_path": name_or_path,
            "revision": commit_of(name_or_path, revision),
            "speaker": speaker,
            "language": language,
            "durations": durations,
        }
        return vocoder

    @torch.no_grad()
    def forward(self, units: Tensor) -> Tensor:
        """Waveforms (B, T) in -1..1 of units (B, U); with ``durations``, shorter rows end in silence.

        Raises:
            VocoderError: If a unit is beyond ``num_units``.
        """
        check_units(units, self)
        if not units.numel():
            return torch.zeros(len(units), 0, device=units.device)
        if not self.durations:
            return self._spoken(units)
        rows = [self._spoken(row.repeat_interleave(self._lasting(row))[None])[0] for row in units]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def _spoken(self, units: Tensor) -> Tensor:
        """Waveforms (B, T) of units (B, U) that last alike."""
        embedded = self.vocoder.unit_embedding(units).mT
        number = torch.tensor([self.language], device=units.device)
        language = self.vocoder.language_embedding(number)[..., None].expand(len(units), -1, units.shape[1])
        speaker = self.vocoder.speaker_embedding(torch.full_like(number, self.speaker))[..., None]
        speaker = speaker.expand(len(units), -1, units.shape[1])
        waveform: Tensor = self.vocoder.hifi_gan(torch.cat([language, embedded, speaker], 1))
        return waveform.reshape(len(units), -1)

    def _lasting(self, units: Tensor) -> Tensor:
        """How many frames each of the units (U,) lasts, at least one."""
        # The predictor gives the logarithm of one frame more.
        predicted = self.vocoder.dur_predictor(self.vocoder.unit_embedding(units[None]))[0]
        lasting: Tensor = predicted.expm1().round().long().clamp(min=1)
        return lasting


def _layers(generator: Any) -> list[Layer]:
    width = generator.num_kernels
    layers: list[Layer] = [generator.conv_pre]
    for level, up in enumerate(generator.upsampler):
        blocks = generator.resblocks[level * width : (level + 1) * width]
        layers += [up, Branches(tuple(_in_order(block) for block in blocks))]
    return [*layers, generator.conv_post]


def _in_order(block: Any) -> list[nn.Conv1d]:
    """Convolutions of a residual block, one of each of its lists by turns."""
    convolutions: list[nn.Conv1d] = []
    for pair in zip(block.convs1, block.convs2, strict=True):
        convolutions += pair
    return convolutions
