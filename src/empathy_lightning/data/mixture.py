"""Several corpora in one run: read together, with other tasks' utterances and with other voices."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from empathy_lightning.corpora.corpus import Corpus, CorpusError
from empathy_lightning.data.left_out import Tally, in_task
from empathy_lightning.data.packed import Packed, each, packed
from empathy_lightning.data.protocols import Protocol
from empathy_lightning.data.published import protocol_named
from empathy_lightning.data.reading import read_split
from empathy_lightning.errors import InputError, meant
from empathy_lightning.utterance import RATINGS, Utterance

Answer = Literal["response", "emotion", "transcript"]
"""What the language model is to say: the prepared response, the emotion's name or the words that were said."""


def read_corpora(
    corpora: Sequence[Corpus], protocol: Protocol | None, option: str, tally: Tally, audio: bool = True
) -> Packed:
    """Utterances of corpora, each with a split; what is left out is counted.

    Args:
        corpora: Where the utterances come from.
        protocol: Who trains and who tests; None takes the corpora's own splits.
        option: Where the protocol is given, for the message.
        tally: Counts what was read and what was not.
        audio: Whether each utterance needs its audio file.

    Raises:
        CorpusError: If a corpus is missing, an utterance has no split, or two have one id.
    """
    _, utterances = read_split(corpora, protocol, tally, audio)
    for corpus, id, split in each(utterances, "corpus", "id", "split"):
        if split is None:
            raise CorpusError(
                f"{corpus} has no splits of its own ({id}): give {option}, for example leave-one-speaker-out"
            )
    return utterances


def refuse_absent(weights: Iterable[str], utterances: Sequence[Utterance]) -> None:
    """Refuse weights of corpora that are not there.

    Args:
        weights: Names of corpora.
        utterances: What was read.

    Raises:
        CorpusError: If none of the utterances is of one of them.
    """
    here = sorted({corpus for (corpus,) in each(utterances, "corpus")})
    unknown = sorted(set(weights) - set(here))
    if unknown:
        raise CorpusError(
            f"data.weights name no corpus that is here: {', '.join(unknown)}; there are {', '.join(here)}"
            f"{meant(unknown[0], here)}"
        )


def answered(utterances: Sequence[Utterance], answer: Answer, emotions: Sequence[str]) -> Sequence[Utterance]:
    """The utterances, each with what is to be said as its response; an emotion outside the task's is unlabelled."""
    if answer == "response":
        return utterances

    def _answered(utterance: Utterance) -> Utterance:
        word = getattr(utterance, answer)
        if answer == "emotion" and word not in emotions:
            word = None
        return replace(utterance, response=word, response_cut=False, units=None)

    return packed(map(_answered, utterances))


@dataclass
class MixedIn:
    """Another task, mixed into the training batches of a stage; its validation and test splits are not used.

    Attributes:
        corpora: Where its utterances come from.
        share: How many of an epoch's utterances are of this task, from 0 to below 1; at 0 its corpora are not read.
        prompt: What it asks, with its slots; None keeps each utterance's own prompt, and the model's without one.
        system: System message of the prompt; None leaves it out.
        answer: What the language model is to say; utterances without it are left out.
        protocol: Which of the utterances train; None takes the corpora's own splits.
    """

    corpora: list[Corpus]
    share: float
    prompt: str | None = None
    system: str | None = None
    answer: Answer = "response"
    protocol: Protocol | str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise InputError(f"data.mixed_in: the share {self.share} must be from 0 to below 1")
        lacks_slot = self.prompt is not None and "{speech}" not in self.prompt
        lacks_prompt = self.prompt is None and self.system is not None
        if lacks_slot or lacks_prompt:
            raise InputError("data.mixed_in: a prompt needs a {speech} slot, and a system message a prompt")

    def utterances(self, emotions: Sequence[str], tally: Tally, audio: bool = True) -> Packed:
        """The utterances that train, with their prompts and answers; none where the share is 0.

        Args:
            emotions: The task's categories; others are no answer.
            tally: Counts what was read and what was not.
            audio: Whether each utterance needs its audio file.

        Raises:
            CorpusError: If a corpus cannot be read, or nothing in it has an answer.
        """
        if self.share == 0:
            return packed([])
        protocol = protocol_named(self.protocol) if isinstance(self.protocol, str) else self.protocol
        read = read_corpora(self.corpora, protocol, "the protocol in data.mixed_in", tally, audio)
        training = packed(in_task(read, emotions, tally)).where("split", "train")
        rows = packed(self._asked(u) for u in answered(training, self.answer, emotions) if u.response)
        if not rows:
            raise CorpusError(f"data.mixed_in: no training utterance has the {self.answer} that is to be said")
        tally.drop(len(read) - len(training), "of data.mixed_in's other splits")
        tally.drop(len(training) - len(rows), f"without the {self.answer} that is to be said")
        return rows

    def _asked(self, utterance: Utterance) -> Utterance:
        return utterance if self.prompt is None else replace(utterance, prompt=self.prompt, system=self.system)


def read_mixed(
    tasks: Sequence[MixedIn], emotions: Sequence[str], tally: Tally, audio: bool, held_out: Iterable[Utterance]
) -> list[Packed]:
    """The utterances of each of the tasks that are mixed in, without recordings that validate or test the run.

    Args:
        tasks: Those of a run.
        emotions: The run's categories.
        tally: Counts what was read and what was not.
        audio: Whether each utterance needs its audio file.
        held_out: What validates and tests.

    Raises:
        CorpusError: As :meth:`MixedIn.utterances`.
    """
    heard: set[tuple[str, float, float | None]] = set()
    for utterance in held_out:
        heard |= recordings_of(utterance)
    found = []
    for task in tasks:
        read = task.utterances(emotions, tally, audio)
        found.append(packed(u for u in read if not heard & recordings_of(u)))
        tally.drop(len(read) - len(found[-1]), "of data.mixed_in that validate or test")
    return found


def times_per_epoch(times: Sequence[float], mixed: Sequence[tuple[float, int]]) -> list[float]:
    """How often each utterance comes in an epoch, on average.

    Args:
        times: Of the stage's own utterances.
        mixed: Share and number of utterances of each task that is mixed in.

    Returns:
        Own utterances first, then those of each task: all of a task equally often, so often that they have its share.

    Raises:
        InputError: If the shares leave nothing to the stage itself.

    >>> times_per_epoch([1.0, 1.0, 1.0], [(0.25, 2)])
    [1.0, 1.0, 1.0, 0.5, 0.5]
    """
    rest = 1 - sum(share for share, _ in mixed)
    if rest <= 0:
        raise InputError(f"data.mixed_in: the shares sum to {1 - rest:g}, which leaves nothing to the stage itself")
    found = list(times)
    for share, count in mixed:
        found += [share / rest * sum(times) / max(1, count)] * count
    return found


def with_random_voices(utterances: Sequence[Utterance], seed: int = 0) -> list[Utterance]:
    """The utterances, each with the voice of another one to hear the emotion in: an ablation.

    The voice is drawn uniformly among all others, by the utterance's id, so that neither the order nor a batch
    matters. Emotion and ratings are then that voice's; the expected responses stay.

    Raises:
        CorpusError: If there is only one voice.
    """
    voices = {_voice(u): u for u in sorted(utterances, key=lambda u: (u.corpus, u.id))}
    place = {voice: index for index, voice in enumerate(voices)}
    if utterances and len(voices) < 2:
        raise CorpusError(f"emotion_voice: random needs another voice than that of {utterances[0].id}")
    donors = list(voices.values())
    changed = []
    for utterance in utterances:
        # From its own place one step to all but one, so that it never meets itself.
        step = random.Random(f"{seed}/{utterance.corpus}/{utterance.id}").randrange(1, len(voices))
        donor = donors[(place[_voice(utterance)] + step) % len(voices)]
        changed.append(with_voice_of(utterance, donor))
    return changed


def with_voice_of(utterance: Utterance, donor: Utterance) -> Utterance:
    """An utterance whose emotion is heard, and labelled, where that of another one is."""
    path, start, end = _voice(donor)
    return replace(
        utterance,
        emotion_id=donor.emotion_id or f"{donor.corpus}/{donor.id}",
        emotion_path=path,
        emotion_start=start,
        emotion_end=end,
        emotion=donor.emotion,
        emotion_votes=donor.emotion_votes,
        **{name: getattr(donor, name) for name in RATINGS},
    )


def recordings_of(utterance: Utterance) -> set[tuple[str, float, float | None]]:
    """The recordings, with their cuts, in which an utterance's words and its emotion are heard."""
    return {(utterance.path, utterance.start, utterance.end), _voice(utterance)}


def _voice(utterance: Utterance) -> tuple[str, float, float | None]:
    """The recording in which an utterance's emotion is heard."""
    if utterance.emotion_path is None:
        return utterance.path, utterance.start, utterance.end
    return utterance.emotion_path, utterance.emotion_start, utterance.emotion_end
