"""The folders of a run: one run each, curves that go on, and measurements beside them."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.rank_zero import _get_rank
from lightning.pytorch.loggers import CSVLogger

from empathy_lightning.errors import InputError
from empathy_lightning.files import check_folder, whole
from empathy_lightning.jobs import locked
from empathy_lightning.tasks.checkpoint_file import read_checkpoint
from empathy_lightning.tasks.export import Export
from empathy_lightning.tasks.interruption import checkpoint_folders

CURVE = "metrics.csv"


_LOCK = ".fit.lock"


@contextmanager
def alone_in_run_folder(trainer: Any) -> Iterator[None]:
    """Keep the folders of the curve and of the checkpoints for this ``fit``; the locks are gone with the process.

    Raises:
        InputError: If another ``fit`` is at work in one of them, or one cannot be made.
    """
    with ExitStack() as held:
        for folder in _to_be_kept(trainer):
            check_folder(folder)
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(_kept(folder))
        yield


def _to_be_kept(trainer: Any) -> list[Path]:
    """Folders that the first process keeps for the run."""
    if trainer.fast_dev_run or (_get_rank() or 0) != 0:
        return []
    return sorted(_written_while_training(trainer))


def _kept(folder: Path) -> AbstractContextManager[None]:
    return locked(folder / _LOCK, f"another fit is at work in {folder}: wait for it, or give other folders")


def _written_while_training(trainer: Any) -> set[Path]:
    """Folders of its own, on a local disk; the exported folder is written at once, in the end."""
    named: list[str | Path] = [logger.log_dir for logger in trainer.loggers if isinstance(logger, CSVLogger)]
    if trainer.checkpoint_callbacks:
        named += checkpoint_folders(trainer)
    return {Path(os.path.abspath(folder)) for folder in named if ":/" not in str(folder)}


def check_run_folder(trainer: Any, ckpt_path: str | None, again: bool) -> None:
    """Before a model is loaded: refuse what :func:`enter_run_folder` will; nothing is made or changed.

    Args:
        trainer: Its callbacks and loggers say where the run writes.
        ckpt_path: Checkpoint to resume from; ``last`` takes the run's own, or begins where there is none.
        again: Begin anew in the place of the run that is there.

    Raises:
        InputError: If another run is there, or at work there.
    """
    for folder in _to_be_kept(trainer):
        check_folder(folder)
        # To try a lock makes its file, and nothing is to be made here.
        if (folder / _LOCK).exists():
            with _kept(folder):
                pass
    if not trainer.fast_dev_run:
        _going_on(trainer, ckpt_path, again)


def enter_run_folder(trainer: Any, ckpt_path: str | None, again: bool) -> None:
    """Before ``fit``: refuse folders of another run, or let the curve of the one that is resumed go on.

    Args:
        trainer: As in :func:`check_run_folder`.
        ckpt_path: As there.
        again: As there.

    Raises:
        InputError: If another run is there.
    """
    if trainer.fast_dev_run:
        return
    resumed = _going_on(trainer, ckpt_path, again)
    if (_get_rank() or 0) != 0:
        return
    if resumed is None:
        trainer.callbacks.insert(0, _BeginAnew())
        return
    steps = read_checkpoint(resumed, fit=True)["global_step"]
    for logger in trainer.loggers:
        if isinstance(logger, CSVLogger):
            _go_on(logger, steps)


def _going_on(trainer: Any, ckpt_path: str | None, again: bool) -> Path | None:
    """The checkpoint of this very run from which it goes on, if any; other runs are refused."""
    if again and ckpt_path == "last":
        raise InputError("--again begins anew, --ckpt_path last goes on: give one of them")
    resumed = _resumed(trainer, ckpt_path)
    if resumed is not None or again:
        return resumed
    # A run that was stopped before its first checkpoint has left curves alone, and may begin again.
    taken = next(_saved(trainer), None) if ckpt_path == "last" else _taken(trainer)
    if taken is not None:
        raise InputError(
            f"{taken} is of another run: go on with --ckpt_path last, begin anew in its place with --again, "
            "or give other folders"
        )
    return None


class _BeginAnew(L.Callback):
    """When training really begins, the checkpoints of the run before go: a later ``last`` must not find them."""

    def on_train_start(self, trainer: Any, pl_module: L.LightningModule) -> None:
        """Remove them on the first process, but for the best ones that a run from elsewhere has brought along."""
        if not trainer.is_global_zero:
            return
        brought = {getattr(callback, "best_model_path", "") for callback in trainer.checkpoint_callbacks}
        for path in list(_saved(trainer)):
            if str(path) not in brought:
                # Two callbacks may share a folder.
                path.unlink(missing_ok=True)


def measure_beside(trainer: Any, command: str) -> None:
    """Before ``validate`` and ``test``: let CSV loggers write into a folder of that name inside the run's."""
    loggers = []
    for logger in trainer.loggers:
        if isinstance(logger, CSVLogger) and isinstance(logger.version, str):
            logger = CSVLogger(logger.save_dir, logger.name, os.path.join(logger.version, command))
        loggers.append(logger)
    trainer.loggers = loggers


def newest(trainer: Any) -> Path | None:
    """The latest state of the run in the trainer's folders; None if there is none."""
    found: list[Path] = []
    for folder in checkpoint_folders(trainer):
        # A link that leads nowhere is none.
        found += [path for path in folder.glob("last*.ckpt") if path.exists()]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _resumed(trainer: Any, ckpt_path: str | None) -> Path | None:
    """The checkpoint of this very run from which it goes on."""
    # After a job was requeued under SLURM, Lightning takes these up unasked.
    requeued = sorted(Path(trainer.default_root_dir).glob("hpc_ckpt_*.ckpt"), key=lambda path: path.stat().st_mtime)
    if requeued:
        return requeued[-1]
    if ckpt_path == "last":
        return newest(trainer)
    if ckpt_path is None or "://" in ckpt_path:
        return None
    if not Path(ckpt_path).is_file():
        raise InputError(f"no checkpoint at {ckpt_path}")
    path = Path(ckpt_path).resolve()
    own = [folder.resolve() for folder in checkpoint_folders(trainer)]
    own += [Path(logger.log_dir).resolve() for logger in trainer.loggers if getattr(logger, "log_dir", None)]
    return path if any(folder in path.parents for folder in own) else None


def _taken(trainer: Any) -> Path | None:
    """What a run has left where this one is to write; None if there is nothing."""
    curves = [Path(logger.log_dir) / CURVE for logger in trainer.loggers if isinstance(logger, CSVLogger)]
    exports = [Path(call.folder) / "training.json" for call in trainer.callbacks if isinstance(call, Export)]
    for path in (*curves, *exports):
        if path.exists():
            return path
    return next(_saved(trainer), None)


def _saved(trainer: Any) -> Iterator[Path]:
    """Checkpoints in folders that a callback names as its own."""
    for callback in trainer.checkpoint_callbacks:
        folder = getattr(callback, "dirpath", None)
        if folder:
            yield from Path(folder).glob("*.ckpt")


def _go_on(logger: CSVLogger, steps: int) -> None:
    """Keep a curve up to the checkpoint; what came after it will come again."""
    path = Path(logger.log_dir) / CURVE
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        names = list(reader.fieldnames or [])
        means = [name for name in names if name.endswith("_epoch")]
        rows = []
        for row in reader:
            # The end of an epoch comes again where the checkpoint's last step was the epoch's.
            ended = any(row[name] for name in means)
            kept_below = steps - 1 if ended else steps
            if int(row["step"]) < kept_below:
                rows.append(row)
    with whole(path) as partial:
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
        # A new logger deletes the file that is there.
        experiment = logger.experiment
    experiment.metrics_keys = names
