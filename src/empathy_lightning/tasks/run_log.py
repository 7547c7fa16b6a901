"""What a run tells its loggers beside its figures: its settings, the learning rate, gradients, confusion and sounds."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from torch import Tensor, nn

from empathy_lightning.audio import SAMPLE_RATE
from empathy_lightning.data.batch import SpeechBatch

_LONGEST = 1_000
"""Most characters of a setting that is logged."""


class RunLog(L.Callback):
    """Logs the learning rate and the norm of the gradients before they are clipped, and of each validation pictures.

    The pictures go to TensorBoard and Weights & Biases, which can show them: the confusion of the emotions (rows: the
    labels; columns: what was heard), and the first recordings with label and what was heard in them. Others get the
    figures alone.

    Args:
        confusion: Whether the confusion is logged.
        recordings: How many recordings are logged.
    """

    def __init__(self, confusion: bool = True, recordings: int = 4) -> None:
        self.confusion = confusion
        self.recordings = recordings
        self._counts = torch.zeros(0, 0)
        self._heard: list[tuple[str, Tensor, str]] = []
        self._emotions: tuple[str, ...] = ()
        self._hook: Any = None

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log the rate of the step that is about to be made, and its gradients."""
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        figures = {
            "learning_rate": torch.tensor(float(optimizer.param_groups[0]["lr"])),
            "gradient_norm": nn.utils.get_total_norm(gradients).float(),
        }
        pl_module.log_dict(figures, on_step=True, on_epoch=False)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen to what the model makes of the batches, where there is a logger that shows it."""
        model = getattr(pl_module, "model", None)
        if not trainer.sanity_checking and _showing(trainer) and isinstance(model, nn.Module):
            self._heard = []
            self._emotions = tuple(getattr(model, "emotions", ()))
            size = len(self._emotions)
            self._counts = torch.zeros(size, size, dtype=torch.long, device=pl_module.device)
            self._hook = model.register_forward_hook(self._note)

    def _note(self, model: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        # By a hook, since a callback is not given what the model made of a batch.
        emotion = getattr(output, "emotion", None)
        batch = given[0] if given else None
        if emotion is None or not self._emotions or not isinstance(batch, SpeechBatch):
            return
        found = emotion.logits.detach().argmax(-1)
        size = len(self._emotions)
        labelled = batch.emotion >= 0
        pairs = batch.emotion[labelled] * size + found[labelled]
        self._counts += torch.bincount(pairs, minlength=size * size).view(size, size)
        for row in range(min(len(batch), self.recordings - len(self._heard))):
            waveform = batch.waveform[row, : batch.lengths[row]].detach().float().cpu()
            label = batch.emotions[row] or "no label"
            self._heard.append((batch.ids[row], waveform, f"{label}, heard: {self._emotions[int(found[row])]}"))

    def on_validation_epoch_end(self, trainer: Any, pl_module: L.LightningModule) -> None:
        """Show confusion and recordings."""
        if self._hook is None:
            return
        self._hook.remove()
        self._hook = None
        if self.confusion and self._emotions:
            # Every process has heard its own share, perhaps nothing.
            counts = trainer.strategy.reduce(self._counts, reduce_op="sum")
            if trainer.is_global_zero and counts.any():
                _show_confusion(trainer, counts.cpu(), self._emotions)
        if trainer.is_global_zero:
            _show_recordings(trainer, self._heard)


class SettingsLog(SaveConfigCallback):
    """The configuration: ``config.yaml`` in the run's folder, and its values as hyperparameters of the loggers."""

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give the loggers the values by their names; a CSV logger has the file beside it."""
        if stage != "fit":
            return
        values = dict(flattened(self.config.as_dict()))
        for logger in trainer.loggers:
            if not isinstance(logger, CSVLogger):
                logger.log_hyperparams(values)


def flattened(values: Any, name: str = "") -> list[tuple[str, Any]]:
    """Numbers and texts of nested values, by their names with dots.

    >>> flattened({"data": {"seed": 1, "corpora": [{"path": "m.jsonl"}]}})
    [('data.seed', 1), ('data.corpora.0.path', 'm.jsonl')]
    """
    below: Any = ()
    if isinstance(values, dict):
        below = values.items()
    elif isinstance(values, list | tuple):
        below = enumerate(values)
    elif isinstance(values, bool | int | float):
        return [(name, values)]
    elif values is not None:
        return [(name, str(values)[:_LONGEST])]
    found: list[tuple[str, Any]] = []
    for key, value in below:
        found += flattened(value, f"{name}.{key}".lstrip("."))
    return found


def _showing(trainer: L.Trainer) -> list[Any]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger | WandbLogger)]


def _show_confusion(trainer: L.Trainer, counts: Tensor, emotions: tuple[str, ...]) -> None:
    figure = _drawn(counts, emotions)
    for logger in _showing(trainer):
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure("validation/confusion", figure, trainer.global_step)
        else:
            logger.log_image("validation/confusion", [figure], step=trainer.global_step)


def _drawn(counts: Tensor, emotions: tuple[str, ...]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 + 0.7 * len(emotions), 1 + 0.7 * len(emotions)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts / counts.sum(1, keepdim=True).clamp(min=1), cmap="Blues", vmin=0, vmax=1)
    places = range(len(emotions))
    axes.set_xticks(places, emotions, rotation=45, ha="right")
    axes.set_yticks(places, emotions)
    axes.set(xlabel="heard", ylabel="label")
    for row in places:
        for column in places:
            axes.text(column, row, str(int(counts[row, column])), ha="center", va="center", color="tab:orange")
    return figure


def _show_recordings(trainer: L.Trainer, heard: list[tuple[str, Tensor, str]]) -> None:
    if not heard:
        return
    for logger in _showing(trainer):
        if isinstance(logger, TensorBoardLogger):
            for place, (id, waveform, said) in enumerate(heard):
                name = f"validation/recording {place}"
                logger.experiment.add_audio(name, waveform[None], trainer.global_step, SAMPLE_RATE)
                logger.experiment.add_text(name, f"{id}: {said}", trainer.global_step)
        else:
            sounds = [waveform.numpy() for _, waveform, _ in heard]
            captions = [f"{id}: {said}" for id, _, said in heard]
            rates = [SAMPLE_RATE] * len(sounds)
            logger.log_audio(
                "validation/recordings", sounds, step=trainer.global_step, sample_rate=rates, caption=captions
            )
