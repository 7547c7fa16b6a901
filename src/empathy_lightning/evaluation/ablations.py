"""Train and test a list of variants of one trainer, each in a process of its own, and put their figures side by side.

A list is a YAML file of entries with a ``name``, a ``config`` (a trainer's YAML, relative to the list, or
``recipe:NAME``) and ``overrides`` (what is different, by dotted keys as on the command line).
"""

from __future__ import annotations

import csv
import fcntl
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from empathy_lightning.configurations import RECIPE, layers, located, logs_of, merged, read_yaml
from empathy_lightning.digests import digest
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.ablation_words import word
from empathy_lightning.evaluation.table_formats import markdown
from empathy_lightning.files import write_json, write_text

WEIGHTS = "weights"
"""Folder of a variant's exported weights, inside its own."""

_NEEDED = {"name", "config"}
_KEYS = {*_NEEDED, "overrides", "weights"}


@dataclass
class Ablation:
    """One variant.

    Attributes:
        name: Names its folder and its row in the table.
        config: YAML files of the trainer; later ones override earlier ones.
        overrides: Values by dotted key, for example ``{"model.loss_weights.rating": 0}``; ``{out}`` in a text stands
            for the folder of all variants, where a later stage finds an earlier one's weights.
        weights: What to test instead of training: those of the variant of this name, or ``initial`` for what the
            trainer starts from. None trains.
    """

    name: str
    config: list[str]
    overrides: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None

    def words(self, out: Path) -> list[str]:
        """The overrides as words of the command line; ``out`` takes the place of ``{out}``."""
        folder = str(out.resolve())
        return [word(key, value, folder) for key, value in self.overrides.items()]


def read_ablations(path: Path, extra: Sequence[Path] = ()) -> list[Ablation]:
    """Read a list of variants.

    Args:
        path: YAML file, or ``recipe:NAME``.
        extra: YAML files that override the trainers' own in every variant, for example other models and paths.

    Raises:
        InputError: If the file is missing, an entry is not one, or two have one name.
    """
    path = located(path)
    if not path.is_file():
        raise InputError(f"no list of ablations at {path}")
    rows = read_yaml(path)
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: expected a list of entries with name, config and overrides")
    ablations = [_entry(row, path.parent, f"{path}, entry {number}", extra) for number, row in enumerate(rows, 1)]
    names = [ablation.name for ablation in ablations]
    if len(set(names)) < len(names) or any(Path(name).name != name for name in names):
        raise InputError(f"{path}: names must differ and be fit for folders")
    return ablations


def _entry(row: Any, home: Path, where: str, extra: Sequence[Path]) -> Ablation:
    """A variant from an entry of a list, whose configuration is named from the list's folder."""
    if not (isinstance(row, dict) and _NEEDED <= set(row) <= _KEYS):
        raise InputError(f"{where}: needs name and config, may have overrides and weights")
    named = str(row["config"])
    config = located(named) if named.startswith(RECIPE) else home / named
    if not config.is_file():
        raise InputError(f"{where}: no configuration at {config}")
    files = [str(located(file).resolve()) for file in (config, *extra)]
    return Ablation(str(row["name"]), files, row.get("overrides") or {}, row.get("weights"))


def run_ablations(ablations: Sequence[Ablation], out: Path) -> dict[str, dict[str, float]]:
    """Train and test each variant that is not done yet, and write ``ablations.json`` and ``ablations.md``.

    A variant has a folder with its logs, its weights and, once it is done, ``metrics.json``. One that was stopped
    goes on from its last checkpoint; a trainer that outlived the stop is waited for.

    Args:
        ablations: The variants.
        out: Folder for all of them.

    Returns:
        Test figures by variant; none where it failed.

    Raises:
        InputError: If the folder holds a variant of the same name with other overrides.
    """
    done = {ablation.name: _finished(ablation, out / ablation.name) for ablation in ablations}
    for number, ablation in enumerate(ablations, 1):
        print(f"[{number}/{len(ablations)}] {ablation.name}", end="", flush=True)
        if (finished := done[ablation.name]) is not None:
            print(": done before", flush=True)
            continue
        try:
            finished = _run(ablation, out)
        except InputError as error:
            write_text(out / ablation.name / "output.txt", f"{error}\n")
            finished = None
        outcome = "done" if finished else f"failed, see {out / ablation.name / 'output.txt'}"
        print(f": {outcome}", flush=True)
        done[ablation.name] = finished
    figures = {name: finished or {} for name, finished in done.items()}
    write_json(out / "ablations.json", figures)
    write_text(out / "ablations.md", table(figures))
    return figures


def table(figures: dict[str, dict[str, float]]) -> str:
    """The test figures as a Markdown table, one row a variant."""
    columns = figure_names(figures.values())
    rows = []
    for name, row in figures.items():
        shown = {column: f"{value:.4f}" for column, value in row.items()}
        rows.append([name, *(shown.get(column, "") for column in columns)])
    return markdown(["ablation", *(column.removeprefix("test/") for column in columns)], rows)


def figure_names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of the figures that any of the rows has, in alphabetical order."""
    names: set[str] = set()
    for row in rows:
        names.update(row)
    return sorted(names)


def _finished(ablation: Ablation, folder: Path) -> dict[str, float] | None:
    """The figures of a variant that was run to its end; None if it was not."""
    if (begun := folder / "ablation.json").is_file():
        # What was written is compared with what would be: JSON makes texts of keys and lists of tuples.
        now = json.loads(json.dumps(_described(ablation)))
        then = json.loads(begun.read_text(encoding="utf-8"))
        changed = [name for name in now if then.get(name) != now[name]]
        if changed:
            raise InputError(
                f"{folder} holds another variant of that name ({', '.join(changed)} changed): give another --out, or "
                "remove it"
            )
    path = folder / "metrics.json"
    return json.loads(path.read_text()) if path.is_file() else None


def _described(ablation: Ablation) -> dict[str, Any]:
    """A variant with what it is made from: the content of its configurations and of the manifests they name."""
    made_from: dict[str, str] = {}
    for config in ablation.config:
        made_from |= {str(file): digest(file) for file in layers(config)}
    for corpus in (merged(ablation.config).get("data") or {}).get("corpora") or []:
        arguments = corpus.get("init_args") if isinstance(corpus, dict) else None
        path = (arguments or {}).get("path")
        if isinstance(path, str) and Path(path).is_file():
            made_from[path] = digest(path)
    return {**asdict(ablation), "made_from": made_from}


def _run(ablation: Ablation, out: Path) -> dict[str, float] | None:
    folder = (out / ablation.name).resolve()
    with _alone_in(folder) as lock:
        # The trainer that was waited for may have ended what this process saw unfinished.
        finished = _finished(ablation, folder)
        write_json(folder / "ablation.json", _described(ablation))
        return finished or _fit_and_test(ablation, out, folder, lock)


@contextmanager
def _alone_in(folder: Path) -> Iterator[int]:
    """Wait until no other process works in the folder.

    Yields:
        A file descriptor. A trainer that inherits it keeps the folder for itself, even if this process is killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(": waiting for a trainer that is at work here", end="", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _fit_and_test(ablation: Ablation, out: Path, folder: Path, lock: int) -> dict[str, float] | None:
    words: list[str] = []
    for file in ablation.config:
        words += ["--config", file]
    words += [*redirected(ablation.config, folder), *ablation.words(out)]
    if ablation.weights is None and not (folder / "trained").is_file():
        last = _logs(folder) / "last.ckpt"
        resume = [f"--ckpt_path={last}"] if last.is_file() else ["--again"]
        if not _process(["fit", *words, *resume], folder, lock):
            return None
        # Checkpoints lie there from the first epoch on: only this mark tells that the training came to its end.
        (folder / "trained").touch()
    if ablation.weights == "initial":
        words.append("--untrained")
    else:
        words.append(f"--ckpt_path={_checkpoint((out / (ablation.weights or ablation.name)).resolve())}")
    shutil.rmtree(_logs(folder) / "test", ignore_errors=True)  # what a test that was stopped has left
    if not _process(["test", *words], folder, lock):
        return None
    figures = _test_figures(_logs(folder) / "test" / "metrics.csv")
    if not figures:
        return None
    write_json(folder / "metrics.json", figures)
    return figures


def _checkpoint(folder: Path) -> Path:
    """The best weights of a variant that was trained to its end, or its last."""
    for name in ("best.ckpt", "last.ckpt"):
        if (path := _logs(folder) / name).is_file() and (folder / "trained").is_file():
            return path
    raise InputError(f"no trained weights in {folder}: run that variant first")


def _logs(folder: Path) -> Path:
    """Where a variant's trainer keeps its curve and its checkpoints."""
    return logs_of(folder / WEIGHTS)


def redirected(configs: Sequence[str], folder: Path) -> list[str]:
    """Overrides that put everything a trainer writes below one folder.

    The weights go to ``weights``, the curve and the checkpoints to ``logs/weights``. Callbacks that the configurations
    name themselves stay as they are but for their places: the first of those that save keeps what it watches as
    ``best.ckpt``, others only the last.
    """
    out = folder / WEIGHTS
    callbacks: list[dict[str, Any]] = (merged(configs).get("trainer") or {}).get("callbacks") or []
    savers = 0
    for callback in callbacks:
        arguments = callback.setdefault("init_args", {})
        if callback["class_path"].endswith("ModelCheckpoint"):
            places = {"dirpath": str(logs_of(out)), "filename": "best", "enable_version_counter": False}
            arguments.update(places, save_last=True)
            if savers:
                # It would write over the first one's best.ckpt.
                arguments["save_top_k"] = 0
            savers += 1
        elif "folder" in arguments:
            arguments["folder"] = str(out)
    words = [f"--out={out}", "--trainer.logger=null"]
    return [*words, f"--trainer.callbacks={json.dumps(callbacks)}"] if callbacks else words


def _process(words: Sequence[str], folder: Path, lock: int) -> bool:
    """Run a trainer's command, which holds the lock while it lives; what it prints goes to ``output.txt``."""
    with (folder / "output.txt").open("a", encoding="utf-8") as output:
        command = [sys.executable, "-m", "empathy_lightning", *words]
        trainer = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, pass_fds=[lock])
        try:
            return trainer.wait() == 0
        except KeyboardInterrupt:
            # The trainer was told as well, and saves a checkpoint after its step.
            trainer.wait()
            raise


def _test_figures(path: Path) -> dict[str, float]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    figures: dict[str, float] = {}
    # A row holds what was logged at once, and its other cells are empty.
    for row in rows:
        for key, value in row.items():
            if key.startswith("test/") and value:
                figures[key] = float(value)
    return {key: value for key, value in sorted(figures.items()) if math.isfinite(value)}
