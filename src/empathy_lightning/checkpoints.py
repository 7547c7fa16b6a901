"""A folder with what was trained: config.json and model.safetensors, the backbones by name.

Nothing is ever unpickled from it. Missing weights are an error, except those of
backbones, which come from where the config says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from empathy_lightning.errors import InputError
from empathy_lightning.folders import CheckpointError as CheckpointError
from empathy_lightning.folders import fill, load_part, read_config, read_folder, write_folder
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.cached_encoder import CachedSpeechEncoder
from empathy_lightning.modules.empathy_classifier import EmpathyClassifier
from empathy_lightning.modules.model_files import PretrainedError
from empathy_lightning.modules.pretrained import opened
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.vocoder import Vocoder
from empathy_lightning.parts import (
    argument_names,
    behind_cache,
    build,
    build_backbone,
    check_round_trip,
    class_path,
    described,
    known_class,
    loaded_from,
    trusted_class,
)
from empathy_lightning.utterance import RATINGS

_PARTS_OF_MODEL = (
    "speech_encoder",
    "language_model",
    "speech_adapter",
    "emotion_nuance",
    "emotion_encoder",
    "partial_lora",
)
_SLOTS = ("speech_slot", "emotion_slot", "reference_compat")


@dataclass
class Checkpoint:
    """What a folder holds, loaded.

    Attributes:
        model: Speech to text.
        emotions: Names of the categories in the classifier's order.
        speech_decoder: Hidden states to units, or None.
        vocoder: Units to waveform, or None.
    """

    model: EmpatheticLM
    emotions: list[str]
    speech_decoder: SpeechDecoder | None = None
    vocoder: Vocoder | None = None

    def to(self, device: str) -> Checkpoint:
        """Move all parts, in place."""
        for module in (self.model, self.speech_decoder, self.vocoder):
            if module is not None:
                module.to(device)
        return self


def save(folder: str | Path, checkpoint: Checkpoint) -> None:
    """Write the trained parts; each file appears whole or not at all.

    Args:
        folder: Made if it does not exist.
        checkpoint: What to save; backbones are stored by name, and of one that was trained on, the trained weights.

    Raises:
        CheckpointError: If :func:`load` could not bring a part back.
    """
    model = checkpoint.model
    config: dict[str, Any] = {
        "class_path": class_path(type(model)),
        "emotions": list(checkpoint.emotions),
        "prompt": model.prompt,
        "system": model.system,
        "slots": {name: getattr(model, name) for name in _SLOTS},
        "untrained_heads": sorted(model.untrained_heads),
        "backbones": {},
        "parts": {},
    }
    weights: dict[str, Tensor] = {}
    for name, module in _parts(checkpoint):
        try:
            found = described(name, module)
        except InputError as error:
            raise CheckpointError(str(error)) from None
        backbone = loaded_from(behind_cache(module)) is not None
        config["backbones" if backbone else "parts"][name] = found
        kept = _tuned(behind_cache(module)) if backbone else module.state_dict()
        # The head is tied to the embeddings and would be stored twice.
        weights |= {f"{name}.{k}": v for k, v in kept.items() if backbone or not k.endswith("model.lm_head.weight")}
    write_folder(folder, config, weights)


def _parts(checkpoint: Checkpoint) -> Iterator[tuple[str, nn.Module]]:
    for owner, names in ((checkpoint.model, _PARTS_OF_MODEL), (checkpoint, ("speech_decoder", "vocoder"))):
        for name in names:
            module = getattr(owner, name)
            if module is not None:
                yield name, module


def check_savable(checkpoint: Checkpoint) -> None:
    """Refuse before the training what :func:`load` could not bring back after it.

    Raises:
        CheckpointError: If the model or a part has a constructor whose arguments are lost, or cannot be imported.
    """
    kind = type(checkpoint.model)
    kept = {*_PARTS_OF_MODEL, "prompt", "system", "max_length", *_SLOTS}
    lost = [name for name in argument_names(kind) if name not in kept]
    if lost:
        raise CheckpointError(f"the folder of a {kind.__name__} would not keep its argument {lost[0]!r}: do without it")
    for name, module in _parts(checkpoint):
        try:
            check_round_trip(name, module)
        except InputError as error:
            raise CheckpointError(str(error)) from error


def _tuned(backbone: nn.Module) -> dict[str, Tensor]:
    """Weights of a backbone that are trained, or were by an earlier stage."""
    earlier = getattr(backbone, "tuned", ())
    return {name: p for name, p in backbone.named_parameters() if p.requires_grad or name in earlier}


def _tune(name: str, module: nn.Module, weights: dict[str, Any], folder: str | Path) -> None:
    """Put a folder's trained weights into a backbone, if it has any, and remember them for later stages' folders."""
    own = [key.removeprefix(f"{name}.") for key in weights if key.startswith(f"{name}.")]
    if own:
        backbone = behind_cache(module)
        if isinstance(module, CachedSpeechEncoder):
            module.forget()
        fill(name, backbone, weights, folder, whole=False)
        backbone.tuned = frozenset(own)  # type: ignore[assignment]


def load_weights(folder: str | Path, model: nn.Module) -> list[str]:
    """Fill a module's parts from an earlier stage's folder; parts that the folder lacks stay as they are.

    A convolutional adapter with an emotion begins as the folder's without one, see its ``warm_start``.

    Returns:
        Names of the parts that were filled.

    Raises:
        CheckpointError: If the folder is incomplete or a part does not fit.
    """
    config, weights = read_folder(folder)
    filled = []
    for name, found in config.get("parts", {}).items():
        module = getattr(model, name, None)
        if module is None:
            continue
        kind = known_class(module, found["class_path"])
        if kind is None:
            own = class_path(type(module))
            raise CheckpointError(f"{folder}: {name} is a {found['class_path']} there and a {own} here: take the same")
        narrow = found["init_args"].get("emotion_size") == 0 and getattr(module, "emotion_size", 0) > 0
        if narrow and hasattr(module, "warm_start"):
            _warm_start(name, module, kind(**found["init_args"]), weights, folder)
        else:
            fill(name, module, weights, folder)
        filled.append(name)
    for name in config.get("backbones", {}):
        module = getattr(model, name, None)
        if module is not None:
            _tune(name, module, weights, folder)
    return filled


def _warm_start(name: str, module: Any, earlier: nn.Module, weights: dict[str, Any], folder: str | Path) -> None:
    fill(name, earlier, weights, folder)
    try:
        module.warm_start(earlier)
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}") from None


def load(folder: str | Path, trust: Sequence[str] = ()) -> Checkpoint:
    """Load a folder that :func:`save` wrote, with its backbones.

    Args:
        folder: Written by a trainer or a converter.
        trust: Packages besides this library whose classes may be imported, for example ``["mine"]``.

    Raises:
        CheckpointError: If the folder is incomplete, damaged, does not fit, or holds classes that are not trusted.
    """
    config, weights = read_folder(folder)
    try:
        parts: dict[str, Any] = {name: build(found, trust) for name, found in config["parts"].items()}
        whole = trusted_class(config.get("class_path", class_path(EmpatheticLM)), trust)
        prompt, system, emotions = config["prompt"], config["system"], config["emotions"]
        sources = dict(config["backbones"])
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder}/config.json is not one of this version: {error!r}") from None
    except InputError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    for name, part in parts.items():
        fill(name, part, weights, folder)
    for name, source in sources.items():
        parts[name] = _backbone(name, source, weights, folder, trust)
    decoder, vocoder = parts.pop("speech_decoder", None), parts.pop("vocoder", None)
    if "speech_encoder" not in parts:
        raise CheckpointError(f"{folder}/config.json names no speech_encoder")
    try:
        model: Any = whole(**parts, prompt=prompt, system=system, **config.get("slots", {}))
    except (TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder}/config.json does not fit: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(model, EmpatheticLM):
        raise CheckpointError(f"{folder}/config.json: {class_path(whole)} is no EmpatheticLM")
    model.untrained_heads = frozenset(config.get("untrained_heads", ()))
    if model.emotion_nuance is not None:
        emotion_names(emotions, model.emotion_nuance.num_emotions)
    if unknown := model.untrained_heads - {"categorical", *RATINGS}:
        raise CheckpointError(f"{folder}/config.json: untrained_heads names no head {sorted(unknown)[0]!r}")
    for module in (model, decoder, vocoder):
        if module is not None:
            module.eval()
    return Checkpoint(model, emotions, decoder, vocoder)


def _backbone(name: str, source: Any, weights: dict[str, Any], folder: str | Path, trust: Sequence[str]) -> nn.Module:
    try:
        # A converted checkpoint brings its backbones along as subfolders.
        inside = Path(folder) / str(source["init_args"]["name_or_path"])
        elsewhere = {"name_or_path": str(inside)} if inside.is_dir() else {}
        backbone = build_backbone(source, trust, **elsewhere)
    except PretrainedError as error:
        line = f"{folder}: backbone {name} cannot be loaded: {error}"
        # The backbone's own file and key come first where there is no room for both.
        raise CheckpointError(line if len(line) <= 300 else str(error)) from None
    except (OSError, KeyError, TypeError, ValueError, SafetensorError, ModuleNotFoundError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder}: backbone {name} cannot be loaded: {reason}") from None
    _tune(name, backbone, weights, folder)
    return backbone


def load_vocoder(folder: str, trust: list[str] | None = None) -> Vocoder:
    """Load a vocoder that :func:`save_vocoder` wrote.

    Args:
        folder: Written by it, or by a trainer.
        trust: Packages besides this library whose classes may be imported.

    Raises:
        CheckpointError: If the folder holds none.
    """
    vocoder = load_part(folder, "vocoder", trust or ())
    if not isinstance(vocoder, Vocoder):
        raise CheckpointError(f"{folder}: the vocoder is no {class_path(Vocoder)}")
    return vocoder


def load_empathy_classifier(folder: str | Path) -> EmpathyClassifier:
    """Load a classifier that ``convert epitome`` wrote, in eval mode, with its tokenizer.

    Raises:
        CheckpointError: If the folder holds none, or its tokenizer cannot be loaded.
    """
    from transformers import RobertaTokenizer

    classifier = load_part(folder, "empathy_classifier")
    assert isinstance(classifier, EmpathyClassifier)
    name = read_config(folder)["tokenizer"]
    inside = Path(folder) / name
    source = str(inside) if inside.is_dir() else name
    try:
        with opened(source) as (place, where):
            classifier.tokenizer = RobertaTokenizer.from_pretrained(place, **where)
    except PretrainedError as error:
        raise CheckpointError(f"{folder}: tokenizer {source} cannot be loaded: {error}"[:300]) from None
    return classifier


def save_vocoder(folder: str | Path, vocoder: Vocoder) -> None:
    """Write a vocoder alone."""
    config = {"parts": {"vocoder": described("vocoder", vocoder)}}
    write_folder(folder, config, {f"vocoder.{key}": value for key, value in vocoder.state_dict().items()})


def emotion_names(emotions: Sequence[str], count: int) -> list[str]:
    """Names of the classifier's categories.

    Raises:
        CheckpointError: If their number is not the classifier's.
    """
    if len(emotions) != count:
        raise CheckpointError(f"{len(emotions)} emotion names for a classifier of {count}: give data.emotions to match")
    return list(emotions)
