"""``fit``, ``validate`` and ``test``: LightningCLI over the tasks and the one DataModule."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import yaml  # type: ignore[import-untyped]
from jsonargparse import ArgumentError, get_loader, set_loader
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf.errors import InterpolationResolutionError
from torch import distributed

from empathy_lightning.commands.backbones import known_sizes
from empathy_lightning.commands.configuration_errors import refusal
from empathy_lightning.commands.trainer_cli import ParsedOnly, TrainerCLI
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.errors import InputError
from empathy_lightning.tasks.run_lines import PartsSummary
from empathy_lightning.tasks.run_log import SettingsLog

# Frozen parts are in eval mode on purpose, folders of another run are refused, `last` may find nothing.
_IDLE_WARNINGS = (
    ".*in eval mode at the start",
    ".*LeafSpec",
    ".*does not have many workers",
    ".*is smaller than the logging interval",
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

_IDLE_LINES = ("litlogger", "litmodels", "`weights_only` was not set", "TPU available", "Loading `train_dataloader`")


def train(words: list[str]) -> int:
    """Run a trainer's command.

    Args:
        words: The command and its options.

    Returns:
        Exit code: 0, or 128 + the number of the signal that ended it.

    Raises:
        InputError: If the configuration cannot be used, or a loss is no number.
    """
    _make_ready(words)
    try:
        _run(words, TrainerCLI)
    except SIGTERMException:
        return 143
    except SystemExit as ended:
        # Lightning makes an exit of the interruption.
        if isinstance(ended.__context__, KeyboardInterrupt):
            return 130
        if isinstance(ended.code, int) and ended.code > 128:
            return ended.code
        raise
    finally:
        _leave_the_others()
    return 0


def configuration_of(words: list[str]) -> Any:
    """What a trainer's command would be configured with; no model is built, and no corpus is read.

    Args:
        words: The command and its options.

    Raises:
        InputError: If the configuration cannot be used.
    """
    _make_ready(words)
    return _run(words, ParsedOnly).config[words[0]]


def _make_ready(words: list[str]) -> None:
    for message in _IDLE_WARNINGS:
        warnings.filterwarnings("ignore", message)
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_no_advertisement)
    _read_keys_from_the_root(words[0], known_sizes(words))


def _leave_the_others() -> None:
    """End gloo's threads, which abort a process that exits before them; Lightning ends NCCL's itself."""
    if distributed.is_available() and distributed.is_initialized() and distributed.get_backend() == "gloo":
        distributed.destroy_process_group()


def _read_keys_from_the_root(command: str, sizes: Mapping[str, int]) -> None:
    """Let ``${NAME}`` in a YAML name a key from its root, which the parser puts below the command.

    Args:
        command: The trainer's.
        sizes: Of the backbones, which stand in the place of ``${backbones.SIZE}``.
    """
    read = get_loader("yaml")
    # What was read before is left as it is.
    key = re.compile(rf"\$\{{(?!{command}\.)([a-zA-Z_][\w.]*)\}}")

    def _meant(match: re.Match[str]) -> str:
        size = sizes.get(match[1].removeprefix("backbones."))
        return f"${{{command}.{match[1]}}}" if size is None else str(size)

    def _read(text: str) -> Any:
        return read(key.sub(_meant, text))

    set_loader("omegaconf+", _read, (yaml.YAMLError,))


def _no_advertisement(record: logging.LogRecord) -> bool:
    """Neither advertisements, nor what concerns Lightning's own options and other people's processors."""
    return not any(word in record.getMessage() for word in _IDLE_LINES)


def _run(words: list[str], kind: type[TrainerCLI]) -> TrainerCLI:
    # A slip of the pen that begins as an option does is no option.
    parsing = {"parser_mode": "omegaconf+", "exit_on_error": False, "allow_abbrev": False}
    try:
        with ExitStack() as held:
            return kind(
                command=words[0],
                held=held,
                datamodule_class=EmpathyDataModule,
                subclass_mode_model=True,
                save_config_callback=SettingsLog,
                save_config_kwargs={"overwrite": True},
                parser_kwargs={**parsing, words[0]: parsing},
                seed_everything_default=0,
                trainer_defaults={
                    "use_distributed_sampler": False,
                    "enable_model_summary": False,
                    "callbacks": [PartsSummary()],
                },
                args=words,
            )
    except ArgumentError as error:
        raise refusal(error, words) from error
    except InterpolationResolutionError as error:
        # It keeps no cause: the first line tells the reference, or why a size could not be read from its model.
        reason = str(error).partition("\n")[0].rpartition(" raised while resolving interpolation: ")[2]
        raise InputError(reason) from error
