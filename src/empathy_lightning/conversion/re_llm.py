"""From a checkpoint in RE-LLM's names to our folder (arXiv 2602.10716; its authors released none).

Beside BLSP-Emo's parts it holds audeering's emotion encoder, the adapter that reads both, and the
head for ratings. Three modules that its forward never uses are left over: ``adapter``,
``w2v2_hidden2emotion`` and ``w2v2_adapter``.
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor
from transformers import Wav2Vec2Config

from empathy_lightning.conversion.audeering import config_in
from empathy_lightning.conversion.blsp_emo import convert_release
from empathy_lightning.conversion.outcome import ConversionReport
from empathy_lightning.conversion.released import read_weights
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_new_folder

_RATINGS = {0: "arousal", 1: "dominance", 2: "valence"}


def convert(source: str | Path, out: str | Path, dry_run: bool = False) -> ConversionReport:
    """Convert a folder with config.json, weights in any layout, and qwen.tiktoken.

    The configuration of the emotion encoder is ``emotion_encoder/config.json`` if it is there, and otherwise
    read from the weights' shapes: audeering's strides, and heads of width 64.

    Args:
        source: Folder of the checkpoint.
        out: Folder to make.
        dry_run: Read and report only.

    Raises:
        InputError: If files or weights are missing, or do not fit the configuration.
    """
    source, out = Path(source), Path(out)
    if not dry_run:
        check_new_folder(out)
    weights = read_weights(source)
    file = source / "emotion_encoder" / "config.json"
    config = config_in(file) if file.is_file() else emotion_config(weights)
    return convert_release(source, out, dry_run, weights, config)


def emotion_config(weights: dict[str, Tensor], prefix: str = "w2v2.wav2vec2.") -> Wav2Vec2Config:
    """Configuration of an emotion encoder of audeering's kind, from the shapes of its weights.

    Raises:
        InputError: If it is of another kind.
    """
    shapes = {key.removeprefix(prefix): tuple(v.shape) for key, v in weights.items() if key.startswith(prefix)}
    matches = [re.match(r"encoder\.layers\.(\d+)\.", key) for key in shapes]
    layers = {int(match[1]) for match in matches if match}
    positions = "encoder.pos_conv_embed.conv."
    try:
        convolutions = [shapes[f"feature_extractor.conv_layers.{i}.conv.weight"] for i in range(7)]
        hidden = shapes["feature_projection.projection.weight"][0]
        direction = shapes.get(f"{positions}weight_v") or shapes[f"{positions}parametrizations.weight.original1"]
        intermediate = shapes["encoder.layers.0.feed_forward.intermediate_dense.weight"][0]
    except KeyError as error:
        raise InputError(f"the checkpoint holds no wav2vec 2.0 of audeering's kind: it lacks {prefix}{error}") from None
    return Wav2Vec2Config(
        hidden_size=hidden,
        num_hidden_layers=len(layers),
        num_attention_heads=max(1, hidden // 64),
        intermediate_size=intermediate,
        conv_dim=tuple(shape[0] for shape in convolutions),
        conv_kernel=tuple(shape[2] for shape in convolutions),
        conv_stride=(5, 2, 2, 2, 2, 2, 2),
        conv_bias="feature_extractor.conv_layers.0.conv.bias" in shapes,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=direction[2],
        num_conv_pos_embedding_groups=hidden // direction[1],
        vocab_size=3,
        id2label=_RATINGS,
    )
