"""What a task's parsed configuration tells before a model is loaded: names, sizes, and parts without weights."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from transformers import AutoConfig

from empathy_lightning.errors import InputError
from empathy_lightning.modules.pretrained import embedding_width, opened
from empathy_lightning.tasks.task import TrainedPartsTask
from empathy_lightning.tasks.weighted_losses import EMOTION_LOSSES, check_weights

_SIZES = (
    ("listener.speech_adapter", "input_size", "listener.speech_encoder"),
    ("listener.speech_adapter", "output_size", "responder.language_model"),
    ("listener.speech_adapter", "emotion_size", "listener.emotion_encoder"),
    ("listener.emotion_nuance", "input_size", "listener.speech_encoder"),
    ("listener.emotion_nuance", "output_size", "responder.language_model"),
    ("talker.speech_decoder", "input_size", "responder.language_model"),
)
"""Part, its argument, and the backbone whose width that is."""

_SLOTS = {"listener.speech_adapter": "responder.speech_slot", "listener.emotion_nuance": "responder.emotion_slot"}


def class_at(path: str) -> Any:
    """A class; None where there is none, which building it says better."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name, None)
    except ImportError:
        return None


def trained_task(config: Any) -> type[TrainedPartsTask] | None:
    """The class of a parsed configuration's task, where it is one of this library's kind."""
    kind = class_at(config["model"].get("class_path", ""))
    return kind if isinstance(kind, type) and issubclass(kind, TrainedPartsTask) else None


def learns_emotions(config: Any) -> bool:
    """Whether a loss of a parsed configuration compares with the labels; no model is built for it."""
    losses = getattr(config["model"].get("init_args"), "auxiliary_losses", None) or {}
    kinds = [class_at(loss["class_path"]) for loss in losses.values()]
    return any(isinstance(kind, type) and issubclass(kind, EMOTION_LOSSES) for kind in kinds)


def check_loss_weights(config: Any) -> None:
    """Compare the names of the loss weights with those of the losses.

    Raises:
        InputError: If a weight names no loss.
    """
    kind, given = trained_task(config), config["model"].get("init_args")
    if kind is not None:
        check_weights(given.get("loss_weights"), kind.own_loss, list(given.get("auxiliary_losses") or {}))


def check_kept(config: Any, fitting: bool) -> None:
    """Refuse to keep encoded speech that no later run would find.

    Args:
        config: Parsed.
        fitting: Whether it is a training, which alone changes its speech.

    Raises:
        InputError: If each epoch's speech is new, or the encoder's weights are rounded after they were told apart.
    """
    if not config["keep_encoded"]:
        return
    if fitting and config["data"]["augmentation"] is not None:
        raise InputError("data.augmentation makes all speech new, so nothing can be kept: leave out keep_encoded")
    precision = config["trainer"]["precision"]
    # "16-true" and the like; "32-true" is as it was loaded.
    if "true" in str(precision).replace("32-true", ""):
        raise InputError(f"trainer.precision {precision} rounds the encoder itself: leave out keep_encoded")


def untrained_parts(config: Any) -> list[str]:
    """Parts that the task trains and that no earlier stage fills, as far as their class tells.

    A part that is loaded by name has weights, and one from outside may have nothing to train.
    """
    kind, given = trained_task(config), config["model"].get("init_args")
    if kind is None or given.get("initial_weights"):
        return []
    patterns = given.get("trainable") or [f"{part}.*" for part in kind.trains]
    found = []
    for part, entry in _parts(config).items():
        trains = any(pattern.startswith(f"{part}.") for pattern in patterns)
        if trains and _is_ours(entry) and isinstance(class_at(entry["class_path"]), type):
            found.append(part)
    return found


def check_sizes(config: Any) -> None:
    """Compare the sizes of the parts with the widths of the backbones that they read or feed.

    Only parts of this library are looked at, and backbones whose ``config.json`` is here.

    Raises:
        InputError: If one differs.
    """
    if trained_task(config) is None:
        return
    parts = _parts(config)
    for part, argument, backbone in _SIZES:
        entry = parts.get(part)
        if entry is None or backbone not in parts or not _is_ours(entry):
            continue
        if argument == "output_size" and not _reads_voice(parts.get(_SLOTS[part])):
            continue
        reads = getattr(class_at(entry["class_path"]), "reads", "layers")
        other = "responder.language_model" if (argument, reads) == ("input_size", "embeddings") else backbone
        size, width = entry["init_args"].get(argument), _width(parts.get(other))
        if size and width and size != width:
            raise InputError(
                f"model.model.{part}.{argument} is {size}, but the {other.partition('.')[2]} "
                f"({_place(parts[other])}) is {width} wide: give {width}"
            )


def _parts(config: Any) -> dict[str, Any]:
    """Entries with class path and arguments, by the path of the part."""
    found = {}
    halves = _arguments(_arguments(config["model"]).get("model"))
    for half in ("listener", "responder", "talker"):
        for name, entry in _arguments(halves.get(half)).items():
            if _arguments(entry):
                found[f"{half}.{name}"] = entry
    return found


def _arguments(entry: Any) -> dict[str, Any]:
    """Those of an entry with a class path; none of anything else."""
    given = getattr(entry, "init_args", None)
    return vars(given) if hasattr(given, "__dict__") else {}


def _is_ours(entry: Any) -> bool:
    return str(entry["class_path"]).startswith("empathy_lightning.")


def _reads_voice(slot: Any) -> bool:
    return slot is None or getattr(class_at(slot["class_path"]), "uses_voice", True)


def _place(entry: Any) -> str:
    return str(entry["init_args"].get("name_or_path", entry["class_path"]))


def _width(entry: Any) -> int | None:
    """Width of what a part gives; None where neither its arguments nor a file that is here tell it."""
    if entry is None or not _is_ours(entry):
        return None
    arguments = entry["init_args"]
    if name := arguments.get("name_or_path"):
        try:
            with opened(name, arguments.get("revision")) as (place, where):
                config = AutoConfig.from_pretrained(place, **{**where, "local_files_only": True})
        except (InputError, OSError, ValueError):
            return None
        config = config.get_text_config()
        return embedding_width(config)
    return arguments.get("hidden_size") or _width(arguments.get("encoder"))
