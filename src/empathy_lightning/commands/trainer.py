"""``fit``, ``validate`` and ``test``: LightningCLI over the tasks and the one DataModule."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from typing import Any

from jsonargparse import ArgumentError, Namespace, set_parsing_settings
from lightning.pytorch.cli import LightningCLI

import empathy_lightning.tasks  # noqa: F401 - lets YAML name the tasks without their modules
from empathy_lightning.commands import TRAINER_COMMANDS
from empathy_lightning.commands.configuration import check_paths, refusal
from empathy_lightning.datamodule import EmpathyDataModule


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

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Keep the words, which tell where a value came from."""
        self.words: list[str] = sys.argv[1:] if args is None else list(args)
        super().parse_arguments(parser, args)

    def instantiate_classes(self) -> None:
        """Cheap things first: what is missing or mislabelled is said before a model is loaded."""
        given = self.config[self.subcommand]
        check_paths(given)
        try:
            data = self._parser(self.subcommand).instantiate_classes(Namespace(data=given["data"])).data
        except Exception as error:
            raise refusal(error, self.words) from error
        data.setup(self.subcommand)
        try:
            super().instantiate_classes()
        except Exception as error:
            raise refusal(error, self.words) from error
        # The one that has read the corpora already.
        self.datamodule = data


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
        raise refusal(error, sys.argv[1:] if words is None else words) from error
