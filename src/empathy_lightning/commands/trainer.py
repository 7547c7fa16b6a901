"""``fit``, ``validate`` and ``test``: LightningCLI over the tasks and the one DataModule."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Any

from jsonargparse import ArgumentError, set_parsing_settings
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningCLI

import empathy_lightning.tasks  # noqa: F401 - lets YAML name the tasks without their modules
from empathy_lightning.commands import TRAINER_COMMANDS
from empathy_lightning.datamodule import EmpathyDataModule
from empathy_lightning.errors import InputError, mendable


@dataclass
class Backbones:
    """Frozen models of a run and the sizes that follow from them; ``${backbones.NAME}`` anywhere in a YAML reads them.

    Attributes:
        speech_encoder: Folder or model id of a Whisper model.
        frame_size: Width of its encoder.
        language_model: Folder or model id of a causal language model.
        embedding_size: Width of its embeddings.
        vocabulary_size: Rows of its embedding matrix.
        end_token_id: Id of the token that ends the units.
        emotion_encoder: Folder or model id of a wav2vec 2.0 emotion model.
        emotion_size: Width of its frames.
    """

    speech_encoder: str | None = None
    frame_size: int | None = None
    language_model: str | None = None
    embedding_size: int | None = None
    vocabulary_size: int | None = None
    end_token_id: int | None = None
    emotion_encoder: str | None = None
    emotion_size: int | None = None


class _CLI(LightningCLI):
    def add_arguments_to_parser(self, parser: Any) -> None:
        """Let a YAML name its backbones once."""
        parser.add_class_arguments(Backbones, "backbones")

    def instantiate_classes(self) -> None:
        """Before anything runs, a value that a class refuses is one of the configuration's."""
        try:
            super().instantiate_classes()
        except (ValueError, MisconfigurationException) as error:
            raise mendable(error) or InputError(str(error)) from error


def train(words: list[str] | None) -> None:
    """Run a trainer's command.

    Args:
        words: The command and its options; None takes those of the process.

    Raises:
        InputError: If the configuration cannot be used.
    """
    # Frozen parts are in eval mode on purpose; the other two are the trainer's own affairs.
    for message in (".*in eval mode at the start", ".*LeafSpec", ".*does not have many workers"):
        warnings.filterwarnings("ignore", message)
    # Absolute keys in ${...} stay right under the subcommand, and see overrides from the command line.
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)

    parsing = {"parser_mode": "omegaconf+", "exit_on_error": False}
    try:
        _CLI(
            datamodule_class=EmpathyDataModule,
            subclass_mode_model=True,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={**parsing, **{command: parsing for command in TRAINER_COMMANDS}},
            seed_everything_default=0,
            trainer_defaults={"use_distributed_sampler": False},
            args=words,
        )
    except ArgumentError as error:
        if mendable(error) is not None:
            raise
        raise InputError(f"{_reason(str(error))} (see `empathy-lightning fit --help`)") from None


def _reason(message: str) -> str:
    """The line that matters of the parser's report, which tells of each type that a value might have had."""
    lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    keys: list[str] = []
    for line in lines:
        if match := re.match(r'Parser key "(.+)":$', line):
            keys.append(match[1])
        elif "not accepted" in line or ("Expected" in line and "NoneType" not in line):
            return f"{'.'.join(keys)}: {line}"
    return " ".join(lines)
