"""SpeechBrain, imported where used: its import takes seconds, and leaves something behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def speechbrain_imports() -> Iterator[None]:
    """Import from SpeechBrain inside, and lose its stand-ins for modules that are not installed.

    They raise when anything inspects all loaded modules.
    """
    yield
    loaded = list(sys.modules.items())
    for name in [name for name, module in loaded if type(module).__module__ == "speechbrain.utils.importutils"]:
        del sys.modules[name]
