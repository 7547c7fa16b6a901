"""Where in a stream of sound somebody speaks, told by its energy or by a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from empathy_lightning.audio import SAMPLE_RATE, resample
from empathy_lightning.errors import InputError

_BEFORE = 0.3
_TO_BEGIN, _OF_THE_LAST = 0.12, 0.16
_PAUSE = 0.7
"""Seconds before the first word that are kept; of speech that begin it, of how many; of a pause that ends it."""

_ABOVE_NOISE = 10.0
_QUIETEST = -50.0
_RISE = 1.5
"""Decibels above the noise, the least threshold (dB of full scale), and how fast the noise may seem to rise, in dB a
second."""

_LIKELY = 0.5
"""Probability from which a frame is speech."""


class Detector(Protocol):
    """Tells of one frame after another whether somebody speaks.

    Attributes:
        seconds: Of a frame.
    """

    seconds: float

    def __call__(self, samples: NDArray[np.float32]) -> bool:
        """Take the next frame in -1..1, shape (n,)."""


class Energy:
    """Speech is what lies 10 dB above the noise, which is followed downwards at once and upwards slowly."""

    seconds = 0.02

    def __init__(self) -> None:
        self._noise: float | None = None

    def __call__(self, samples: NDArray[np.float32]) -> bool:
        """See :class:`Detector`."""
        # In dB of full scale; digital silence is -100.
        level = float(10 * np.log10(np.square(samples).mean() + 1e-10))
        noise = level if self._noise is None else self._noise
        self._noise = min(level, noise + _RISE * self.seconds)
        return level > max(noise, _QUIETEST) + _ABOVE_NOISE


class Silero:
    """Silero's network, which knows speech from other loud things (package silero-vad, extra ``live``).

    Args:
        sample_rate: Of the frames, in Hz.

    Raises:
        InputError: If the package is not installed.
    """

    seconds = 512 / SAMPLE_RATE

    def __init__(self, sample_rate: int) -> None:
        if find_spec("silero_vad") is None:
            raise InputError("the server has no silero-vad (pip install 'empathy_lightning[live]'): ask for energy")
        from silero_vad import load_silero_vad

        self._network = load_silero_vad()
        self._rate = sample_rate
        self._before: NDArray[np.float32] = np.zeros(0, np.float32)

    def __call__(self, samples: NDArray[np.float32]) -> bool:
        """See :class:`Detector`."""
        # The frame before is the context of the filter between the rates.
        both = resample(torch.from_numpy(np.concatenate([self._before, samples])), self._rate)
        self._before = samples
        with torch.inference_mode():
            return float(self._network(both[-512:], SAMPLE_RATE)) > _LIKELY


DETECTORS: Mapping[str, Callable[[int], Detector]] = {"energy": lambda rate: Energy(), "silero": Silero}
"""By the name under which a client asks for it; built with the rate in Hz of what it sends."""


def detectors() -> list[str]:
    """Names of those that this machine has, the best last."""
    return ["energy", "silero"] if find_spec("silero_vad") else ["energy"]


class Utterances:
    """Cuts a stream of PCM into what is said.

    Speech begins with 0.12 s of it within 0.16 s, 0.3 s before them, and ends with 0.7 s without.

    Args:
        sample_rate: In Hz.
        longest: Seconds after which what is said is cut.
        detector: Tells where somebody speaks; None for :class:`Energy`.

    Attributes:
        speaking: Whether somebody speaks.
    """

    def __init__(self, sample_rate: int, longest: float, detector: Detector | None = None) -> None:
        self.speaking = False
        self._speaks = detector or Energy()
        seconds = self._speaks.seconds
        self._frame = round(seconds * sample_rate)
        self._longest = round(longest / seconds)
        self._pause = round(_PAUSE / seconds)
        self._to_begin, self._of_the_last = round(_TO_BEGIN / seconds), round(_OF_THE_LAST / seconds)
        self._kept = round(_BEFORE / seconds) + self._of_the_last
        self._rest = b""
        self._frames: list[bytes] = []
        self._loud: list[bool] = []
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
        for number, frame in enumerate(samples.astype(np.float32) / 32_768):
            heard = data[number * size : (number + 1) * size]
            if self.speaking:
                yield from self._go_on(heard, self._speaks(frame))
            else:
                yield from self._wait(heard, self._speaks(frame))

    def _wait(self, frame: bytes, loud: bool) -> Iterator[None]:
        self._frames = [*self._frames, frame][-self._kept :]
        self._loud = [*self._loud, loud][-self._of_the_last :]
        if sum(self._loud) >= self._to_begin:
            self.speaking, self._quiet = True, 0
            yield None

    def _go_on(self, frame: bytes, loud: bool) -> Iterator[bytes]:
        self._frames.append(frame)
        self._quiet = 0 if loud else self._quiet + 1
        if self._quiet >= self._pause or len(self._frames) >= self._longest:
            said = b"".join(self._frames)
            self.speaking, self._frames, self._loud = False, [], []
            yield said
