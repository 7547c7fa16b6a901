"""What a bot answers to every utterance of a manifest: in shards, over processes and machines, resumable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from empathy_lightning.checkpoint_backbones import backbones_in, found_here
from empathy_lightning.checkpoints import CheckpointError, load
from empathy_lightning.data.left_out import refuse_lost
from empathy_lightning.data.manifest import write_manifest
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.devices import own_device
from empathy_lightning.digests import digest, relative
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.answering import Answering, Respondent, earlier_turns
from empathy_lightning.evaluation.changed_recordings import is_changed, with_state
from empathy_lightning.faults import first_of
from empathy_lightning.files import check_target
from empathy_lightning.folders import read_config
from empathy_lightning.hub import local_folder
from empathy_lightning.jobs import Claim, alone, settled, speech_file
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.preparation.answers import (
    AnswerShard,
    check_shards,
    check_speech_files,
    in_shards,
    shards_of,
    tell_of_share,
)
from empathy_lightning.preparation.identity import model_identity
from empathy_lightning.prompts import SPEECH_ONLY, Prompt, follow_language
from empathy_lightning.responder import Responder
from empathy_lightning.slots import HeardEmotion
from empathy_lightning.utterance import Utterance


def answer_manifest(how: Answering, manifest: Path, out: Path, split: str = "test", again: bool = False) -> Path:
    """Let a bot answer recordings, and write a manifest with its replies as the responses.

    A run that was interrupted goes on with the shards that are missing. Recordings that cannot be read are named
    and left for the next run, which also answers those anew whose size or time of change is another one now.

    Args:
        how: The bot, and how it answers.
        manifest: Utterances.
        out: Manifest to write; the shards lie beside it, and so does the speech of the replies.
        split: Split to use, or ``all``.
        again: Make anew what is there, whatever it was made from.

    Raises:
        InputError: If the checkpoint, the manifest or ``out`` cannot be used, or the shards answer something else.
    """
    if min(how.batch_size, how.per_shard) < 1:
        raise InputError("batch_size and per_shard have to be at least 1")
    check_target(out, [manifest])
    shards = shards_of(out)
    check_shards(out, again)
    utterances = [_wishing(u, how.language) for u in _to_be_answered(how, manifest, split)]
    fields = ("response", "response_cut", "units") if how.aloud else ("response", "response_cut")
    if how.aloud:
        check_speech_files(out, utterances)
    read = _read(utterances) if how.words else _recordings(utterances, manifest.parent)
    said = {**_fingerprint(how.checkpoint), **read, **how.described()}

    def _load() -> AnswerShard:
        spoken_to = out if how.aloud else None
        respondent = Respondent(_asked(how, utterances, shards), how.decoding, how.batch_size, spoken_to)
        if how.words:
            return respondent.words
        return lambda rows, progress: with_state(rows, respondent.recordings, progress, manifest.parent)

    def _lost(utterance: Utterance, row: Utterance) -> bool:
        silent = how.aloud and bool(row.units) and not speech_file(out, row).is_file()
        return row.response is None or silent or (not how.words and is_changed(utterance, row, manifest.parent))

    with alone(shards):
        if again:
            # Its replies' speech is written over one by one.
            out.unlink(missing_ok=True)
        answered = in_shards(utterances, shards, said, _load, how.per_shard, "replies", _lost, fields, again)
        if answered is None:
            tell_of_share(out)
            return out
        replies = _replies(answered, out, how.max_left_out)
        # Claimed first: a process that is killed between the two leaves no manifest of unknown origin.
        Claim(out, {"manifest": digest(manifest), "split": split, **said}).write()
        write_manifest(out, replies)
    _report(out, answered, how.aloud)
    return out


def _replies(answered: Sequence[Utterance], out: Path, max_left_out: float) -> list[Utterance]:
    """What was answered, with its speech.

    Raises:
        InputError: If that is nothing, or too much could not be read.
    """
    replies = _with_speech([u for u in answered if u.response is not None], out)
    if not replies:
        raise InputError(f"none of {len(answered)} recordings can be read and answered, for example {answered[0].path}")
    unread = [("unreadable", u.path) for u in answered if u.response is None]
    refuse_lost(unread, len(answered), max_left_out)
    return replies


def _asked(how: Answering, utterances: Sequence[Utterance], shards: Path) -> EmpatheticLM:
    """The bot, with the prompt, the slots and the language that are asked for."""
    model = load(how.checkpoint, how.trust)
    _check(model, how.checkpoint, how.aloud)
    responder = model.responder
    assert responder is not None
    if how.prompt is not None:
        responder.prompt, responder.system = how.prompt.user, how.prompt.system
    elif how.words:
        responder.prompt = SPEECH_ONLY
    responder.system = follow_language(responder.system, how.language)
    for name, filler in how.fillers().items():
        setattr(responder, name, filler)
    model.to(own_device())
    _settle_prompts(responder, utterances, shards)
    _tell_of_labels(model)
    return model


def _wishing(utterance: Utterance, language: str | None) -> Utterance:
    """An utterance whose own prompt, where it has one, asks for a language."""
    if utterance.prompt is None:
        return utterance
    return replace(utterance, system=follow_language(utterance.system, language))


def _with_speech(replies: Sequence[Utterance], out: Path) -> list[Utterance]:
    """The replies with the files of those that were spoken."""
    found = []
    for u in replies:
        if u.units:
            u = replace(u, response_path=str(speech_file(out, u)))
        found.append(u)
    return found


def _report(out: Path, answered: Sequence[Utterance], aloud: bool) -> None:
    unread = [u for u in answered if u.response is None]
    for line in first_of([f"left out, unreadable: {u.corpus}/{u.id}, {u.path}" for u in unread]):
        print(line)
    mute = sum(u.units is None for u in answered) - len(unread)
    unspoken = f", without speech: {mute}" if aloud else ""
    print(f"{len(answered) - len(unread)} replies{unspoken}, unreadable recordings: {len(unread)}\nwritten: {out}")


def _to_be_answered(how: Answering, manifest: Path, split: str) -> list[Utterance]:
    if how.words:
        read = read_chosen(manifest, split, how.max_left_out, audio=False, lacking=_wordless)
        utterances = [u for u in read if _wordless(u) is None]
        prompts = [how.prompt.user] if how.prompt else [u.prompt or "" for u in utterances]
        _refuse_emotions(prompts)
    else:
        utterances = read_chosen(manifest, split, how.max_left_out)
    if not utterances:
        raise InputError(f"{manifest} has no utterance in split {split}; --split all takes every one")
    # Else the shard that holds it would fail when it is written, after its answers were made.
    for u in utterances:
        try:
            json.dumps(u.to_dict(), ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InputError(f"utterance {u.corpus}/{u.id} holds text that is not UTF-8: mend or remove it") from None
    # A prompt that is given takes the place of the utterances' own too.
    return utterances if how.prompt is None else [replace(u, prompt=None, system=None) for u in utterances]


def _wordless(utterance: Utterance) -> str | None:
    return None if (utterance.transcript or "").strip() else "no transcript"


def _refuse_emotions(prompts: Sequence[str]) -> None:
    """Refuse prompts that words cannot fill.

    Raises:
        InputError: If one has a slot for the emotion.
    """
    wanting = [user for user in prompts if "{emotion}" in user]
    if wanting:
        raise InputError(f"--words: no voice fills the {{emotion}} of the prompt {wanting[0]!r:.80}: leave it out")


def _fingerprint(checkpoint: Path) -> dict[str, str]:
    """What answers, so that shards of another training are not taken."""
    folder = local_folder(checkpoint)
    files = [folder / name for name in ("config.json", "model.safetensors")]
    if not all(file.is_file() for file in files):
        raise CheckpointError(f"{checkpoint} is no checkpoint folder: config.json or model.safetensors is missing")
    return {"checkpoint": " ".join(map(digest, files)), **_backbones(checkpoint)}


def _recordings(utterances: Sequence[Utterance], home: Path) -> dict[str, str]:
    """What is asked and heard, beside transcripts and labels."""

    def _named(path: str | None) -> str | None:
        return None if path is None else relative(path, home)

    heard: list[tuple[Any, ...]] = []
    for u in utterances:
        own = (_named(u.path), u.start, u.end)
        other = (_named(u.emotion_path), u.emotion_start, u.emotion_end)
        heard.append((*own, *other, u.prompt, u.system, *_before(u)))
    return {"recordings": hashlib.sha256(repr(heard).encode()).hexdigest()}


def _read(utterances: Sequence[Utterance]) -> dict[str, str]:
    """What is asked in words."""
    typed = [(u.transcript, u.prompt, u.system, *_before(u)) for u in utterances]
    return {"words": hashlib.sha256(repr(typed).encode()).hexdigest()}


def _before(utterance: Utterance) -> tuple[tuple[str, str | None], ...]:
    """The turns before a question, by their ids and replies."""
    return tuple((turn.id, turn.response) for turn in earlier_turns(utterance))


def _backbones(folder: Path) -> dict[str, str]:
    """Which models the folder names, wherever they lie."""
    try:
        named = list(backbones_in(read_config(folder)["model"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}  # Loading it says what is wrong.
    identities = {}
    for path, found in named:
        place = found_here(found["name_or_path"], found.get("revision"), folder)
        identities[path.rpartition(".")[2]] = model_identity(place)
    return identities


def _check(model: EmpatheticLM, checkpoint: Path, aloud: bool) -> None:
    if model.responder is None:
        raise CheckpointError(f"{checkpoint} cannot answer: it has no language model")
    if aloud and (model.talker is None or model.talker.vocoder is None):
        lacking = "speech decoder" if model.talker is None else "vocoder"
        raise CheckpointError(f"{checkpoint} cannot speak: it has no {lacking}; leave --speech out")


def _tell_of_labels(model: EmpatheticLM) -> None:
    """Say so where a reply is told the feeling that the manifest knows: it is no measure of hearing then."""
    assert model.responder is not None
    asked = [prompt.user for prompt in model.responder.rendered]
    told = isinstance(model.responder.emotion_slot, HeardEmotion) and model.listener.emotion_nuance is None
    if told and any("{emotion}" in user for user in asked):
        print("this folder hears no emotion: the {emotion} of its prompt is the manifest's label")


def _settle_prompts(responder: Responder, utterances: Sequence[Utterance], shards: Path) -> None:
    """Ask each question all through the job as it was first rendered: a template may put today's date into it."""
    own = [Prompt(u.prompt, u.system) for u in utterances if u.prompt is not None]
    asked = list(dict.fromkeys([responder.asked(), *own]))
    rendered = settled(shards, "prompts", lambda: [responder.segments(prompt) for prompt in asked])
    responder.rendered = dict(zip(asked, rendered, strict=True))
