"""The words of a question about a reply, with slots for what is known of it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import soundfile
from torch import Tensor

from empathy_lightning.audio import SAMPLE_RATE, read
from empathy_lightning.evaluation.judges.judge import Recording
from empathy_lightning.utterance import Utterance

GivenOfUser = Literal["transcript", "speech", "both", "nothing"]
"""What a judge is given of the user."""

GivenOfReply = Literal["text", "speech", "both"]
"""What a judge is given of the reply."""

_LABEL = "label."
_SLOT = re.compile(r"\{(label\.\w+|[a-z]+)\}")
_SLOTS = ("user", "reply", "transcript", "emotion", "ability", "reference", "language", "choices")
_FIELDS = {"transcript": "transcript", "emotion": "emotion", "ability": "ability", "language": "language"}


@dataclass(frozen=True)
class Wording:
    """A system message and a question.

    Attributes:
        system: System message, if any.
        prompt: With the slots ``{user}`` and ``{reply}``, which hold words, or the title of a recording that goes
            along, as is given; ``{transcript}``, ``{emotion}``, ``{ability}``, ``{language}``, ``{reference}`` (the
            first one), ``{choices}`` and ``{label.NAME}`` (a raw label).
        user: Of the user, what is given.
        reply: Of the reply, what is given.
        choices: Words that may be answered, where these are few.
    """

    system: str | None
    prompt: str
    user: str
    reply: str
    choices: tuple[str, ...] = ()

    def slots(self) -> list[str]:
        """Names of the slots, in order."""
        return _SLOT.findall(self.prompt)

    def unknown_slots(self) -> list[str]:
        """Slots that nothing fills."""
        return [name for name in self.slots() if name not in _SLOTS and not name.startswith(_LABEL)]

    def unknown_words(self) -> str | None:
        """What is wrong with what is given, in a line; None if nothing is."""
        for key, known in (("user", get_args(GivenOfUser)), ("reply", get_args(GivenOfReply))):
            if getattr(self, key) not in known:
                return f"{key} {getattr(self, key)!r} is none of {', '.join(known)}"
        return None

    @property
    def hears_user(self) -> bool:
        """Whether the user's recording goes along."""
        return self.user in ("speech", "both") and "user" in self.slots()

    @property
    def hears_reply(self) -> bool:
        """Whether the reply's recording goes along."""
        return self.reply in ("speech", "both") and "reply" in self.slots()

    def needs(self) -> tuple[str, ...]:
        """Fields of an utterance without which it cannot be asked about."""
        return tuple(dict.fromkeys(self._needs()))

    def _needs(self) -> Iterator[str]:
        for slot in self.slots():
            if slot == "user" and self.user in ("transcript", "both"):
                yield "transcript"
            if slot == "reply" and self.reply in ("text", "both"):
                yield "response"
            if slot in _FIELDS:
                yield _FIELDS[slot]
            if slot == "reference":
                yield "references"
            if slot.startswith(_LABEL):
                yield "raw_labels"
        if self.hears_user:
            yield "path"
        if self.hears_reply:
            yield "response_path"

    def lacks(self, utterance: Utterance) -> bool:
        """Whether an utterance lacks something that is to be filled in."""
        labels = [slot.removeprefix(_LABEL) for slot in self.slots() if slot.startswith(_LABEL)]
        if any(not utterance.raw_labels.get(name) for name in labels):
            return True
        return any(not _is_there(getattr(utterance, field)) for field in self.needs())

    def filled(self, utterance: Utterance) -> str:
        """The question about an utterance's reply; what fills a slot is not searched for slots."""
        return _SLOT.sub(lambda slot: self._filling(slot[1], utterance), self.prompt)

    def _filling(self, slot: str, utterance: Utterance) -> str:
        if slot == "user":
            return _mentioned(utterance.transcript, "USER", self.user)
        if slot == "reply":
            return _mentioned(utterance.response, "REPLY", self.reply)
        if slot == "reference":
            return utterance.references[0]
        if slot == "choices":
            return ", ".join(self.choices)
        if slot.startswith(_LABEL):
            return utterance.raw_labels[slot.removeprefix(_LABEL)]
        return str(getattr(utterance, _FIELDS[slot]))

    def recordings(self, utterance: Utterance) -> tuple[Recording, ...]:
        """The recordings that go along.

        Raises:
            AudioError: If one cannot be read.
        """
        found = []
        if self.hears_user:
            found.append(Recording("USER", _wav(read(utterance.path, utterance.start, utterance.end))))
        if self.hears_reply:
            found.append(Recording("REPLY", _wav(read(str(utterance.response_path)))))
        return tuple(found)


def _is_there(value: object) -> bool:
    return bool(value.strip()) if isinstance(value, str) else bool(value)


def _mentioned(words: str | None, title: str, given: str) -> str:
    """Words, the mention of a recording, or both."""
    if given == "nothing":
        return "(not given)"
    if given == "speech":
        return f"(in the recording {title})"
    said = (words or "").strip()
    return said if given != "both" else f"{said} (as heard in the recording {title})"


def _wav(waveform: Tensor) -> bytes:
    """A WAV file of a waveform (T,) at 16 kHz; the same samples give the same bytes."""
    file = io.BytesIO()
    soundfile.write(file, waveform.clamp(-1, 1).numpy(), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()
