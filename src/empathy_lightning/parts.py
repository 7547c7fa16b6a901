"""A model as a folder names it: a tree of parts, each the path of its class and the arguments that build it again.

The tree has the form of YAML: an argument that is a part is such an entry itself. What was loaded by
``from_pretrained`` stands as that, by name, and its weights are not kept.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from importlib import import_module
from typing import Any

from torch import nn

from empathy_lightning.constructor import argument_names
from empathy_lightning.errors import InputError, meant
from empathy_lightning.modules.cached_encoder import CachedSpeechEncoder
from empathy_lightning.slots import SlotFiller

LIBRARY = "empathy_lightning"
_LOADER = ".from_pretrained"


def class_path(kind: type) -> str:
    """Module and name of a class, as in YAML."""
    return f"{kind.__module__}.{kind.__qualname__}"


def entry(kind: type, arguments: dict[str, Any], loaded: bool = False) -> dict[str, Any]:
    """What a folder keeps of a part, as in YAML.

    Args:
        kind: Its class.
        arguments: Of its constructor or, where it was loaded, of its ``from_pretrained``.
        loaded: Whether it was.
    """
    path = class_path(kind)
    if loaded:
        path += _LOADER
    return {"class_path": path, "init_args": arguments}


def is_entry(found: Any) -> bool:
    """Whether a value of a config.json has the form of :func:`entry`."""
    return isinstance(found, dict) and set(found) == {"class_path", "init_args"}


def loaded_from(module: nn.Module) -> dict[str, Any] | None:
    """Arguments of the ``from_pretrained`` that loaded a backbone; None for a part whose weights are kept whole."""
    source = getattr(module, "source", None)
    return source if isinstance(source, dict) and hasattr(type(module), "from_pretrained") else None


def behind_cache(module: nn.Module) -> nn.Module:
    """The encoder inside a cache, which is no part of what is saved; any other module is itself."""
    return module.encoder if type(module) is CachedSpeechEncoder else module


def children(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The parts that a module's constructor was given, by the names of its arguments."""
    module = behind_cache(module)
    if loaded_from(module) is not None:
        return
    for name in argument_names(type(module)):
        part = getattr(module, name, None)
        if isinstance(part, nn.Module):
            yield name, part


def tree(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """A module and all parts below it with their paths, such as ``listener.speech_adapter``; its own path is ""."""
    yield path, module
    for name, part in children(module):
        yield from tree(part, f"{path}.{name}" if path else name)


def described(module: Any, name: str = "the model") -> dict[str, Any]:
    """Entry of a part in its folder's config.json, with the parts below it.

    Args:
        module: A module, or another object that its constructor's arguments describe.
        name: For the message.

    Raises:
        InputError: If it cannot be brought back by that; the message begins with the name.
    """
    if isinstance(module, nn.Module):
        module = behind_cache(module)
    kind = type(module)
    if kind.__module__ == "__main__" or kind.__qualname__ != kind.__name__:
        raise InputError(
            f"{name}: {kind.__name__} cannot be imported by name: define it at the top of a file of its own"
        )
    source = loaded_from(module) if isinstance(module, nn.Module) else None
    if source is not None:
        return entry(kind, source, loaded=True)
    arguments = {}
    for argument in argument_names(kind):
        value = getattr(module, argument, inspect.Parameter.empty)
        if value is inspect.Parameter.empty or inspect.ismethod(value):
            loads = "; or load it by from_pretrained" if hasattr(kind, "from_pretrained") else ""
            raise InputError(
                f"{name} could not be loaded again: {kind.__name__} keeps its argument {argument!r} nowhere: write "
                f"self.{argument} = {argument} in __init__{loads}"
            )
        arguments[argument] = _value(value, argument, kind, name)
    return entry(kind, arguments)


def _value(value: Any, argument: str, kind: type, name: str) -> Any:
    if isinstance(value, nn.Module) and type(value).__module__.startswith("torch.") and _has_weights(value):
        torchs = type(value).__name__
        raise InputError(
            f"{name} could not be loaded again: self.{argument} of {kind.__name__} is torch's {torchs}: keep the "
            f"argument {argument!r} itself there, and the {torchs} under another name"
        )
    if isinstance(value, nn.Module | SlotFiller) or is_dataclass(value):
        return described(value, argument)
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        raise InputError(
            f"{name} could not be loaded again: the argument {argument!r} of {kind.__name__} is a "
            f"{type(value).__name__}, which config.json cannot hold"
        ) from None
    return value


def _has_weights(module: nn.Module) -> bool:
    return bool(module.state_dict()) or any(True for _ in module.children())


def trusted_class(path: str, trust: Sequence[str] = ()) -> type:
    """The class of a path, which is imported only from this library and packages that are named.

    Args:
        path: Such as ``mine.adapters.DeepAdapter``.
        trust: Packages or modules that may be imported besides this library.

    Raises:
        InputError: If it may not be imported, or is not there, or is no ``nn.Module``, slot's filler or dataclass.
    """
    module, _, name = path.rpartition(".")
    package = path.partition(".")[0]
    # By whole names: who trusts "mine" does not trust "mine_too".
    if not any(module == given or module.startswith(f"{given}.") for given in (LIBRARY, *trust)):
        raise InputError(
            f"{path} is code from elsewhere, which is not run unasked: if you trust it, give --trust {package} "
            f"(in Python, trust=[{package!r}])"
        )
    try:
        kind = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: {error}; put the folder that holds {package} on PYTHONPATH") from None
    except AttributeError:
        raise InputError(f"{module} has no class {name}{meant(name, dir(import_module(module)))}") from None
    # A name that a module only imported might be anything.
    if not (isinstance(kind, type) and _is_part(kind) and kind.__module__ == module):
        raise InputError(f"{path} is no nn.Module defined there")
    return kind


def _is_part(kind: type) -> bool:
    return issubclass(kind, nn.Module | SlotFiller) or is_dataclass(kind)


def build(found: dict[str, Any], trust: Sequence[str] = ()) -> Any:
    """Build a part from its entry, with the parts below it; weights are those that its constructor gives it.

    Args:
        found: Of :func:`described`.
        trust: Packages besides this library that may be imported.

    Raises:
        InputError: If a class is not to be had, or refuses its arguments.
    """
    path = found["class_path"]
    kind: Any = trusted_class(path.removesuffix(_LOADER), trust)
    _check_harmless(kind, found["init_args"], trust)
    arguments = {name: build_value(value, trust) for name, value in found["init_args"].items()}
    if path.endswith(_LOADER):
        return kind.from_pretrained(**arguments)
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"{kind.__name__} refuses its arguments: {' '.join(str(error).split())[:160]}") from None


def _check_harmless(kind: Any, arguments: dict[str, Any], trust: Sequence[str]) -> None:
    """Refuse what a folder would start or send to, unless the class's own module is trusted by name.

    Raises:
        InputError: If it is not.
    """
    does, module = getattr(kind, "needs_trust", None), kind.__module__
    if does is None or any(module == given or module.startswith(f"{given}.") for given in trust):
        return
    target = json.dumps(next(iter(arguments.values()), None))[:80]
    raise InputError(
        f"give --trust {module} (in Python, trust=[...]) if you trust what {kind.__name__} does there, which is not "
        f"done unasked: it {does}, {target}"
    )


def build_value(value: Any, trust: Sequence[str]) -> Any:
    """An argument, built where it is a part."""
    return build(value, trust) if is_entry(value) else value


def entries(found: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """An entry and all below it with their paths, as :func:`tree` gives those of a module."""
    yield path, found
    for name, value in found["init_args"].items():
        if is_entry(value):
            yield from entries(value, f"{path}.{name}" if path else name)


def is_loaded(found: dict[str, Any]) -> bool:
    """Whether an entry is of a backbone, which is loaded by name."""
    return str(found["class_path"]).endswith(_LOADER)


def known_class(module: nn.Module, path: str) -> type[nn.Module] | None:
    """The module's own class or one of its parents that has this path; nothing is imported."""
    for kind in type(module).__mro__:
        if class_path(kind) == path:
            return kind
    return None
