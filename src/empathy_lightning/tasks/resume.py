"""Where a resumed run goes on: the trainer's own counters, set so that it repeats nothing and leaves nothing out.

Lightning resumes a checkpoint by the counters of its loops. Of one that was saved before the validation or the end of
an epoch that belongs to it, it leaves these out; and it knows nothing of batches that are no longer the same.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.files import whole


def go_on(trainer: L.Trainer, checkpoint: dict[str, Any]) -> int | None:
    """Let the trainer go on with the utterances that the checkpoint's epoch had left.

    Args:
        trainer: A trainer that fits.
        checkpoint: What it is about to restore; its counters are set in place.

    Returns:
        Batches of the epoch that are done; None where the checkpoint does not say.
    """
    datamodule = getattr(trainer, "datamodule", None)
    if not isinstance(datamodule, EmpathyDataModule) or type(datamodule).__qualname__ not in checkpoint:
        return None
    datamodule.load_state_dict(checkpoint[type(datamodule).__qualname__])
    position, sampler = datamodule.position, datamodule.sampler("train")
    assert position is not None
    batches = _limited(len(sampler), trainer.limit_train_batches)
    done = batches if position.finished else sampler.done(position.epoch)
    loops = checkpoint["loops"]["fit_loop"]
    due = _validation_is_due(trainer, loops, position.epoch, done, batches)
    missing = due and not _was_validated(loops) and (position.finished or done == _processed(loops))
    _set_counters(loops, position.epoch, done, position.finished, missing, due)
    if position.parts[-1][0] != sampler.batching or checkpoint.get("accumulated") != trainer.accumulate_grad_batches:
        _move_schedule(trainer, checkpoint, position.epoch, done, batches)
    return done


def _limited(batches: int, limit: int | float | None) -> int:
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def _processed(loops: dict[str, Any]) -> int:
    """Batches of the epoch; before it begins, the trainer's count is still that of the epoch before."""
    epochs = loops["epoch_progress"]["current"]
    if epochs["started"] < epochs["ready"]:
        return 0
    return int(loops["epoch_loop.batch_progress"]["current"]["processed"])


def _validation_is_due(trainer: L.Trainer, loops: dict[str, Any], epoch: int, done: int, batches: int) -> bool:
    """Whether a validation belongs to this many batches of the epoch."""
    every, interval = trainer.check_val_every_n_epoch, trainer.val_check_interval
    if not trainer.enable_validation or (every is not None and (epoch + 1) % every) or not done:
        return False
    if not isinstance(interval, int | float):
        return False
    between = interval if isinstance(interval, int) else max(1, int(batches * interval))
    earlier = 0
    if every is None:
        # The interval then goes on from epoch to epoch.
        earlier = loops["epoch_loop.batch_progress"]["total"]["processed"] - _processed(loops)
    return bool((earlier + done) % between == 0)


def _was_validated(loops: dict[str, Any]) -> bool:
    """Whether the checkpoint was saved after the validation that belongs to its batches."""
    epochs, batches = loops["epoch_progress"]["current"], loops["epoch_loop.batch_progress"]["current"]
    if epochs["processed"] == epochs["started"] or batches["ready"] > batches["processed"]:
        return True
    validation = loops["epoch_loop.val_loop.batch_progress"]
    ended = validation["is_last_batch"] and validation["current"]["completed"] == validation["current"]["ready"]
    return bool(ended and batches["completed"] == batches["processed"])


def _set_counters(loops: dict[str, Any], epoch: int, done: int, finished: bool, missing: bool, due: bool) -> None:
    """Set the trainer's counters.

    Args:
        loops: The state of the fit loop.
        epoch: The epoch that goes on.
        done: Its batches that were trained on.
        finished: Whether these are all.
        missing: Whether a validation belongs to them that was not made, or not to its end.
        due: Whether a validation belongs to them.
    """
    before = _processed(loops)
    for counts in loops["epoch_progress"].values():
        counts.update(ready=epoch + 1, started=epoch + 1, processed=epoch, completed=epoch)
    progress, validation = loops["epoch_loop.batch_progress"], loops["epoch_loop.val_loop.batch_progress"]
    total = progress["total"]["processed"] - before + done
    # One that is not completed stands for a batch whose end is all that is left: training goes on after it.
    behind = 0 if finished or missing else 1
    progress["total"].update(ready=total, started=total, processed=total, completed=total - behind)
    progress["current"].update(ready=done, started=done, processed=done, completed=done - behind)
    progress["is_last_batch"] = finished
    # One validation batch that began and did not end lets the trainer validate, from the first batch on.
    begun = int(missing)
    validation["total"].update(ready=begun, started=begun, processed=0, completed=0)
    validation["current"].update(ready=0, started=0, processed=0, completed=0)
    validation["is_last_batch"] = not missing
    steps = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]["completed"]
    # The number under which loggers file; the trainer adds the last step to it, unless the epoch ends at once.
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = steps if finished and not due else steps - 1


def _move_schedule(trainer: L.Trainer, checkpoint: dict[str, Any], epoch: int, done: int, batches: int) -> None:
    """Under other batches or processes, the schedule goes on at the same share of the run.

    Where ``max_steps`` ends the run, it is counted in steps and stays where it is.
    """
    per_epoch = math.ceil(batches / trainer.accumulate_grad_batches)
    epochs = math.inf if trainer.max_epochs in (None, -1) else float(trainer.max_epochs or 1)
    if trainer.max_steps != -1 and trainer.max_steps < per_epoch * epochs:
        return
    steps = epoch * per_epoch + math.ceil(done / trainer.accumulate_grad_batches)
    # torch's schedules count the rate of the first step, which is set before it, as a step of their own.
    for schedule in checkpoint.get("lr_schedulers", []):
        schedule.update(last_epoch=steps, _step_count=steps + 1)


def carry_best(trainer: L.Trainer, checkpoint: dict[str, Any]) -> None:
    """Let the best weights of a run that goes on in other folders stay its best until better ones come.

    Lightning forgets their score there. The file is copied into the new folder; where it is gone, a line says so.

    Args:
        trainer: A trainer that fits.
        checkpoint: What it is about to restore; changed in place.
    """
    for callback in trainer.checkpoint_callbacks:
        state = checkpoint.get("callbacks", {}).get(callback.state_key)
        if not isinstance(callback, ModelCheckpoint) or not state or not state.get("best_model_path"):
            continue
        best, folder = Path(state["best_model_path"]), Path(callback.dirpath or ".")
        if best.parent == folder:
            continue
        if not best.is_file():
            state.update(best_model_path="", best_model_score=None, best_k_models={})
            if trainer.is_global_zero:
                print(f"the best weights so far, {best}, are gone: the best counts from here on", flush=True)
            continue
        # The epoch may be validated again, and save a file of the old name.
        kept = folder / f"earlier-{best.name}"
        if trainer.is_global_zero:
            with whole(kept) as partial:
                shutil.copyfile(best, partial)
        score = state["best_model_score"]
        state.update(dirpath=callback.dirpath, best_model_path=str(kept), best_k_models={str(kept): score})
        state.update(kth_best_model_path=str(kept), kth_value=score, last_model_path="")


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are there whole or not at all, wherever a process is killed."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write beside the file and rename; what is not a local file is written as Lightning does.

        Raises:
            InputError: If it cannot be written.
        """
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with whole(Path(path)) as partial:
            torch.save(checkpoint, partial)
