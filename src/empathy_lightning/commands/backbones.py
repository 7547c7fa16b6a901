"""The frozen models of a run, named once in its YAML, and the sizes that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from transformers import AutoConfig

from empathy_lightning.configurations import config_files, read_yaml
from empathy_lightning.modules.model_files import PretrainedError
from empathy_lightning.modules.pretrained import embedding_width, opened


@dataclass
class Backbones:
    """Frozen models of a run and the sizes that follow from them; ``${backbones.NAME}`` anywhere in a YAML reads them.

    A size that is not given is read from the model's configuration.

    Attributes:
        speech_encoder: Folder or model id of a Whisper model.
        frame_size: Width of its encoder.
        encoder_layers: Blocks of its encoder.
        language_model: Folder or model id of a causal language model.
        embedding_size: Width of its embeddings.
        vocabulary_size: Rows of its embedding matrix.
        end_token_id: Id of the token that ends the units: a choice, which no model knows.
        emotion_encoder: Folder or model id of a wav2vec 2.0 emotion model.
        emotion_size: Width of its frames.
    """

    speech_encoder: str | None = None
    frame_size: int | None = None
    encoder_layers: int | None = None
    language_model: str | None = None
    embedding_size: int | None = None
    vocabulary_size: int | None = None
    end_token_id: int | None = None
    emotion_encoder: str | None = None
    emotion_size: int | None = None


_SIZES = {
    "frame_size": ("speech_encoder", "hidden_size"),
    "encoder_layers": ("speech_encoder", "encoder_layers"),
    "embedding_size": ("language_model", "embedding_size"),
    "vocabulary_size": ("language_model", "vocab_size"),
    "emotion_size": ("emotion_encoder", "hidden_size"),
}
"""The model that knows a size, and what its configuration calls it; the embeddings' has no one name."""


def add_backbones(parser: Any) -> None:
    """Let a YAML name backbones; the sizes' defaults refer to the model beside them."""
    OmegaConf.register_resolver("size_of", size_of, replace=True)
    parser.add_class_arguments(Backbones, "backbones")
    for size, (backbone, name) in _SIZES.items():
        parser.set_defaults({f"backbones.{size}": f"${{size_of:${{.{backbone}}},{name}}}"})


def known_sizes(words: Sequence[str]) -> dict[str, int]:
    """Sizes that a command line's files and words tell, by name.

    Numbers, unlike references, stay where a part's class is replaced by another.

    Args:
        words: The command and its options.
    """
    named: dict[str, Any] = {}
    for file in config_files(words):
        content = read_yaml(file)
        # Of anything else the parser says what is wrong.
        if isinstance(content, dict) and isinstance(content.get("backbones"), dict):
            named |= content["backbones"]
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option.startswith("--backbones."):
            named[option.removeprefix("--backbones.")] = yaml.safe_load(value if equals else following)
    sizes = {}
    for size, (backbone, name) in _SIZES.items():
        try:
            found = named[size] if size in named else size_of(named.get(backbone), name)
        except PretrainedError:
            continue  # Told by the parser, where the size is needed.
        if isinstance(found, int):
            sizes[size] = found
    return sizes


def size_of(name_or_path: str | None, name: str) -> int | None:
    """A size that a model's configuration states; nothing is loaded for it.

    Args:
        name_or_path: Folder, model id or shipped backbone; None has no sizes.
        name: Of the size, as transformers calls it, or ``embedding_size``.

    Raises:
        PretrainedError: If the configuration cannot be read.
    """
    if name_or_path is None:
        return None
    with opened(name_or_path) as (folder, where):
        config = AutoConfig.from_pretrained(folder, **where).get_text_config()
    if name == "embedding_size":
        return embedding_width(config)
    return int(getattr(config, name))
