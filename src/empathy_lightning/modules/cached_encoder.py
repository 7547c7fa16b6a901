"""Encode each utterance once: a frozen encoder gives the same answer in every epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from empathy_lightning.modules.pretrained import locate
from empathy_lightning.modules.speech_encoder import EncodedSpeech, SpeechEncoder, length_mask


class CachedSpeechEncoder(nn.Module):
    """A frozen speech encoder that remembers what it heard, by the content of the waveform.

    For corpora of a few hours: one minute of speech takes 3000 x width x 2 bytes per
    kept layer in main memory. Augmented audio is new each time and would only fill it.

    Args:
        encoder: Frozen encoder, of any class.
        keep_layers: Remember the raw layers too, for the emotion nuance module.
    """

    def __init__(self, encoder: nn.Module, keep_layers: bool = True) -> None:
        super().__init__()
        if any(parameter.requires_grad for parameter in encoder.parameters()):
            raise ValueError("only a frozen encoder can be cached: its answers must not change")
        self.encoder = encoder
        self.keep_layers = keep_layers
        self.max_seconds = getattr(encoder, "max_seconds", 30.0)
        self.source = getattr(encoder, "source", None)
        self._heard: dict[bytes, list[Tensor]] = {}

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
        self._heard.clear()
        _shared.cache_clear()

    def forward(self, waveform: Tensor, lengths: Tensor) -> EncodedSpeech:
        """As the encoder's own; new utterances are encoded one by one, half precision is kept of them."""
        sizes = lengths.tolist()
        keys = [
            hashlib.sha1(row[:size].cpu().numpy().tobytes(), usedforsecurity=False).digest()
            for row, size in zip(waveform, sizes, strict=True)
        ]
        for row, key in enumerate(keys):
            if key not in self._heard:
                # Alone, so that what is kept does not depend on the batch in which it was first heard.
                encoded = self.encoder(waveform[row : row + 1, : sizes[row]], lengths[row : row + 1])
                kept = (encoded.frames, *(encoded.layers if self.keep_layers else ()))
                self._heard[key] = [part[0, encoded.mask[0]].to("cpu", torch.float16) for part in kept]
        rows = [self._heard[key] for key in keys]
        frames, *layers = (self._together(parts, waveform) for parts in zip(*rows, strict=True))
        counts = torch.tensor([len(row[0]) for row in rows], device=waveform.device)
        return EncodedSpeech(frames, tuple(layers), length_mask(counts, frames.shape[1]))

    def _together(self, parts: Sequence[Tensor], waveform: Tensor) -> Tensor:
        """Frames of each utterance, (T_i, D), as a right-padded batch where the waveform is."""
        return nn.utils.rnn.pad_sequence(list(parts), batch_first=True).to(waveform.device, torch.float32)


@lru_cache(maxsize=1)
def _shared(name_or_path: str, folder: str = "", files: tuple[tuple[str, int, int], ...] = ()) -> CachedSpeechEncoder:
    # The folder and its files tell encoders apart; the name is what a checkpoint keeps.
    return CachedSpeechEncoder(SpeechEncoder.from_pretrained(name_or_path))
