"""What turns a reply's words into speech: eSpeak NG, any program, a Piper voice, or recordings that are there.

An engine is a small object that a YAML names by its class path, see :mod:`.tones`; your own needs the three members
of :class:`SpeechEngine` and no base class.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from empathy_lightning.audio import AudioError, levels_of, opened, samples_of
from empathy_lightning.digests import digest
from empathy_lightning.errors import InputError, meant
from empathy_lightning.levels import mixed
from empathy_lightning.preparation.recordings import Recordings as Recordings
from empathy_lightning.small_world import espeak


class SpeechEngine(Protocol):
    """Text to speech with a style; the same words, style and seed give the same samples."""

    styles: Collection[str]
    """Names of the styles that it knows."""

    def say(self, text: str, style: str, seed: int) -> tuple[Tensor, int]:
        """Say a text.

        Args:
            text: The words, not empty.
            style: One of :attr:`styles`.
            seed: Of all that is drawn, 0..2^32 - 1.

        Returns:
            The waveform, shape (T,), in -1..1, and its sample rate in Hz.

        Raises:
            InputError: If it cannot be said.
        """

    def identity(self) -> dict[str, str]:
        """What each file records: ``engine``, ``version`` and ``voice``; another identity is another job."""


class Espeak:
    """eSpeak NG, from the package espeakng-loader (extra ``synthetic``).

    Args:
        voice: eSpeak's voice name with an optional variant, for example ``"gmw/en-US+f2"``.
        styles: By name, the fields of :class:`~empathy_lightning.small_world.espeak.Prosody`.

    Raises:
        InputError: If eSpeak NG is not installed or has no such voice, or a style has another field.
    """

    def __init__(self, voice: str, styles: Mapping[str, Mapping[str, float]]) -> None:
        self.voice = voice
        self.styles = {name: _checked(espeak.Prosody, name, values) for name, values in styles.items()}
        self._say("a", espeak.Prosody(), 0)

    def say(self, text: str, style: str, seed: int) -> tuple[Tensor, int]:
        """See :class:`SpeechEngine`."""
        return self._say(text, self.styles[style], seed)

    def _say(self, text: str, prosody: espeak.Prosody, seed: int) -> tuple[Tensor, int]:
        try:
            waveform, rate = espeak.render(text, self.voice, prosody, seed)
        except ValueError as error:
            raise InputError(str(error)) from None
        return torch.from_numpy(waveform), rate

    def identity(self) -> dict[str, str]:
        """See :class:`SpeechEngine`."""
        return {"engine": "eSpeak NG", "version": espeak.version(), "voice": self.voice}


@dataclass(frozen=True)
class PiperStyle:
    """How a Piper voice says something.

    Attributes:
        length_scale: Slowness; 1 is the voice's own.
        volume: Factor of the loudness.
        noise_scale: Liveliness of the sound, usually 0.667; 0 draws nothing.
        noise_w_scale: Liveliness of the durations, usually 0.8; 0 draws nothing.
        speaker_id: Speaker of a voice that has several.
    """

    length_scale: float = 1.0
    volume: float = 1.0
    noise_scale: float = 0.0
    noise_w_scale: float = 0.0
    speaker_id: int | None = None


class Piper:
    """A Piper voice (extra ``voices``).

    A style that draws noise loads the voice anew for each text, because what it draws goes on from what was said
    before otherwise; that takes seconds.

    Args:
        voice: The voice's ``.onnx`` file; its ``.onnx.json`` lies beside it.
        styles: By name, the fields of :class:`PiperStyle`.

    Raises:
        InputError: If Piper is not installed, the voice cannot be loaded, or a style has another field.
    """

    def __init__(self, voice: str, styles: Mapping[str, Mapping[str, float]]) -> None:
        self.voice = Path(voice)
        self.styles = {name: _checked(PiperStyle, name, values) for name, values in styles.items()}
        self._loaded = self._load()

    def _load(self) -> Any:
        try:
            from piper import PiperVoice
        except ImportError:
            raise InputError("Piper is not installed: pip install 'empathy_lightning[voices]'") from None
        settings = self.voice.with_name(f"{self.voice.name}.json")
        for path in (self.voice, settings):
            if not path.is_file():
                raise InputError(f"no Piper voice at {path}: give the .onnx file, with its .onnx.json beside it")
        try:
            return PiperVoice.load(self.voice)
        except Exception as error:  # onnxruntime has errors of its own kind for each fault of a file
            raise InputError(f"{self.voice} is no Piper voice: {' '.join(str(error).split())}"[:300]) from None

    def say(self, text: str, style: str, seed: int) -> tuple[Tensor, int]:
        """See :class:`SpeechEngine`."""
        import onnxruntime
        from piper import SynthesisConfig

        chosen: PiperStyle = self.styles[style]
        voice = self._loaded
        if chosen.noise_scale or chosen.noise_w_scale:
            onnxruntime.set_seed(seed)
            voice = self._load()
        chunks = list(voice.synthesize(text, SynthesisConfig(**vars(chosen))))
        pieces = [torch.from_numpy(chunk.audio_float_array).float() for chunk in chunks]
        return torch.cat([*pieces, torch.zeros(0)]), voice.config.sample_rate

    def identity(self) -> dict[str, str]:
        """See :class:`SpeechEngine`."""
        from importlib.metadata import version

        return {"engine": "Piper", "version": version("piper-tts"), "voice": f"{self.voice.stem} {_short(self.voice)}"}


class Program:
    """Any program, started once for each text; no shell reads its words.

    Args:
        command: The program and its words, in which ``{text}``, ``{text_file}`` (UTF-8), ``{out}`` (a WAV file that
            it has to write), ``{style}``, ``{seed}`` and the names of a style's own values stand for what they say.
        styles: By name, values for placeholders of their own; all styles give the same ones.
        voice: What the files are to record as the voice.
        version: Command that prints the version; None records a digest of the files that ``command`` names.
        seconds: Time limit for a text.

    Raises:
        InputError: If there is no such program, or a placeholder that nothing fills.
    """

    def __init__(
        self,
        command: Sequence[str],
        styles: Mapping[str, Mapping[str, Any]],
        voice: str = "",
        version: Sequence[str] | None = None,
        seconds: float = 60.0,
    ) -> None:
        self.command = [str(word) for word in command]
        self.styles = {name: dict(values or {}) for name, values in styles.items()}
        self.voice, self.version, self.seconds = voice, version, seconds
        if not any("{out}" in word for word in self.command):
            raise InputError(f"the command {' '.join(self.command)} has no {{out}}, the WAV file that it is to write")
        for name in self.styles:
            self._words("", name, 0, Path())
        self.program = shutil.which(self.command[0])
        if self.program is None:
            raise InputError(f"no program {self.command[0]}: give its path, or install it")

    def say(self, text: str, style: str, seed: int) -> tuple[Tensor, int]:
        """See :class:`SpeechEngine`."""
        with tempfile.TemporaryDirectory(prefix="speech-") as home:
            (Path(home) / "text.txt").write_text(text, encoding="utf-8")
            self._run(self._words(text, style, seed, Path(home)), text)
            try:
                return _samples(Path(home) / "out.wav")
            except AudioError as error:
                reason = str(error).removeprefix(f"{home}/out.wav: ")
                raise InputError(f"{self.command[0]} wrote no speech for {_quoted(text)}: {reason}") from None

    def _words(self, text: str, style: str, seed: int, home: Path) -> list[str]:
        given = {"text": text, "style": style, "seed": seed, "out": home / "out.wav", "text_file": home / "text.txt"}
        try:
            return [word.format(**given, **self.styles[style]) for word in self.command]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            command = " ".join(self.command)
            raise InputError(f"style {style} does not fill the command {command}: {error}; {{{{ is a brace") from None

    def _run(self, words: Sequence[str], text: str) -> str:
        # A group of its own, so that what the program has started ends with it.
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        try:
            out, errors = process.communicate(timeout=self.seconds)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise InputError(f"{words[0]} took more than {self.seconds:g} s for {_quoted(text)}") from None
            raise
        if process.returncode:
            said = errors.decode(errors="replace").split("\n")
            last = next((line.strip() for line in reversed(said) if line.strip()), "it said nothing")
            raise InputError(f"{words[0]} ended with code {process.returncode} at {_quoted(text)}: {last}"[:300])
        return out.decode(errors="replace")

    def identity(self) -> dict[str, str]:
        """See :class:`SpeechEngine`."""
        if self.version is not None:
            version = self._run(self.version, "its version").strip().split("\n")[0]
        else:
            named = [self.program or "", *self.command[1:]]
            version = " ".join(_short(Path(word)) for word in named if os.path.isfile(word))
        return {"engine": Path(self.command[0]).name, "version": version, "voice": self.voice}


def _checked(kind: Any, style: str, values: Mapping[str, Any] | None) -> Any:
    """A style's values as its engine holds them."""
    names = [f.name for f in dataclasses.fields(kind)]
    for name, value in (values or {}).items():
        if name not in names:
            raise InputError(f"style {style} has no {name}; there are {', '.join(names)}{meant(name, names)}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"style {style}: {name} is {value!r}, not a number")
    return kind(**(values or {}))


def _samples(path: Path) -> tuple[Tensor, int]:
    """A whole file at its own rate."""
    with opened(path) as file:
        samples, rate = samples_of(file), file.samplerate
    if not len(samples):
        raise AudioError(f"{path}: holds no samples")
    return mixed(samples, levels_of(path, samples, rate), str(path)), rate


def _short(path: Path) -> str:
    return f"sha256:{digest(path)[:16]}"


def _quoted(text: str) -> str:
    if len(text) > 60:
        text = f"{text[:57]}..."
    return repr(text)
