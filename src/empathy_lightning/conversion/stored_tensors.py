"""Tensors of a safetensors checkpoint as ranges of bytes, copied without being loaded.

A converted tensor is almost always the same bytes under another name, at most with
its rows in another order. So nothing is decoded: memory does not grow with the
checkpoint, and no bit can change. The format is that of safetensors: eight bytes
with the length of a JSON header, the header, then the tensors' bytes.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empathy_lightning.conversion.whole import check_whole
from empathy_lightning.errors import InputError

BLOCK = 1 << 22
"""Bytes in memory while copying."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that lies in files.

    Attributes:
        dtype: As safetensors writes it, for example ``BF16``.
        shape: Sizes.
        spans: File, start and length in bytes of each piece, in order.
    """

    dtype: str
    shape: tuple[int, ...]
    spans: tuple[tuple[Path, int, int], ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(length for _, _, length in self.spans)

    def rows(self, ranges: Sequence[range]) -> StoredTensor:
        """The tensor with only these rows of its first axis, in this order; for one that lies in one piece."""
        ((file, start, length),) = self.spans
        width = length // self.shape[0]
        spans = tuple((file, start + r.start * width, len(r) * width) for r in ranges)
        return StoredTensor(self.dtype, (sum(map(len, ranges)), *self.shape[1:]), spans)

    def read(self) -> Iterator[bytes]:
        """The bytes, in blocks of at most :data:`BLOCK`.

        Raises:
            InputError: If a file ends too early.
        """
        for file, start, length in self.spans:
            with file.open("rb") as stream:
                stream.seek(start)
                while length:
                    block = stream.read(min(BLOCK, length))
                    if not block:
                        raise InputError(f"{file} ended while it was read: get it again")
                    length -= len(block)
                    yield block


def read_checkpoint(folder: Path) -> dict[str, StoredTensor]:
    """Where each tensor of a checkpoint lies: the shards of its index, or its only file.

    Args:
        folder: With ``model.safetensors.index.json`` and shards, or ``model.safetensors``.

    Raises:
        InputError: If a file is missing or damaged, or a shard lacks what the index promises.
    """
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if not index.is_file():
        if not single.is_file():
            raise InputError(f"{folder} holds no model.safetensors.index.json and no model.safetensors")
        return _read_header(single)
    check_whole(index)
    try:
        places = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{index} is damaged ({error!r}): get it again") from None
    tensors: dict[str, StoredTensor] = {}
    for name in sorted(set(places.values())):
        tensors |= _read_header(folder / Path(name).name)
    if lost := sorted(set(places) - set(tensors)):
        raise InputError(f"{folder / places[lost[0]]} lacks {lost[0]}, which the index promises: get it again")
    return tensors


def _read_header(file: Path) -> dict[str, StoredTensor]:
    if not file.is_file():
        raise InputError(f"{file} is missing: get all shards of the checkpoint")
    check_whole(file)
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > size - 8:
                raise ValueError("its header is cut off")
            header: dict[str, Any] = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        tensors = {}
        for key, entry in header.items():
            begin, end = entry["data_offsets"]
            if not 0 <= begin <= end <= size - 8 - length:
                raise ValueError(f"{key} is cut off")
            tensors[key] = StoredTensor(
                entry["dtype"], tuple(entry["shape"]), ((file, 8 + length + begin, end - begin),)
            )
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file} is damaged ({error}): get it again") from None
    return tensors


def write_tensors(file: Path, tensors: Mapping[str, StoredTensor]) -> None:
    """Write a safetensors file, block by block.

    Raises:
        InputError: If a source ends too early.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    # Wide types first, so that every tensor lies at a multiple of its own width.
    ordered = sorted(tensors.items(), key=lambda item: (-(item[1].size // math.prod(item[1].shape)), item[0]))
    for key, tensor in ordered:
        end = position + tensor.size
        header[key] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in ordered:
            for block in tensor.read():
                stream.write(block)


def write_shards(folder: Path, tensors: Mapping[str, StoredTensor]) -> None:
    """Write a model's weights in the shards in which they came, with an index if there are several."""
    shards: dict[Path, dict[str, StoredTensor]] = {}
    for key, tensor in tensors.items():
        shards.setdefault(tensor.spans[0][0], {})[key] = tensor
    if len(shards) == 1:
        return write_tensors(folder / "model.safetensors", tensors)
    places: dict[str, str] = {}
    for number, file in enumerate(sorted(shards), 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_tensors(folder / name, shards[file])
        places |= dict.fromkeys(shards[file], name)
    index = {"metadata": {"total_size": sum(t.size for t in tensors.values())}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
