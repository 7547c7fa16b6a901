"""``fit``, ``validate`` and ``test``: their words go to the trainer's own parser, which loads what they name."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

Words = Annotated[str, Parameter(allow_leading_hyphen=True)]


def fit(*words: Words) -> int:
    """Train: --config FILE.yaml and any of its values, see fit --help."""
    return _train("fit", words)


def validate(*words: Words) -> int:
    """Measure on the validation split: --config FILE.yaml --ckpt_path FILE, see validate --help."""
    return _train("validate", words)


def test(*words: Words) -> int:
    """Measure on the test split: --config FILE.yaml --ckpt_path FILE, see test --help."""
    return _train("test", words)


def _train(command: str, words: tuple[str, ...]) -> int:
    from empathy_lightning.commands.trainer import train

    return train([command, *words])
