"""A part of a model as a folder names it: the path of its class, and the arguments that build it again."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import nn

from empathy_lightning.errors import InputError
from empathy_lightning.modules.cached_encoder import CachedSpeechEncoder

_LIBRARY = "empathy_lightning"


def class_path(kind: type) -> str:
    """Module and name of a class, as in YAML."""
    return f"{kind.__module__}.{kind.__qualname__}"


def entry(kind: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """What a folder keeps of a part: ``class_path`` and ``init_args``, as in YAML."""
    return {"class_path": class_path(kind), "init_args": arguments}


def constructor_arguments(module: nn.Module) -> dict[str, Any]:
    """Arguments that build the module again, read from its attributes of the same names.

    Raises:
        InputError: If an argument is kept nowhere, or JSON cannot hold it.
    """
    kind = type(module).__name__
    arguments = {}
    for name in argument_names(type(module)):
        if not hasattr(module, name):
            raise InputError(f"{kind} keeps its argument {name!r} nowhere: write self.{name} = {name} in __init__")
        value = getattr(module, name)
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            held = type(value).__name__
            raise InputError(f"the argument {name!r} of {kind} is a {held}, which config.json cannot hold") from None
        arguments[name] = value
    return arguments


def argument_names(kind: type) -> Iterator[str]:
    """Names of the constructor's arguments, and of its parent's where it hands on ``*args`` or ``**kwargs``."""
    for parent in kind.__mro__:
        if "__init__" not in vars(parent):
            continue
        parameters = list(inspect.signature(vars(parent)["__init__"]).parameters.values())[1:]
        handed_on = [p for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        yield from (p.name for p in parameters if p not in handed_on)
        if not handed_on or parent is nn.Module:
            return


def loaded_from(module: nn.Module) -> dict[str, Any] | None:
    """Arguments of the ``from_pretrained`` that loaded a backbone; None for a part whose weights are kept whole."""
    source = getattr(module, "source", None)
    return source if isinstance(source, dict) and hasattr(type(module), "from_pretrained") else None


def behind_cache(module: nn.Module) -> nn.Module:
    """The encoder inside a cache, which is no part of what is saved; any other module is itself."""
    return module.encoder if type(module) is CachedSpeechEncoder else module


def described(name: str, module: nn.Module) -> dict[str, Any]:
    """Entry of a part or backbone in its folder's config.json.

    Raises:
        InputError: If it cannot be brought back by that; the message begins with the name.
    """
    module = behind_cache(module)
    kind = type(module)
    if kind.__module__ == "__main__" or kind.__qualname__ != kind.__name__:
        raise InputError(
            f"{name}: {kind.__name__} cannot be imported by name: define it at the top of a file of its own"
        )
    source = loaded_from(module)
    if source is not None:
        return entry(kind, source)
    try:
        return entry(kind, constructor_arguments(module))
    except InputError as error:
        loads = "; or load it by from_pretrained" if hasattr(kind, "from_pretrained") else ""
        raise InputError(f"{name} could not be loaded again: {error}{loads}") from None


def check_round_trip(name: str, module: nn.Module) -> None:
    """Refuse a part that its folder could not bring back, before it is trained.

    Raises:
        InputError: If its arguments are lost, or build something else.
    """
    module = behind_cache(module)
    described_once = json.loads(json.dumps(described(name, module)))
    if loaded_from(module) is not None:
        _check_source(name, module, described_once["init_args"])
        return
    kind, arguments = type(module), described_once["init_args"]
    if trusted_class(described_once["class_path"], [kind.__module__]) is not kind:
        raise InputError(f"{name}: another class has the name {class_path(kind)}: rename one of them")
    try:
        again = _without_weights(kind, arguments)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise InputError(f"{name}: {kind.__name__} cannot be built again from its arguments ({reason})") from error
    if json.loads(json.dumps(described(name, again))) != described_once:
        raise InputError(f"{name}: {kind.__name__} changes an argument before it keeps it: keep it as it is given")
    if _sizes(again) != _sizes(module):
        raise InputError(f"{name}: {kind.__name__} built again from its arguments has other weights")


def _check_source(name: str, module: nn.Module, source: dict[str, Any]) -> None:
    """Refuse a backbone of a class from elsewhere whose ``source`` would not load it again as it is."""
    kind: Any = type(module)
    if kind.__module__.startswith(f"{_LIBRARY}."):
        return
    ours = [base for base in kind.__mro__ if base.__module__.startswith(f"{_LIBRARY}.")]
    known = set(inspect.signature(ours[0].from_pretrained).parameters) if ours else {"name_or_path", "revision"}
    parameters = inspect.signature(kind.from_pretrained).parameters
    taken = {key for key, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD}
    lost = sorted(taken - known - source.keys())
    if lost:
        raise InputError(f"{name}: from_pretrained of {kind.__name__} does not keep {lost[0]!r} in self.source")
    unknown = sorted(source.keys() - taken)
    if unknown and len(taken) == len(parameters):
        raise InputError(f"{name}: from_pretrained of {kind.__name__} does not take {unknown[0]!r} of self.source")


def _without_weights(kind: type[nn.Module], arguments: dict[str, Any]) -> nn.Module:
    """The module built where its weights take no memory, if its constructor can do without their values."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return kind(**arguments)
        except (NotImplementedError, RuntimeError):
            return kind(**arguments)


def _sizes(module: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in module.state_dict().items()}


def trusted_class(path: str, trust: Sequence[str] = ()) -> type[nn.Module]:
    """The module class of a path, which is imported only from this library and from packages that are named.

    Args:
        path: Such as ``mine.adapters.DeepAdapter``.
        trust: Packages or modules that may be imported besides this library.

    Raises:
        InputError: If it may not be imported, or is not there, or is no ``nn.Module``.
    """
    module, _, name = path.rpartition(".")
    package = path.partition(".")[0]
    if not any(module == given or module.startswith(f"{given}.") for given in (_LIBRARY, *trust)):
        raise InputError(
            f"{path} is code from elsewhere, which is not run unasked: if you trust it, give --trust {package} "
            f"(in Python, trust=[{package!r}])"
        )
    try:
        kind = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: {error}; put the folder that holds {package} on PYTHONPATH") from None
    except AttributeError:
        raise InputError(f"{module} has no class {name}") from None
    # A name that a module only imported might be anything.
    if not (isinstance(kind, type) and issubclass(kind, nn.Module) and kind.__module__ == module):
        raise InputError(f"{path} is no nn.Module defined there")
    return kind


def build(found: dict[str, Any], trust: Sequence[str] = ()) -> nn.Module:
    """Build a part from its entry, with the weights that its constructor gives it.

    Raises:
        InputError: If the class is not to be had, or refuses its arguments.
    """
    kind = trusted_class(found["class_path"], trust)
    try:
        return kind(**found["init_args"])
    except (TypeError, ValueError) as error:
        raise InputError(f"{kind.__name__} refuses its arguments: {' '.join(str(error).split())[:160]}") from None


def build_backbone(found: dict[str, Any], trust: Sequence[str] = (), **options: Any) -> nn.Module:
    """Load a backbone from where its entry says; options take the place of the entry's."""
    kind: Any = trusted_class(found["class_path"], trust)
    loaded: nn.Module = kind.from_pretrained(**{**found["init_args"], **options})
    return loaded


def is_entry(found: Any) -> bool:
    """Whether a value of a config.json has the form of :func:`entry`."""
    return isinstance(found, dict) and set(found) == {"class_path", "init_args"}


def known_class(module: nn.Module, path: str) -> type[nn.Module] | None:
    """The module's own class or one of its parents that has this path; nothing is imported."""
    return next((kind for kind in type(module).__mro__ if class_path(kind) == path), None)
