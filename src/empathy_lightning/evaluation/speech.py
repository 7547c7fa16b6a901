"""Measure spoken replies: words, length, pitch and energy, style, voice and how good they sound."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from empathy_lightning.audio import AudioError, read
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.other_recognisers import speech_recogniser
from empathy_lightning.evaluation.speech_judges import SpeakerEncoder, installed_predictors
from empathy_lightning.evaluation.speech_measures import Instruments, Spoken, by_styles, measured, style_of
from empathy_lightning.evaluation.speech_pictures import draw_speech
from empathy_lightning.evaluation.speech_summary import summary, table
from empathy_lightning.evaluation.target_speech import training_replies
from empathy_lightning.faults import first_of
from empathy_lightning.files import check_folder, check_target, write_json, write_text
from empathy_lightning.jobs import alone, digest, recordings_digest
from empathy_lightning.preparation.identity import model_identity

ASKED = ("speechmos", "distillmos")
"""Predictors of opinion scores that are asked where they are installed."""


def evaluate_speech(
    replies: Path,
    out: Path,
    references: Path | None = None,
    split: str = "test",
    *,
    asr: str | None = None,
    asr_language: str | None = None,
    speaker_encoder: Path | None = None,
    mos: bool = True,
    pictures: int = 5,
    again: bool = False,
) -> dict[str, Any]:
    """Measure a manifest of spoken replies, print the figures and write them.

    Args:
        replies: Utterances with responses and their speech (``response_path``).
        out: Folder for ``metrics.json``, ``utterances.jsonl``, ``pictures/`` and the parts of a run that was stopped.
        references: Manifest of the same replies as they should sound, with the training replies that tell what each
            style sounds like; None takes the latter from ``replies``, and compares with no target.
        split: Split to measure, or ``all``.
        asr: Recogniser that writes down the replies, a model id or a folder; None listens to none.
        asr_language: See :func:`.other_recognisers.speech_recogniser`.
        speaker_encoder: See :class:`.speech_judges.SpeakerEncoder`; needs references.
        mos: Whether predictors of opinion scores that are installed are asked.
        pictures: How many replies are drawn, of each style in turn.
        again: Measure anew what was measured, whatever it was.

    Raises:
        InputError: If something cannot be used, or the folder holds the measures of something else.
    """
    if pictures < 0:
        raise InputError(f"--pictures is {pictures}: give at least 0")
    if asr_language is not None and asr is None:
        raise InputError("--asr_language is for the recogniser: give --asr too")
    if speaker_encoder is not None and references is None:
        raise InputError("voices are compared with the targets': give --references too")
    check_folder(out / "pictures")
    check_folder(out / "parts")
    for name in ("metrics.json", "utterances.jsonl"):
        check_target(out / name, [replies, references])
    spoken, mute = _spoken(replies, references, split)
    made_from = _made_from(replies, references, spoken, {"split": split, "asr_language": asr_language})
    recogniser = speech_recogniser(asr, asr_language) if asr else None
    speaker = SpeakerEncoder(speaker_encoder) if speaker_encoder else None
    judges, missing = installed_predictors(ASKED) if mos else ({}, [])
    if missing:
        print(f"not installed: {', '.join(missing)}: pip install 'empathy_lightning[evaluation]', or give --mos=false")
    made_from |= {name: version(name) for name in judges}
    made_from |= {"speaker_encoder": speaker_encoder and digest(speaker_encoder / "embedding_model.ckpt")}
    made_from |= {"asr": model_identity(asr) if asr else None}
    instruments = Instruments(recogniser, speaker, judges)
    with alone(out):
        rows = measured(spoken, out / "parts", made_from, instruments, again)
        of = [row for row, reply in zip(rows, spoken, strict=True) if not reply.training]
        figures = summary(of, [row for row, reply in zip(rows, spoken, strict=True) if reply.training], mute)
        named = {"replies": str(replies), "references": references and str(references), "asr": asr}
        write_text(out / "utterances.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in of))
        write_json(out / "metrics.json", {"of": named, "made_from": made_from} | figures)
        for earlier in (out / "pictures").glob("*.png"):
            earlier.unlink()
        drawn = _draw(list(by_styles(spoken))[:pictures], out / "pictures")
    unreadable = [row["unreadable"] for row in of if "unreadable" in row]
    print("\n".join([table(figures), *first_of(unreadable)]))
    print(f"figures: {out / 'metrics.json'}" + (f"\npictures: {', '.join(drawn)}" if drawn else ""))
    return figures


def _spoken(replies: Path, references: Path | None, split: str) -> tuple[list[Spoken], int]:
    """The replies that are measured, then the training replies that tell the styles; how many have no speech."""
    written = [u for u in read_chosen(replies, split, audio=False) if u.response is not None]
    chosen = [u for u in written if u.response_path]
    if not chosen:
        raise InputError(f"{replies} names no speech (response_path) in split {split}: make it with `prepare speech`")
    others = read_chosen(references or replies, "all", audio=False)
    targets = {(u.corpus, u.id): u for u in others if u.response_path} if references else {}
    pairs = [(u, targets.get((u.corpus, u.id))) for u in chosen]
    if references and not any(target for _, target in pairs):
        raise InputError(f"{references} names the speech of none of these replies: corpora and ids have to agree")
    measured = [Spoken(u, target, style_of(u if target is None else target)) for u, target in pairs]
    training = [Spoken(u, None, style_of(u), training=True) for u in training_replies(others)]
    return [*measured, *training], len(written) - len(chosen)


def _made_from(
    replies: Path, references: Path | None, spoken: Sequence[Spoken], options: dict[str, Any]
) -> dict[str, Any]:
    paths = [u.response_path for one in spoken for u in (one.utterance, one.target) if u is not None]
    files = {"replies": digest(replies), "references": references and digest(references)}
    return files | options | {"recordings": recordings_digest([path or "" for path in paths], replies.parent)}


def _draw(replies: Sequence[Spoken], folder: Path) -> list[str]:
    """Draw replies that can be read; the names of the pictures."""
    drawn = []
    for number, spoken in enumerate(replies, 1):
        u = spoken.utterance
        name = re.sub(r"[^A-Za-z0-9_-]", "_", f"{number:02d}_{spoken.style}_{u.id}")[:80]
        try:
            target = None if spoken.target is None else read(spoken.target.response_path or "")
            reply = read(u.response_path or "")
        except AudioError:
            continue
        if min(len(reply), len(reply if target is None else target)) >= 1_600:
            draw_speech(folder / f"{name}.png", target, reply, f"{spoken.style}: {u.response}")
            drawn.append(str(folder / f"{name}.png"))
    return drawn
