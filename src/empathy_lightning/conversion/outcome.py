"""What a conversion did with every key of a released checkpoint, and the folder that it writes."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from empathy_lightning.digests import digest, folder_digest
from empathy_lightning.files import check_new_folder, write_json


@dataclass
class ConversionReport:
    """Every key of the source is used or left over; every weight that our model needs is there or missing.

    Attributes:
        used: Keys of the source whose tensors were written.
        missing: Weights that our model needs and the source lacks, by our names: a source may spell a key in several
            ways, or keep several of our weights under one. What stands in their place is told by the converter.
        left_over: Keys of the source that our model has no place for.
    """

    used: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """A table of counts per prefix, then every missing and every left-over key by its name."""
        counts = {name: Counter(map(_prefix, keys)) for name, keys in asdict(self).items()}
        prefixes = sorted(set().union(*counts.values()))
        width = max([len("keys under"), *map(len, prefixes)])
        lines = [f"{'keys under':<{width}}{'used':>10}{'missing':>10}{'left over':>11}"]
        rows = {prefix: [counter[prefix] for counter in counts.values()] for prefix in prefixes}
        rows["total"] = [counter.total() for counter in counts.values()]
        for name, (used, missing, left_over) in rows.items():
            lines.append(f"{name:<{width}}{used:>10}{missing:>10}{left_over:>11}")
        lines += [f"missing: {key}" for key in self.missing]
        lines += [f"left over: {key}" for key in self.left_over]
        return "\n".join(lines)

    def write(self, path: str | Path) -> None:
        """Write the three lists as JSON; the file appears whole or not at all."""
        write_json(Path(path), asdict(self))


@contextmanager
def new_folder(out: Path, source: Path) -> Iterator[Path]:
    """A folder that appears whole, when everything in it has been written, or not at all; it says what it is made of.

    Args:
        out: The folder.
        source: Folder or file of the release.

    Raises:
        InputError: If it is there already.
    """
    check_new_folder(out)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        release = folder_digest(source) if source.is_dir() else digest(source)
        write_json(partial / "made_from.json", {"source": str(source), "sha256": release})
        # An empty one, which check_new_folder lets pass.
        if out.is_dir():
            out.rmdir()
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _prefix(key: str) -> str:
    """The module that a key belongs to: at most its first two names, as `model.speech_encoder`."""
    names = key.split(".")
    return ".".join(names[: min(2, len(names) - 1)]) or key
