"""Jobs: what an output was made from, who makes which part of it, and with which seeds.

A claim is a JSON file that says what an output was made from: digests of what was read, and the options that decide
it. It lies beside a file (``units.jsonl.made_from.json``) and inside a folder of parts (``made_from.json``), and is
written before what it speaks of. An output whose claim says the same is kept; any other is refused with what changed,
or made anew where the user says ``--again``. So nothing stale is taken for new, and nothing of two jobs is mixed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empathy_lightning.errors import InputError
from empathy_lightning.files import check_target, write_json
from empathy_lightning.utterance import Utterance


def rank_and_world_size() -> tuple[int, int]:
    """Which process this is and of how many, as torchrun says it in the environment."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def seed_of(seed: int, utterance: Utterance) -> int:
    """Of an utterance's own draws, so that they depend on neither its batch nor its shard."""
    return int.from_bytes(hashlib.sha256(f"{seed} {utterance.corpus} {utterance.id}".encode()).digest()[:4], "little")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a folder of shards for this process; the lock is gone with the process, however it ends.

    Raises:
        InputError: If another process of this rank works on it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f".process{rank_and_world_size()[0]}.lock"
    with locked(folder / name, f"another process makes {folder} now: wait for it, or change --out"):
        yield


@contextmanager
def locked(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file, which is made if it is not there and stays.

    Args:
        path: The file, in a folder that is there.
        refusal: What to say where another process holds it.

    Raises:
        InputError: If one does.
    """
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(refusal) from None
        except OSError:
            # Some shared file systems have no locks; work without one then.
            pass
        yield


@dataclass(frozen=True)
class Claim:
    """What an output is made from.

    Attributes:
        out: The file, or the folder of parts.
        made_from: JSON values by name; a name is what a refusal says has changed.
        parts: Pattern of the parts' names in a folder; None for a file.
    """

    out: Path
    made_from: Mapping[str, Any]
    parts: str | None = None

    @property
    def path(self) -> Path:
        """Where the claim lies."""
        name = "made_from.json"
        return self.out.with_name(f"{self.out.name}.{name}") if self.parts is None else self.out / name

    def is_met(self, again: bool = False) -> bool:
        """Whether the output, or a part of it, is there and was made from the same.

        Args:
            again: Remove what is there.

        Raises:
            InputError: If it was made from something else, or nothing says from what.
        """
        check_target(self.path, [])
        if again:
            check_again(self.out)
            self._remove()
            return False
        if not self._present():
            return False
        then = _read(self.path)
        if then is None:
            raise InputError(
                f"{self.out} is there, but no {self.path.name} says what it was made from: change --out, or make it "
                "anew with --again"
            )
        # Names that an older claim lacks were not chosen then, as those that are None now.
        changed = [name for name in {**then, **self.made_from} if then.get(name) != _plain(self.made_from.get(name))]
        if changed:
            raise InputError(
                f"{self.out} was made from something else ({', '.join(changed)} changed): change --out, or make it "
                "anew with --again"
            )
        return True

    def is_done(self, again: bool = False) -> bool:
        """:meth:`is_met` for a file, with a line that tells the user."""
        met = self.is_met(again)
        if met:
            print(f"{self.out} is there already, made from the same")
        return met

    def is_begun(self) -> bool:
        """Whether this very claim was written before, so that what its job left unfinished may go on."""
        return self.path.is_file() and _read(self.path) == _plain(dict(self.made_from))

    def write(self) -> None:
        """Write the claim; call it before anything of the output is written."""
        if self.is_begun():
            return
        if self.parts is not None:
            # What was settled belongs to the job that ended without a part.
            for settled_then in self.out.glob("settled-*.json"):
                settled_then.unlink()
        write_json(self.path, _plain(dict(self.made_from)))

    def _present(self) -> list[Path]:
        if self.parts is None:
            return [self.out] if self.out.exists() else []
        return sorted(self.out.glob(self.parts))

    def _remove(self) -> None:
        for path in self._present():
            path.unlink()
        self.path.unlink(missing_ok=True)


def check_again(out: str | Path) -> None:
    """Refuse to make anew with several processes, of which one would remove what another has begun.

    Raises:
        InputError: If there are several.
    """
    if rank_and_world_size()[1] > 1:
        raise InputError(f"--again is for a single process: remove {out}, then start them without it")


def settled(folder: Path, name: str, make: Callable[[], list[Any]]) -> list[Any]:
    """What the first process of a job decided, for all of its processes and for every later run that goes on.

    Args:
        folder: Of the job's parts, with its claim.
        name: Of what is decided.
        make: Decides it, as a list of JSON values.

    Raises:
        InputError: If the file is damaged.
    """
    path = folder / f"settled-{name}.json"
    if not path.is_file():
        own = path.with_name(f".process{rank_and_world_size()[0]}.{path.name}")
        write_json(own, make())
        try:
            # Unlike a rename, a link never takes the place of what another process has decided before.
            os.link(own, path)
        except FileExistsError:
            pass
        except OSError:
            # A file system without hard links; the last process wins there.
            own.replace(path)
        own.unlink(missing_ok=True)
    return _read(path, list)


def speech_file(out: Path, utterance: Utterance) -> Path:
    """Where the reply to an utterance lies as speech: ``<out>.speech/CORPUS/ID.wav``, other names where these are none.

    Args:
        out: Manifest of the replies.
        utterance: Its corpus and id may hold anything.
    """

    def _name(text: str) -> str:
        if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._ ()+-]{0,99}", text):
            return text
        return re.sub(r"[^A-Za-z0-9_-]", "_", text[:60]) + "-" + hashlib.sha256(text.encode()).hexdigest()[:16]

    return out.with_name(f"{out.name}.speech") / _name(utterance.corpus) / f"{_name(utterance.id)}.wav"


def speech_files(out: Path, utterances: Iterable[Utterance]) -> list[Path]:
    """The :func:`speech_file` of each utterance.

    Raises:
        InputError: If two utterances share corpus and id.
    """
    files: dict[Path, None] = {}
    for u in utterances:
        file = speech_file(out, u)
        if file in files:
            raise InputError(f"{u.corpus}/{u.id} is there twice, so one reply's speech would replace the other's")
        files[file] = None
    return list(files)


def _plain(values: Any) -> Any:
    """Values as they come back from JSON."""
    return json.loads(json.dumps(values))


def _read(path: Path, kind: type = dict) -> Any:
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        values = None
    if not isinstance(values, kind):
        raise InputError(f"{path} is damaged: change --out, or make it anew with --again")
    return values
