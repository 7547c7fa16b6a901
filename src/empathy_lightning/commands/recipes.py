"""``recipes list|show|copy``: the YAML files that come with the package."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from empathy_lightning.configurations import RECIPE, layers, located, recipe_names, recipes_folder
from empathy_lightning.errors import InputError


def list_recipes() -> None:
    """Names, and what they are."""
    for name in recipe_names():
        # What only others stand on is no recipe of its own.
        if Path(name).name != "base":
            print(f"{name:<46}{purpose(located(RECIPE + name))}")


def purpose(file: Path) -> str:
    """The first sentence of the comment at a file's head."""
    words: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.strip("# ") == "" or not line.startswith("#"):
            break
        words.append(line.strip("# "))
    return re.split(r"(?<=[.]) ", " ".join(words))[0].rstrip(".:")


def show(name: str, /) -> None:
    """Print a recipe, after the files that it stands on.

    Args:
        name: As in recipes list; a trainer takes it as recipe:NAME in the place of a file.

    Raises:
        InputError: If there is none of that name.
    """
    for file in layers(_full(name)):
        print(f"# ---- {_shown(file)}\n{file.read_text(encoding='utf-8')}")


def copy(name: str, /, *, out: Path) -> None:
    """Copy a recipe, the files that it stands on and a script of its name, to be changed.

    Args:
        name: As in recipes list.
        out: Folder, in which the files lie as they do among the recipes.

    Raises:
        InputError: If there is none of that name, or a file is there already.
    """
    files = layers(_full(name))
    script = files[-1].with_suffix(".py")
    if script.is_file():
        files.append(script)
    targets = [out / _shown(file) for file in files]
    for file, target in zip(files, targets, strict=True):
        if target.exists() and target.read_bytes() != file.read_bytes():
            raise InputError(f"{target} is there already, and another: give another --out, or remove it")
    for file, target in zip(files, targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        print(target)


def _full(name: str) -> str:
    return name if name.startswith(RECIPE) else RECIPE + name


def _shown(file: Path) -> Path:
    return file.resolve().relative_to(recipes_folder().resolve())
