"""Files below a folder, wherever links lead."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def files_below(folder: Path, dangling: Callable[[Path], None] | None = None) -> list[Path]:
    """All files below a folder in a fixed order; links are followed, and hidden files and folders left out.

    A file is called what its link is called, never what the link leads to. A folder that several links lead to
    is entered once, under its own name where it lies below too; so links in a circle have an end.

    Args:
        folder: Where to look, at any depth.
        dangling: Told of each link that leads nowhere.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    linked = [folder]
    while linked:
        # Links wait until all folders of this tree were entered under their own names.
        waiting = [linked.pop(0)]
        while waiting:
            here = waiting.pop()
            if _seen_before(here, seen):
                continue
            for entry in os.scandir(here):
                path = here / entry.name
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif entry.is_dir():
                    linked.append(path)
                elif entry.is_file():
                    found.append(path)
                elif entry.is_symlink() and dangling is not None:
                    dangling(path)
        linked.sort()
    return sorted(found)


def _seen_before(folder: Path, seen: set[tuple[int, int]]) -> bool:
    status = folder.stat()
    place = (status.st_dev, status.st_ino)
    if place in seen:
        return True
    seen.add(place)
    return False
