"""Speech rendered by eSpeak NG, for the synthetic corpus of the demo and the tests.

The library is called through ctypes from the ``espeakng-loader`` package, an
optional extra because eSpeak NG is GPL-3: ``pip install empathy_lightning[synthetic]``.
"""

from __future__ import annotations

import _ctypes
import atexit
import ctypes
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from empathy_lightning.errors import InputError

_SYNCHRONOUS, _UTF8, _CHARACTER_POSITION = 2, 1, 1
_RATE, _VOLUME, _PITCH, _RANGE, _WORD_GAP = 1, 2, 3, 4, 7
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True, slots=True)
class Prosody:
    """How a sentence is said, in eSpeak's own units.

    Attributes:
        rate: Words per minute, 80..450.
        pitch: Base pitch, 0..99; 50 is the voice's own.
        pitch_range: Liveliness of the intonation, 0..99; 0 is monotone.
        volume: Loudness, 0..200; 100 is full scale without clipping.
        word_gap: Pause between words, in units of 10 ms.
    """

    rate: float = 165.0
    pitch: float = 50.0
    pitch_range: float = 50.0
    volume: float = 80.0
    word_gap: float = 0.0


@cache
def _library() -> tuple[Any, int, Path]:
    """The library, its sample rate, and the folder of its voice variants, which is a copy of our own."""
    loader = _loader()
    library = ctypes.CDLL(loader.get_library_path())
    data = _writable(Path(loader.get_data_path()))
    sample_rate = _started(library, data)
    # Its noise and flutter begin at the time of day otherwise. What it has said still decides how it goes on, so that
    # only a process that says the same from its beginning makes the same samples.
    library.espeak_ng_SetRandSeed(0)
    return library, sample_rate, data / "voices" / "!v"


def _loader() -> Any:
    try:
        import espeakng_loader
    except ImportError:
        raise InputError(
            "eSpeak NG is not installed; it says texts: pip install 'empathy_lightning[synthetic]'"
        ) from None
    return espeakng_loader


def _started(library: Any, data: Path) -> int:
    sample_rate: int = library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), 0)
    if sample_rate <= 0:
        raise InputError("eSpeak NG did not start; reinstall it: pip install --force-reinstall espeakng-loader")
    return sample_rate


@contextmanager
def _as_at_first(seed: int) -> Iterator[Any]:
    """The library as if nothing had been said, its noise drawn from a seed.

    Its state lies in variables that no call sets back, so that a copy of the file is loaded and let go again.
    """
    variants = _library()[2]
    data = variants.parents[1]
    copy = data / "again.so"
    if not copy.is_file():
        shutil.copy(_loader().get_library_path(), copy)
    library = ctypes.CDLL(str(copy))
    try:
        _started(library, data)
        library.espeak_ng_SetRandSeed(seed)
        yield library
    finally:
        library.espeak_Terminate()
        _ctypes.dlclose(library._handle)


def version() -> str:
    """The library's own, for example ``"1.52.0"``.

    Raises:
        InputError: If eSpeak NG is not installed or does not start.
    """
    library = _library()[0]
    library.espeak_Info.restype = ctypes.c_char_p
    told: bytes = library.espeak_Info(None)
    return told.decode()


def _writable(data: Path) -> Path:
    """A folder that shows eSpeak's data through links, but into which variants can be written; gone at exit."""
    home = tempfile.TemporaryDirectory(prefix="espeak-", ignore_cleanup_errors=True)
    atexit.register(home.cleanup)
    copy = Path(home.name) / data.name
    (copy / "voices").mkdir(parents=True)
    for entry in data.iterdir():
        if entry.name != "voices":
            (copy / entry.name).symlink_to(entry)
    shutil.copytree(data / "voices" / "!v", copy / "voices" / "!v")
    return copy


def add_variant(name: str, text: str) -> None:
    """Make a voice variant known, for use as ``accent+name`` in :func:`render`.

    Args:
        name: Letters and digits.
        text: The variant in eSpeak's format; see its documentation of voice files.
    """
    (_library()[2] / name).write_text(text, encoding="utf-8")


def render(text: str, voice: str, prosody: Prosody, seed: int | None = None) -> tuple[NDArray[np.float32], int]:
    """Say a sentence.

    Args:
        text: The sentence, in the language of the voice.
        voice: eSpeak's voice name with an optional variant, for example ``"gmw/en-US+f2"``.
        prosody: How to say it.
        seed: Gives the same samples whatever was said before; None lets noise and flutter go on from there, in half
            the time.

    Returns:
        The waveform, shape (samples,), in -1..1, and its sample rate in Hz.

    Raises:
        InputError: If eSpeak NG is not installed or does not start.
        ValueError: If the voice is unknown.
    """
    library, sample_rate, _ = _library()
    if seed is None:
        return _said(library, text, voice, prosody), sample_rate
    with _as_at_first(seed) as fresh:
        return _said(fresh, text, voice, prosody), sample_rate


def _said(library: Any, text: str, voice: str, prosody: Prosody) -> NDArray[np.float32]:
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise ValueError(f"eSpeak NG has no voice named {voice!r}")
    for parameter, value in (
        (_RATE, prosody.rate),
        (_VOLUME, prosody.volume),
        (_PITCH, prosody.pitch),
        (_RANGE, prosody.pitch_range),
        (_WORD_GAP, prosody.word_gap),
    ):
        library.espeak_SetParameter(parameter, round(value), 0)
    pieces: list[NDArray[np.int16]] = []

    def _collect(samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    callback = _Callback(_collect)
    library.espeak_SetSynthCallback(callback)
    encoded = text.encode() + b"\0"
    library.espeak_Synth(encoded, len(encoded), 0, _CHARACTER_POSITION, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    waveform = np.concatenate(pieces) if pieces else np.zeros(0, np.int16)
    return waveform.astype(np.float32) / 32768.0
