"""A folder with what was trained: its parts by class path, the backbones by name.

Nothing is ever unpickled from it, and nothing imported that is not trusted. Missing weights are an error, except
those of backbones, which come from where the folder says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from empathy_lightning.checkpoint_backbones import chosen, warn_of_others
from empathy_lightning.devices import check_device
from empathy_lightning.errors import InputError
from empathy_lightning.folders import CheckpointError as CheckpointError
from empathy_lightning.folders import read_config, read_folder, write_folder
from empathy_lightning.hub import local_folder
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.cached_encoder import CachedSpeechEncoder
from empathy_lightning.modules.empathy_classifier import EmpathyClassifier
from empathy_lightning.modules.model_files import PretrainedError
from empathy_lightning.modules.pretrained import opened
from empathy_lightning.part_weights import fill, kept_weights, own_weights, tune, warm_start_from
from empathy_lightning.parts import behind_cache, build, class_path, described, entries, is_loaded, known_class, tree
from empathy_lightning.round_trip import check_round_trip
from empathy_lightning.utterance import RATINGS


def save(folder: str | Path, model: nn.Module, **facts: Any) -> None:
    """Write what was trained; each file appears whole or not at all.

    Args:
        folder: Made if it does not exist.
        model: A whole model, or a part alone; of a backbone that was trained on, the trained weights are kept.
        **facts: What else config.json is to hold.

    Raises:
        CheckpointError: If :func:`load` could not bring a part back.
    """
    try:
        found = described(model)
    except InputError as error:
        raise CheckpointError(str(error)) from None
    weights: dict[str, Tensor] = {}
    for path, module in tree(model):
        for name, value in kept_weights(module).items():
            # The path of the whole itself is empty.
            weights[f"{path}.{name}".lstrip(".")] = value
    origins = {path: getattr(module, "quantizer_digest", None) for path, module in tree(model)}
    known = {path: origin for path, origin in origins.items() if origin is not None}
    if known:
        facts = {"quantizers": known, **facts}
    write_folder(folder, found, weights, **facts)


def check_savable(model: nn.Module) -> None:
    """Refuse before the training what :func:`load` could not bring back after it.

    Raises:
        CheckpointError: If a part has a constructor whose arguments are lost, or cannot be imported.
    """
    try:
        check_round_trip(model)
    except InputError as error:
        raise CheckpointError(str(error)) from error


def load_weights(folder: str | Path, model: nn.Module) -> list[str]:
    """Fill a model's parts from an earlier stage's folder; parts that the folder lacks stay as they are.

    A convolutional adapter with an emotion begins as the folder's without one, see its ``warm_start``.

    Args:
        folder: Of the same kind of model, with the same parts or fewer.
        model: Is changed.

    Returns:
        Paths of the parts that were filled, such as ``listener.speech_adapter``.

    Raises:
        CheckpointError: If the folder is incomplete or a part does not fit.
    """
    config, weights = read_folder(folder)
    origins = _origins(config)
    parts = dict(tree(model))
    filled = []
    for path, found in entries(config["model"]):
        own = own_weights(path, found, weights)
        if path not in parts or not own:
            continue
        cache, module = parts[path], behind_cache(parts[path])
        if isinstance(cache, CachedSpeechEncoder):
            # What it holds was heard with the weights of before.
            cache.forget()
        if is_loaded(found):
            tune(path, module, own, folder)
            continue
        kind = known_class(module, found["class_path"])
        if kind is None:
            here = class_path(type(module))
            raise CheckpointError(f"{folder}: {path} is a {found['class_path']} there and a {here} here: take the same")
        narrow = found["init_args"].get("emotion_size") == 0 and getattr(module, "emotion_size", 0) > 0
        if narrow and hasattr(module, "warm_start"):
            warm_start_from(path, module, kind(**found["init_args"]), own, folder)
        else:
            fill(path, module, own, folder)
        if path in origins:
            module.quantizer_digest = origins[path]  # type: ignore[assignment]
        filled.append(path)
    return filled


def load(
    folder: str | Path,
    trust: Sequence[str] = (),
    *,
    revision: str | None = None,
    backbones: Mapping[str, str] | None = None,
    dtype: str | None = None,
    quantization: str | None = None,
    device: str | None = None,
) -> EmpatheticLM:
    """Load a folder that :func:`save` wrote, with its backbones, in eval mode.

    Args:
        folder: Written by a trainer or a converter; ``user/name`` or ``user/name@revision`` is fetched from the Hub.
        trust: Packages besides this library whose classes may be imported, for example ``["mine"]``.
        revision: Branch, tag or commit on the Hub.
        backbones: Other folders or model ids than those that the folder names, by the parts' names, for example
            ``{"language_model": "/models/qwen"}``. It is told if their weights are not those of the training.
        dtype: Precision of the frozen language model, for example ``bfloat16``; None as it was trained.
        quantization: Of the frozen language model: ``bitsandbytes-4bit`` or ``torchao-int8``.
        device: Where it computes, for example ``cuda``; None leaves it on the CPU.

    Raises:
        CheckpointError: If the folder is incomplete, damaged, does not fit, or holds classes that are not trusted.
        InputError: If it cannot be fetched, or another argument cannot be used.
    """
    check_device(device)
    place = local_folder(folder, revision)
    config, weights = read_folder(place)
    config["model"] = chosen(config["model"], place, backbones, dtype, quantization)
    model = _built(folder, config, weights, "", trust)
    if not isinstance(model, EmpatheticLM):
        raise CheckpointError(f"{folder} holds a {type(model).__name__}, no {EmpatheticLM.__name__}")
    if model.talker is not None:
        model.talker.check_units()
    listener = model.listener
    if unknown := set(listener.untrained_heads) - {"categorical", *RATINGS}:
        raise CheckpointError(f"{folder}/config.json: untrained_heads names no head {sorted(unknown)[0]!r}")
    if listener.emotion_nuance is not None:
        emotion_names(model.emotions, listener.emotion_nuance.num_emotions)
    return model if device is None else model.to(device)


def load_part(
    folder: str | Path,
    path: str,
    trust: Sequence[str] = (),
    revision: str | None = None,
    backbones: Mapping[str, str] | None = None,
) -> nn.Module:
    """Load one part of a folder, with those below it, in eval mode.

    Args:
        folder: Written by :func:`save`, here or on the Hub.
        path: Such as ``talker.vocoder``; "" for the whole.
        trust: Packages besides this library whose classes may be imported.
        revision: Branch, tag or commit on the Hub.
        backbones: As for :func:`load`.

    Raises:
        CheckpointError: If the folder holds none at that path, or it does not fit.
    """
    place = local_folder(folder, revision)
    config, weights = read_folder(place)
    config["model"] = chosen(config["model"], place, backbones)
    return _built(folder, config, weights, path, trust)


def _built(
    folder: str | Path, config: dict[str, Any], weights: dict[str, Any], path: str, trust: Sequence[str]
) -> nn.Module:
    """One part of what was read, with those below it; the folder is for the messages."""
    found = dict(entries(config["model"])).get(path)
    if found is None:
        raise CheckpointError(f"{folder} holds no {path.rpartition('.')[2].replace('_', ' ')}")
    try:
        built = build(found, trust)
    except PretrainedError as error:
        line = f"{folder}: a backbone cannot be loaded: {error}"
        if len(line) > 300:
            # The backbone's own file and key come first where there is no room for both.
            line = str(error)
        raise CheckpointError(line) from None
    except InputError as error:
        raise CheckpointError(f"{folder}: {error}"[:300]) from None
    except (OSError, KeyError, TypeError, ValueError, AttributeError, SafetensorError, ModuleNotFoundError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder} cannot be loaded: {reason}") from None
    if not isinstance(built, nn.Module):
        raise CheckpointError(f"{folder}/config.json: {path} is no module")
    warn_of_others(found, path, config.get("backbones", {}), folder)
    parts = dict(tree(built, path))
    for place, entry in entries(found, path):
        own = own_weights(place, entry, weights)
        if place in parts and not is_loaded(entry):
            fill(place, parts[place], own, folder)
        elif own:
            tune(place, parts[place], own, folder)
    for place, origin in _origins(config).items():
        if place in parts:
            parts[place].quantizer_digest = origin  # type: ignore[assignment]
    return built.eval()


def _origins(config: dict[str, Any]) -> dict[str, str]:
    """Digests of the quantizers whose units the parts know, by the parts' paths."""
    found = config.get("quantizers")
    return found if isinstance(found, dict) else {}


def _place_of_vocoder(folder: str) -> str:
    """Its path in a whole model's folder, "" in one of its own."""
    return "talker.vocoder" if "listener" in dict(entries(read_config(folder)["model"])) else ""


def load_vocoder(folder: str, trust: list[str] | None = None) -> nn.Module:
    """Load a vocoder, alone in its folder or of a whole model's.

    Args:
        folder: Written by :func:`save`.
        trust: Packages besides this library whose classes may be imported.

    Raises:
        CheckpointError: If the folder holds none.
    """
    vocoder = load_part(folder, _place_of_vocoder(folder), trust or ())
    if not hasattr(vocoder, "sample_rate"):
        raise CheckpointError(f"{folder} holds a {type(vocoder).__name__}, no vocoder: it has no sample_rate")
    return vocoder


def load_quantizer(folder: str, trust: list[str] | None = None) -> nn.Module:
    """Load what turns speech into units, alone in its folder or as the vocoder of a whole model.

    Args:
        folder: Written by :func:`save`.
        trust: Packages besides this library whose classes may be imported.

    Raises:
        CheckpointError: If the folder holds none.
    """
    quantizer = load_part(folder, _place_of_vocoder(folder), trust or ())
    if not callable(getattr(quantizer, "encode", None)):
        raise CheckpointError(f"{folder} holds a {type(quantizer).__name__}, no quantizer: it has no encode(waveform)")
    return quantizer


def load_empathy_classifier(folder: str | Path) -> EmpathyClassifier:
    """Load a classifier that ``convert epitome`` or a training wrote, in eval mode, with its tokenizer.

    Raises:
        CheckpointError: If the folder holds none, or its tokenizer cannot be loaded.
    """
    from transformers import RobertaTokenizer

    classifier = load_part(folder, "")
    if not isinstance(classifier, EmpathyClassifier):
        raise CheckpointError(f"{folder} holds no empathy classifier")
    name = read_config(folder)["tokenizer"]
    inside = local_folder(folder) / name
    source = str(inside) if inside.is_dir() else name
    try:
        with opened(source) as (place, where):
            classifier.tokenizer = RobertaTokenizer.from_pretrained(place, **where)
    except PretrainedError as error:
        raise CheckpointError(f"{folder}: tokenizer {source} cannot be loaded: {error}"[:300]) from None
    return classifier


def emotion_names(emotions: Sequence[str], count: int) -> list[str]:
    """Names of the classifier's categories.

    Raises:
        CheckpointError: If their number is not the classifier's.
    """
    if len(emotions) != count:
        raise CheckpointError(f"{len(emotions)} emotion names for a classifier of {count}: give data.emotions to match")
    return list(emotions)
