"""The one error that the command line shows as a line instead of a traceback."""

from __future__ import annotations


class InputError(ValueError):
    """Something given by the user cannot be used; the message is one line and says what to do."""


class AudioError(InputError):
    """A recording that cannot be used; the message names the file and says why."""


def mendable(error: BaseException | None) -> BaseException | None:
    """The user's error, also where the configuration's parser wrapped it; None if there is none."""
    while error is not None and not isinstance(error, InputError | OSError | ModuleNotFoundError):
        error = error.__cause__ or error.__context__
    return error
