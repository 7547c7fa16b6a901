"""From the words of a command line, or the entries of a YAML file, to measures.

A measure is the name of a file of :mod:`.measures` or the path of a class; ``NAME.argument=value`` gives it an
argument. One that is an object itself is an entry of ``class_path`` and ``init_args``, as in a trainer's YAML.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import yaml  # type: ignore[import-untyped]

from empathy_lightning.configurations import RECIPE, located, read_yaml
from empathy_lightning.errors import InputError, meant
from empathy_lightning.evaluation import measures as own_measures
from empathy_lightning.evaluation.measured import Measure

_ENTRY = {"class_path", "init_args"}


@dataclass
class Choice:
    """A measure that is wanted.

    Attributes:
        class_path: Its bare name or the path of its class.
        init_args: Arguments of its constructor.
        suites: Of whose replies it is asked; none takes all.
    """

    class_path: str
    init_args: dict[str, Any] = field(default_factory=dict)
    suites: tuple[str, ...] = ()


def own_names() -> list[str]:
    """Names of the library's measures."""
    return sorted(found.name for found in iter_modules(own_measures.__path__))


def choices(words: Sequence[str]) -> list[Choice]:
    """What is wanted.

    Args:
        words: Names, class paths, ``NAME.argument=value``, and YAML files (or ``recipe:NAME``) that list entries.

    Raises:
        InputError: If a word is none of these, or gives an argument to a measure that is not named.
    """
    found: list[Choice] = []
    for word in words:
        target, equals, value = word.partition("=")
        if equals:
            _give(found, target, value)
        elif word.startswith(RECIPE) or word.endswith((".yaml", ".yml")):
            found += read_choices(located(word))
        else:
            found.append(Choice(word))
    if not found:
        raise InputError(f"no measure is named: give --measures some of {', '.join(own_names())}")
    return found


def _give(found: Sequence[Choice], target: str, value: str) -> None:
    """Give an argument to the measure that was named last under this name."""
    name, _, argument = target.rpartition(".")
    named = [choice for choice in found if name in (choice.class_path, choice.class_path.rpartition(".")[2])]
    if not named:
        known = [choice.class_path for choice in found]
        raise InputError(f"{target}={value} is for a measure that is not named before it{meant(name, known)}")
    try:
        named[-1].init_args[argument] = yaml.safe_load(value)
    except yaml.YAMLError:
        named[-1].init_args[argument] = value


def read_choices(file: Path) -> list[Choice]:
    """The entries of a YAML file; see :func:`entries_of`.

    Raises:
        InputError: If it is missing, or an entry is none.
    """
    if not file.is_file():
        raise InputError(f"no measures at {file}")
    return entries_of(read_yaml(file), str(file))


def entries_of(content: Any, where: str) -> list[Choice]:
    """A list of names and of entries with ``class_path`` and perhaps ``init_args`` and ``suites``.

    Raises:
        InputError: If it is something else.
    """
    found = []
    for row in content if isinstance(content, list) else [content]:
        if isinstance(row, str):
            found.append(Choice(row))
        elif isinstance(row, dict) and "class_path" in row and set(row) <= {*_ENTRY, "suites"}:
            arguments = dict(row.get("init_args") or {})
            found.append(Choice(str(row["class_path"]), arguments, tuple(row.get("suites") or ())))
        else:
            raise InputError(f"{where}: a measure is a name, or class_path with init_args, not {str(row)[:80]}")
    return found


def build(wanted: Sequence[Choice], context: Mapping[str, Any]) -> dict[str, Measure]:
    """Measures by their names.

    Args:
        wanted: What is wanted.
        context: Arguments that are given to each constructor that has them and was given none, such as ``checkpoint``.

    Raises:
        InputError: If there is no such class, it refuses its arguments, or two have one name.
    """
    found: dict[str, Measure] = {}
    for choice in wanted:
        kind = _class_of(choice.class_path)
        known = _parameters(kind)
        own = {name: value for name, value in context.items() if name in known and value is not None}
        measure = _built(kind, own | choice.init_args, choice.class_path)
        name = getattr(measure, "name", None)
        if not callable(measure) or not isinstance(name, str):
            raise InputError(f"{choice.class_path} is no measure: its instances need a name and to be called")
        if name in found:
            raise InputError(f"two measures are named {name}: leave one out, or name them apart by their arguments")
        found[name] = measure
    return found


def wants(choice: Choice, argument: str) -> bool:
    """Whether a measure cannot be built without an argument that it was not given."""
    parameter = _parameters(_class_of(choice.class_path)).get(argument)
    return parameter is not None and parameter.default is parameter.empty and argument not in choice.init_args


def described(wanted: Sequence[Choice]) -> list[dict[str, Any]]:
    """The choices as JSON values."""
    return [{"class_path": choice.class_path, "init_args": choice.init_args} for choice in wanted]


def _class_of(path: str) -> type:
    """The class of a bare name or a path.

    Raises:
        InputError: If there is none.
    """
    if "." not in path:
        if path not in own_names():
            raise InputError(
                f"no measure is named {path!r}; there are {', '.join(own_names())}{meant(path, own_names())}"
            )
        path = f"{own_measures.__name__}.{path}.{''.join(word.capitalize() for word in path.split('_'))}"
    module, _, name = path.rpartition(".")
    try:
        kind = getattr(import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: {error}; put the folder that holds it on PYTHONPATH") from None
    if not isinstance(kind, type):
        raise InputError(f"{module} has no class {name}{meant(name, dir(import_module(module)))}")
    return kind


def _parameters(kind: type) -> dict[str, inspect.Parameter]:
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: found for name, found in inspect.signature(kind).parameters.items() if found.kind not in several}


def _built(kind: type, arguments: Mapping[str, Any], what: str) -> Any:
    known = _parameters(kind)
    for name in arguments:
        if name not in known:
            there = ", ".join(known) or "none"
            raise InputError(f"{what} has no argument {name!r}{meant(name, known)}; there are {there}")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise InputError(f"{what} needs {name}: give {what.rpartition('.')[2]}.{name}=...")
    values = {name: _value(value) for name, value in arguments.items()}
    try:
        return kind(**values)
    except InputError:
        # It says itself what is wrong.
        raise
    except (TypeError, ValueError, ImportError) as error:
        raise InputError(f"{what} refuses its arguments: {' '.join(str(error).split())[:200]}") from None


def _value(value: Any) -> Any:
    """An argument, built where it is an entry."""
    if isinstance(value, dict) and "class_path" in value and set(value) <= _ENTRY:
        return _built(_class_of(str(value["class_path"])), value.get("init_args") or {}, str(value["class_path"]))
    return value
