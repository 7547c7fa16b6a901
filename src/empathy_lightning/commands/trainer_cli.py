"""What a trainer's command line takes, and what is looked at before a model is loaded."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jsonargparse import ActionYesNo, Namespace
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningCLI

# What is imported here, YAML names without its module.
import empathy_lightning.losses
import empathy_lightning.modules.cformer
import empathy_lightning.modules.convolutional_adapter
import empathy_lightning.modules.convolutional_encoder
import empathy_lightning.modules.emotion_nuance
import empathy_lightning.modules.layer_statistics
import empathy_lightning.modules.partial_lora
import empathy_lightning.modules.pooled_heads
import empathy_lightning.modules.speech_adapter
import empathy_lightning.modules.speech_decoder
import empathy_lightning.modules.vocoder
import empathy_lightning.tasks  # noqa: F401
from empathy_lightning.commands.backbones import add_backbones
from empathy_lightning.commands.configuration_errors import check_paths, refusal
from empathy_lightning.configurations import expanded
from empathy_lightning.errors import InputError
from empathy_lightning.kept_speech import keep_encoded
from empathy_lightning.tasks.before_loading import (
    check_kept,
    check_loss_weights,
    check_sizes,
    learns_emotions,
    trained_task,
    untrained_parts,
)
from empathy_lightning.tasks.checkpoint_file import read_checkpoint
from empathy_lightning.tasks.export import Export
from empathy_lightning.tasks.interruption import StopOnSignal
from empathy_lightning.tasks.run_folder import (
    alone_in_run_folder,
    check_run_folder,
    enter_run_folder,
    measure_beside,
    newest,
)
from empathy_lightning.tasks.run_lines import ProgressLines
from empathy_lightning.tasks.run_log import RunLog
from empathy_lightning.tasks.run_outputs import checkpoints, curve
from empathy_lightning.tasks.task import TrainedPartsTask

_OF_A_FIT = ("best", "hpc", "registry")
"""Names that Lightning knows only while it trains, or of services that are not here."""


class TrainerCLI(LightningCLI):
    """The parser and the way of a trainer's command.

    Args:
        command: The trainer's command; a parser is built for it alone.
        held: What is kept until the command ends: the lock of the run's folders.
        **kwargs: Of Lightning's own.
    """

    def __init__(self, command: str, held: ExitStack, **kwargs: Any) -> None:
        self.command = command
        self.held = held
        super().__init__(**kwargs)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The one that is asked for, with the arguments that are not for users."""
        return {self.command: LightningCLI.subcommands()[self.command]}

    def add_arguments_to_parser(self, parser: Any) -> None:
        """What a YAML says once, and two things that are refused unless asked for."""
        add_backbones(parser)
        parser.add_argument(
            "--out",
            type=str | None,
            help="folder of the trained weights; curve, configuration and checkpoints go to logs/NAME beside it. "
            "Loggers, ModelCheckpoint and Export that the trainer is given itself stay in their places",
        )
        parser.add_argument(
            "--monitor",
            type=str | None,
            default="validation/loss",
            help="with out: the figure that is least for the best weights; null takes the last ones",
        )
        parser.add_argument(
            "--save_every", type=int, default=200, help="with out: optimiser steps from one last.ckpt to the next"
        )
        parser.add_argument(
            "--keep_encoded",
            type=str | None,
            help="folder where what the frozen speech encoder makes of speech is kept, for all runs and stages",
        )
        asked_for = {"action": ActionYesNo, "nargs": "?", "default": False}
        parser.add_argument("--untrained", **asked_for, help="validate and test: measure parts without trained weights")
        parser.add_argument("--again", **asked_for, help="fit: begin anew in the place of the run in the same folders")

    def before_instantiate_classes(self) -> None:
        """A measurement's configuration lies beside the one of the training."""
        if self.subcommand != "fit":
            self.save_config_kwargs = {**self.save_config_kwargs, "config_filename": f"{self.subcommand}.config.yaml"}

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Lines instead of a bar where no terminal is attached, and signals obeyed after all other callbacks."""
        config = self._get(self.config_init, "trainer")
        chosen = config["callbacks"] or []
        config["callbacks"] = chosen if isinstance(chosen, list) else [chosen]
        self._add_outputs(config)
        if config["logger"] is not False and not any(isinstance(call, RunLog) for call in config["callbacks"]):
            config["callbacks"].append(RunLog())
        bar = any(isinstance(callback, ProgressBar) for callback in config["callbacks"])
        if not bar and config["enable_progress_bar"] is not False and not sys.stdout.isatty():
            config["callbacks"].append(ProgressLines())
        trainer: Any = super().instantiate_trainer(**kwargs)
        if trainer.fast_dev_run:
            # Lightning's own saves last.ckpt at the end of a dry run, over a real one's.
            trainer.callbacks = [call for call in trainer.callbacks if not isinstance(call, ModelCheckpoint)]
        trainer.callbacks.append(StopOnSignal())
        return trainer

    def _add_outputs(self, config: Any) -> None:
        """Give the trainer what writes a run's folders, but for what it was given itself or is to do without."""
        chosen = self.config[self.subcommand]
        out = chosen["out"]
        if out is None:
            return
        given = config["callbacks"]
        saves = any(isinstance(callback, ModelCheckpoint) for callback in given)
        exports = any(isinstance(callback, Export) for callback in given)
        added: list[Any] = []
        if not saves and config["enable_checkpointing"] is not False:
            added += checkpoints(out, chosen["monitor"], chosen["save_every"])
        if not exports and trained_task(chosen) is not None:
            added.append(Export(out))
        # Before the user's own, which may save what these have noted.
        config["callbacks"] = [*added, *given]
        if config["logger"] is None:
            config["logger"] = curve(out)

    def before_fit(self) -> None:
        """One run for each folder, and one at a time."""
        self.held.enter_context(alone_in_run_folder(self.trainer))
        again = self._get(self.config_init, "again")
        enter_run_folder(self.trainer, self._get(self.config_init, "ckpt_path"), again)

    def after_fit(self) -> None:
        """Say where everything is."""
        trainer: Any = self.trainer
        # All processes look, since Lightning asks the first one for the folder; the first one speaks.
        lines = [] if trainer.fast_dev_run else places(trainer)
        if lines and trainer.is_global_zero:
            print("\n".join(lines))

    def before_validate(self) -> None:
        """Measure what was trained."""
        self._before_measuring()

    def before_test(self) -> None:
        """Measure what was trained."""
        self._before_measuring()

    def after_validate(self) -> None:
        """Say what was measured."""
        self._tell_figures()

    def after_test(self) -> None:
        """Say what was measured."""
        self._tell_figures()

    def _tell_figures(self) -> None:
        figures: dict[str, Any] = self.trainer.callback_metrics
        if self.trainer.is_global_zero:
            print("\n".join(f"{name:<40} {float(value):8.4f}" for name, value in figures.items()))

    def _before_measuring(self) -> None:
        checkpoint = self._checkpoint()
        if isinstance(self.model, TrainedPartsTask):
            if checkpoint is None:
                self._refuse_untrained(self.model.untrained_parts())
            before = ", ".join(self.model.initial_weights) or "as the model is built"
            if self.trainer.is_global_zero:
                print(f"weights      {before if checkpoint is None else checkpoint}")
        measure_beside(self.trainer, str(self.subcommand))

    def _checkpoint(self) -> str | Path | None:
        """The checkpoint that is asked for, where it is there."""
        given: str | None = self.config[self.subcommand]["ckpt_path"]
        return newest(self.trainer) if given == "last" else given

    def _refuse_untrained(self, parts: list[str]) -> None:
        if parts and not self.config[self.subcommand]["untrained"]:
            raise InputError(
                f"{', '.join(parts)} would be measured untrained: give --ckpt_path with the weights of a run, "
                "or --untrained"
            )

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Keep the words, which tell where a value came from, and read what each configuration stands on."""
        self.words: list[str] = sys.argv[1:] if args is None else list(args)
        super().parse_arguments(parser, expanded(self.words))
        command = self.config["subcommand"]
        file = Path(self.config[command]["ckpt_path"] or "")
        if file.is_file() or (file.name and file.is_dir()):
            # Before Lightning opens it.
            read_checkpoint(file, command == "fit")

    def instantiate_classes(self) -> None:
        """Cheap things first: what is missing or mislabelled is said before a model is loaded."""
        given = self.config[self.subcommand]
        check_paths(given)
        if "://" in (given["out"] or ""):
            raise InputError(
                f"out {given['out']}: give a folder here; ModelCheckpoint and loggers of your own may go elsewhere"
            )
        check_loss_weights(given)
        check_sizes(given)
        check_kept(given, self.subcommand == "fit")
        if given["ckpt_path"] in _OF_A_FIT:
            raise InputError(f"ckpt_path {given['ckpt_path']}: name the file of the checkpoint, or give last")
        first = self._made("data", "trainer")
        data = first[str(self.subcommand)].data
        data.learns_emotions = learns_emotions(given)
        data.setup(self.subcommand)
        self.config_init = first
        try:
            self.trainer = self.instantiate_trainer()
        except Exception as error:
            raise refusal(error, self.words) from error
        self._check_run()
        self.config_init = self._made(*(name for name in vars(given) if name != "trainer"))
        self.model = self._get(self.config_init, "model")
        self._keep_encoded(given["keep_encoded"])
        self._add_configure_optimizers_method_to_model(self.subcommand)
        # The one that has read the corpora already.
        self.datamodule = data
        # Nothing is unpickled: a checkpoint is tensors, numbers and texts.
        self.config_init[self.subcommand]["weights_only"] = True
        if self.subcommand != "fit":
            # Lightning's own table has all digits of a float.
            self.config_init[self.subcommand]["verbose"] = False

    def _keep_encoded(self, folder: str | None) -> None:
        """Let the listener, if there is one, keep what it encodes; what is not written yet is, however this ends."""
        listener = getattr(getattr(self.model, "model", None), "listener", None)
        if folder is not None and listener is not None:
            self.held.callback(keep_encoded(listener, folder).write)

    def _made(self, *names: str) -> Namespace:
        """What the configuration has under these names, built, below the command."""
        given = self.config[self.subcommand]
        wanted = Namespace({name: given[name] for name in names})
        try:
            return Namespace({str(self.subcommand): self._parser(self.subcommand).instantiate_classes(wanted)})
        except Exception as error:
            raise refusal(error, self.words) from error

    def _check_run(self) -> None:
        """What the folders of the run tell: a damaged checkpoint, another run, or no weights to measure."""
        given, found = self.config[self.subcommand], self._checkpoint()
        if isinstance(found, Path):
            read_checkpoint(found, self.subcommand == "fit")
        if self.subcommand == "fit":
            check_run_folder(self.trainer, given["ckpt_path"], given["again"])
        elif found is None and given["ckpt_path"] == "last" and not given["untrained"]:
            raise InputError("ckpt_path last: this run has saved none: look at --out, or give the file of another run")
        elif found is None:
            self._refuse_untrained(untrained_parts(given))


class ParsedOnly(TrainerCLI):
    """Reads a configuration, and leaves it at that."""

    def instantiate_classes(self) -> None:
        """Nothing is built."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""


def places(trainer: Any) -> list[str]:
    """Lines that say where a training has left its folder, its checkpoints and its curves."""
    lines = [f"folder       {call.folder}" for call in trainer.callbacks if isinstance(call, Export)]
    if best := getattr(trainer.checkpoint_callback, "best_model_path", ""):
        lines.append(f"best         {best}")
    if last := newest(trainer):
        lines.append(f"last         {last}")
    if trainer.log_dir is not None and trainer.loggers:
        lines.append(f"curves       {Path(trainer.log_dir)}")
    return lines
