"""Options that several commands share."""

from __future__ import annotations

import argparse


def add_left_out(command: argparse.ArgumentParser) -> None:
    """Let a command that reads utterances be told how many may be left out."""
    command.add_argument(
        "--allow-left-out",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="of the utterances that may be left out though no option asks for it (default %(default)s)",
    )
