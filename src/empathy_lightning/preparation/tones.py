"""A YAML that says who speaks the replies, and in which tone which emotion is answered.

::

    engine:
      class_path: Espeak            # a class of speech_engines, or your own by its full path
      init_args:
        voice: gmw/en-US+f2
        styles: {calm: {rate: 165}, warm: {rate: 140, pitch: 40}}
    answers: {neutral: calm, sad: warm}
    otherwise: calm                 # for other emotions and none; without it such replies are left out
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from empathy_lightning.configurations import located, read_yaml
from empathy_lightning.emotion_words import emotion_named
from empathy_lightning.errors import InputError, meant
from empathy_lightning.preparation import speech_engines
from empathy_lightning.preparation.speech_engines import Recordings, SpeechEngine

_KEYS = ("engine", "answers", "otherwise")


@dataclass(frozen=True)
class Tones:
    """Who speaks, and how.

    Attributes:
        engine: Says the replies, or knows their recordings.
        answers: Style of the reply by the emotion that it answers.
        otherwise: Style of the others; None leaves them out.
        said: All that the YAML states, as JSON values.
    """

    engine: SpeechEngine | Recordings
    answers: dict[str, str]
    otherwise: str | None
    said: dict[str, Any]

    def style_of(self, emotion: str | None) -> str | None:
        """The style of a reply to an emotion, in any of its spellings; None if there is none."""
        if emotion is None:
            return self.otherwise
        return self.answers.get(emotion_named(emotion) or emotion, self.otherwise)


def read_tones(file: str | Path) -> Tones:
    """Read the YAML and build its engine.

    Args:
        file: Path, or ``recipe:NAME``.

    Raises:
        InputError: If it is none, or the engine cannot be had; one line that names the file.
    """
    path = located(file)
    if not path.is_file():
        raise InputError(f"no file at {path}: --tones takes a YAML such as recipe:speech/espeak")
    content = read_yaml(path)
    if not isinstance(content, dict) or not isinstance(content.get("engine"), dict):
        raise InputError(f"{path} names no engine: see `empathy-lightning recipes show speech/espeak`")
    for name in content:
        if name not in _KEYS:
            raise InputError(f"{path}: unknown key {name}; there are {', '.join(_KEYS)}{meant(str(name), _KEYS)}")
    try:
        engine = _engine(content["engine"])
        answers, otherwise = _table(content, list(engine.styles))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return Tones(engine, answers, otherwise, content)


def _engine(entry: dict[str, Any]) -> Any:
    path = str(entry.get("class_path", ""))
    module, _, name = path.rpartition(".")
    try:
        kind = getattr(import_module(module) if module else speech_engines, name)
    except ImportError as error:
        raise InputError(f"engine {path}: {error}; put the folder that holds it on PYTHONPATH") from None
    except (AttributeError, ValueError):
        known = ["Espeak", "Piper", "Program", "Recordings"]
        raise InputError(f"no engine {path!r}; there are {', '.join(known)}{meant(name, known)}") from None
    try:
        engine = kind(**entry.get("init_args") or {})
    except (TypeError, AttributeError) as error:
        raise InputError(f"{name} refuses its arguments: {' '.join(str(error).split())}") from None
    if not isinstance(engine, Recordings) and not callable(getattr(engine, "say", None)):
        raise InputError(f"{path} cannot say anything: it has no say(text, style, seed)")
    return engine


def _table(content: dict[str, Any], styles: list[str]) -> tuple[dict[str, str], str | None]:
    answers = content.get("answers") or {}
    otherwise = content.get("otherwise")
    if not isinstance(answers, dict) or not (answers or otherwise):
        raise InputError("answers gives no emotion a style, such as {sad: warm}")
    for style in [*answers.values(), *([otherwise] if otherwise else [])]:
        if style not in styles:
            raise InputError(
                f"the engine has no style {style}; there are {', '.join(styles)}{meant(str(style), styles)}"
            )
    return {emotion_named(str(emotion)) or str(emotion): style for emotion, style in answers.items()}, otherwise
