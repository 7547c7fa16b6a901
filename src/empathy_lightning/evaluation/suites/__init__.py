"""One file per suite, or per family of suites: from what its authors give out to questions.

A reader is found because its file lies here; nothing else has to name it.
"""

from importlib import import_module
from pkgutil import iter_modules

from empathy_lightning.evaluation.suites.suite import Suite

SUITES: dict[str, type[Suite]] = {}
"""Suites by name."""

__all__ = ["SUITES", "Suite"]


def _find() -> None:
    for found in iter_modules(__path__):
        module = import_module(f"{__name__}.{found.name}")
        for kind in vars(module).values():
            own = isinstance(kind, type) and issubclass(kind, Suite) and kind.__module__ == module.__name__
            if own and hasattr(kind, "name"):
                SUITES[kind.name] = kind


_find()
