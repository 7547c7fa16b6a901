"""A vocoder in another process: any program that speaks the protocol of :mod:`.wire`."""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any

from torch import Tensor

from empathy_lightning.modules.contracts import VocoderError
from empathy_lightning.modules.vocoders.external import ExternalVocoder
from empathy_lightning.modules.vocoders.wire import (
    LONGEST_LINE,
    Greeting,
    Refusal,
    Request,
    read_greeting,
    samples_in,
    waveform_of,
)


class ProcessVocoder(ExternalVocoder):
    """Speaks by a program of yours, which starts with the first reply and is gone with this object.

    A program that ends or stalls in the middle of a reply raises :class:`.contracts.VocoderError`; it is stopped with
    all that it started, and the next reply starts it anew. No shell reads the command, and a checkpoint folder that
    names one is loaded only by who trusts this module.

    Args:
        command: The program and its arguments, for example ``["python", "vocoder_server.py", "my_vocoder"]``.
        sample_rate: Of its waveforms, in Hz.
        num_units: Size of its vocabulary; None for any.
        timeout: Seconds that it may take for one answer.
        start_timeout: Seconds until its first line, in which it loads its weights.

    Raises:
        ValueError: If the command is no list of words.
    """

    needs_trust = "starts a program"

    def __init__(
        self,
        command: list[str],
        sample_rate: int,
        num_units: int | None = None,
        timeout: float = 30.0,
        start_timeout: float = 300.0,
    ) -> None:
        super().__init__(sample_rate, num_units)
        if isinstance(command, str) or not command or not all(isinstance(word, str) for word in command):
            raise ValueError(f"command has to be a list of words, such as {shlex.split(str(command)) or ['program']}")
        self.command = list(command)
        self.timeout = timeout
        self.start_timeout = start_timeout
        self._program: _Program | None = None
        self._starting = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """All but the program: a copy starts one of its own."""
        return {**super().__getstate__(), "_program": None, "_starting": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`__getstate__` gave."""
        super().__setstate__({**state, "_starting": threading.Lock()})

    def line(self) -> _Program:
        """The program, started where it does not run.

        Raises:
            VocoderError: If it cannot be started.
        """
        with self._starting:
            if self._program is None or not self._program.runs:
                self._program = _Program(self.command, self.timeout, self.start_timeout)
            return self._program

    def stop(self) -> None:
        """End the program, if it runs; the next reply starts it anew."""
        if self._program is not None:
            self._program.stop()


class _Program:
    """A running program, one request at a time."""

    def __init__(self, command: Sequence[str], timeout: float, start_timeout: float) -> None:
        self._shown = shlex.join(command)
        self._who = f"the vocoder's program ({self._shown[:80]})"
        self._timeout = timeout
        self._turn = threading.Lock()
        self._read = b""
        self._told: deque[str] = deque(maxlen=1)
        try:
            # In a session of its own, so that all it starts can be stopped with it.
            self._process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise VocoderError(f"{self._who} cannot be started: {error.strerror or error}; check the command") from None
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        self.stop = weakref.finalize(self, _stop, self._process)
        self._listener = threading.Thread(target=_keep_last, args=(self._process.stderr, self._told), daemon=True)
        self._listener.start()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        try:
            self._greeting = read_greeting(self._line(time.monotonic() + start_timeout), self._who)
        except BaseException:
            self.stop()
            raise

    @property
    def runs(self) -> bool:
        """Whether it can be asked."""
        return self.stop.alive and self._process.poll() is None

    def greeting(self) -> Greeting:
        """What it said of itself when it was started."""
        return self._greeting

    def ask(self, request: Request) -> Tensor:
        """The waveform (t,) that answers a request; after a VocoderError that is no refusal, it is stopped."""
        with self._turn:
            if not self.stop.alive:
                raise VocoderError(f"{self._who} was stopped in the middle of this reply: say it again")
            deadline = time.monotonic() + self._timeout
            try:
                self._write(request.line(), deadline)
                count = samples_in(self._line(deadline), self._who)
                return waveform_of(self._bytes(2 * count, deadline))
            except Refusal:
                raise
            except BaseException:
                # What is left of an answer would be taken for the next one's.
                self.stop()
                raise

    def _write(self, data: bytes, deadline: float) -> None:
        while data:
            self._wait(self._in, select.POLLOUT, deadline)
            try:
                data = data[os.write(self._in, data) :]
            except BrokenPipeError:
                raise self._ended() from None

    def _line(self, deadline: float) -> bytes:
        """The next line of what it prints; what is read beyond it is kept."""
        while b"\n" not in self._read:
            if len(self._read) > LONGEST_LINE:
                raise VocoderError(f"{self._who} prints something else than answers: see docs/vocoders.md")
            self._more(deadline)
        line, _, self._read = self._read.partition(b"\n")
        return line

    def _bytes(self, count: int, deadline: float) -> bytes:
        while len(self._read) < count:
            self._more(deadline)
        wanted, self._read = self._read[:count], self._read[count:]
        return wanted

    def _more(self, deadline: float) -> None:
        self._wait(self._out, select.POLLIN, deadline)
        chunk = os.read(self._out, 2**16)
        if not chunk:
            raise self._ended()
        self._read += chunk

    def _wait(self, pipe: int, ready: int, deadline: float) -> None:
        """Wait until a pipe can be read or written; a program that takes too long is stopped."""
        waiting = select.poll()
        waiting.register(pipe, ready)
        left = deadline - time.monotonic()
        if left <= 0 or not waiting.poll(1000 * left):
            self.stop()
            raise VocoderError(
                f"{self._who} did not answer in time and was stopped{self._last_words()}: give it a longer timeout, or "
                "run it by itself to see why"
            )

    def _ended(self) -> VocoderError:
        self.stop()
        code = self._process.returncode
        return VocoderError(f"{self._who} ended (exit code {code}){self._last_words()}: run it by itself to see why")

    def _last_words(self) -> str:
        self._listener.join(1.0)
        return f", saying {self._told[0][:100]!r}" if self._told else ""


def _keep_last(errors: IO[bytes], told: deque[str]) -> None:
    """Read what a program says of its errors, so that it never waits for a reader, and keep the last line."""
    with errors:
        for line in errors:
            words = " ".join(line.decode(errors="replace").split())
            if words:
                told.append(words)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process with all that it started, and wait for it, so that no zombie stays."""
    # Before it is waited for, its number cannot be another process's.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
