"""How OpenMP's threads wait for one another; to be settled before torch is loaded."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

WAITING: dict[str, str] = {"GOMP_SPINCOUNT": "3000"}
"""Turns that a waiting thread of GNU's OpenMP, which torch brings along on Linux, spins before it sleeps.

Its own default is 300,000, some ten milliseconds: beside a busy neighbour, when the thread that is waited for may not
be running at all, most of the time is then spun away. See ``benchmarks/shared_machine.py``.
"""

_OWN_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def share_the_machine(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let waiting threads spin for a moment only; a setting of the user's own stays as it is.

    OpenMP reads it once, when torch is loaded: call this first. The command line does.

    Args:
        environment: Where to set it.
    """
    # A policy of the user's decides the spinning, too.
    if not any(name in environment for name in _OWN_SETTINGS):
        environment.update(WAITING)
