"""Hooks of the site: tables that are made from the code when it is built, and pages that the navigation does not name.

A page asks for a table by a line `<!-- table: NAME -->`, for a file of the project by `<!-- file: NAME -->`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from empathy_lightning.__main__ import COMMANDS
from empathy_lightning.commands.recipes import purpose
from empathy_lightning.configurations import RECIPE, located, recipe_names
from empathy_lightning.corpora import CORPORA
from empathy_lightning.data import PROTOCOLS

SECTIONS = {"tutorials": "Tutorials", "how-to": "How-to", "reference": "Reference", ".": "Evaluate"}
"""Where a page of a folder stands that the navigation does not name."""

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "empathy_lightning"
_TABLE = re.compile(r"<!-- table: (\w+) -->")
_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):<code>([^<]+)</code>")
_FILE = re.compile(r"<!-- file: ([\w.]+) -->")


def on_files(files: Any, config: Any) -> Any:
    """Put pages that are named nowhere at the end of their folder's section."""
    named = set(_pages(config.nav))
    for file in files.documentation_pages():
        if file.src_uri not in named:
            section = SECTIONS[str(PurePosixPath(file.src_uri).parent)]
            next(entry[section] for entry in config.nav if section in entry).append(file.src_uri)
    return files


def _pages(entries: Any) -> Iterator[str]:
    for entry in entries:
        below = next(iter(entry.values())) if isinstance(entry, dict) else entry
        if isinstance(below, list):
            yield from _pages(below)
        else:
            yield below


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put tables and files where they are asked for."""
    markdown = _TABLE.sub(lambda wanted: TABLES[wanted[1]](), markdown)
    return _FILE.sub(lambda wanted: _page_of(ROOT / wanted[1]), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Turn the docstrings' roles into links, where the reference has what they name."""
    return _ROLE.sub(_link, html)


def _link(role: re.Match[str]) -> str:
    name = role[1].lstrip("~")
    first = name.split(".")[1] if name.startswith(".") else ""
    # Seen from the package's root, or from the room in which it is said.
    homes = [room for room in ("", "modules", "tasks", "data") if first and _is_there(SOURCE / room / first)]
    whole = ".".join(filter(None, ["empathy_lightning", *homes[:1]])) + name if homes else name.lstrip(".")
    return f'<autoref optional identifier="{whole}"><code>{name.rpartition(".")[2]}</code></autoref>'


def _is_there(room: Path) -> bool:
    return room.is_dir() or room.with_suffix(".py").is_file()


def _page_of(file: Path) -> str:
    """A file of the project; its links to pages are those from among the pages."""
    return file.read_text(encoding="utf-8").replace("](docs/", "](")


def corpora() -> str:
    """Every corpus that can be read."""
    rows = []
    for name, corpus in sorted(CORPORA.items()):
        total = sum(corpus.counts.values())
        source = f"[{corpus.title}]({corpus.source})" if corpus.source.startswith("http") else corpus.title
        emotions = ", ".join(sorted(set(corpus.emotions.values())))
        languages = ", ".join(corpus.languages)
        count = f"{total:,}" if total else ""
        rows.append((f"`{name}`", source, languages, count, emotions, corpus.licence, corpus.citation))
    return _table(("name", "what", "languages", "utterances", "emotions", "licence", "cite"), rows)


def protocols() -> str:
    """Every published protocol of splits."""
    return _table(("name", "source"), [(f"`{name}`", protocol.citation) for name, protocol in PROTOCOLS.items()])


def recipes() -> str:
    """Every YAML file that comes with the package."""
    names = [name for name in recipe_names() if PurePosixPath(name).name != "base"]
    return _table(("recipe", "what it is"), [(f"`recipe:{name}`", purpose(located(RECIPE + name))) for name in names])


def commands() -> str:
    """Every command."""
    rows = []
    for words, function in COMMANDS.items():
        rows.append((f"`{words}`", (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ")))
    return _table(("command", "what it does"), rows)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


TABLES = {"corpora": corpora, "protocols": protocols, "recipes": recipes, "commands": commands}
"""By the names by which pages ask for them."""
