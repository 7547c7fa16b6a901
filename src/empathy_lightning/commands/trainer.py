"""``fit``, ``validate`` and ``test``: LightningCLI over the tasks and the one DataModule."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from jsonargparse import ArgumentError, Namespace, get_loader, set_loader
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf.errors import InterpolationResolutionError

# What is imported here, YAML names without its module.
import empathy_lightning.losses
import empathy_lightning.modules.cformer
import empathy_lightning.modules.convolutional_adapter
import empathy_lightning.modules.convolutional_encoder
import empathy_lightning.modules.emotion_nuance
import empathy_lightning.modules.partial_lora
import empathy_lightning.modules.pooled_heads
import empathy_lightning.modules.speech_adapter
import empathy_lightning.modules.speech_decoder
import empathy_lightning.tasks  # noqa: F401
from empathy_lightning.commands import TRAINER_COMMANDS
from empathy_lightning.commands.backbones import add_backbones
from empathy_lightning.commands.configuration import check_paths, learns_emotions, refusal
from empathy_lightning.configurations import expanded
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.errors import InputError
from empathy_lightning.tasks.export import Export
from empathy_lightning.tasks.interruption import StopOnSignal
from empathy_lightning.tasks.run_folder import alone_in_run_folder, enter_run_folder, measure_beside, newest
from empathy_lightning.tasks.run_lines import PartsSummary, ProgressLines
from empathy_lightning.tasks.run_outputs import checkpoints, curve
from empathy_lightning.tasks.task import TrainedPartsTask

# Frozen parts are in eval mode on purpose, folders of another run are refused, `last` may find nothing.
_IDLE_WARNINGS = (
    ".*in eval mode at the start",
    ".*LeafSpec",
    ".*does not have many workers",
    ".*args parameter is intended",
    ".*no last checkpoint available",
    "Checkpoint directory .* exists and is not empty",
    "Experiment logs directory .* exists and is not empty",
)

_TALKATIVE = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.rank_zero",
    "lightning.pytorch.trainer.connectors.checkpoint_connector",
)


_OF_A_FIT = ("best", "hpc", "registry")
"""Names that Lightning knows only while it trains, or of services that are not here."""


class _CLI(LightningCLI):
    def __init__(self, held: ExitStack, **kwargs: Any) -> None:
        self.held = held
        super().__init__(**kwargs)

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
            "--untrained", type=bool, default=False, help="validate and test: measure parts without trained weights"
        )
        parser.add_argument(
            "--again", type=bool, default=False, help="fit: begin anew in the place of the run in the same folders"
        )

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
        out = self._get(self.config_init, "out")
        if out is None:
            return
        given = config["callbacks"]
        added: list[Any] = []
        if not any(isinstance(one, ModelCheckpoint) for one in given) and config["enable_checkpointing"] is not False:
            monitor, every = (self._get(self.config_init, key) for key in ("monitor", "save_every"))
            added += checkpoints(out, monitor, every)
        if not any(isinstance(one, Export) for one in given) and isinstance(self.model, TrainedPartsTask):
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

    def _before_measuring(self) -> None:
        ckpt_path = self._get(self.config_init, "ckpt_path")
        found = newest(self.trainer) if ckpt_path == "last" else ckpt_path
        ours = isinstance(self.model, TrainedPartsTask)
        random = self.model.untrained_parts() if ours and found is None else []
        if random and not self._get(self.config_init, "untrained"):
            raise InputError(
                f"{', '.join(random)} would be measured untrained: give --ckpt_path with the weights of a run, "
                "or --untrained true"
            )
        measure_beside(self.trainer, str(self.subcommand))

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Keep the words, which tell where a value came from, and read what each configuration stands on."""
        self.words: list[str] = sys.argv[1:] if args is None else list(args)
        super().parse_arguments(parser, expanded(self.words))

    def instantiate_classes(self) -> None:
        """Cheap things first: what is missing or mislabelled is said before a model is loaded."""
        given = self.config[self.subcommand]
        check_paths(given)
        if given["ckpt_path"] in _OF_A_FIT:
            raise InputError(f"ckpt_path {given['ckpt_path']}: name the file of the checkpoint, or give last")
        try:
            data = self._parser(self.subcommand).instantiate_classes(Namespace(data=given["data"])).data
        except Exception as error:
            raise refusal(error, self.words) from error
        data.learns_emotions = learns_emotions(given)
        data.setup(self.subcommand)
        try:
            super().instantiate_classes()
        except Exception as error:
            raise refusal(error, self.words) from error
        # The one that has read the corpora already.
        self.datamodule = data
        # Nothing is unpickled: a checkpoint is tensors, numbers and texts.
        self.config_init[self.subcommand]["weights_only"] = True


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


def train(words: list[str] | None) -> int:
    """Run a trainer's command.

    Args:
        words: The command and its options; None takes those of the process.

    Returns:
        Exit code: 0, or 128 + the number of the signal that ended it.

    Raises:
        InputError: If the configuration cannot be used, or a loss is no number.
    """
    for message in _IDLE_WARNINGS:
        warnings.filterwarnings("ignore", message)
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_no_advertisement)
    _read_keys_from_the_root((sys.argv[1:] if words is None else words)[0])
    try:
        _run(words)
    except SIGTERMException:
        return 143
    except SystemExit as ended:
        # Lightning makes an exit of the interruption.
        if isinstance(ended.__context__, KeyboardInterrupt):
            return 130
        if isinstance(ended.code, int) and ended.code > 128:
            return ended.code
        raise
    return 0


def _read_keys_from_the_root(command: str) -> None:
    """Let ``${NAME}`` in a YAML name a key from its root, which the parser puts below the command."""
    read = get_loader("yaml")
    # What was read before is left as it is.
    key = re.compile(rf"\$\{{(?!{command}\.)([a-zA-Z_][\w.]*)\}}")

    def _read(text: str) -> Any:
        return read(key.sub(rf"${{{command}.\1}}", text))

    set_loader("omegaconf+", _read, (yaml.YAMLError,))


def _no_advertisement(record: logging.LogRecord) -> bool:
    """Neither advertisements, nor what a save says of an option that is not the user's."""
    return not any(word in record.getMessage() for word in ("litlogger", "litmodels", "`weights_only` was not set"))


def _run(words: list[str] | None) -> None:
    parsing = {"parser_mode": "omegaconf+", "exit_on_error": False}
    try:
        with ExitStack() as held:
            _CLI(
                held=held,
                datamodule_class=EmpathyDataModule,
                subclass_mode_model=True,
                save_config_kwargs={"overwrite": True},
                parser_kwargs={**parsing, **{command: parsing for command in TRAINER_COMMANDS}},
                seed_everything_default=0,
                trainer_defaults={
                    "use_distributed_sampler": False,
                    "enable_model_summary": False,
                    "callbacks": [PartsSummary()],
                },
                args=words,
            )
    except ArgumentError as error:
        raise refusal(error, sys.argv[1:] if words is None else words) from error
    except InterpolationResolutionError as error:
        # It keeps no cause: the first line tells the reference, or why a size could not be read from its model.
        reason = str(error).partition("\n")[0].rpartition(" raised while resolving interpolation: ")[2]
        raise InputError(reason) from error
