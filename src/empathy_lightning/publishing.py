"""Put a checkpoint folder on the Hub, with a model card; what nobody else could load is refused before."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, constants
from huggingface_hub.errors import HfHubHTTPError

from empathy_lightning.checkpoint_backbones import backbones_in, chosen, warn_of_others
from empathy_lightning.errors import InputError
from empathy_lightning.folders import read_folder
from empathy_lightning.hub import FETCHED, MODEL_NAME
from empathy_lightning.model_card import model_card
from empathy_lightning.modules.pretrained import shipped
from empathy_lightning.parts import entries


def push(
    folder: Path,
    name: str,
    *,
    backbones: Mapping[str, str] | None = None,
    figures: Sequence[Path] = (),
    licence: str | None = None,
    private: bool = False,
    branch: str = "main",
    message: str = "Checkpoint of empathy_lightning",
) -> str:
    """Publish a checkpoint folder: its two files, what was told of its training, models that it brings, and a card.

    Args:
        folder: Written by a trainer or a converter.
        name: ``user/name``; is made if it is not there.
        backbones: Names on the Hub of backbones that the folder names by folders of this machine, by the parts' names.
        figures: JSON files of ``evaluate``, for the card.
        licence: The Hub's identifier of the terms of what was trained, for the card.
        private: Whether only its owner sees it, where it is made.
        branch: Is made if it is not there.
        message: Of the commit.

    Returns:
        The address of the commit.

    Raises:
        InputError: If the folder cannot be used, names what nobody else has, or the Hub refuses it; one line.
    """
    files = published(folder, name, backbones, figures, licence)
    api = HfApi()
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    try:
        api.create_repo(name, private=private or None, exist_ok=True)
        if branch != "main":
            api.create_branch(name, branch=branch, exist_ok=True)
        return str(api.create_commit(name, operations, commit_message=message, revision=branch).commit_url)
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise InputError(
                f"{name}: you may not write there: log in with a token that may (`hf auth login`)"
            ) from None
        raise InputError(f"{name} cannot be written to {constants.ENDPOINT}: {str(error).splitlines()[0]}") from None
    except Exception as error:  # Of the network anything may be raised.
        reason = str(error).partition("\n")[0]
        raise InputError(f"{name} cannot be written to {constants.ENDPOINT}: {reason}") from None


def published(
    folder: Path,
    name: str,
    backbones: Mapping[str, str] | None = None,
    figures: Sequence[Path] = (),
    licence: str | None = None,
) -> dict[str, bytes | str]:
    """What :func:`push` would write: paths, and contents or the files that hold them.

    Raises:
        InputError: As there.
    """
    if not MODEL_NAME.fullmatch(name):
        raise InputError(f"{name} is no name for the Hub: give USER/NAME")
    config, _ = read_folder(folder)
    config["model"] = _named(config, folder, backbones or {})
    licences = _ask_the_hub(config["model"])
    named = {found["name_or_path"] for _, found in backbones_in(config["model"])}
    card = model_card(folder, name, config, figures, licence, licences)
    files: dict[str, bytes | str] = {
        "README.md": card.encode(),
        "config.json": (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode(),
    }
    for path in ("model.safetensors", "training.json", *_brought_along(folder, named)):
        if (folder / path).is_file():
            files[path] = str(folder / path)
    return files


def _named(config: dict[str, Any], folder: Path, backbones: Mapping[str, str]) -> dict[str, Any]:
    """The folder's entry with names that others can follow.

    Raises:
        InputError: If one is left that they cannot.
    """
    given = chosen(config["model"], folder, backbones)
    warn_of_others(given, "", config.get("backbones", {}), folder)
    renamed = {path: found for path, found in backbones_in(given) if _was_given(path, backbones)}
    for path, found in backbones_in(config["model"]):
        if path in renamed:
            found |= {key: renamed[path][key] for key in ("name_or_path", "revision")}
        name = found["name_or_path"]
        inside = not os.path.isabs(name) and (folder / name).is_dir()
        ours = shipped(name) != name
        if not inside and not ours and (Path(name).is_dir() or not MODEL_NAME.fullmatch(name)):
            part = path.rpartition(".")[2]
            raise InputError(
                f"{part} is the folder {name} of this machine, which nobody else has: give --backbones.{part} USER/NAME"
            )
    for path, found in entries(config["model"]):
        for argument, value in found["init_args"].items():
            if isinstance(value, str) and os.path.isabs(value):
                raise InputError(f"{folder}/config.json: {path}.{argument} is {value}, which nobody else has")
    return dict(config["model"])


def _was_given(path: str, backbones: Mapping[str, str]) -> bool:
    return path in backbones or path.rpartition(".")[2] in backbones


def _ask_the_hub(model: dict[str, Any]) -> dict[str, str | None]:
    """Licences of an entry's backbones by name; a revision that is no commit yet becomes the one that it is now."""
    licences: dict[str, str | None] = {}
    for _, found in backbones_in(model):
        name = found["name_or_path"]
        if not MODEL_NAME.fullmatch(name) or shipped(name) != name:
            continue
        try:
            about = HfApi().model_info(name, revision=found.get("revision"), timeout=10.0)
        except Exception:  # Of the network anything may be raised; the card says that it is not recorded.
            continue
        found["revision"] = about.sha
        licences[name] = None if about.card_data is None else about.card_data.get("license")
    return licences


def _brought_along(folder: Path, names: set[str]) -> Iterator[str]:
    """Files of the models that lie in the folder."""
    for name in sorted(names):
        # Of a name on the Hub there is no folder, and nothing comes.
        for path in sorted((folder / name).rglob("*")):
            if path.is_file() and any(fnmatch(path.name, pattern) for pattern in FETCHED):
                yield path.relative_to(folder).as_posix()
