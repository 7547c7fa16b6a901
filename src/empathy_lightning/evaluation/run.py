"""Answer manifests, measure the replies and write the results, so that all of it can be run again.

What was answered lies in shards, and what each measure said of each suite in a file of its own: a run that was stopped,
or one with more measures, goes on from there. A measure that fails leaves the others as they are.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from empathy_lightning.data.reading import read_chosen
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.answering import Answering
from empathy_lightning.evaluation.figures import clusters_of, figures_of, groups_of
from empathy_lightning.evaluation.measure_choice import Choice, build, described
from empathy_lightning.evaluation.measured import Measure, Measured
from empathy_lightning.evaluation.replies import answer_manifest
from empathy_lightning.evaluation.result_folder import keep, kept, prediction, write_predictions
from empathy_lightning.files import check_folder, write_json
from empathy_lightning.hub import local_folder
from empathy_lightning.jobs import digest, folder_digest, locked, recordings_digest, utterances_digest
from empathy_lightning.progress import progress_bar
from empathy_lightning.utterance import Utterance

_ELSEWHERE = "another process measures the replies"


def evaluate_run(
    manifests: Sequence[Path] | Mapping[str, Path],
    out: Path,
    choices: Sequence[Choice],
    answering: Answering | None = None,
    split: str = "test",
    cluster: str = "speaker",
    again: bool = False,
    page: bool = True,
) -> dict[str, str]:
    """Answer, measure and report.

    Args:
        manifests: Questions, perhaps by name; without a bot, the replies themselves.
        out: Folder of the results.
        choices: The measures.
        answering: The bot that answers; None takes the manifests' responses as its replies.
        split: Split to use, or ``all``.
        cluster: Over what intervals are drawn, see :func:`.figures.clusters_of`.
        again: Make the replies and the measures anew.
        page: Write report.html too.

    Returns:
        Why measures are missing, by ``SUITE: MEASURE``; empty where all is there, and for a process that left the
        measuring to another one.

    Raises:
        InputError: If something cannot be used; what was scored is kept.
    """
    clusters_of([], cluster)
    check_folder(out)
    files = _named(manifests)
    context: dict[str, Any] = {}
    if answering is not None:
        context = {"checkpoint": str(answering.checkpoint), "trust": list(answering.trust)}
    measures = build(choices, context)
    read = _answered(files, out, answering, split, again)
    if read is None:
        return {}
    suites = _by_suite(read)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with locked(out / ".measuring.lock", _ELSEWHERE):
            made_from = _made_from(files, answering, choices, split, cluster)
            asked = _asked(suites, measures, choices)
            return _measure_all(suites, out, measures, asked, made_from, cluster, again, page)
    except InputError as error:
        # Under torchrun a process that ends with an error would end the one that measures.
        if str(error) != _ELSEWHERE:
            raise
        print(f"{out}: {_ELSEWHERE}")
        return {}


def _named(manifests: Sequence[Path] | Mapping[str, Path]) -> dict[str, Path]:
    if isinstance(manifests, Mapping):
        return dict(manifests)
    files: dict[str, Path] = {}
    for manifest in manifests:
        other = files.setdefault(manifest.stem, manifest)
        if other is not manifest:
            raise InputError(f"{other} and {manifest} have one name: rename one, results lie under it")
    return files


def _answered(
    files: Mapping[str, Path], out: Path, answering: Answering | None, split: str, again: bool
) -> dict[str, list[Utterance]] | None:
    """The replies by manifest; None while other processes still owe shards."""
    written = dict(files)
    if answering is not None:
        for name, manifest in files.items():
            written[name] = out / "replies" / f"{name}.jsonl"
            answer_manifest(answering, manifest, written[name], split, again)
        # A manifest may have been ended by another process since this one did its share of it.
        if not all(file.is_file() for file in written.values()):
            return None
    found: dict[str, list[Utterance]] = {}
    for name, file in written.items():
        chosen = read_chosen(file, split if answering is None else "all", audio=False)
        found[name] = [u for u in chosen if u.response is not None]
        if not found[name]:
            raise InputError(f"{file} has no responses in split {split}: give --checkpoint to have it answered")
    return found


def _by_suite(read: Mapping[str, Sequence[Utterance]]) -> dict[str, list[Utterance]]:
    """The replies of each suite; of an utterance that names none, the manifest's name stands for it."""
    suites: dict[str, list[Utterance]] = {}
    seen: set[tuple[str, str, str]] = set()
    for name, replies in read.items():
        for reply in replies:
            suite = reply.suite or name
            key = (suite, reply.corpus, reply.id)
            if key in seen:
                raise InputError(f"suite {suite} has {reply.corpus}/{reply.id} in two manifests: give it once")
            seen.add(key)
            suites.setdefault(suite, []).append(reply)
    return suites


def _made_from(
    files: Mapping[str, Path], answering: Answering | None, choices: Sequence[Choice], split: str, cluster: str
) -> dict[str, Any]:
    libraries = {name: version(name) for name in ("empathy_lightning", "torch", "transformers")}
    return {
        "bot": None if answering is None else _bot(answering),
        "manifests": {name: {"path": str(file), "digest": digest(file)} for name, file in files.items()},
        "split": split,
        "measures": described(choices),
        "cluster": cluster,
        "versions": {**libraries, "python": platform.python_version()},
    }


def _asked(
    suites: Mapping[str, Any], measures: Mapping[str, Measure], choices: Sequence[Choice]
) -> list[tuple[str, str]]:
    """Suites with the measures that are asked of them."""
    wanted = dict(zip(measures, choices, strict=True))
    return [(s, name) for s, name in product(suites, measures) if not wanted[name].suites or s in wanted[name].suites]


def _bot(answering: Answering) -> dict[str, Any]:
    checkpoint = answering.checkpoint
    named = {"checkpoint": str(checkpoint), "checkpoint_digest": folder_digest(local_folder(checkpoint))}
    return {**named, **answering.described(), "words": answering.words}


def _measure_all(
    suites: Mapping[str, Sequence[Utterance]],
    out: Path,
    measures: Mapping[str, Measure],
    asked: Sequence[tuple[str, str]],
    made_from: Mapping[str, Any],
    cluster: str,
    again: bool,
    page: bool,
) -> dict[str, str]:
    """Measure, write and report; why measures are missing."""
    by_name = dict(zip(measures, made_from["measures"], strict=True))
    found: dict[str, dict[str, Measured]] = {suite: {} for suite in suites}
    missing: dict[str, str] = {}
    faults: list[Exception] = []
    with progress_bar(total=len(asked), what="measures") as progress:
        for suite, name in asked:
            try:
                replies = suites[suite]
                found[suite][name] = _measured(measures[name], replies, out, suite, by_name[name], again)
            except Exception as error:  # what the others say is to be kept, whatever this one raises
                missing[f"{suite}: {name}"] = f"{' '.join(str(error).split()) or type(error).__name__}"
                if not isinstance(error, InputError | OSError):
                    faults.append(error)
            progress.update()
    metrics = {**made_from, "missing": missing}
    lines = _write(suites, out, measures, found, metrics, cluster)
    if page:
        from empathy_lightning.evaluation.run_report import write_report

        write_report(out / "report.html", metrics, lines)
    if faults:
        raise faults[0]
    return missing


def _measured(
    measure: Measure, replies: Sequence[Utterance], out: Path, suite: str, chosen: Mapping[str, Any], again: bool
) -> Measured:
    """What a measure says of a suite, now or by an earlier run."""
    path = out / "measured" / "{}.{}.json".format(measure.name, re.sub(r"[^\w-]", "_", suite)[:80])
    asks = getattr(measure, "made_from", dict)
    made_from = {"measure": dict(chosen), **asks(), "replies": _replies_digest(replies, out)}
    content = None if again else kept(path, made_from)
    if content is None:
        rows = _rows(measure, replies)
        content = keep(path, made_from, rows.rows, rows.figures)
    return Measured(content["rows"], content["figures"])


def _rows(measure: Measure, replies: Sequence[Utterance]) -> Measured:
    """Measure the replies that have what the measure needs."""
    there = [index for index, reply in enumerate(replies) if all(getattr(reply, name) for name in measure.needs)]
    if not there:
        raise InputError(f"no reply has {', '.join(measure.needs)}, which it needs")
    measured = measure([replies[index] for index in there])
    if len(measured.rows) != len(there):
        raise InputError(f"{measure.name} gave {len(measured.rows)} rows for {len(there)} replies: mend the measure")
    rows: list[dict[str, Any] | None] = [None] * len(replies)
    for index, row in zip(there, measured.rows, strict=True):
        rows[index] = row
    return Measured(rows, dict(measured.figures))


def _replies_digest(replies: Sequence[Utterance], home: Path) -> dict[str, str]:
    heard = [path for reply in replies for path in (reply.path, reply.response_path) if path]
    return {"said": utterances_digest(replies, home), "recordings": recordings_digest(heard, home)}


def _write(
    suites: Mapping[str, Sequence[Utterance]],
    out: Path,
    measures: Mapping[str, Measure],
    found: Mapping[str, Mapping[str, Measured]],
    metrics: dict[str, Any],
    cluster: str,
) -> list[dict[str, Any]]:
    """Write predictions.jsonl, whose lines come back, and metrics.json, which gets the figures."""
    lines = []
    chosen = dict(zip(measures, metrics["measures"], strict=True))
    metrics["suites"] = {}
    for suite, replies in suites.items():
        of_suite: dict[str, Any] = {}
        for name, measured in found[suite].items():
            measure = measures[name]
            of_suite[name] = {
                "figures": figures_of(measure, replies, measured, cluster),
                "groups": groups_of(measure, replies, measured.rows, cluster),
                "made_from": {**chosen[name], **getattr(measure, "made_from", dict)()},
                "lower_is_better": list(getattr(measure, "lower_is_better", ())),
                "ratios": {figure: list(pair) for figure, pair in getattr(measure, "ratios", {}).items()},
            }
        metrics["suites"][suite] = {"replies": len(replies), "measures": of_suite}
        for index, reply in enumerate(replies):
            said = {name: measured.rows[index] for name, measured in found[suite].items()}
            lines.append(prediction(suite, reply, said))
    write_predictions(out, lines)
    write_json(out / "metrics.json", metrics)
    return lines
