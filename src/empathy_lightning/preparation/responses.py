"""Expected responses: what the frozen language model itself says to the transcript, with or without its label."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from empathy_lightning.data.left_out import MOST, outside
from empathy_lightning.data.manifest import write_manifest
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.digests import digest
from empathy_lightning.emotion_words import emotion_named
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_target, write_json
from empathy_lightning.jobs import Claim, alone
from empathy_lightning.preparation.answers import (
    answer_in_shards,
    asked,
    check_shards,
    no_answer,
    shards_of,
    tell_of_share,
)
from empathy_lightning.preparation.diversity import mean_embeddings
from empathy_lightning.preparation.engines import Generation, load_language_model
from empathy_lightning.preparation.response_selection import (
    Dropped,
    ResponseSelection,
    report,
    select,
    table,
)
from empathy_lightning.prompts import Prompt
from empathy_lightning.utterance import EMOTIONS, Utterance


def answer_and_select(
    utterances: Sequence[Utterance],
    out: Path,
    generation: Generation,
    selection: ResponseSelection,
    per_shard: int,
    again: bool = False,
) -> tuple[list[Utterance], dict[str, Any]] | None:
    """Let the frozen model answer, and keep what the selection lets pass.

    The raw answers stay in shards beside ``out``, so another selection costs no
    second generation.

    Args:
        utterances: Those without the words that the prompt needs are dropped and reported.
        out: Manifest that will be written; names the folder of the shards.
        generation: Model, prompt and lengths.
        selection: What to keep.
        per_shard: Utterances in a shard.
        again: Remove the shards that are there first.

    Returns:
        Utterances with responses and the report, or None while other processes still owe shards.

    Raises:
        InputError: If no utterance can be asked about, or the shards answer something else.
    """
    askable = []
    unasked = []
    for u in utterances:
        reason = _lacking(u, generation.prompt)
        if reason is None:
            # A prompt of its own would ask something else than what is answered here.
            askable.append(replace(u, prompt=None, system=None))
        else:
            unasked.append(Dropped(u, reason))
    if not askable:
        reasons = " or ".join(sorted({dropped.reason for dropped in unasked}))
        raise InputError(f"nothing to ask about: {reasons or 'no utterance'} in the whole manifest")
    answered = answer_in_shards(askable, shards_of(out), generation, per_shard, again)
    if answered is None:
        tell_of_share(out)
        return None
    embed = partial(_embed, generation)
    kept, dropped = select([u for u in answered if u.response is not None], selection, embed)
    unanswered = [Dropped(u, reason) for u in answered if (reason := no_answer(u))]
    return kept, report(kept, [*unasked, *unanswered, *dropped])


def _embed(generation: Generation, texts: Sequence[str]) -> Tensor:
    return mean_embeddings(load_language_model(generation.language_model, generation.dtype), texts)


def _lacking(utterance: Utterance, prompt: Prompt) -> str | None:
    if (reason := unaskable(utterance)) is not None or "{emotion}" not in prompt.user:
        return reason
    return unknown_label(utterance) if utterance.emotion else "no emotion label"


def unaskable(utterance: Utterance) -> str | None:
    """Why no model can be asked about an utterance, whatever the prompt; None if it can."""
    try:
        json.dumps(utterance.to_dict(), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "text that is not UTF-8"
    if not (utterance.transcript or "").strip():
        return "no transcript"
    return None


def unknown_label(utterance: Utterance) -> str | None:
    """What is wrong with a label that is no emotion word, which the model would be told as one."""
    label = utterance.emotion
    if label is None or emotion_named(label) is not None:
        return None
    return f"labelled {outside(label, EMOTIONS)}, which is no known emotion word"


def report_of(out: Path) -> Path:
    """Where the report of a manifest lies."""
    return out.with_name(f"{out.name}.report.json")


def write_selected(out: Path, kept: Sequence[Utterance], figures: dict[str, Any], made_from: dict[str, Any]) -> None:
    """Write ``out``, its claim and ``<out>.report.json``, each whole or not at all."""
    write_json(report_of(out), figures)
    Claim(out, made_from).write()
    write_manifest(out, kept)
    print(table(figures))


def prepare_responses(
    manifest: str | Path,
    out: str | Path,
    language_model: str,
    prompt: Prompt,
    batch_size: int = 64,
    selection: ResponseSelection | None = None,
    per_shard: int = 1024,
    again: bool = False,
    max_left_out: float = MOST,
    **generation: Any,
) -> Path:
    """Write a manifest with the response to each utterance and a report of what was dropped.

    Every other field, ratings included, stays as it is, but for the recording and
    units of an earlier response. A run that was interrupted
    goes on with the shards that are missing and ends with the same result.

    Args:
        manifest: Utterances with transcripts.
        out: Manifest to write, sorted by id.
        language_model: Folder or model id of the frozen language model.
        prompt: Prompt whose slots the transcript and the label fill.
        batch_size: Prompts per generation.
        selection: What to keep; None drops refusals by the published rules.
        per_shard: Utterances in a shard, the most that an interruption costs.
        again: Make anew what is there, whatever it was made from.
        max_left_out: Share of the utterances that may lack what the prompt asks for.
        **generation: Further fields of :class:`~empathy_lightning.preparation.engines.Generation`.

    Raises:
        InputError: If the model, the manifest, the prompt or ``out`` cannot be used, or the shards answer something
            else.
    """
    out = Path(out)
    check_target(out, [Path(manifest)])
    check_target(report_of(out), [])
    check_shards(out, again)
    read = read_chosen(manifest, most=max_left_out, audio=False, lacking=lambda u: _lacking(u, prompt))
    utterances = sorted(read, key=lambda u: u.id)
    questions = Generation(language_model, prompt, batch_size=batch_size, **generation)
    with alone(shards_of(out)):
        done = answer_and_select(utterances, out, questions, selection or ResponseSelection(), per_shard, again)
        if done is not None:
            write_selected(out, *done, {"manifest": digest(manifest), **asked(questions)})
    return out
