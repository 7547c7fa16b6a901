"""From the words of a command line, or the entries of a YAML file, to measures.

A measure is the name of a file of :mod:`.measures` or the path of a class. ``NAME.argument=value`` gives it an
argument, and ``argument=value`` gives it to all measures that have such an argument and were given none of their own.
One that is an object itself, such as a judge, is named by its class; its own arguments follow by their dots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from empathy_lightning.configurations import RECIPE, located, read_yaml
from empathy_lightning.errors import InputError, meant
from empathy_lightning.evaluation.measure_classes import ENTRY, built, measure_class, own_names, parameters_of
from empathy_lightning.evaluation.measured import Measure


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


def choices(words: Sequence[str]) -> list[Choice]:
    """What is wanted.

    Args:
        words: Names, class paths, YAML files (or ``recipe:NAME``) that list entries, and arguments.

    Raises:
        InputError: If a word is none of these, or gives an argument that no measure has.
    """
    found: list[Choice] = []
    shared: dict[str, Any] = {}
    for word in words:
        target, equals, value = word.partition("=")
        if equals:
            _give(found, shared, target, value)
        elif word.startswith(RECIPE) or word.endswith((".yaml", ".yml")):
            found += read_choices(located(word))
        else:
            found.append(Choice(word))
    if not found:
        raise InputError(f"no measure is named: give --measures some of {', '.join(own_names())}")
    for name, argument in shared.items():
        _share(found, name, argument)
    return found


def _give(found: Sequence[Choice], shared: dict[str, Any], target: str, value: str) -> None:
    """Give an argument to the measure that was named last under this name, or to all of them."""
    arguments, steps = shared, target.split(".")
    for choice in found:
        for name in (choice.class_path.rpartition(".")[2], choice.class_path):
            # No break: the last measure of the name takes it.
            if target.startswith(f"{name}."):
                arguments, steps = choice.init_args, target.removeprefix(f"{name}.").split(".")
    if arguments is shared and steps[0] in own_names():
        raise InputError(f"{target}={value} is for a measure that is not named before it: name {steps[0]} first")
    try:
        _put(arguments, steps, yaml.safe_load(value), target)
    except yaml.YAMLError:
        _put(arguments, steps, value, target)


def _put(arguments: dict[str, Any], steps: Sequence[str], value: Any, target: str) -> None:
    """Put a value at its place, if need be among the arguments of an argument."""
    name, *deeper = steps
    if not deeper:
        arguments[name] = value
        return
    held = arguments.get(name)
    if isinstance(held, str):
        held = {"class_path": held}
    if not (isinstance(held, dict) and "class_path" in held):
        raise InputError(f"{target} is for an object that is not named before it: give {name}=CLASS first")
    inner = dict(held.get("init_args") or {})
    arguments[name] = {**held, "init_args": inner}
    _put(inner, deeper, value, target)


def _share(found: Sequence[Choice], name: str, argument: Any) -> None:
    """Give an argument to each measure that has it and was given none of its own."""
    takers = [choice for choice in found if name in parameters_of(measure_class(choice.class_path))]
    if not takers:
        known: set[str] = set()
        for choice in found:
            known.update(parameters_of(measure_class(choice.class_path)))
        raise InputError(f"none of these measures has an argument {name!r}{meant(name, known)}")
    for choice in takers:
        choice.init_args.setdefault(name, argument)


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
    rows = content if isinstance(content, list) else [content]
    return [_entry(row, where) for row in rows]


def _entry(row: Any, where: str) -> Choice:
    if isinstance(row, str):
        return Choice(row)
    if not (isinstance(row, dict) and "class_path" in row and set(row) <= {*ENTRY, "suites"}):
        raise InputError(f"{where}: a measure is a name, or class_path with init_args, not {str(row)[:80]}")
    name, arguments, suites = str(row["class_path"]), row.get("init_args") or {}, row.get("suites") or []
    if not isinstance(arguments, dict):
        raise InputError(f"{where}: init_args of {name} are {arguments!r:.80}: give names and values")
    if not isinstance(suites, list) or not all(isinstance(suite, str) for suite in suites):
        raise InputError(f"{where}: suites of {name} are {suites!r:.80}: give a list of names")
    return Choice(name, dict(arguments), tuple(suites))


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
        kind = measure_class(choice.class_path)
        known = parameters_of(kind)
        given = {name: value for name, value in context.items() if value is not None and name in known}
        measure = built(kind, given | choice.init_args, choice.class_path)
        name = getattr(measure, "name", None)
        if not callable(measure) or not isinstance(name, str):
            raise InputError(f"{choice.class_path} is no measure: its instances need a name and to be called")
        if name in found:
            raise InputError(f"two measures are named {name}: leave one out, or name them apart by their arguments")
        found[name] = measure
    return found


def wants(choice: Choice, argument: str) -> bool:
    """Whether a measure cannot be built without an argument that it was not given."""
    parameter = parameters_of(measure_class(choice.class_path)).get(argument)
    return parameter is not None and parameter.default is parameter.empty and argument not in choice.init_args


def described(wanted: Sequence[Choice]) -> list[dict[str, Any]]:
    """The choices as JSON values."""
    return [{"class_path": choice.class_path, "init_args": choice.init_args} for choice in wanted]
