"""The backbones that a checkpoint folder names: where they are on this machine, and whether they are the same."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

from empathy_lightning.digests import digest
from empathy_lightning.errors import InputError, meant
from empathy_lightning.modules.model_files import read_json_object, weights_in
from empathy_lightning.modules.pretrained import locate
from empathy_lightning.parts import entries, is_entry, is_loaded

LANGUAGE_MODEL = "responder.language_model"
"""Path of the backbone that ``dtype`` and ``quantization`` concern."""

# A folder of the Hub's cache, as in .../models--openai--whisper-base/snapshots/COMMIT.
_CACHED = re.compile(r"/models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})/?$")


def backbones_in(model: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Paths of the parts that are loaded by name, and the arguments by which they are.

    Args:
        model: Entry of a folder's config.json.
        path: Of that entry in the whole.
    """
    for part, found in entries(model, path):
        if is_loaded(found) and isinstance(found["init_args"].get("name_or_path"), str):
            yield part, found["init_args"]


def portable(found: Any, folder: Path) -> Any:
    """An entry whose backbones are named so that others find them too.

    What lies in the Hub's cache gets its name and commit there; what lies in the folder, or below the working
    directory, is named from there. Other folders of this machine stay as they are.

    Args:
        found: Entry, or another argument, which comes back as it is.
        folder: Where it is to be written.
    """
    if not is_entry(found):
        return found
    arguments = {name: portable(value, folder) for name, value in found["init_args"].items()}
    name = arguments.get("name_or_path")
    if is_loaded(found) and isinstance(name, str) and os.path.isabs(name):
        arguments |= _name_elsewhere(Path(name).resolve(), folder)
    return {"class_path": found["class_path"], "init_args": arguments}


def _name_elsewhere(place: Path, folder: Path) -> dict[str, str]:
    """Arguments by which others find a model; none where it is in a folder that this machine alone has."""
    if cached := _CACHED.search(place.as_posix()):
        return {"name_or_path": f"{cached[1]}/{cached[2]}", "revision": cached[3]}
    for home in (folder.resolve(), Path.cwd()):
        if place.is_relative_to(home) and place != home:
            return {"name_or_path": place.relative_to(home).as_posix()}
    return {}


def found_here(name: str, revision: str | None, folder: Path) -> str:
    """Where a backbone of a folder is.

    Args:
        name: As the folder names it.
        revision: As well; the Hub's models have one.
        folder: Is looked into first; a name without a revision is looked for in the folders above it too, so that a
            project may be moved as a whole.

    Returns:
        A folder, or the name as it is.
    """
    if (folder / name).is_dir():
        return str(folder / name)
    if Path(name).is_dir() or revision is not None or os.path.isabs(name):
        return name
    for home in folder.resolve().parents:
        if (home / name).is_dir():
            return str(home / name)
    return name


def chosen(
    model: dict[str, Any],
    folder: Path,
    backbones: Mapping[str, str] | None = None,
    dtype: str | None = None,
    quantization: str | None = None,
) -> dict[str, Any]:
    """An entry that loads its backbones from where they are, and as is wished.

    Args:
        model: Entry of a folder's config.json, whole.
        folder: Of it.
        backbones: Other names or folders, by the parts' names (``language_model``) or paths; a name of the Hub may
            have a revision behind an @.
        dtype: Precision of the language model, see :meth:`.LanguageModel.from_pretrained`; None as it was trained.
        quantization: Of the language model, likewise.

    Raises:
        InputError: If there is no such backbone, or no language model to have a precision.
    """
    wanted = _by_path(model, backbones or {})
    wishes = {"dtype": dtype, "quantization": quantization}
    wishes = {name: value for name, value in wishes.items() if value is not None}
    if wishes and LANGUAGE_MODEL not in dict(backbones_in(model)):
        raise InputError(f"{folder} has no language model whose {next(iter(wishes))} could be chosen")

    model = deepcopy(model)
    for path, arguments in backbones_in(model):
        if path in wanted:
            arguments["name_or_path"], _, revision = wanted[path].partition("@")
            arguments["revision"] = revision or None
        else:
            arguments["name_or_path"] = found_here(arguments["name_or_path"], arguments.get("revision"), folder)
        if path == LANGUAGE_MODEL:
            arguments |= wishes
    return model


def _by_path(model: dict[str, Any], backbones: Mapping[str, str]) -> dict[str, str]:
    """What was given for each backbone, by its path."""
    paths = [path for path, _ in backbones_in(model)]
    known = {path.rpartition(".")[2]: path for path in paths} | {path: path for path in paths}
    for name in backbones:
        if name not in known:
            raise InputError(f"backbones has no {name!r}: there are {', '.join(known)}{meant(name, known)}")
    return {known[name]: str(place) for name, place in backbones.items()}


def recorded(model: dict[str, Any], folder: Path) -> dict[str, str]:
    """Digests of the weights of an entry's backbones, by path; of those that are on this machine.

    Args:
        model: Entry of a folder's config.json.
        folder: Of it.
    """
    digests = {}
    for path, arguments in backbones_in(model):
        name = found_here(arguments["name_or_path"], arguments.get("revision"), folder)
        if found := weights_digest(name, arguments.get("revision")):
            digests[path] = found
    return digests


def warn_of_others(model: dict[str, Any], path: str, known: Mapping[str, str], name: str | Path) -> None:
    """Say which backbones have other weights than those that a folder was trained around.

    Args:
        model: Entry by which they were loaded.
        path: Of that entry in the whole.
        known: Digests of :func:`recorded`, of the training.
        name: Of the folder, for the message.
    """
    for part, arguments in backbones_in(model, path):
        here = weights_digest(arguments["name_or_path"], arguments.get("revision"))
        if here is not None and known.get(part, here) != here:
            warnings.warn(
                f"{name}: {part} is {arguments['name_or_path']} here, whose weights (sha256 {here[:12]}) are not those "
                f"that it was trained around ({known[part][:12]}): what it hears and says may make no sense",
                stacklevel=2,
            )


def weights_digest(name_or_path: str, revision: str | None = None) -> str | None:
    """SHA-256 over :func:`.digests.digest` of a model's files of weights; None where they are not on this machine.

    Args:
        name_or_path: Folder, shipped backbone, or model id that is in the cache.
        revision: Commit of the model id.
    """
    folder = _folder_of(name_or_path, revision)
    file = None if folder is None else weights_in(folder)
    if folder is None or file is None:
        return None
    shards = [file]
    if file.suffix == ".json":
        names = set(read_json_object(file)["weight_map"].values())
        shards = [folder / name for name in sorted(names)]
    found = [digest(shard) for shard in shards]
    # A single file's is what the Hub shows for it, if it is of at most 64 MB.
    return found[0] if len(found) == 1 else hashlib.sha256(" ".join(found).encode()).hexdigest()


def _folder_of(name_or_path: str, revision: str | None) -> Path | None:
    place = Path(locate(name_or_path))
    if place.is_dir():
        return place
    quietly = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    try:
        file = cached_file(name_or_path, "config.json", revision=revision, local_files_only=True, **quietly)
    except (OSError, ValueError):
        return None
    return None if file is None else Path(file).parent
