"""Encode each utterance once: a frozen encoder gives the same answer in every epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, MutableMapping, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from empathy_lightning.modules.pretrained import locate
from empathy_lightning.modules.speech_encoder import EncodedSpeech, SpeechEncoder, length_mask


class CachedSpeechEncoder(nn.Module):
    """A frozen speech encoder that remembers what it heard, by the content of the waveform.

    For corpora of a few hours: one minute of speech takes 3000 x width x 2 bytes, and as much for each
    kept layer, in main memory. Augmented audio is new each time and would only fill it.

    Args:
        encoder: Frozen encoder, of any class.
        keep_layers: Remember the raw layers too, for the emotion nuance module.
        heard: Where it is remembered, by name: in half precision frames (T, D) and layers (T, L, D). None takes a
            dictionary; :class:`empathy_lightning.kept_speech.KeptSpeech` is on disk.
        digest: From layers and mask to all that is read of them (B, D), kept in their place in full precision; a
            function at the top of a module, whose name tells it from others.
    """

    def __init__(
        self,
        encoder: nn.Module,
        keep_layers: bool = True,
        heard: MutableMapping[str, Tensor] | None = None,
        digest: Callable[[Sequence[Tensor], Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if any(parameter.requires_grad for parameter in encoder.parameters()):
            raise ValueError("only a frozen encoder can be cached: its answers must not change")
        self.encoder = encoder
        self.keep_layers = keep_layers
        self.digest = digest
        self._parts = ["frames"]
        if keep_layers:
            self._parts.append("layers" if digest is None else digest.__name__)
        self.max_seconds = getattr(encoder, "max_seconds", 30.0)
        self.source = getattr(encoder, "source", None)
        self._heard: MutableMapping[str, Tensor] = {} if heard is None else heard

    @classmethod
    def shared(cls, name_or_path: str) -> CachedSpeechEncoder:
        """The same encoder, with what it remembers, for all stages that one process trains one after the other.

        It stays in memory until the process asks for another encoder, the folder's files are changed, or
        :meth:`forget` is called.

        Args:
            name_or_path: Folder or model id, see :meth:`SpeechEncoder.from_pretrained`.
        """
        folder = Path(locate(name_or_path))
        if not folder.is_dir():
            return _shared(name_or_path)
        files = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
        versions = tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in files)
        return _shared(name_or_path, str(folder.resolve()), versions)

    def forget(self) -> None:
        """Let go of all that was heard: the encoder's weights are others now."""
        self._heard = {}
        _shared.cache_clear()

    def forward(self, waveform: Tensor, lengths: Tensor) -> EncodedSpeech:
        """As the encoder's own; new utterances are encoded one by one, half precision is kept of them.

        Args:
            waveform: Samples at 16 kHz, right-padded, shape (B, T).
            lengths: Valid samples, shape (B,).
        """
        sizes = lengths.tolist()
        keys = []
        for samples, size in zip(waveform, sizes, strict=True):
            # Of the samples alone: how far a batch is padded does not matter.
            own = samples[:size].cpu().numpy().tobytes()
            keys.append(hashlib.sha1(own, usedforsecurity=False).hexdigest())
        for row, key in enumerate(keys):
            if not all(f"{key}.{part}" in self._heard for part in self._parts):
                # Alone, so that what is kept does not depend on the batch in which it was first heard.
                self._remember(key, waveform[row : row + 1, : sizes[row]], lengths[row : row + 1])
        frames = self._recalled(keys, "frames", waveform)
        layers: tuple[Tensor, ...] = ()
        if self.keep_layers and self.digest is None:
            layers = self._recalled(keys, "layers", waveform).unbind(2)
        elif self.keep_layers:
            layers = (self._recalled(keys, self._parts[1], waveform),)
        counts = torch.tensor([len(self._heard[f"{key}.frames"]) for key in keys], device=waveform.device)
        return EncodedSpeech(frames, layers, length_mask(counts, frames.shape[1]))

    @torch.no_grad()
    def _remember(self, key: str, waveform: Tensor, lengths: Tensor) -> None:
        """Encode an utterance (1, T), in the encoder's own precision whatever the trainer's is."""
        with torch.autocast(waveform.device.type, enabled=False):
            encoded = self.encoder(waveform, lengths)
        valid = encoded.mask[0]
        self._heard[f"{key}.frames"] = encoded.frames[0, valid].to("cpu", torch.float16)
        if self.keep_layers and self.digest is not None:
            self._heard[f"{key}.{self._parts[1]}"] = self.digest(encoded.layers, encoded.mask)[0].cpu()
        elif self.keep_layers:
            layers = torch.stack([layer[0, valid] for layer in encoded.layers], 1)
            self._heard[f"{key}.layers"] = layers.to("cpu", torch.float16)

    def _recalled(self, keys: list[str], part: str, waveform: Tensor) -> Tensor:
        """A part of each utterance, (T_i, ...), as a right-padded batch where the waveform is."""
        rows = [self._heard[f"{key}.{part}"] for key in keys]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True).to(waveform.device, torch.float32)


@lru_cache(maxsize=1)
def _shared(name_or_path: str, folder: str = "", files: tuple[tuple[str, int, int], ...] = ()) -> CachedSpeechEncoder:
    # The folder and its files tell encoders apart; the name is what a checkpoint keeps.
    return CachedSpeechEncoder(SpeechEncoder.from_pretrained(name_or_path))
