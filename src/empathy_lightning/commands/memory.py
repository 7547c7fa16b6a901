"""``memory``: what a training needs, by arithmetic, and whether it fits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def memory(
    *words: Annotated[str, Parameter(allow_leading_hyphen=True)],
    gpu: float | None = None,
    reserve: float = 1.5,
    seconds: float | None = None,
    reply_tokens: int = 64,
    units: int | None = None,
    out: Path | None = None,
) -> int:
    """Say what memory a training takes, and whether it fits: CONFIG... and values as fit takes them.

    Args:
        words: YAML files or recipe:NAME, later ones over earlier ones, and values such as --data.batch_size=4.
        gpu: GiB of the GPU on which it is to fit; what could be changed is said where it does not.
        reserve: GiB of it for the driver's context and what the allocator cannot use.
        seconds: Of each utterance of the largest batch (default: batch_seconds over batch_size, 10 without a size).
        reply_tokens: Of each reply.
        units: Of each reply's speech (default: what the schedule writes for its tokens).
        out: JSON file for the figures.

    Returns:
        0; 1 if it does not fit.

    Raises:
        InputError: If the configuration cannot be used, or its parts are not known.
    """
    from empathy_lightning.commands.memory_report import report

    return report(words, gpu, reserve, seconds, reply_tokens, units, out)
