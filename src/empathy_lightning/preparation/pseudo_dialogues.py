"""FreezeEmpath's pseudo-empathetic pairs: what is said from an instruction, how it is said from another recording.

To each spoken instruction an emotion label is drawn, and the frozen language model
answers transcript and label. Each utterance of speech emotion recognition (SER) is
then paired with K such dialogues of its own emotion. A label may clash with the
words; the paper accepts that on purpose.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any

from empathy_lightning.data.left_out import MOST, Tally, have_files
from empathy_lightning.data.mixture import with_voice_of
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.digests import digest
from empathy_lightning.emotion_words import SPELLINGS, emotion_named, suggested_emotion
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_target
from empathy_lightning.jobs import alone
from empathy_lightning.preparation.answers import asked, check_shards, shards_of
from empathy_lightning.preparation.engines import Generation
from empathy_lightning.preparation.response_selection import ResponseSelection
from empathy_lightning.preparation.responses import (
    answer_and_select,
    report_of,
    unaskable,
    unknown_label,
    write_selected,
)
from empathy_lightning.utterance import Utterance


def label_distribution(recordings: Sequence[Utterance]) -> dict[str, float]:
    """Share of each emotion among the labelled training recordings (those without a split count as such)."""
    counts = Counter(u.emotion for u in recordings if u.emotion and _split(u) == "train")
    return {str(name): count / counts.total() for name, count in sorted(counts.items())}


def parse_distribution(text: str) -> dict[str, float]:
    """Read ``neutral=0.3,happy=0.2``; the shares are divided by their sum.

    Raises:
        InputError: If a share is not a number from 0 up, all are 0, or a label is no emotion word.
    """
    try:
        pairs = [part.split("=") for part in text.split(",")]
        given = [(name, float(value)) for name, value in pairs]
    except ValueError:
        raise InputError(f"the distribution {text!r} is not of the form neutral=0.3,happy=0.2") from None
    shares = {_emotion(name): value for name, value in given}
    total = sum(shares.values())
    if not 0 < total < float("inf") or min(shares.values()) < 0 or len(shares) < len(pairs):
        raise InputError(f"the distribution {text!r} needs each label once, shares from 0 up and one above 0")
    return {name: share / total for name, share in sorted(shares.items()) if share > 0}


def _emotion(name: str) -> str:
    emotion = emotion_named(name)
    if emotion is None:
        near = suggested_emotion(name, SPELLINGS)
        suggestion = f"; did you mean {near}?" if near else ""
        raise InputError(f"the distribution names {name.strip()!r}, which is no known emotion word{suggestion}")
    return emotion


def draw_labels(instructions: Sequence[Utterance], distribution: Mapping[str, float], seed: int = 0) -> list[Utterance]:
    """The instructions, each with an emotion drawn by its id, so that neither order nor number of them matters.

    Ratings of the instruction's own voice are taken away: they do not belong to the label.
    """
    names = sorted(distribution)
    shares = [distribution[name] for name in names]
    drawn = []
    for u in instructions:
        (label,) = random.Random(f"{seed}/{u.corpus}/{u.id}").choices(names, shares)
        drawn.append(replace(u, emotion=label, arousal=None, valence=None, dominance=None, emotion_votes={}))
    return drawn


def pair(
    dialogues: Sequence[Utterance], recordings: Sequence[Utterance], per_recording: int = 1, seed: int = 0
) -> list[Utterance]:
    """Pair each recording with dialogues of its emotion and split; utterances without a split train.

    The dialogues of an emotion are dealt out in a drawn order and from the start
    again when they are all used, so each is used about equally often. No recording
    is paired with itself or twice with a dialogue.

    Args:
        dialogues: Instructions with drawn labels and responses.
        recordings: SER utterances; those without a label are left out.
        per_recording: K, dialogues for each recording.
        seed: Seed of the order.

    Returns:
        Instructions whose ``emotion_path`` names the recording, with its ratings; each id is
        ``INSTRUCTION~CORPUS~RECORDING`` and ``raw_labels["instruction"]`` names the instruction.
    """
    decks: dict[tuple[str, str | None], list[Utterance]] = defaultdict(list)
    for dialogue in dialogues:
        decks[_split(dialogue), dialogue.emotion].append(dialogue)
    for key, deck in decks.items():
        random.Random(f"{seed}/{key}").shuffle(deck)
    position: Counter[tuple[str, str | None]] = Counter()
    pairs = []
    for recording in recordings:
        key = (_split(recording), recording.emotion)
        deck = decks.get(key, [])
        dealt = 0
        # Once around at most: a deck that holds too few other recordings gives what it has.
        for _ in range(len(deck)):
            if dealt == per_recording:
                break
            dialogue = deck[position[key] % len(deck)]
            position[key] += 1
            if (dialogue.path, dialogue.start) != (recording.path, recording.start):
                pairs.append(_paired(dialogue, recording))
                dealt += 1
    return pairs


def _split(utterance: Utterance) -> str:
    return utterance.split or "train"


def _paired(dialogue: Utterance, recording: Utterance) -> Utterance:
    return replace(
        with_voice_of(dialogue, recording),
        id=f"{dialogue.id}~{recording.corpus}~{recording.id}",
        split=_split(recording),
        raw_labels={**dialogue.raw_labels, "instruction": f"{dialogue.corpus}/{dialogue.id}"},
    )


def prepare_pseudo_dialogues(
    instructions: str | Path,
    recordings: str | Path,
    out: str | Path,
    generation: Generation,
    selection: ResponseSelection | None = None,
    distribution: Mapping[str, float] | None = None,
    per_recording: int = 1,
    per_shard: int = 1024,
    again: bool = False,
    max_left_out: float = MOST,
) -> Path:
    """Write a manifest of pseudo-empathetic pairs, and a report; sharded and resumable as expected responses are.

    Args:
        instructions: Manifest of spoken instructions with transcripts.
        recordings: Manifest of SER utterances with emotions.
        out: Manifest to write.
        generation: Model and prompt (with an emotion slot); its seed draws labels and pairs too.
        selection: What to keep of the answers; None drops refusals by the published rules.
        distribution: Share of each label; None takes that of the recordings.
        per_recording: K, dialogues for each recording.
        per_shard: Instructions in a shard.
        again: Make anew what is there, whatever it was made from.
        max_left_out: Share of the utterances that may be left out though no option asks for it.

    Raises:
        InputError: If something cannot be used, or a label of the distribution has no recording.
    """
    out = Path(out)
    if "{emotion}" not in generation.prompt.user:
        raise InputError(f"the prompt {generation.prompt.user!r} has no {{emotion}} slot for the drawn label")
    if per_recording < 1:
        raise InputError("each recording needs at least one dialogue")
    check_target(out, [Path(instructions), Path(recordings)])
    check_target(report_of(out), [])
    check_shards(out, again)
    heard = _with_audio(recordings, max_left_out, unknown_label)
    voices = [u for u in heard if u.emotion and not unknown_label(u)]
    shares = dict(distribution or label_distribution(voices))
    _check_shares(shares, voices, recordings)
    spoken = _with_audio(instructions, max_left_out, unaskable)
    labelled = draw_labels(spoken, shares, generation.seed)
    with alone(shards_of(out)):
        done = answer_and_select(labelled, out, generation, selection or ResponseSelection(), per_shard, again)
        if done is not None:
            kept, figures = done
            pairs = pair(kept, voices, per_recording, generation.seed)
            figures |= _pair_figures(pairs, kept, voices, shares)
            read = {"manifest": digest(instructions), "recordings": digest(recordings)}
            drawn = {"distribution": shares, "per_recording": per_recording}
            write_selected(out, pairs, figures, {**read, **drawn, **asked(generation)})
            print(f"{len(pairs)} pairs of {len(kept)} dialogues and {len(voices)} recordings")
    return out


def _check_shares(shares: Mapping[str, float], voices: Sequence[Utterance], recordings: str | Path) -> None:
    """Refuse labels that no recording could voice."""
    if not shares:
        raise InputError(
            f"{recordings} has no training utterance with an emotion: label some, or give the labels' shares as "
            "--distribution"
        )
    unheard = set(shares) - {u.emotion for u in voices}
    if unheard:
        raise InputError(f"{recordings} has no utterance with the emotion {', '.join(sorted(unheard))}")


def _with_audio(manifest: str | Path, most: float, lacking: Callable[[Utterance], str | None]) -> list[Utterance]:
    """The utterances whose audio is there, by id; those that lack something else are only counted."""
    read = read_chosen(manifest, most=most, lacking=lacking)
    # By id, since the dialogues are dealt out in the order of the recordings.
    there = compress(read, have_files(read, Tally()))
    return sorted(there, key=lambda u: (u.corpus, u.id))


def _pair_figures(
    pairs: Sequence[Utterance], dialogues: Sequence[Utterance], voices: Sequence[Utterance], shares: dict[str, float]
) -> dict[str, Any]:
    used = {(p.corpus, p.raw_labels["instruction"]) for p in pairs}
    return {
        "distribution": {name: round(share, 6) for name, share in shares.items()},
        "pairs": len(pairs),
        "pairs_by_emotion": dict(sorted(Counter(str(p.emotion) for p in pairs).items())),
        "dialogues_without_a_recording": len(dialogues) - len(used),
        "recordings_without_a_dialogue": len(voices) - len({p.emotion_id for p in pairs}),
    }
