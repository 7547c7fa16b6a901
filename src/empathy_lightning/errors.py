"""The one error that the command line shows as a line instead of a traceback."""


class InputError(ValueError):
    """Something given by the user cannot be used; the message is one line and says what to do."""
