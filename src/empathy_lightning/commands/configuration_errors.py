"""What is wrong with a trainer's configuration: the innermost reason in one line, and checks before models are loaded.

The parser tries the types of a value in turn and reports what each of them said. Only one of these
reports is the reason; the exceptions that it keeps are followed down to it.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

import jsonargparse
import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

import empathy_lightning.tasks
from empathy_lightning.configurations import config_files, read_yaml
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.errors import InputError, meant
from empathy_lightning.hub import local_folder
from empathy_lightning.modules.pretrained import locate
from empathy_lightning.tasks.before_loading import class_at

_LONGEST = 300
_PARSER = (str(Path(jsonargparse.__file__).parent), argparse.__file__)
_REFUSALS = (ValueError, RuntimeError, OSError, ModuleNotFoundError, MisconfigurationException)
"""What a constructor raises where it refuses a value; anything else is a fault of its own."""

_ROOT_KEYS = (
    "config", "base", "out", "monitor", "save_every", "backbones", "model", "data", "trainer", "ckpt_path",
    "seed_everything",
)  # fmt: skip


@dataclass(frozen=True)
class Reason:
    """Why one way to read the configuration failed.

    Attributes:
        keys: From the root down to the value.
        classes: Paths of the classes around it, from the outermost.
        error: What was raised.
        constructing: Whether a class raised it, rather than the parser.
    """

    keys: tuple[str, ...]
    classes: tuple[str, ...]
    error: BaseException
    constructing: bool

    @property
    def weight(self) -> tuple[int, int]:
        """Order of the reasons: the least is the one to tell."""
        message = str(self.error)
        if self.constructing or isinstance(self.error, ModuleNotFoundError | AttributeError):
            kind = 0
        elif "not accepted" in message:
            kind = 1
        elif "NoneType" in message or "does not correspond" in message or "Expected a path" in message:
            kind = 3
        else:
            kind = 2
        return kind, -len(self.keys)


def refusal(error: Exception, words: Sequence[str]) -> InputError:
    """The line that tells what the configuration has wrong.

    Args:
        error: Of the parser, or of a class that it built.
        words: Of the command line.

    Raises:
        Exception: The innermost error itself where it is no refusal but a fault.
    """
    reasons = list(_reasons(error))
    reason = min(reasons, key=lambda found: found.weight)
    fault = reason.error
    if isinstance(fault, InputError):
        return fault
    if reason.constructing and not isinstance(fault, _REFUSALS):
        raise fault
    alternatives = [str(found.error) for found in reasons if found.keys == reason.keys]
    line = " ".join(_told(reason, alternatives).split())
    if "arguments are required" in line and not config_files(words):
        line = "give --config FILE.yaml, or --config recipe:NAME (`empathy-lightning recipes list` names them)"
    if source := _source(_whole_key(reason), words):
        line = f"{source}: {line}"
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST - 3]}..."
    return InputError(line)


def _reasons(error: BaseException, keys: tuple[str, ...] = (), classes: tuple[str, ...] = ()) -> Iterator[Reason]:
    """All innermost errors below one, with the keys and classes on the way."""
    # The parser raises one message again and again; the key in it is entered once.
    if str(error.__cause__) != str(error):
        keys, classes = _entered(error, keys, classes)
    inner = _tried(error.__traceback__)
    if not inner and error.__cause__ is not None and _of_parser(error):
        inner = [error.__cause__]
    if not inner:
        yield Reason(keys, classes, error, not _of_parser(error))
    for below in inner:
        yield from _reasons(below, keys, classes)


def _entered(
    error: BaseException, keys: tuple[str, ...], classes: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Keys and classes with those that an error names, or in whose making it was raised."""
    message = str(error)
    if _of_parser(error) and (named := re.match(r'Parser key "([^"]+)"', message)):
        return (*keys, named[1]), classes
    if _of_parser(error) and (named := re.match(r"Problem with given class_path '([^']+)'", message)):
        return keys, (*classes, named[1])
    for frame in _frames(error.__traceback__):
        component = frame.get("component")
        if "namespace" in frame and component is not None:
            keys = (*keys, str(component.dest))
        if "val_class" in frame and hasattr(frame.get("value"), "class_path"):
            classes = (*classes, str(frame["value"].class_path))
    return keys, classes


def _frames(traceback: TracebackType | None) -> Iterator[dict[str, Any]]:
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename.startswith(_PARSER):
            yield traceback.tb_frame.f_locals
        traceback = traceback.tb_next


def _tried(traceback: TracebackType | None) -> list[BaseException]:
    """What each type of a union said, where the parser raised because none of them fits."""
    last: dict[str, Any] = {}
    while traceback is not None:
        last = traceback.tb_frame.f_locals
        traceback = traceback.tb_next
    # The parser keeps them in a local variable of this name, and tells only their texts.
    found = last.get("exceptions")
    if not isinstance(found, list):
        return []
    return [one for one in found if isinstance(one, BaseException)]


def _of_parser(error: BaseException) -> bool:
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is None or traceback.tb_frame.f_code.co_filename.startswith((*_PARSER, "<frozen"))


def _told(reason: Reason, alternatives: Sequence[str]) -> str:
    """Key, reason and, for a slip of the pen, what may have been meant.

    Args:
        reason: What is told.
        alternatives: What all types of the same value said.
    """
    key, message = ".".join(reason.keys), str(reason.error)
    kind = reason.classes[-1] if reason.classes else ""
    if unknown := re.search(r"(?:Option|Key|key) '([^']+)' is not (?:accepted|expected)", message):
        return f"{key}.{unknown[1]}: there is no such key{meant(unknown[1], _arguments(kind))}"
    if unknown := re.match(
        r"(?:unrecognized arguments: -*|Subcommand '\w+' does not accept option ')([\w.]+)", message
    ):
        if key:  # Below a class, whose own parser does not say where it stands.
            first = unknown[1].partition(".")[0]
            return f"{key}.{unknown[1]}: there is no such key{meant(first, _arguments(kind))}"
        if unknown[1] == "base":
            return "base stands in a YAML; on the command line give that file with --config, before the other"
        return f"{unknown[1]}: there is no such key{meant(unknown[1], _known_keys())}"
    if isinstance(reason.error, ModuleNotFoundError) and kind.startswith(f"{reason.error.name}."):
        return f"{key}: {message}: put the folder that holds {reason.error.name} on PYTHONPATH"
    if missing := re.match(r"module '([\w.]+)' has no attribute '(\w+)'", message):
        return f"{key}: {missing[1]} has no {missing[2]}{meant(missing[2], dir(import_module(missing[1])))}"
    if bare := re.match(r"Expected a dot import path string: (\w+)$", message):
        return f"{key}: there is no class {bare[1]}{meant(bare[1], _class_names())}"
    if base := re.search(r"instantiatable class, but ([\w.]+) is abstract", message):
        known = ", ".join(sorted(one.__name__ for one in class_at(base[1]).__subclasses__()))
        return f"{key}: say which class it is, for example by --{key} before that: {known}"
    words = " ".join(re.findall(r"Literal\[([^\]]*)\]", " ".join(alternatives)))
    if choices := re.findall(r"'([^']+)'", words):
        value = message.rpartition("Got value: ")[2]
        return f"{key}: {value!r} is none of {', '.join(dict.fromkeys(choices))}{meant(value, choices)}"
    named = f"{key} ({'.'.join(kind.rsplit('.', 2)[-2:])})" if reason.constructing and kind else key
    return f"{named}: {re.sub(r'''<class '([^']+)'>''', lambda m: m[1], message)}".lstrip(": ")


def _arguments(kind: str) -> list[str]:
    """Names of the arguments of a class or function by its path."""
    module, _, name = kind.rpartition(".")
    try:
        return list(inspect.signature(getattr(import_module(module), name)).parameters)
    except (ImportError, AttributeError, ValueError, TypeError):
        return []


def _class_names() -> list[str]:
    """Bare names of this library's tasks, losses, metrics and parts."""
    names = set(empathy_lightning.tasks.__all__)
    kinds: list[type] = [torch.nn.Module]
    while kinds:
        below: list[type] = kinds.pop().__subclasses__()
        kinds += below
        names |= {kind.__name__ for kind in below if kind.__module__.startswith("empathy_lightning.")}
    return sorted(names)


def _known_keys() -> list[str]:
    keys = list(_ROOT_KEYS)
    for group, kind in {"trainer": L.Trainer, "data": EmpathyDataModule}.items():
        keys += [f"{group}.{name}" for name in inspect.signature(kind).parameters]
    return keys


def _source(keys: Sequence[str], words: Sequence[str]) -> str:
    """The last configuration file that holds a key; nothing where the command line itself does."""
    wanted = ".".join(keys)
    for word in words:
        if word.startswith("--") and not word.startswith("--config"):
            key = word[2:].partition("=")[0].replace(".init_args", "")
            if key.startswith(wanted):
                return ""
    for file in reversed(config_files(words)):
        if keys and _holds(read_yaml(file), wanted.split(".")):
            return str(file)
    return ""


def _whole_key(reason: Reason) -> tuple[str, ...]:
    """The keys down to the one that is unknown, where one is."""
    unknown = re.search(r"(?:Option|Key|key) '([^']+)' is not|does not accept option '([\w.]+)'", str(reason.error))
    if unknown is None:
        return reason.keys
    return (*reason.keys, *(unknown[1] or unknown[2]).split("."))


def _holds(values: Any, keys: Sequence[str]) -> bool:
    for key in keys:
        # The parser's keys leave init_args out.
        if isinstance(values, dict) and key not in values:
            values = values.get("init_args")
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


def check_paths(config: Any, key: str = "") -> None:
    """Look for the folders and files that a parsed configuration names, before anything is loaded.

    Args:
        config: Of a subcommand.
        key: Where it stands in the whole.

    Raises:
        InputError: If one is missing; the message names its key.
    """
    name = key.rpartition(".")[2]
    if isinstance(config, jsonargparse.Namespace):
        config = vars(config)
    if isinstance(config, dict):
        for below, value in config.items():
            check_paths(value, f"{key}.{below}".lstrip("."))
    elif isinstance(config, list):
        for number, value in enumerate(config):
            place = key if name == "initial_weights" else f"{key}[{number}]"
            check_paths(value, place)
    elif not isinstance(config, str):
        return
    elif name == "initial_weights" and not (local_folder(config) / "config.json").is_file():
        raise InputError(f"{_short(key)}: no checkpoint folder at {config}: train the stage before first")
    elif name == "ckpt_path" and config not in ("best", "last", "hpc") and "://" not in config:
        if not Path(config).exists():
            raise InputError(f"{key}: no checkpoint at {config}")
    elif name == "name_or_path":
        try:
            locate(config)
        except InputError as error:
            raise InputError(f"{_short(key)}: {error}") from None


def _short(key: str) -> str:
    return key.replace(".init_args", "")
