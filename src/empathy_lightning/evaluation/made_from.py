"""What the figures of a bot were made from, by its content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from empathy_lightning.digests import digest, folder_digest, recordings_digest
from empathy_lightning.hub import local_folder
from empathy_lightning.utterance import Utterance


def recordings_of(utterance: Utterance) -> list[str]:
    """The recordings that a bot hears of an utterance: what is said, and how, where that is another one."""
    return [path for path in (utterance.path, utterance.emotion_path) if path]


def digests_of(checkpoint: Path, manifest: Path, chosen: Sequence[Utterance]) -> dict[str, str]:
    """Digests of the bot's folder, of the manifest, and of the state of the recordings that were heard.

    Args:
        checkpoint: Folder of the bot.
        manifest: From whose folder the recordings are named.
        chosen: Those of its utterances that are measured.
    """
    heard: list[str] = []
    for utterance in chosen:
        heard += recordings_of(utterance)
    return {
        "manifest": digest(manifest),
        "recordings": recordings_digest(heard, manifest.parent),
        "checkpoint": folder_digest(local_folder(checkpoint)),
    }
