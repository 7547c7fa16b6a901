"""Commands in processes of their own, forked from one that has imported what most of them import.

Those imports take longer than a tiny command itself. What a process does from its very beginning (which packages it
imports, threads, seeds of hashes, a bot in another process) is tested with new interpreters instead.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from empathy_lightning.__main__ import main

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "empathy_lightning.commands.trainer_cli",
        "empathy_lightning.tasks",
        "empathy_lightning.chatbot",
        "empathy_lightning.data.datamodule",
        "empathy_lightning.preparation.responses",
    ]
)


class Forked:
    """A function in a process of its own.

    Args:
        function: Of a module that can be imported; what it returns is the exit code.
        arguments: Of the function.
        folder: Where the process works, and where it finds modules.
        variables: Of its environment, beside those of this process.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        folder: Path | str = ".",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._output = TemporaryDirectory(prefix="forked.")
        environment = {**os.environ, **(variables or {})}
        target = (function, arguments, os.path.abspath(folder), environment, self._output.name)
        self._process = _CONTEXT.Process(target=_child, args=target)
        self._process.start()

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self._process.pid, number)

    def wait(self, seconds: float = 300) -> Forked:
        """Wait for its end; it is killed where it takes longer."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            raise AssertionError(f"no end after {seconds} s: {self.stderr[-3_000:]}")
        return self

    @property
    def returncode(self) -> int | None:
        """The exit code, or the negative signal that ended it."""
        return self.poll()

    @property
    def stdout(self) -> str:
        """What it has written so far."""
        return self._written("stdout")

    @property
    def stderr(self) -> str:
        """What it has complained of so far."""
        return self._written("stderr")

    def _written(self, name: str) -> str:
        path = Path(self._output.name, name)
        return path.read_text() if path.exists() else ""


def fork(words: Sequence[str], folder: Path | str = ".", **variables: str) -> Forked:
    """The command line in a process of its own."""
    return Forked(main, list(words), folder=folder, variables=variables)


def _child(
    function: Callable[..., Any], arguments: tuple[Any, ...], folder: str, environment: dict[str, str], output: str
) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{output}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    # The process that forks ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:0] = [folder, *environment.get("PYTHONPATH", "").split(os.pathsep)]
    sys.argv = ["empathy-lightning"]
    sys.exit(function(*arguments))
