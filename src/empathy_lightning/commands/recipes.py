"""``recipes list|show|copy``: the YAML files that come with the package."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from empathy_lightning.configurations import RECIPE, layers, located, recipe_names, recipes_folder
from empathy_lightning.errors import InputError


def list_recipes() -> None:
    """Print the name of each recipe and what it is."""
    for name in recipe_names():
        # What only others stand on is no recipe of its own.
        if Path(name).name != "base":
            first = located(RECIPE + name).read_text(encoding="utf-8").splitlines()[0]
            print(f"{name:<50} {first.lstrip('# ')}")


def show_recipe(name: str) -> None:
    """Print a recipe, after the files that it stands on.

    Args:
        name: As in ``recipes list``.

    Raises:
        InputError: If there is none of that name.
    """
    for file in layers(_full(name)):
        print(f"# ---- {_shown(file)}\n{file.read_text(encoding='utf-8')}")


def copy_recipe(name: str, out: Path) -> None:
    """Copy a recipe, the files that it stands on and a script of its name, to be changed.

    Args:
        name: As in ``recipes list``.
        out: Folder, in which the files lie as they do among the recipes.

    Raises:
        InputError: If there is none of that name, or a file is there already.
    """
    files = layers(_full(name))
    script = files[-1].with_suffix(".py")
    if script.is_file():
        files.append(script)
    copies = [out / _shown(file) for file in files]
    for copy in copies:
        if copy.exists():
            raise InputError(f"{copy} is there already: give another --out, or remove it")
    for file, copy in zip(files, copies, strict=True):
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        print(copy)


def _full(name: str) -> str:
    return name if name.startswith(RECIPE) else RECIPE + name


def _shown(file: Path) -> Path:
    return file.resolve().relative_to(recipes_folder().resolve())


def add_recipes(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add all actions."""
    recipes = commands.add_parser("recipes", help="YAML files that come with the package: list, show and copy them")
    actions = recipes.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("list", help="names, and what they are").set_defaults(run=lambda _: list_recipes())
    show = actions.add_parser("show", help="print a recipe with what it stands on")
    copy = actions.add_parser("copy", help="copy a recipe with what it stands on, to be changed")
    for action in (show, copy):
        action.add_argument("name", help="as in `recipes list`; `fit --config recipe:NAME` runs it as it is")
    show.set_defaults(run=lambda options: show_recipe(options.name))
    copy.add_argument("--out", type=Path, required=True, help="folder to copy to")
    copy.set_defaults(run=lambda options: copy_recipe(options.name, options.out))
