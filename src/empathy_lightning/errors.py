"""The one error that the command line shows as a line instead of a traceback."""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class InputError(ValueError):
    """Something given by the user cannot be used; the message is one line and says what to do."""


class AudioError(InputError):
    """A recording that cannot be used; the message names the file and says why."""


def meant(word: str, known: Iterable[str]) -> str:
    """The end of a message about a word that is unknown: which one may have been meant, or nothing.

    >>> meant("re-llm-iemcap", ["official", "re-llm-iemocap"])
    '; did you mean re-llm-iemocap?'
    """
    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def concerns_named_file(error: OSError, words: Iterable[str]) -> bool:
    """Whether the system refused a file that the command line names, or one in a folder that it names.

    Any other file is the program's own affair, and so is the fault.
    """
    if not isinstance(error.filename, str | bytes):
        return False
    file = Path(os.fsdecode(error.filename)).absolute()
    named = set()
    for word in words:
        value = word.partition("=")[2] if word.startswith("--") else word
        if value:
            named.add(Path(value).absolute())
    return not named.isdisjoint((file, *file.parents))
