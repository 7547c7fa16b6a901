"""What a frozen speech encoder made of speech, on disk: computed once for all runs, stages and evaluations.

A folder has a subfolder for each encoder, whose ``made_from.json`` says which one it was. The shards in it are written
whole, and any number of processes may add some: a name stands for the samples of the speech itself, so that what is
found under it is the same whoever wrote it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, MutableMapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from empathy_lightning.errors import InputError
from empathy_lightning.files import check_folder, usual_mode, whole
from empathy_lightning.jobs import Claim
from empathy_lightning.listener import Listener
from empathy_lightning.modules.cached_encoder import CachedSpeechEncoder
from empathy_lightning.parts import described

SHARD = 128 * 2**20
"""Bytes of a shard, the most that an interruption costs."""


class KeptSpeech(MutableMapping[str, Tensor]):
    """Tensors by name in a folder of safetensors shards; what is read is mapped from the disk, not held in memory.

    Args:
        folder: Of the shards; made if it is not there.

    Raises:
        InputError: If nothing can be written there, or a shard is damaged.
    """

    def __init__(self, folder: Path) -> None:
        check_folder(folder)
        self.folder = folder
        self._new: dict[str, Tensor] = {}
        self._places: dict[str, Path] = {}
        for path in sorted(folder.glob("*.safetensors")):
            self._places |= dict.fromkeys(_opened(path).keys(), path)

    def __getitem__(self, name: str) -> Tensor:
        if name in self._new:
            return self._new[name]
        found: Tensor = _opened(self._places[name]).get_tensor(name)
        return found

    def __setitem__(self, name: str, value: Tensor) -> None:
        self._new[name] = value.contiguous()
        if sum(tensor.nbytes for tensor in self._new.values()) >= SHARD:
            self.write()

    def __delitem__(self, name: str) -> None:
        raise InputError(f"what {self.folder} keeps is never changed: remove the folder instead")

    def __contains__(self, name: object) -> bool:
        return name in self._new or name in self._places

    def __iter__(self) -> Iterator[str]:
        yield from {**self._places, **self._new}

    def __len__(self) -> int:
        return len(self._places.keys() | self._new.keys())

    def __deepcopy__(self, memo: dict[int, Any]) -> KeptSpeech:
        # A copy of the model, such as the running mean of its weights, hears through the same encoder.
        return self

    def write(self) -> None:
        """Write what is new as a shard.

        Raises:
            InputError: If the disk is full.
        """
        if not self._new:
            return
        # A name of what is in it: processes that kept the same write the same file, others another one.
        name = hashlib.sha256(" ".join(self._new).encode()).hexdigest()[:32]
        path = self.folder / f"{name}.safetensors"
        with whole(path) as partial:
            save_file(self._new, partial)
            usual_mode(partial)
        self._places |= dict.fromkeys(self._new, path)
        self._new = {}


@lru_cache(maxsize=1024)
def _opened(path: Path) -> Any:
    try:
        return safe_open(path, "pt")
    except SafetensorError as error:
        raise InputError(f"{path} is damaged ({error}): remove it, and it is made anew") from None


def keep_encoded(listener: Listener, folder: str | Path) -> KeptSpeech:
    """Let a listener look for what it hears among what was encoded before, and keep what is new.

    The layers are kept where an emotion nuance module reads them; of one with a ``digest``, that alone. As the rest is
    rounded to half precision, also where it is heard for the first time, a run that finds its speech is the same as
    the one that kept it.

    Args:
        listener: Its speech encoder is frozen and has the weights that it will have.
        folder: For any number of encoders.

    Returns:
        What is kept; call its ``write`` in the end.

    Raises:
        InputError: If the encoder trains, or the folder cannot be used.
    """
    encoder = listener.speech_encoder
    if isinstance(encoder, CachedSpeechEncoder):
        encoder = encoder.encoder
    # What trains would hear otherwise after the next step.
    if any(parameter.requires_grad for parameter in encoder.parameters()):
        raise InputError("keep_encoded is for a frozen speech_encoder, and this one trains: leave it out")
    made_from = _identity(encoder)
    digest = hashlib.sha256(repr(made_from).encode()).hexdigest()
    kept = KeptSpeech(Path(folder) / f"{type(encoder).__name__}-{digest[:16]}")
    claim = Claim(kept.folder, made_from, "*.safetensors")
    if not claim.is_met():
        claim.write()
    layers = listener.emotion_nuance is not None and not listener.reads_embeddings
    reduced = getattr(listener.emotion_nuance, "digest", None) if layers else None
    listener.speech_encoder = CachedSpeechEncoder(encoder, layers, kept, reduced)
    return kept


def _identity(encoder: nn.Module) -> dict[str, Any]:
    """What decides an encoder's answers: class, settings and weights, wherever these came from."""
    found = described(encoder, "speech_encoder")
    settings = {key: value for key, value in found["init_args"].items() if key not in ("name_or_path", "revision")}
    weights = hashlib.sha256()
    for name, value in encoder.state_dict().items():
        weights.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        # As bytes, since numpy has no bfloat16.
        weights.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return {"encoder": found["class_path"], "settings": settings, "weights": weights.hexdigest()}
