"""Where in a stream of sound somebody speaks, told by its energy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_FRAME = 0.02
_BEFORE = 0.3
_FRAMES_TO_BEGIN, _OF_THE_LAST = 6, 8
_PAUSE = 0.7
_ABOVE_NOISE = 10.0
_QUIETEST = -50.0
_RISE = 1.5
"""Seconds of a frame and before the first word; frames above the threshold that begin speech, of how many; seconds of
a pause that ends it; decibels above the noise, the least threshold (dB of full scale), and how fast the noise may seem
to rise, in dB a second."""


class Utterances:
    """Cuts a stream of PCM into what is said.

    A frame of 20 ms is loud where it lies 10 dB above the noise, which is followed downwards at once and upwards
    slowly. Speech begins with 6 loud frames of 8, 0.3 s before them, and ends with 0.7 s without one.

    Args:
        sample_rate: In Hz.
        longest: Seconds after which what is said is cut.

    Attributes:
        speaking: Whether somebody speaks.
    """

    def __init__(self, sample_rate: int, longest: float) -> None:
        self.speaking = False
        self._frame = round(_FRAME * sample_rate)
        self._longest = round(longest / _FRAME)
        self._rest = b""
        self._frames: list[bytes] = []
        self._loud: list[bool] = []
        self._noise: float | None = None
        self._quiet = 0

    def push(self, data: bytes) -> Iterator[bytes | None]:
        """Take mono 16-bit little-endian PCM.

        Yields:
            None where speech begins, and the PCM of what was said where it ends.
        """
        data = self._rest + data
        size = 2 * self._frame
        whole = len(data) // size
        self._rest = data[whole * size :]
        samples = np.frombuffer(data[: whole * size], "<i2").reshape(whole, self._frame)
        power = np.square(samples.astype(np.float32) / 32_768).mean(1)
        for number, level in enumerate(10 * np.log10(power + 1e-10)):
            frame = data[number * size : (number + 1) * size]
            if self.speaking:
                yield from self._go_on(frame, self._is_loud(float(level)))
            else:
                yield from self._wait(frame, self._is_loud(float(level)))

    def _is_loud(self, level: float) -> bool:
        noise = level if self._noise is None else self._noise
        self._noise = min(level, noise + _RISE * _FRAME)
        return level > max(noise, _QUIETEST) + _ABOVE_NOISE

    def _wait(self, frame: bytes, loud: bool) -> Iterator[None]:
        self._frames = [*self._frames, frame][-round(_BEFORE / _FRAME) - _OF_THE_LAST :]
        self._loud = [*self._loud, loud][-_OF_THE_LAST:]
        if sum(self._loud) >= _FRAMES_TO_BEGIN:
            self.speaking, self._quiet = True, 0
            yield None

    def _go_on(self, frame: bytes, loud: bool) -> Iterator[bytes]:
        self._frames.append(frame)
        self._quiet = 0 if loud else self._quiet + 1
        if self._quiet * _FRAME >= _PAUSE or len(self._frames) >= self._longest:
            said = b"".join(self._frames)
            self.speaking, self._frames, self._loud = False, [], []
            yield said
