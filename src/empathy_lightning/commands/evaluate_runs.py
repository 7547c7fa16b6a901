"""``evaluate run|measures|table|compare|paper|power``: results that can be made again, of one system or several."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from empathy_lightning.commands.options import Again, AllowLeftOut, Flat, ManifestFile, PaperName, Trust, Wording
from empathy_lightning.decoding import Decoding
from empathy_lightning.errors import InputError, meant

TableFormat = Literal["markdown", "csv", "latex"]
"""How a table is written, see :mod:`empathy_lightning.evaluation.table_formats`."""

ClusterName = Literal["speaker", "session", "none"]
"""What is drawn together for an interval, see :mod:`empathy_lightning.evaluation.figures`."""

TestName = Literal["auto", "wilcoxon", "permutation"]
"""Tests of differences, see :mod:`empathy_lightning.evaluation.comparison`."""

SpreadName = Literal["interval", "deviation", "none"]
"""What stands beside a value in a table, see :mod:`empathy_lightning.evaluation.result_tables`."""

Several = Parameter(consume_multiple=True)


def run(
    *manifests: ManifestFile,
    out: Path,
    measures: Annotated[tuple[str, ...], Several] = ("variety",),
    checkpoint: Path | None = None,
    replies: Annotated[tuple[Path, ...], Several] = (),
    split: str = "test",
    cluster: ClusterName = "speaker",
    paper: PaperName | None = None,
    prompt: Wording = None,
    system: Wording = None,
    language: str | None = None,
    decoding: Annotated[Decoding, Flat] = Decoding(),  # noqa: B008 - frozen
    speech_slot: str | None = None,
    emotion_slot: str | None = None,
    speech: bool = False,
    words: bool = False,
    batch_size: int = 16,
    per_shard: int = 512,
    trust: Trust = (),
    again: Again = False,
    allow_left_out: AllowLeftOut = 0.01,
) -> int:
    """Answer manifests, or take replies that exist, measure them, and write predictions, figures and a page.

    Args:
        manifests: Questions with suite, ability and references; of those without, the response is what is expected.
        out: Folder of predictions.jsonl, metrics.json and report.html; a run that was stopped goes on there.
        measures: Names or class paths (see evaluate measures), each with its NAME.argument=value after it, or
            argument=value for all that have it; or YAML files that list them.
        checkpoint: Folder of the bot that answers.
        replies: In its place, manifests whose responses are the replies, or folders or predictions.jsonl of runs;
            manifests of questions before them tell what was expected.
        split: Which to answer, or all.
        cluster: Whose replies are drawn together for the intervals.
        paper: Prompts of a paper (default: the questions' own, else the folder's).
        prompt: User's turn with {speech} (and {emotion}) instead.
        system: System message of that prompt.
        language: Of the replies, as in chat.
        decoding: How the replies are chosen.
        speech_slot: What fills {speech} in the folder's place, such as Transcript, or a class path.
        emotion_slot: What fills {emotion} in the folder's place, such as PredictedLabel, TrueLabel or RandomLabel.
        speech: Speak the replies too.
        words: Answer the transcripts as if they were typed, and listen to nothing.
        batch_size: Recordings at a time.
        per_shard: Utterances in a shard, the most that an interruption costs.

    Returns:
        0; 1 if a measure is missing, which is said.

    Raises:
        InputError: If something cannot be used.
    """
    from empathy_lightning.commands.chat import asked_prompt, chosen_decoding
    from empathy_lightning.evaluation.answering import Answering
    from empathy_lightning.evaluation.measure_choice import choices
    from empathy_lightning.evaluation.run import evaluate_run
    from empathy_lightning.evaluation.run_replies import Source

    answering = None
    if checkpoint is not None:
        question, longest = asked_prompt(paper, prompt, system)
        how = chosen_decoding(decoding, longest, speech)
        slots = {"speech_slot": speech_slot, "emotion_slot": emotion_slot}
        answering = Answering(
            checkpoint,
            question,
            how,
            aloud=speech,
            words=words,
            language=language,
            slots={name: kind for name, kind in slots.items() if kind},
            batch_size=batch_size,
            per_shard=per_shard,
            trust=trust,
            max_left_out=allow_left_out,
        )
    source = Source.of(manifests, replies, answering, split, allow_left_out)
    missing = evaluate_run(source, out, choices(measures), cluster, again)
    # A process that left the measuring to another one may have none to show.
    if (out / "metrics.json").is_file():
        _show(out)
    return _told(missing)


def _told(missing: Mapping[str, str]) -> int:
    """Print what is missing and why; the exit code."""
    for name, why in missing.items():
        print(f"missing: {name}: {why}")
    return 1 if missing else 0


def _show(out: Path) -> None:
    """The figures, and who judged, on the screen."""
    from empathy_lightning.evaluation.result_folder import read_results
    from empathy_lightning.evaluation.result_tables import result_table
    from empathy_lightning.evaluation.run_report import asked_rows

    print(result_table([out], "markdown"), end="")
    for measure, what, fact in asked_rows(read_results(out).metrics):
        print(f"{measure}: {what} {fact}")
    print(f"report: {out / 'report.html'}")


def list_measures() -> None:
    """The measures of evaluate run, their arguments, and what each says."""
    from inspect import getdoc

    from empathy_lightning.evaluation.measure_classes import measure_class, own_names, parameters_of

    for name in own_names():
        kind = measure_class(name)
        arguments = []
        for argument, parameter in parameters_of(kind).items():
            needed = parameter.default is parameter.empty
            arguments.append(argument if needed else f"[{argument}]")
        print(f"{name:<20}{(getdoc(kind) or '').splitlines()[0]}")
        if arguments:
            print(f"{'':<20}{' '.join(arguments)}")


def table(
    *folders: Path,
    format: TableFormat = "markdown",
    figures: Annotated[tuple[str, ...], Several] = (),
    spread: SpreadName = "interval",
    out: Path | None = None,
) -> None:
    """Put the figures of several runs side by side.

    Args:
        folders: Of evaluate run.
        format: How the table is written.
        figures: Patterns of suite/measure/figure, such as "*/empathy/*" (default: all figures).
        spread: What stands beside a value: its 95 % interval, the deviation of the replies, or none.
        out: File for the table (default: the screen alone).

    Raises:
        InputError: If a folder holds no results.
    """
    from empathy_lightning.evaluation.result_tables import result_table
    from empathy_lightning.files import check_target, write_text

    check_target(out, [])
    text = result_table(folders, format, figures, spread)
    print(text, end="")
    if out is not None:
        write_text(out, text)


def compare(*folders: Path, test: TestName = "auto", format: TableFormat = "markdown", out: Path | None = None) -> None:
    """Test whether systems differ on the same questions: difference, p, effect size, how many questions it needs.

    Args:
        folders: Of evaluate run, two or more.
        test: Of numbers: auto (McNemar's of 0 and 1, else Wilcoxon's), wilcoxon, or permutation, which swaps whole
            speakers.
        format: How the table is written.
        out: JSON file of the comparisons.

    Raises:
        InputError: If the folders hold answers to other questions, or measures that do not compare.
    """
    from empathy_lightning.evaluation.comparison import as_json, comparison_table
    from empathy_lightning.evaluation.comparison import compare as compared
    from empathy_lightning.files import check_target, write_json

    check_target(out, [])
    found = compared(folders, test)
    print(comparison_table(found, format), end="")
    print(f"\n{_LEGEND}")
    if out is not None:
        write_json(out, as_json(found))


_LEGEND = (
    "* p < 0.05, ** p < 0.01, *** p < 0.001, after Holm's adjustment over the figures and pairs of systems of a "
    "measure; d Cohen's d_z, r rank-biserial, n the questions that a difference of this size needs (power 0.8)"
)


def paper(
    table: Path,
    /,
    *,
    out: Path,
    config: tuple[Path, ...] = (),
    only: Annotated[tuple[str, ...], Several] = (),
    decoding: Annotated[Decoding, Flat] = Decoding(),  # noqa: B008 - frozen
    format: TableFormat = "markdown",
    pages: bool = False,
    trust: Trust = (),
    allow_left_out: AllowLeftOut = 0.01,
) -> int:
    """Make a paper's table: run its systems on its suites, and set ours beside what was published.

    Args:
        table: YAML of the table, or recipe:tables/NAME.
        out: Folder with one of evaluate run for each system, and the table.
        config: YAML over it, for example other models and manifests; may be repeated.
        only: Names of the systems to run; the others' results are taken as they are.
        decoding: How replies are chosen (default: as long as the paper's).
        format: How the table is written.
        pages: Write report.html of each system and suite too.

    Returns:
        0; 1 if a system or a measure is missing, which is said.

    Raises:
        InputError: If the table cannot be read.
    """
    from empathy_lightning.evaluation.paper_run import run_systems, table_rows
    from empathy_lightning.evaluation.paper_table import read_table
    from empathy_lightning.evaluation.table_formats import ENDINGS, FORMATS
    from empathy_lightning.files import check_folder, write_text

    check_folder(out)
    found = read_table([table, *config])
    for name in only:
        if name not in found.systems:
            raise InputError(f"{table} has no system named {name}{meant(name, found.systems)}")
    missing = run_systems(found, out, decoding, trust, only, pages, allow_left_out)
    text = FORMATS[format](*table_rows(found, out))
    file = out / f"table{ENDINGS[format]}"
    write_text(file, text)
    print(f"\n{found.title}; published: {found.source}\n\n{text}\ntable: {file}")
    return _told(missing)


def power(*, effect: float, power: float = 0.8, alpha: float = 0.05) -> None:
    """How many questions it takes to find a difference between two systems.

    Args:
        effect: The difference, divided by the standard deviation of the differences question by question (Cohen's d_z).
        power: Chance to find it.
        alpha: Level of the two-sided test.

    Raises:
        InputError: If a value is out of range.
    """
    from empathy_lightning.evaluation.statistics import utterances_needed

    needed = utterances_needed(effect, power, alpha)
    print("more than ten million" if needed is None else needed)
