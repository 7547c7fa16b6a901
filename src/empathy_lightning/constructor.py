"""The arguments that a class is built with, those of its parents among them."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator

from torch import nn


def argument_names(kind: type) -> Iterator[str]:
    """Names of the constructor's arguments, and of its parent's where it hands on ``*args`` or ``**kwargs``.

    What a constructor gives to its parent itself is no argument: ``super().__init__(hidden_size=64, **kwargs)``.
    """
    given: set[str] = set()
    for parent in kind.__mro__:
        if "__init__" not in vars(parent):
            continue
        # Without the first, which is the object itself.
        parameters = list(inspect.signature(vars(parent)["__init__"]).parameters.values())[1:]
        handed_on = [p for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        for parameter in parameters:
            if parameter not in handed_on and parameter.name not in given:
                yield parameter.name
        if not handed_on or parent in (nn.Module, object):
            return
        given |= {p.name for p in parameters} | _given_to_parent(parent)


def _given_to_parent(kind: type) -> set[str]:
    """Keywords of the call of another ``__init__`` inside a class's own; none where its source is not there."""
    try:
        source = textwrap.dedent(inspect.getsource(vars(kind)["__init__"]))
        calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    except (OSError, TypeError, SyntaxError):
        return set()
    given: set[str] = set()
    for call in calls:
        if isinstance(call.func, ast.Attribute) and call.func.attr == "__init__":
            given |= {keyword.arg for keyword in call.keywords if keyword.arg is not None}
    return given
