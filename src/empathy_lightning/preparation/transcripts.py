"""Transcripts of recordings that come without words, as a speech recogniser hears them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from empathy_lightning.data.left_out import MOST, refuse_lost
from empathy_lightning.data.manifest import write_manifest
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.digests import digest, relative
from empathy_lightning.evaluation.changed_recordings import is_changed, with_state
from empathy_lightning.evaluation.other_recognisers import speech_recogniser
from empathy_lightning.evaluation.reply_speech import Recording, SpeechRecogniser
from empathy_lightning.files import check_target
from empathy_lightning.jobs import Claim, alone
from empathy_lightning.preparation.answers import AnswerShard, check_shards, in_shards, shards_of, tell_of_share
from empathy_lightning.preparation.identity import model_identity
from empathy_lightning.utterance import Utterance

_AT_ONCE = 32
"""Recordings between two steps of the progress bar; those of like length share a batch."""


def prepare_transcripts(
    manifest: str | Path,
    out: str | Path,
    asr: str,
    language: str | None = None,
    per_shard: int = 512,
    again: bool = False,
    max_left_out: float = MOST,
) -> Path:
    """Write the manifest again, in which every utterance that can be heard has a transcript.

    Words that a corpus states are never changed. What was heard is marked in ``raw_labels["transcript"]`` as
    ``"pseudo: MODEL"``. A run that was interrupted goes on with the shards that are missing; a recording that cannot
    be read is named, left without words, and tried again by the next run.

    Args:
        manifest: Utterances, with words or not.
        out: Manifest to write, in the same order.
        asr: Recogniser, a Whisper or another of transformers', as a model id or a folder.
        language: Of all recordings, or ``auto``; None takes each utterance's own.
        per_shard: Utterances in a shard, the most that an interruption costs.
        again: Make anew what is there, whatever it was made from.
        max_left_out: Share of the utterances that may be missing or unreadable.

    Raises:
        InputError: If the recogniser or ``out`` cannot be used, or the shards are of something else.
    """
    manifest, out = Path(manifest), Path(out)
    check_target(out, [manifest])
    check_shards(out, again)
    utterances = read_chosen(manifest, most=max_left_out)
    wordless = [u for u in utterances if not (u.transcript or "").strip()]
    said = {"asr": model_identity(asr), "language": language, "recordings": _segments(wordless, manifest.parent)}

    def _load() -> AnswerShard:
        recogniser = speech_recogniser(asr, language)
        listen = partial(_heard, recogniser)
        return lambda rows, progress: with_state(rows, listen, progress, manifest.parent)

    def _lost(utterance: Utterance, row: Utterance) -> bool:
        return row.transcript is None or is_changed(utterance, row, manifest.parent)

    with alone(shards_of(out)):
        how = (_load, per_shard, "transcripts", _lost, ("transcript",), again)
        heard = in_shards(wordless, shards_of(out), said, *how)
        if heard is None:
            tell_of_share(out)
            return out
        unread = [("unreadable", u.path) for u in heard if u.transcript is None]
        refuse_lost(unread, len(utterances), max_left_out)
        words = {(u.corpus, u.id): u.transcript for u in heard}
        Claim(out, {"manifest": digest(manifest), **said}).write()
        write_manifest(out, [_filled(u, words.get((u.corpus, u.id)), asr) for u in utterances])
    silent = sum(text == "" for text in words.values())
    heard_in = len(wordless) - len(unread) - silent
    print(f"{heard_in} transcripts; no word was heard in {silent}, unreadable: {len(unread)}")
    return out


def _segments(utterances: Sequence[Utterance], home: Path) -> str:
    named = [(relative(u.path, home), u.start, u.end, u.language) for u in utterances]
    return hashlib.sha256(repr(named).encode()).hexdigest()


def _heard(recogniser: SpeechRecogniser, utterances: Sequence[Utterance], progress: Any) -> list[Utterance]:
    """The utterances with what was heard; None where the recording cannot be read."""
    rows = []
    for start in range(0, len(utterances), _AT_ONCE):
        few = utterances[start : start + _AT_ONCE]
        unreadable: dict[int, str] = {}
        found = recogniser.listen([Recording(u.path, u.start, u.end, u.language) for u in few], unreadable, None)
        for u, said in zip(few, found, strict=True):
            rows.append(replace(u, transcript=None if said is None else said[0]))
        progress.update(len(few))
        for reason in unreadable.values():
            progress.write(f"without words: {reason}")
    return rows


def _filled(utterance: Utterance, words: str | None, model: str) -> Utterance:
    if not words:
        return utterance
    return replace(utterance, transcript=words, raw_labels={**utterance.raw_labels, "transcript": f"pseudo: {model}"})
