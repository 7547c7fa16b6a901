"""Judges of spoken replies that others have trained: how good speech sounds, and whose voice it is."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from empathy_lightning.errors import InputError
from empathy_lightning.modules.speechbrain_imports import speechbrain_imports

Judge = Callable[[Tensor], dict[str, float]]
"""Scores, by name, of a waveform (T,) at 16 kHz in -1..1."""


def installed_judges() -> tuple[dict[str, Judge], list[str]]:
    """Predictors of mean opinion scores (1..5) by package, and the packages that are not installed."""
    known: dict[str, Callable[[], Judge]] = {"speechmos": _dnsmos, "distillmos": _distillmos}
    there = [name for name in known if importlib.util.find_spec(name) is not None]
    return {name: known[name]() for name in there}, [name for name in known if name not in there]


def _dnsmos() -> Judge:
    """DNSMOS (Reddy et al. 2022): speech, background and overall."""
    from speechmos import dnsmos

    def _judge(waveform: Tensor) -> dict[str, float]:
        told = dnsmos.run(waveform.clamp(-1, 1).numpy(), sr=16_000)
        return {f"dnsmos_{ours}": float(told[f"{name}_mos"]) for ours, name in _DNSMOS.items()}

    return _judge


_DNSMOS = {"overall": "ovrl", "speech": "sig", "background": "bak"}


def _distillmos() -> Judge:
    """DistillMOS (Stahl and Gamper 2025)."""
    from distillmos import ConvTransformerSQAModel

    with redirect_stdout(io.StringIO()):
        # It prints where its weights lie.
        model = ConvTransformerSQAModel().eval()

    @torch.no_grad()
    def _judge(waveform: Tensor) -> dict[str, float]:
        return {"distillmos": float(model(waveform[None]).squeeze())}

    return _judge


class SpeakerEncoder:
    """SpeechBrain's ECAPA-TDNN, whose embeddings of one speaker lie close to each other.

    Args:
        folder: With ``embedding_model.ckpt``, as of ``speechbrain/spkrec-ecapa-voxceleb``; its sizes are those of the
            weights, and nothing in it is run.

    Raises:
        InputError: If it holds no such weights.
    """

    def __init__(self, folder: str | Path) -> None:
        file = Path(folder) / "embedding_model.ckpt"
        if not file.is_file():
            raise InputError(f"no {file}: give the folder of speechbrain/spkrec-ecapa-voxceleb as --speaker_encoder")
        try:
            weights = torch.load(file, map_location="cpu", weights_only=True)
            self.model = _ecapa(weights)
            self.model.load_state_dict(weights)
        except Exception as error:  # a file that is something else raises anything
            raise InputError(f"{file} holds no ECAPA-TDNN: {' '.join(str(error).split())}"[:300]) from None
        self.model.eval()
        with speechbrain_imports():
            from speechbrain.lobes.features import Fbank
        self._features = Fbank(n_mels=weights["blocks.0.conv.conv.weight"].shape[1])

    @torch.no_grad()
    def __call__(self, waveform: Tensor) -> Tensor:
        """Embedding (D,) of a waveform (T,) at 16 kHz."""
        features = self._features(waveform[None])
        embedding: Tensor = self.model(features - features.mean(1, keepdim=True))[0, 0]
        return embedding

    def similarity(self, waveform: Tensor, other: Tensor) -> float:
        """Cosine of the embeddings of two waveforms, -1..1."""
        return float(torch.nn.functional.cosine_similarity(self(waveform), self(other), dim=0))


def _ecapa(weights: dict[str, Tensor]) -> Any:
    """The model to which weights belong."""
    with speechbrain_imports():
        from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

    blocks = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    channels = [len(weights["blocks.0.conv.conv.weight"])]
    channels += [len(weights[f"blocks.{block}.tdnn2.conv.conv.weight"]) for block in range(1, blocks)]
    scale = len([name for name in weights if name.startswith("blocks.1.res2net") and name.endswith("conv.conv.weight")])
    return ECAPA_TDNN(
        weights["blocks.0.conv.conv.weight"].shape[1],
        lin_neurons=len(weights["fc.conv.weight"]),
        channels=[*channels, len(weights["mfa.conv.conv.weight"])],
        attention_channels=len(weights["asp.tdnn.conv.conv.weight"]),
        res2net_scale=scale + 1,
        se_channels=len(weights["blocks.1.se_block.conv1.conv.weight"]),
    )
