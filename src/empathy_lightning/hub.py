"""Checkpoint folders by name: those of this machine, and those of the Hub as ``user/name`` or ``user/name@revision``.

Of the Hub only settings, vocabularies and safetensors are fetched: no code, and nothing that would be unpickled.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from empathy_lightning.modules.hub_access import why_unreachable
from empathy_lightning.modules.model_files import PretrainedError
from empathy_lightning.modules.pretrained import shipped

FETCHED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.tiktoken", "README.md")
"""Files that a checkpoint, and the models that it may bring along, are made of."""

MODEL_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
"""Names of models on the Hub."""


def local_folder(name: str | Path, revision: str | None = None) -> Path:
    """The folder of a checkpoint, fetched from the Hub where it is not here.

    Args:
        name: A folder, a part that the package brings along (``small-world/vocoder``), or ``user/name`` or
            ``user/name@revision`` of the Hub. What begins with a folder of this place is a path, even if nothing is
            there.
        revision: Branch, tag or commit on the Hub.

    Returns:
        The folder; a path at which there is nothing comes back as it is.

    Raises:
        PretrainedError: If the Hub has no such model, this user may not read it, or it cannot be reached and the cache
            lacks it; one line.
    """
    model, _, named = str(name).partition("@")
    if shipped(str(name)) != str(name):
        return Path(shipped(str(name)))
    if Path(name).exists() or not MODEL_NAME.fullmatch(model) or Path(model).parent.exists():
        if revision is not None:
            raise PretrainedError(f"{name} is a folder of this machine, which has no revision {revision}")
        return Path(name)
    if named and revision not in (None, named):
        raise PretrainedError(f"{name} names a revision, and revision={revision} another one: give one of them")
    return _fetched(model, revision or named or "main")


@cache
def _fetched(model: str, revision: str) -> Path:
    """The folder in the cache; a process asks once, so that it sees one commit."""
    reason = why_unreachable(model, revision)
    cached = reason is not None
    try:
        with _bars_on_terminals():
            place = snapshot_download(model, revision=revision, allow_patterns=list(FETCHED), local_files_only=cached)
        return Path(place)
    except Exception as error:  # Of the network anything may be raised.
        short = reason or str(error).partition("\n")[0]
        raise PretrainedError(
            f"{model} is no folder and not whole in the cache, and cannot be fetched from the Hub ({short}): check the "
            f"name, or fetch it where there is a network (`hf download {model}`) and give its folder"
        ) from None


@contextmanager
def _bars_on_terminals() -> Iterator[None]:
    """Show how far the files are on a terminal alone."""
    shown = not are_progress_bars_disabled()
    if shown and not sys.stderr.isatty():
        disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()
