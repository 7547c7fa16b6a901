"""A folder with what was trained: config.json and model.safetensors, the backbones by name.

Nothing is ever unpickled from it. Missing weights are an error, except those of
backbones, which come from where the config says.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from empathy_lightning import __version__
from empathy_lightning.errors import InputError
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.cached_encoder import CachedSpeechEncoder
from empathy_lightning.modules.cformer import CFormer
from empathy_lightning.modules.convolutional_adapter import ConvolutionalAdapter
from empathy_lightning.modules.convolutional_encoder import ConvolutionalEncoder
from empathy_lightning.modules.emotion_encoder import EmotionEncoder
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.empathy_classifier import EmpathyClassifier
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.partial_lora import PartialLora
from empathy_lightning.modules.pooled_heads import PooledEmotionHeads
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.modules.vocoder import Vocoder

# Where a part may be of several classes, a folder names the class unless it is the first.
_PARTS: dict[str, tuple[type[nn.Module], ...]] = {
    "speech_encoder": (ConvolutionalEncoder,),
    "speech_adapter": (SpeechAdapter, ConvolutionalAdapter, CFormer),
    "emotion_nuance": (EmotionNuance, PooledEmotionHeads),
    "partial_lora": (PartialLora,),
    "speech_decoder": (SpeechDecoder,),
    "vocoder": (Vocoder,),
}
_BACKBONES: dict[str, Any] = {
    "speech_encoder": SpeechEncoder.from_pretrained,
    "language_model": LanguageModel.from_pretrained,
    "emotion_encoder": EmotionEncoder.from_pretrained,
}


class CheckpointError(InputError):
    """A checkpoint folder that is incomplete or does not fit; the message says what is wrong."""


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


def constructor_arguments(module: nn.Module) -> dict[str, Any]:
    """Arguments that build the module again; modules keep each under its own name."""
    names = [name for name in inspect.signature(type(module)).parameters if name != "self"]
    return {name: getattr(module, name) for name in names}


def save(folder: str | Path, checkpoint: Checkpoint) -> None:
    """Write the trained parts; each file appears whole or not at all.

    Args:
        folder: Made if it does not exist.
        checkpoint: What to save; backbones are stored by name, and of one that was trained on, the trained weights.
    """
    model = checkpoint.model
    modules = {
        "speech_encoder": model.speech_encoder,
        "language_model": model.language_model,
        "speech_adapter": model.speech_adapter,
        "emotion_nuance": model.emotion_nuance,
        "emotion_encoder": model.emotion_encoder,
        "partial_lora": model.partial_lora,
        "speech_decoder": checkpoint.speech_decoder,
        "vocoder": checkpoint.vocoder,
    }
    present = {name: module for name, module in modules.items() if module is not None}
    trained = {name: module for name, module in present.items() if isinstance(module, _PARTS.get(name, ()))}
    config: dict[str, Any] = {
        "emotions": list(checkpoint.emotions),
        "prompt": model.prompt,
        "system": model.system,
        "slots": {name: getattr(model, name) for name in ("speech_slot", "emotion_slot", "reference_compat")},
        "untrained_heads": sorted(model.untrained_heads),
        "backbones": {name: backbone_source(name, part) for name, part in present.items() if name not in trained},
        "parts": {name: constructor_arguments(module) for name, module in trained.items()},
    }
    classes = {n: type(m).__name__ for n, m in trained.items() if not isinstance(m, _PARTS[n][0])}
    if classes:
        config["classes"] = classes
    weights = {
        f"{name}.{key}": value
        for name, module in trained.items()
        for key, value in module.state_dict().items()
        if not key.endswith("model.lm_head.weight")
    }
    for name in config["backbones"]:
        weights |= {f"{name}.{key}": value for key, value in _tuned(_heard_through(present[name])).items()}
    write_folder(folder, config, weights)


def backbone_source(name: str, module: nn.Module) -> dict[str, Any]:
    """How to load a backbone again; nothing for a part whose weights are stored whole.

    Raises:
        CheckpointError: If the backbone was not loaded from anywhere.
    """
    if isinstance(module, _PARTS.get(name, ())):
        return {}
    source: dict[str, Any] | None = getattr(module, "source", None)
    if source is None:
        raise CheckpointError(
            f"{name} was not loaded by from_pretrained, so its folder cannot name where it comes from"
        )
    return source


def _read(folder: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} is no checkpoint folder: {name} is missing")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "model.safetensors")
    except (ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder} is damaged: {error}") from None
    if config.get("library") != "empathy_lightning":
        raise CheckpointError(f"{folder}/config.json was not written by this library")
    return config, weights


def _fill(name: str, module: nn.Module, weights: dict[str, Any], folder: str | Path, whole: bool = True) -> None:
    own = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
    try:
        missing, unexpected = module.load_state_dict(own, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"{folder}: {name} has other sizes: {' '.join(str(error).split())}") from None
    wrong = [key for key in missing if whole and not key.endswith("model.lm_head.weight")] + unexpected
    if wrong:
        raise CheckpointError(f"{folder}: {name} does not fit: missing or unknown weights {', '.join(wrong[:3])}")


def _heard_through(module: nn.Module) -> nn.Module:
    return module.encoder if isinstance(module, CachedSpeechEncoder) else module


def _tuned(backbone: nn.Module) -> dict[str, Tensor]:
    """Weights of a backbone that are trained, or were by an earlier stage."""
    earlier = getattr(backbone, "tuned", ())
    return {name: p for name, p in backbone.named_parameters() if p.requires_grad or name in earlier}


def _tune(name: str, module: nn.Module, weights: dict[str, Any], folder: str | Path) -> None:
    """Put a folder's trained weights into a backbone, if it has any, and remember them for later stages' folders."""
    own = [key.removeprefix(f"{name}.") for key in weights if key.startswith(f"{name}.")]
    if own:
        backbone = _heard_through(module)
        if isinstance(module, CachedSpeechEncoder):
            module.forget()
        _fill(name, backbone, weights, folder, whole=False)
        backbone.tuned = frozenset(own)  # type: ignore[assignment]


def load_weights(folder: str | Path, model: nn.Module) -> list[str]:
    """Fill a module's parts from an earlier stage's folder; parts that the folder lacks stay as they are.

    A convolutional adapter with an emotion begins as the folder's without one, see its ``warm_start``.

    Returns:
        Names of the parts that were filled.

    Raises:
        CheckpointError: If the folder is incomplete or a part does not fit.
    """
    config, weights = _read(folder)
    filled = []
    for name in config.get("parts", {}):
        module = getattr(model, name, None)
        if module is None:
            continue
        arguments = config["parts"][name]
        widened = isinstance(module, ConvolutionalAdapter) and module.emotion_size > 0
        if widened and arguments.get("emotion_size") == 0:
            narrow = ConvolutionalAdapter(**arguments)
            _fill(name, narrow, weights, folder)
            try:
                module.warm_start(narrow)
            except ValueError as error:
                raise CheckpointError(f"{folder}: {error}") from None
        else:
            _fill(name, module, weights, folder)
        filled.append(name)
    for name in config.get("backbones", {}):
        module = getattr(model, name, None)
        if module is not None:
            _tune(name, module, weights, folder)
    return filled


def load(folder: str | Path) -> Checkpoint:
    """Load a folder that :func:`save` wrote, with its backbones.

    Raises:
        CheckpointError: If the folder is incomplete, damaged or does not fit.
    """
    config, weights = _read(folder)
    parts: dict[str, Any] = {}
    try:
        for name, arguments in config["parts"].items():
            chosen = config.get("classes", {}).get(name, _PARTS[name][0].__name__)
            parts[name] = {option.__name__: option for option in _PARTS[name]}[chosen](**arguments)
        prompt, system, emotions = config["prompt"], config["system"], config["emotions"]
        sources = dict(config["backbones"])
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder}/config.json is not one of this version: {error!r}") from None
    for name, part in parts.items():
        _fill(name, part, weights, folder)
    for name, source in sources.items():
        try:
            # A converted checkpoint brings its backbones along as subfolders.
            if (inside := Path(folder) / source["name_or_path"]).is_dir():
                source = {**source, "name_or_path": str(inside)}
            parts[name] = _BACKBONES[name](**source)
            _tune(name, parts[name], weights, folder)
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{folder}: backbone {name} cannot be loaded: {reason}") from None
    decoder, vocoder = parts.pop("speech_decoder", None), parts.pop("vocoder", None)
    if "speech_encoder" not in parts:
        raise CheckpointError(f"{folder}/config.json names no speech_encoder")
    model = EmpatheticLM(**parts, prompt=prompt, system=system, **config.get("slots", {}))
    model.untrained_heads = frozenset(config.get("untrained_heads", ()))
    for module in (model, decoder, vocoder):
        if module is not None:
            module.eval()
    return Checkpoint(model, emotions, decoder, vocoder)


def load_vocoder(folder: str) -> Vocoder:
    """Load a vocoder that :func:`save_vocoder` wrote.

    Raises:
        CheckpointError: If the folder holds none.
    """
    config, weights = _read(folder)
    if "vocoder" not in config.get("parts", {}):
        raise CheckpointError(f"{folder} holds no vocoder")
    vocoder = Vocoder(**config["parts"]["vocoder"])
    _fill("vocoder", vocoder, weights, folder)
    return vocoder.eval()


def load_empathy_classifier(folder: str | Path) -> EmpathyClassifier:
    """Load a classifier that ``convert epitome`` wrote, in eval mode, with its tokenizer.

    Raises:
        CheckpointError: If the folder holds none, or its tokenizer cannot be loaded.
    """
    from transformers import RobertaTokenizer

    config, weights = _read(folder)
    if "empathy_classifier" not in config.get("parts", {}):
        raise CheckpointError(f"{folder} holds no empathy classifier")
    classifier = EmpathyClassifier(**config["parts"]["empathy_classifier"])
    _fill("empathy_classifier", classifier, weights, folder)
    inside = Path(folder) / config["tokenizer"]
    try:
        classifier.tokenizer = RobertaTokenizer.from_pretrained(inside if inside.is_dir() else config["tokenizer"])
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder}: tokenizer {config['tokenizer']} cannot be loaded: {reason}") from None
    return classifier.eval()


def save_vocoder(folder: str | Path, vocoder: Vocoder) -> None:
    """Write a vocoder alone."""
    config = {"parts": {"vocoder": constructor_arguments(vocoder)}}
    write_folder(folder, config, {f"vocoder.{key}": value for key, value in vocoder.state_dict().items()})


def write_folder(folder: str | Path, config: dict[str, Any], weights: dict[str, Any]) -> None:
    """Write config.json and model.safetensors as :func:`load` reads them; each file appears whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    save_file(weights, folder / ".model.safetensors", metadata={"format": "pt"})
    (folder / ".model.safetensors").replace(folder / "model.safetensors")
    config = {"library": "empathy_lightning", "version": __version__, **config}
    (folder / ".config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / ".config.json").replace(folder / "config.json")


def emotion_names(emotions: Sequence[str], count: int) -> list[str]:
    """Names of the classifier's categories.

    Raises:
        CheckpointError: If their number is not the classifier's.
    """
    if len(emotions) != count:
        raise CheckpointError(f"{len(emotions)} emotion names for a classifier of {count}: give data.emotions to match")
    return list(emotions)
