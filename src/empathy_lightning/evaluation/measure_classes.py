"""From the name of a measure and its arguments to the measure; objects among the arguments are built likewise.

An argument whose type is one of the library's own, such as a judge, is named by its class (``OpenAIJudge``), or is an
entry of ``class_path`` and ``init_args``, as in a trainer's YAML.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from empathy_lightning.errors import InputError, meant
from empathy_lightning.evaluation import measures as own_measures

ENTRY = {"class_path", "init_args"}
"""Keys of an object among the arguments."""

_PLAIN = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}


def own_names() -> list[str]:
    """Names of the library's measures."""
    return sorted(found.name for found in iter_modules(own_measures.__path__))


def measure_class(path: str) -> type:
    """The class of a measure by its bare name or its path.

    Raises:
        InputError: If there is none.
    """
    if "." in path:
        return _class_at(path)
    if path not in own_names():
        near = meant(path, own_names()) or f"; there are {', '.join(own_names())}"
        raise InputError(f"no measure is named {path!r}{near}")
    return _class_at(f"{own_measures.__name__}.{path}.{''.join(word.capitalize() for word in path.split('_'))}")


def parameters_of(kind: type) -> dict[str, inspect.Parameter]:
    """The arguments of a constructor by name."""
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: found for name, found in inspect.signature(kind).parameters.items() if found.kind not in several}


def built(kind: type, arguments: Mapping[str, Any], what: str) -> Any:
    """An object of a class.

    Args:
        kind: The class.
        arguments: Of its constructor.
        what: How it was named, for errors.

    Raises:
        InputError: If an argument is unknown, missing or of another type, or the class refuses them.
    """
    known, types = parameters_of(kind), _types_of(kind)
    for name in arguments:
        if name not in known:
            there = ", ".join(known) or "none"
            raise InputError(f"{what} has no argument {name!r}{meant(name, known)}; there are {there}")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise InputError(f"{what} needs {name}: give {what.rpartition('.')[2]}.{name}=...")
    values = {name: _value(value, types.get(name), f"{what}.{name}") for name, value in arguments.items()}
    try:
        return kind(**values)
    except InputError:
        raise
    except (TypeError, ValueError, ImportError) as error:
        raise InputError(f"{what} refuses its arguments: {' '.join(str(error).split())[:200]}") from None


def _class_at(path: str) -> type:
    module, _, name = path.rpartition(".")
    try:
        kind = getattr(import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: {error}; put the folder that holds it on PYTHONPATH") from None
    if not isinstance(kind, type):
        raise InputError(f"{module} has no class {name}{meant(name, dir(import_module(module)))}")
    return kind


def _types_of(kind: type) -> dict[str, tuple[Any, ...]]:
    """What each argument may be, where that is said."""
    try:
        hints = get_type_hints(kind.__init__)  # type: ignore[misc]
    except (NameError, TypeError):
        return {}
    types = {}
    for name, hint in hints.items():
        # Union[A, B] has the one origin, A | B the other.
        is_union = get_origin(hint) in (Union, UnionType)
        types[name] = get_args(hint) if is_union else (hint,)
    return types


def _value(value: Any, types: tuple[Any, ...] | None, what: str) -> Any:
    """An argument, built where an object is meant."""
    if types is None:
        return value
    own = [kind for kind in types if getattr(kind, "__module__", "").startswith("empathy_lightning.")]
    if own and isinstance(value, str):
        return built(_class_beside(own[0], value, what), {}, value)
    if own and isinstance(value, dict) and "class_path" in value and set(value) <= ENTRY:
        path = str(value["class_path"])
        return built(_class_beside(own[0], path, what), value.get("init_args") or {}, path)
    # A whole number serves where a float is wanted.
    fits = isinstance(value, int) and float in types
    if set(types) <= set(_PLAIN) and not (fits or isinstance(value, types)):
        raise InputError(f"{what} is {value!r}: give {' or '.join(_PLAIN[kind] for kind in types)}")
    if any(get_origin(kind) is Mapping for kind in types) and not isinstance(value, Mapping | NoneType):
        raise InputError(f"{what} is {value!r}: give a mapping such as {{name: value}}")
    return value


def _class_beside(kind: type, path: str, what: str) -> type:
    """The class at a path; a bare name is looked for where the type of the argument is defined."""
    if "." in path:
        return _class_at(path)
    package = kind.__module__.rpartition(".")[0]
    for place in map(import_module, (package, kind.__module__)):
        found = getattr(place, path, None)
        if isinstance(found, type):
            return found
    names = [name for name in dir(import_module(package)) if name.endswith(kind.__name__)]
    # Judge itself, for example, is a protocol: nothing is built of it.
    names = [name for name in names if name != kind.__name__]
    there = f"; there are {', '.join(names)}" if names else ""
    raise InputError(f"{what}: no class is named {path!r}{meant(path, names)}{there}")
