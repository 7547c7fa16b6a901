"""``evaluate run|table|compare|power``: results that can be made again, and what they say of several systems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from empathy_lightning.commands.options import Again, AllowLeftOut, Flat, PaperName, Trust, Wording
from empathy_lightning.decoding import Decoding
from empathy_lightning.errors import InputError

TableFormat = Literal["markdown", "csv", "latex"]
"""How a table is written, see :mod:`empathy_lightning.evaluation.table_formats`."""

ClusterName = Literal["speaker", "session", "none"]
"""What is drawn together for an interval, see :mod:`empathy_lightning.evaluation.figures`."""

TestName = Literal["wilcoxon", "permutation"]
"""Tests of differences, see :mod:`empathy_lightning.evaluation.comparison`."""

Several = Parameter(consume_multiple=True)


def run(
    *manifests: Path,
    out: Path,
    measures: Annotated[tuple[str, ...], Several] = ("variety",),
    checkpoint: Path | None = None,
    split: str = "test",
    cluster: ClusterName = "speaker",
    paper: PaperName | None = None,
    prompt: Wording = None,
    system: Wording = None,
    language: str | None = None,
    decoding: Annotated[Decoding, Flat] = Decoding(),  # noqa: B008 - frozen
    speech: bool = False,
    batch_size: int = 16,
    per_shard: int = 512,
    trust: Trust = (),
    again: Again = False,
    allow_left_out: AllowLeftOut = 0.01,
) -> int:
    """Answer manifests, measure the replies, and write predictions, figures and a page.

    Args:
        manifests: Questions with suite, ability and references where they have them.
        out: Folder of predictions.jsonl, metrics.json and report.html; a run that was stopped goes on there.
        measures: Names or class paths, each with its NAME.argument=value after it; or YAML files that list them.
        checkpoint: Folder of the bot (default: the manifests' responses are the replies).
        split: Which to answer, or all.
        cluster: Whose replies are drawn together for the intervals.
        paper: Prompts of a paper (default: the questions' own, else the folder's).
        prompt: User's turn with {speech} (and {emotion}) instead.
        system: System message of that prompt.
        language: Of the replies, as in chat.
        decoding: How the replies are chosen.
        speech: Speak the replies too.
        batch_size: Recordings at a time.
        per_shard: Utterances in a shard, the most that an interruption costs.

    Returns:
        0; 1 if a measure is missing, which is said.

    Raises:
        InputError: If something cannot be used.
    """
    from empathy_lightning.commands.chat import asked_prompt, chosen_decoding
    from empathy_lightning.evaluation.measure_choice import choices
    from empathy_lightning.evaluation.run import Answering, evaluate_run

    if not manifests:
        raise InputError("give one manifest or more")
    answering = None
    if checkpoint is not None:
        question, longest = asked_prompt(paper, prompt, system)
        how = chosen_decoding(decoding, longest, speech)
        sizes = (batch_size, per_shard)
        answering = Answering(checkpoint, question, how, speech, *sizes, trust, allow_left_out, language)
    missing = evaluate_run(manifests, out, choices(measures), answering, split, cluster, again)
    for measure, why in missing.items():
        print(f"missing: {measure}: {why}")
    return 1 if missing else 0
