"""From audeering's released emotion model to a folder for EmotionEncoder (CC BY-NC-SA 4.0; not vendored)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import Wav2Vec2Config

from empathy_lightning.conversion.outcome import ConversionReport, new_folder
from empathy_lightning.conversion.placing import Found, finish, place, renamed
from empathy_lightning.conversion.released import read_json, read_weights, write_model
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_new_folder
from empathy_lightning.modules.emotion_encoder import EmotionEncoder

_POSITIONS = "wav2vec2.encoder.pos_conv_embed.conv"
_SPELLINGS = {
    f"{_POSITIONS}.weight_g": f"{_POSITIONS}.parametrizations.weight.original0",
    f"{_POSITIONS}.weight_v": f"{_POSITIONS}.parametrizations.weight.original1",
}
OPTIONAL = "emotion_encoder.wav2vec2.masked_spec_embed"
"""Only training with masked spectrograms reads it."""


def emotion_encoder_names(weights: dict[str, Tensor], prefix: str = "") -> Found:
    """The source's weights under our names, from the old or the new spelling of weight norm."""
    return renamed(weights, prefix, _SPELLINGS)


def config_in(file: Path) -> Wav2Vec2Config:
    """The configuration of an emotion encoder in a config.json, without the name of its authors' own class.

    Raises:
        InputError: If the file is missing or holds no object.
    """
    values = read_json(file)
    values.pop("architectures", None)
    return Wav2Vec2Config(**values)


def convert(source: str | Path, out: str | Path, dry_run: bool = False) -> ConversionReport:
    """Convert a folder with config.json and weights in any layout and spelling.

    Args:
        source: Folder of the release, for instance ``audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim``.
        out: Folder to make, for :meth:`EmotionEncoder.from_pretrained`.
        dry_run: Read and report only.

    Raises:
        InputError: If files or weights are missing, or it is another kind of model.
    """
    source, out = Path(source), Path(out)
    if not dry_run:
        check_new_folder(out)
    report = ConversionReport()
    config = config_in(source / "config.json")
    weights = read_weights(source)
    try:
        with torch.device("meta"):
            encoder = EmotionEncoder(config)
    except ValueError as error:
        raise InputError(f"{source}/config.json is no dimensional emotion model: {error}") from None
    placed = place(report, "emotion_encoder", encoder, emotion_encoder_names(weights))
    finish(report, weights, dry_run, (OPTIONAL,))
    if not dry_run:
        with new_folder(out, source) as folder:
            write_model(folder, config, placed)
            report.write(folder / "conversion.json")
    return report
