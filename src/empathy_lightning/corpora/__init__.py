"""One file per corpus: from its official files to utterances.

A parser is found because its file lies here; nothing else has to name it.
"""

import inspect
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from empathy_lightning.corpora.corpus import Corpus, CorpusError

CORPORA: dict[str, type[Corpus]] = {}
"""Corpora by name that are built from their root folder alone."""

__all__ = ["CORPORA", "Corpus", "CorpusError"]


def _find() -> None:
    for found in iter_modules(__path__):
        module = import_module(f"{__name__}.{found.name}")
        for name, kind in vars(module).items():
            own = isinstance(kind, type) and issubclass(kind, Corpus) and kind.__module__ == module.__name__
            if not own or kind is Corpus:
                continue
            globals()[name] = kind
            __all__.append(name)
            wanted = list(inspect.signature(kind).parameters.values())[1:]
            if all(parameter.default is not parameter.empty for parameter in wanted):
                CORPORA[kind.name] = kind


_find()


def __getattr__(name: str) -> Any:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
