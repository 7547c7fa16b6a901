"""YAML files of trainers: named by path or as ``recipe:NAME``, each with the files that it stands on.

``base: FILE`` in a YAML (or a list of files, relative to it) says what it stands on, and is read as if the command
line had named that file before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from empathy_lightning.errors import InputError, meant

RECIPE = "recipe:"
"""Prefix of the name of a shipped recipe, for example ``recipe:re_llm/iemocap``."""


def recipes_folder() -> Path:
    """The recipes: inside the installed package, or ``examples`` of the source tree."""
    shipped = Path(__file__).parent / "examples"
    return shipped if shipped.is_dir() else Path(__file__).parents[2] / "examples"


def recipe_names() -> list[str]:
    """Names of all recipes, without ``recipe:``."""
    folder = recipes_folder()
    return sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.yaml"))


def located(name: str | Path) -> Path:
    """The file of a path, or of a recipe by its name.

    Raises:
        InputError: If there is no recipe of that name.
    """
    if not str(name).startswith(RECIPE):
        return Path(name)
    wanted = str(name).removeprefix(RECIPE)
    known = recipe_names()
    if wanted not in known:
        raise InputError(
            f"{name}: there is no such recipe{meant(wanted, known)} (see `empathy-lightning recipes list`)"
        )
    return recipes_folder() / f"{wanted}.yaml"


def layers(*names: str | Path) -> list[Path]:
    """The files of configurations, from the ground up; each configuration's own is the last of its files.

    A file that several stand on comes once, before the first of them: what that one says over it is not undone.

    Args:
        *names: Paths or ``recipe:NAME``, in the order in which they are laid over each other.

    Raises:
        InputError: If a file is missing or no YAML, or files stand on each other in a circle.
    """
    files: list[Path] = []
    for name, below in _stacked(names):
        files += [*below, located(name)]
    return files


def _stacked(names: Iterable[str | Path]) -> Iterator[tuple[str | Path, list[Path]]]:
    """Each configuration with the files that it stands on and that none before it has brought."""
    # Where links lead, so that a file under two names comes once.
    brought: set[Path] = set()
    for name in names:
        *bases, own = _layers(located(name), ())
        below = []
        for base in bases:
            if base.resolve() not in brought:
                brought.add(base.resolve())
                below.append(base)
        brought.add(own.resolve())
        yield name, below


def _layers(file: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    if file.resolve() in above:
        raise InputError(f"{above[-1]}: its base {file} stands on it in turn")
    for base in _bases(read_yaml(file)):
        below = located(base) if base.startswith(RECIPE) else file.parent / base
        if not below.is_file():
            raise InputError(f"{file}: no base at {below}")
        yield from _layers(below, (*above, file.resolve()))
    yield file


def _bases(content: Any) -> list[str]:
    named = content.get("base") if isinstance(content, dict) else None
    if named is None:
        return []
    return [str(base) for base in named] if isinstance(named, list) else [str(named)]


def read_yaml(file: Path) -> Any:
    """What a YAML file holds.

    Raises:
        InputError: If it is no YAML; the message names the line.
    """
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{file}{line}: no YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: no YAML: {' '.join(str(error).split())}") from None


def merged(names: Sequence[str | Path]) -> Any:
    """The content of configurations laid over each other, references in it unresolved.

    Args:
        names: Paths or recipes; later ones override earlier ones.

    Raises:
        InputError: As :func:`layers`.
    """
    from omegaconf import OmegaConf

    contents = [read_yaml(file) or {} for file in layers(*names)]
    whole: Any = OmegaConf.to_container(OmegaConf.merge(*contents), resolve=False)
    whole.pop("base", None)
    return whole


def config_files(words: Sequence[str]) -> list[Path]:
    """All files that a command line's ``--config`` reads, in their order."""
    return layers(*_named(words))


def expanded(words: Sequence[str]) -> list[str]:
    """A command line with ``--config`` for each file that a configuration stands on, before its own.

    Raises:
        InputError: As :func:`layers`.
    """
    # Both go through the configurations in the order in which the line names them.
    stacked = _stacked(_named(words))
    out: list[str] = []
    for option, value in _options(words):
        if option is None:
            out.append(value)
        elif not _is_file(value):  # The parser says so, or reads it as YAML itself.
            out += [option, value]
        else:
            _, below = next(stacked)
            for file in (*below, located(value)):
                out += [option, _for_the_parser(file)]
    return out


def _named(words: Sequence[str]) -> list[str]:
    """The files and recipes that a command line's ``--config`` names."""
    return [value for option, value in _options(words) if option is not None and _is_file(value)]


def _options(words: Sequence[str]) -> Iterator[tuple[str | None, str]]:
    """Each ``--config`` with its value; the other words with None."""
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option not in ("-c", "--config"):
            yield None, word
        elif equals:
            yield option, value
        else:
            following = next(rest, None)
            if following is None:
                yield None, word
            else:
                yield word, following


def _is_file(name: str) -> bool:
    return name.startswith(RECIPE) or Path(name).is_file()


def _for_the_parser(file: Path) -> str:
    """A word for the parser, which does not know ``base``: the file or, where it has one, the rest as text.

    Raises:
        InputError: If the file holds no keys.
    """
    content = read_yaml(file)
    if content is not None and not isinstance(content, dict):
        raise InputError(f"{file} is no configuration of a trainer: it has no keys such as model and data")
    if content is None or "base" not in content:
        return str(file)
    rest = {key: value for key, value in content.items() if key != "base"}
    text: str = yaml.safe_dump(rest, sort_keys=False)
    return text


def logs_of(out: Path) -> Path:
    """Where a run with ``out`` keeps its curve and its checkpoints: ``logs/NAME`` beside the folder of its weights."""
    return out.parent / "logs" / out.name
