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


def add_again(command: argparse.ArgumentParser) -> None:
    """Add the option of every command that keeps what is there if it was made from the same, and else refuses it."""
    command.add_argument(
        "--again", action="store_true", help="make --out anew, whatever it was made from (default: refuse another)"
    )
