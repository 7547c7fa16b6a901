"""``push``: put a checkpoint on the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from empathy_lightning.errors import InputError


def push(
    checkpoint: Path,
    name: str,
    /,
    *,
    backbones: dict[str, str] | None = None,
    figures: Sequence[Path] = (),
    licence: str | None = None,
    private: bool = False,
    branch: str = "main",
    message: str = "Checkpoint of empathy_lightning",
    dry_run: bool = False,
) -> None:
    """Put a checkpoint on the Hub, with a model card of what its folder knows.

    Only its weights, its config.json and training.json, models that lie in it, and the card are sent.

    Args:
        checkpoint: Folder to publish.
        name: USER/NAME; it is made if it is not there.
        backbones: Names on the Hub of backbones that the folder names by folders of this machine, for example
            --backbones.language_model Qwen/Qwen2.5-0.5B-Instruct.
        figures: JSON files that evaluate wrote of this checkpoint, for the card; may be repeated.
        licence: Terms of what was trained, as the Hub names them, for example cc-by-nc-sa-4.0.
        private: Make it so that only you see it.
        branch: Where to write; it is made if it is not there.
        message: Of the commit.
        dry_run: Send nothing: print the card and what would be sent.

    Raises:
        InputError: If the folder names what nobody else has, or the Hub refuses it.
    """
    from empathy_lightning.publishing import published
    from empathy_lightning.publishing import push as send

    if not checkpoint.is_dir():
        raise InputError(f"no checkpoint folder at {checkpoint}")
    if not dry_run:
        address = send(
            checkpoint,
            name,
            backbones=backbones,
            figures=figures,
            licence=licence,
            private=private,
            branch=branch,
            message=message,
        )
        print(address)
        return
    files = published(checkpoint, name, backbones, figures, licence)
    card = files["README.md"]
    print(card.decode() if isinstance(card, bytes) else card)
    print(f"nothing was sent; {name} would hold {', '.join(files)}")
