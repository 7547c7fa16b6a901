"""Speech of the replies: each is said in the style that suits the emotion which it answers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from empathy_lightning.audio import write
from empathy_lightning.data.left_out import MOST
from empathy_lightning.data.manifest import read_manifest, write_manifest
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.digests import digest, recordings_digest
from empathy_lightning.emotion_words import SPELLINGS, emotion_named
from empathy_lightning.errors import InputError, meant
from empathy_lightning.files import check_folder, check_target
from empathy_lightning.jobs import Claim, alone, seed_of, speech_file
from empathy_lightning.preparation.answers import (
    AnswerShard,
    check_shards,
    check_speech_files,
    in_shards,
    shards_of,
    tell_of_share,
)
from empathy_lightning.preparation.speech_engines import Recordings, SpeechEngine
from empathy_lightning.preparation.tones import Tones, read_tones
from empathy_lightning.utterance import SPOKEN, Utterance

_FIELDS = ("response_path", "raw_labels")
"""What a shard adds to an utterance."""


def prepare_speech(
    manifest: str | Path,
    out: str | Path,
    tones: str | Path = "recipe:speech/espeak",
    seed: int = 0,
    transcripts: bool = False,
    train: int | None = None,
    per_shard: int = 256,
    again: bool = False,
    max_left_out: float = MOST,
    users: bool = False,
) -> Path:
    """Say each reply, and write the manifest again with the recordings (``response_path``), or what the users say.

    Each reply records how it was made in its raw labels (:data:`~empathy_lightning.utterance.SPOKEN`). A run that was
    interrupted goes on with what is missing and ends with the same bytes; under torchrun the processes share the
    shards.

    Args:
        manifest: Utterances with responses, or a ``.txt`` file with a text a line.
        out: Manifest to write; the speech lies in ``<out>.speech``, what was made by whom in ``<out>.shards``.
        tones: YAML with the engine and with the style that answers each emotion, see :mod:`.tones`.
        seed: Of the engine's draws, which depend on the utterance too.
        transcripts: Say what the utterances say themselves, which becomes their response.
        train: Most utterances of split train that are said, the first ones; None takes all.
        per_shard: Utterances in a shard.
        again: Make anew what is there, whatever it was made from.
        max_left_out: Share of the utterances that may have nothing to say or no style.
        users: Say the transcripts as the users' own speech: it becomes the utterances' recording (``path``), and the
            style their speaker.

    Raises:
        InputError: If something cannot be used or said, or the place holds what was made from something else.
    """
    if train is not None and train < 0:
        raise InputError(f"--train is {train}: give at least 0")
    manifest, out = Path(manifest), Path(out)
    check_target(out, [manifest])
    check_shards(out, again)
    folder, shards = out.with_name(f"{out.name}.speech"), shards_of(out)
    check_folder(folder)
    spoken = read_tones(tones)
    _check_answers(spoken, tones, manifest)
    utterances = _first(_to_be_said(manifest, out, spoken, transcripts or users, max_left_out), train)
    check_speech_files(out, utterances)
    said = {"seed": seed, "tones": spoken.said, **spoken.engine.identity(), **_replies(utterances, spoken, manifest)}
    # What is said takes the place of the responses until it is written.
    own = _responses(manifest) if users else {}

    def _lost(utterance: Utterance, _: Utterance) -> bool:
        return not os.path.isfile(_place(utterance, out, spoken))

    with alone(shards):
        _claim_speech(folder, said, spoken, again)
        if again:
            out.unlink(missing_ok=True)
        how = (lambda: _sayer(spoken, out, seed), per_shard, "speech of replies", _lost, _FIELDS, again)
        done = in_shards(utterances, shards, said, *how)
        if done is None:
            tell_of_share(out)
            return out
        Claim(out, {"manifest": digest(manifest), **said}).write()
        rows = [_finished(u, row, out, spoken) for u, row in zip(utterances, done, strict=True)]
        if users:
            rows = [_of_user(row, *own.get((row.corpus, row.id), (None, False))) for row in rows]
        write_manifest(out, rows)
    what = "utterances" if users else "replies"
    print(f"{len(done)} {what} said")
    return out


def _claim_speech(folder: Path, said: dict[str, Any], tones: Tones, again: bool) -> None:
    """Claim the folder of what is said; recordings that are there lie in places of their own."""
    claim = Claim(folder, said, "*/*.wav")
    if not claim.is_met(again) and not isinstance(tones.engine, Recordings):
        claim.write()


def _check_answers(tones: Tones, file: str | Path, manifest: Path) -> None:
    """Refuse an answer to an emotion that is neither a known word nor a label of the manifest."""
    unknown = [emotion for emotion in tones.answers if emotion_named(emotion) is None]
    labels: set[str | None] = set()
    # Only then is it worth reading the manifest twice.
    if unknown and manifest.suffix != ".txt":
        labels = {u.emotion for u in read_manifest(manifest)}
    for emotion in unknown:
        if emotion not in labels:
            near = meant(emotion, list(SPELLINGS))
            raise InputError(f"{file}: answers: {emotion} is no emotion word, and no utterance is labelled so{near}")


def _to_be_said(manifest: Path, out: Path, tones: Tones, transcripts: bool, max_left_out: float) -> list[Utterance]:
    """The utterances whose reply can be said, with the words that are to be said as their responses."""
    if manifest.suffix == ".txt":
        return _texts(manifest, out)

    def _worded(u: Utterance) -> Utterance:
        return replace(u, response=u.transcript, response_cut=False) if transcripts else u

    def _lacking(u: Utterance) -> str | None:
        return _unsayable(_worded(u), tones)

    read = read_chosen(manifest, most=max_left_out, audio=False, lacking=_lacking)
    found = [_worded(u) for u in read if _lacking(u) is None]
    if not found:
        reason = _lacking(read[0]) if read else "it is empty"
        raise InputError(f"{manifest} has no reply that can be said: {reason}")
    return found


def _first(utterances: Sequence[Utterance], train: int | None) -> list[Utterance]:
    """All but what comes after the first ones of split train."""
    if train is None:
        return list(utterances)
    training = [u for u in utterances if u.split == "train"]
    late = {id(u) for u in training[train:]}
    return [u for u in utterances if id(u) not in late]


def _unsayable(utterance: Utterance, tones: Tones) -> str | None:
    """Why a reply cannot be said; None if it can."""
    text = utterance.response or ""
    if not any(letter.isalnum() for letter in text):
        return "no response"
    style = tones.style_of(utterance)
    if style is None:
        return f"no style answers {utterance.emotion or 'no emotion'} (answers, otherwise)"
    if isinstance(tones.engine, Recordings):
        path = tones.engine.find(utterance, style)
        if path is None or not os.path.isfile(path):
            return "no recording of the reply"
    return None


def _texts(file: Path, out: Path) -> list[Utterance]:
    """An utterance for each line that is not blank, whose recording is its own speech."""
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if text := line.strip():
            u = Utterance(f"{number:07d}", file.stem, "", transcript=text, response=text, split="train")
            u.path = str(speech_file(out, u))
            found.append(u)
    if not found:
        raise InputError(f"{file} has no text")
    return found


def _replies(utterances: Sequence[Utterance], tones: Tones, manifest: Path) -> dict[str, str]:
    """Digests of what is said in which style and, where it was recorded, of the recordings."""
    words = hashlib.sha256()
    for u in utterances:
        words.update(json.dumps([u.corpus, u.id, u.response, tones.style_of(u)]).encode())
    digests = {"replies": words.hexdigest()}
    if isinstance(tones.engine, Recordings):
        found = [tones.engine.find(u, tones.style_of(u) or "") or "" for u in utterances]
        digests["recordings"] = recordings_digest(found, manifest.parent)
    return digests


def _finished(utterance: Utterance, row: Utterance, out: Path, tones: Tones) -> Utterance:
    """The utterance as it is now, with what a shard's row tells of its speech, wherever that lies now."""
    labels = {name: label for name, label in utterance.raw_labels.items() if name not in SPOKEN}
    made = {name: label for name, label in row.raw_labels.items() if name in SPOKEN}
    return replace(utterance, response_path=_place(utterance, out, tones), units=None, raw_labels=labels | made)


def _responses(manifest: Path) -> dict[tuple[str, str], tuple[str | None, bool]]:
    """The responses of a manifest, and whether they are cut, by corpus and id; texts have none."""
    if manifest.suffix == ".txt":
        return {}
    return {(u.corpus, u.id): (u.response, u.response_cut) for u in read_manifest(manifest)}


def _of_user(said: Utterance, response: str | None, cut: bool) -> Utterance:
    """The utterance whose recording is its own speech, with the reply that it had before."""
    labels = {name: label for name, label in said.raw_labels.items() if name not in SPOKEN}
    made: dict[str, str] = {}
    for name in SPOKEN:
        if name in said.raw_labels:
            made[f"user_{name.removeprefix('reply_')}"] = said.raw_labels[name]
    return replace(
        said,
        path=said.response_path or "",
        start=0.0,
        end=None,
        duration=None,
        speaker=made.get("user_style"),
        response=response,
        response_cut=cut,
        response_path=None,
        raw_labels=labels | made,
    )


def _place(u: Utterance, out: Path, tones: Tones) -> str:
    """Where a reply's speech lies."""
    if isinstance(tones.engine, Recordings):
        return tones.engine.find(u, tones.style_of(u) or "") or ""
    return str(speech_file(out, u))


def _sayer(tones: Tones, out: Path, seed: int) -> AnswerShard:
    identity = tones.engine.identity()

    def _say_all(utterances: Sequence[Utterance], progress: Any) -> list[Utterance]:
        rows = []
        for u in utterances:
            style = tones.style_of(u) or ""
            made = {**identity, "style": style}
            if not isinstance(tones.engine, Recordings):
                made["seed"] = str(seed_of(seed, u))
                _say(tones.engine, u, style, seed_of(seed, u), speech_file(out, u))
            labels = {f"reply_{name}": value for name, value in made.items() if value}
            rows.append(replace(u, response_path=_place(u, out, tones), raw_labels={**u.raw_labels, **labels}))
            progress.update()
        return rows

    return _say_all


def _say(engine: SpeechEngine, u: Utterance, style: str, seed: int, file: Path) -> None:
    if file.is_file():
        # This very job made it, before it was interrupted.
        return
    waveform, rate = engine.say(u.response or "", style, seed)
    if not len(waveform) or not bool(waveform.isfinite().all()):
        raise InputError(f"the engine gave no sound for {u.corpus}/{u.id}: {(u.response or '')[:60]!r}")
    write(file, waveform, rate)
