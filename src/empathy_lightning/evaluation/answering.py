"""How a bot answers: what is chosen, and its replies to the recordings of a shard, or to their transcripts in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from empathy_lightning.audio import LONGEST, write
from empathy_lightning.data.batch import SpeechDataset, collate
from empathy_lightning.data.left_out import MOST
from empathy_lightning.decoding import Decoding
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.recognisers import readable_batches
from empathy_lightning.filled_prompt import Turn
from empathy_lightning.jobs import seed_of, speech_file
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.parts import class_path, trusted_class
from empathy_lightning.prompts import Prompt
from empathy_lightning.reply import Reply
from empathy_lightning.slots import SlotFiller
from empathy_lightning.utterance import Utterance

SLOTS = ("speech_slot", "emotion_slot")
"""Names of the responder's slots."""


@dataclass(frozen=True)
class Answering:
    """How a bot answers manifests.

    Attributes:
        checkpoint: Folder of the bot; what fills its slots is what the folder says, unless ``slots`` does.
        prompt: What stands around the speech; None takes each utterance's own, or the folder's.
        decoding: How the replies are chosen.
        aloud: Whether they are spoken too.
        words: Answer the transcripts, as if they were typed, and listen to nothing; where no prompt is given, they
            alone are the user's turn.
        language: Of the replies, see :func:`.prompts.follow_language`; it is asked for in each system message.
        slots: ``speech_slot`` and ``emotion_slot``: class paths of :class:`.slots.SlotFiller` that take the folder's
            place, bare names for those of :mod:`.slots`.
        batch_size: Recordings of like length that are answered together.
        per_shard: Utterances in a shard, the most that an interruption costs.
        trust: Packages besides this library whose classes the folder may name.
        max_left_out: Share of the recordings that may be missing or unreadable.
    """

    checkpoint: Path
    prompt: Prompt | None = None
    decoding: Decoding = field(default_factory=Decoding)
    aloud: bool = False
    words: bool = False
    language: str | None = None
    slots: Mapping[str, str] = field(default_factory=dict)
    batch_size: int = 16
    per_shard: int = 512
    trust: Sequence[str] = ()
    max_left_out: float = MOST

    def fillers(self) -> dict[str, SlotFiller]:
        """What fills the slots in the folder's place, by slot."""
        return {name: filler_named(name, path, self.trust) for name, path in self.slots.items()}

    def described(self) -> dict[str, Any]:
        """What decides the replies beside bot and questions, as JSON values."""
        asked = vars(self.prompt) if self.prompt else {"user": None, "system": None}
        chosen = {"speech": self.aloud, **vars(self.decoding), "max_new_tokens": self.decoding.longest}
        slots = {name: class_path(type(filler)) for name, filler in self.fillers().items()}
        return {**asked, **chosen, "language": self.language, **slots}


def filler_named(slot: str, path: str, trust: Sequence[str] = ()) -> SlotFiller:
    """What fills a slot.

    Args:
        slot: One of :data:`SLOTS`.
        path: Bare name of a class of :mod:`.slots`, or the path of another one.
        trust: Packages whose classes may be named.

    Raises:
        InputError: If there is no such slot or filler.
    """
    if slot not in SLOTS:
        raise InputError(f"no slot is named {slot!r}; there are {' and '.join(SLOTS)}")
    whole = path if "." in path else f"{SlotFiller.__module__}.{path}"
    kind: Any = trusted_class(whole, trust)
    if not issubclass(kind, SlotFiller):
        raise InputError(f"{path} fills no slot: name one such as Transcript or TrueLabel")
    filler: SlotFiller = kind()
    return filler


EARLIER = "earlier_turns"
"""Raw label of a question: the turns before it with their replies, as JSON."""


def earlier_turns(question: Utterance) -> list[Utterance]:
    """The turns before a question, whose responses are the bot's own replies; none where it begins a dialogue."""
    return [Utterance(**turn) for turn in json.loads(question.raw_labels.get(EARLIER, "[]"))]


@dataclass(frozen=True)
class Respondent:
    """A bot that answers shards of utterances; those that cannot be read or spoken to their end have no reply.

    Attributes:
        model: The bot.
        decoding: How the replies are chosen.
        batch_size: Utterances of like length that are answered together.
        out: Manifest beside which the replies are spoken; None writes them alone.
    """

    model: EmpatheticLM
    decoding: Decoding
    batch_size: int
    out: Path | None = None

    def recordings(self, utterances: Sequence[Utterance], progress: Any) -> list[Utterance]:
        """The utterances with replies to what is heard of them."""
        answers = _Answers(self.out, list(utterances))
        unreadable: list[str] = []
        dataset = SpeechDataset(utterances, LONGEST)
        for batch, heard in readable_batches(dataset, self.model.emotions, unreadable, self.batch_size):
            seeds = [seed_of(self.decoding.seed, u) for u in heard]
            on_device, aloud = batch.to(self.model.device), self.out is not None
            history = [self._heard_before(earlier_turns(u)) for u in heard]
            answers.take(heard, self.model.reply(on_device, self.decoding, history, seeds=seeds, aloud=aloud))
            progress.update(len(heard))
        progress.update(len(unreadable))
        return answers.told(progress, unreadable)

    def words(self, utterances: Sequence[Utterance], progress: Any) -> list[Utterance]:
        """The utterances with replies to their transcripts, typed in the place of the speech."""
        assert self.model.responder is not None
        answers = _Answers(self.out, list(utterances))
        asked = self.model.responder.asked()
        # Prompts of like length are padded little when they are read together.
        in_order = sorted(utterances, key=lambda u: len(u.transcript or ""))
        for start in range(0, len(in_order), self.batch_size):
            few = in_order[start : start + self.batch_size]
            prompts = [_own_prompt(u) or asked for u in few]
            seeds = [seed_of(self.decoding.seed, u) for u in few]
            said = [u.transcript or "" for u in few]
            history = [_read_before(u) for u in few]
            aloud = self.out is not None
            stream = self.model.stream_words(said, self.decoding, prompts, seeds, aloud, history)
            answers.take(few, stream.drained())
            progress.update(len(few))
        return answers.told(progress, [])

    def _heard_before(self, earlier: Sequence[Utterance]) -> list[Turn]:
        """The turns before a question as they are heard again, with the replies to them."""
        assert self.model.responder is not None
        turns = []
        for turn in earlier:
            batch = collate([SpeechDataset([turn], LONGEST)[0]], self.model.emotions).to(self.model.device)
            (heard,) = self.model.responder.turns(batch, self.model.listener(batch))
            turns.append(replace(heard, reply=turn.response or ""))
        return turns


def _own_prompt(question: Utterance) -> Prompt | None:
    return None if question.prompt is None else Prompt(question.prompt, question.system)


def _read_before(question: Utterance) -> list[Turn]:
    """The turns before a question in words, with the replies to them."""
    return [Turn(turn.transcript or "", None, turn.response or "") for turn in earlier_turns(question)]


@dataclass
class _Answers:
    """What was answered so far.

    Attributes:
        out: As of :class:`Respondent`.
        utterances: All that are asked.
        answered: Those that have a reply, by the ``id`` of the utterance's object.
        unspoken: Why replies could not be spoken.
        endless: Replies whose speech was cut.
    """

    out: Path | None
    utterances: list[Utterance]
    answered: dict[int, Utterance] = field(default_factory=dict)
    unspoken: list[str] = field(default_factory=list)
    endless: int = 0

    def take(self, utterances: Sequence[Utterance], replies: Sequence[Reply]) -> None:
        """Keep replies, and write their speech."""
        for utterance, reply in zip(utterances, replies, strict=True):
            if reply.fault is not None:
                self.unspoken.append(f"{utterance.path}: {reply.fault}")
                continue
            self.endless += reply.speech_cut
            row = replace(utterance, response=reply.text, response_cut=reply.cut, units=None)
            if self.out is not None and reply.units:
                assert reply.waveform is not None and reply.sample_rate is not None
                write(speech_file(self.out, row), reply.waveform, reply.sample_rate)
                row.units = reply.units
            self.answered[id(utterance)] = row

    def told(self, progress: Any, unreadable: Sequence[str]) -> list[Utterance]:
        """All utterances, after a word on those without a reply."""
        if self.endless:
            progress.write(f"speech cut at --units_per_token: {self.endless} of {len(self.utterances)} replies")
        for reason in (*unreadable, *self.unspoken):
            progress.write(f"left out: {reason}")
        found = []
        for utterance in self.utterances:
            silent = replace(utterance, response=None, response_cut=False, units=None)
            found.append(self.answered.get(id(utterance), silent))
        return found
