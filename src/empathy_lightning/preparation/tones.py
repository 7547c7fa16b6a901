"""A YAML that says who speaks the replies, and in which tone which emotion is answered.

::

    engine:
      class_path: Espeak            # a class of speech_engines, or your own by its full path
      init_args:
        voice: gmw/en-US+f2
        styles: {calm: {rate: 165}, warm: {rate: 140, pitch: 40}}
    answers: {neutral: calm, sad: warm}
    otherwise: calm                 # for other emotions and none; without it such replies are left out

Speech of users rather than replies draws its styles by split instead, so that voices can be held out
(``engine`` may be an :class:`.ensemble.Ensemble` of several)::

    drawn: {train: [calm, warm], validation: [calm], test: [calm]}
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

from empathy_lightning.configurations import located, read_yaml
from empathy_lightning.emotion_words import emotion_named
from empathy_lightning.errors import InputError, meant
from empathy_lightning.preparation import speech_engines
from empathy_lightning.preparation.ensemble import Ensemble
from empathy_lightning.preparation.speech_engines import Recordings, SpeechEngine
from empathy_lightning.splits import SPLITS
from empathy_lightning.utterance import Utterance

_KEYS = ("engine", "answers", "otherwise", "drawn")


@dataclass(frozen=True)
class Tones:
    """Who speaks, and how.

    Attributes:
        engine: Says the replies, or knows their recordings.
        answers: Style of the reply by the emotion that it answers.
        otherwise: Style of the others; None leaves them out.
        said: All that the YAML states, as JSON values.
        drawn: Styles by split, one of which is drawn for each utterance; they take the place of the others.
    """

    engine: SpeechEngine | Recordings
    answers: dict[str, str]
    otherwise: str | None
    said: dict[str, Any]
    drawn: dict[str, list[str]] = field(default_factory=dict)

    def style_of(self, utterance: Utterance) -> str | None:
        """The style in which an utterance, or the reply to it, is said; None if there is none."""
        if self.drawn:
            styles = self.drawn.get(utterance.split or "train")
            if not styles:
                return None
            return random.Random(f"{utterance.corpus}/{utterance.id}").choice(styles)
        emotion = utterance.emotion
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
        answers, otherwise, drawn = _table(content, list(engine.styles))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return Tones(engine, answers, otherwise, content, drawn)


def _engine(entry: dict[str, Any]) -> Any:
    path = str(entry.get("class_path", ""))
    name = path.rpartition(".")[2]
    kind = _class_at(path)
    arguments = dict(entry.get("init_args") or {})
    if kind is Ensemble:
        arguments["engines"] = {str(key): _engine(inner) for key, inner in (arguments.get("engines") or {}).items()}
    try:
        engine = kind(**arguments)
    except InputError:
        raise
    except Exception as error:  # An engine of somebody's own may raise whatever it likes.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name} refuses its arguments: {reason}"[:300]) from None
    if not isinstance(engine, Recordings) and not callable(getattr(engine, "say", None)):
        raise InputError(f"{path} cannot say anything: it has no say(text, style, seed)")
    if not isinstance(getattr(engine, "styles", None), Collection):
        raise InputError(f"{path} has no styles: give it an attribute of that name, with the names of those it knows")
    if not callable(getattr(engine, "identity", None)):
        raise InputError(f"{path} has no identity(): it returns what tells its speech from another engine's")
    return engine


def _class_at(path: str) -> Any:
    """The class of an engine, of the library's by its bare name."""
    if path == "Ensemble":
        return Ensemble
    module, _, name = path.rpartition(".")
    try:
        place = import_module(module) if module else speech_engines
        return getattr(place, name)
    except ImportError as error:
        raise InputError(f"engine {path}: {error}; put the folder that holds it on PYTHONPATH") from None
    except (AttributeError, ValueError):
        known = ["Ensemble", "Espeak", "Piper", "Program", "Recordings"]
        raise InputError(f"no engine {path!r}; there are {', '.join(known)}{meant(name, known)}") from None


def _table(content: dict[str, Any], styles: list[str]) -> tuple[dict[str, str], str | None, dict[str, list[str]]]:
    answers, drawn = content.get("answers") or {}, content.get("drawn") or {}
    otherwise = content.get("otherwise")
    if not isinstance(answers, dict) or not isinstance(drawn, dict) or not (answers or otherwise or drawn):
        raise InputError("answers gives no emotion a style, such as {sad: warm}")
    named = [*answers.values(), *chain.from_iterable(drawn.values())]
    if otherwise:
        named.append(otherwise)
    for style in named:
        if style not in styles:
            raise InputError(
                f"the engine has no style {style}; there are {', '.join(styles)}{meant(str(style), styles)}"
            )
    for split in drawn:
        if split not in SPLITS:
            raise InputError(f"drawn: no split is named {split!r}; there are {', '.join(SPLITS)}")
    by_emotion: dict[str, str] = {}
    for emotion, style in answers.items():
        name = emotion_named(str(emotion)) or str(emotion)
        if name in by_emotion:
            raise InputError(f"answers names {name} twice, the second time as {emotion}: leave one of them out")
        by_emotion[name] = style
    return by_emotion, otherwise, drawn
