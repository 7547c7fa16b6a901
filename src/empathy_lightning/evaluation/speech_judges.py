"""Judges of spoken replies that others have trained: how good speech sounds, and whose voice it is."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from empathy_lightning.errors import InputError, meant
from empathy_lightning.modules.speechbrain_imports import speechbrain_imports


class Predictor(Protocol):
    """Predicts how good speech sounds."""

    def __call__(self, waveform: Tensor, /) -> dict[str, float]:
        """Scores, by name, of a waveform (T,) at 16 kHz in -1..1."""


PREDICTORS = ("speechmos", "distillmos", "nisqa")
"""Predictors of mean opinion scores (1..5): DNSMOS, DistillMOS and torchmetrics' NISQA."""

_NISQA_WEIGHTS = Path("~/.torchmetrics/NISQA/nisqa.tar")


def installed_predictors(names: Sequence[str] = PREDICTORS) -> tuple[dict[str, Predictor], list[str]]:
    """Those of some predictors that can be asked, and the names of those that cannot.

    Raises:
        InputError: If there is no predictor of a name.
    """
    known: dict[str, Callable[[], Predictor]] = {"speechmos": _dnsmos, "distillmos": _distillmos, "nisqa": _nisqa}
    for name in names:
        if name not in known:
            raise InputError(f"no predictor is named {name!r}; there are {', '.join(known)}{meant(name, known)}")
    there = [name for name in names if _is_there(name)]
    return {name: known[name]() for name in there}, [name for name in names if name not in there]


def _is_there(name: str) -> bool:
    if name == "nisqa":
        # torchmetrics would fetch the weights where they are not there.
        packages = ("librosa", "requests")
        return _NISQA_WEIGHTS.expanduser().is_file() and all(importlib.util.find_spec(p) is not None for p in packages)
    return importlib.util.find_spec(name) is not None


def torchscript_predictor(name: str, file: str) -> Predictor:
    """A predictor in a TorchScript file, such as an UTMOS that was traced (``utmos22_strong`` takes wave and rate).

    Args:
        name: Of its score.
        file: Module from a waveform (1, T) at 16 kHz, and the rate where it takes two, to one score.

    Raises:
        InputError: If it is none.
    """
    try:
        model = torch.jit.load(file, map_location="cpu").eval()
        # The first argument is the module itself.
        takes = len(model.forward.schema.arguments) - 1
    except (RuntimeError, ValueError, OSError, AttributeError) as error:
        raise InputError(f"{file} is no TorchScript module: {' '.join(str(error).split())}"[:300]) from None

    @torch.no_grad()
    def _predict(waveform: Tensor) -> dict[str, float]:
        heard = (waveform[None], 16_000)[:takes]
        return {name: float(torch.as_tensor(model(*heard)).squeeze())}

    return _predict


def _nisqa() -> Predictor:
    """NISQA (Mittag et al. 2021): overall, noisiness, discontinuity, coloration, loudness."""
    from torchmetrics.functional.audio.nisqa import non_intrusive_speech_quality_assessment

    names = ("nisqa", "nisqa_noisiness", "nisqa_discontinuity", "nisqa_coloration", "nisqa_loudness")

    def _predict(waveform: Tensor) -> dict[str, float]:
        scores = non_intrusive_speech_quality_assessment(waveform, 16_000).tolist()
        return dict(zip(names, scores, strict=True))

    return _predict


def _dnsmos() -> Predictor:
    """DNSMOS (Reddy et al. 2022): speech, background and overall."""
    from speechmos import dnsmos

    def _predict(waveform: Tensor) -> dict[str, float]:
        told = dnsmos.run(waveform.clamp(-1, 1).numpy(), sr=16_000)
        return {f"dnsmos_{ours}": float(told[f"{name}_mos"]) for ours, name in _DNSMOS.items()}

    return _predict


_DNSMOS = {"overall": "ovrl", "speech": "sig", "background": "bak"}


def _distillmos() -> Predictor:
    """DistillMOS (Stahl and Gamper 2025)."""
    from distillmos import ConvTransformerSQAModel

    with redirect_stdout(io.StringIO()):
        # It prints where its weights lie.
        model = ConvTransformerSQAModel().eval()

    @torch.no_grad()
    def _predict(waveform: Tensor) -> dict[str, float]:
        return {"distillmos": float(model(waveform[None]).squeeze())}

    return _predict


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
        # SpeechBrain's recipe takes each band's mean over time away before the model.
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
    # A Res2Net block passes the first of its parts on as it is, so it has a convolution less than parts.
    in_res2net = [name for name in weights if name.startswith("blocks.1.res2net")]
    scale = 1 + sum(name.endswith("conv.conv.weight") for name in in_res2net)
    return ECAPA_TDNN(
        weights["blocks.0.conv.conv.weight"].shape[1],
        lin_neurons=len(weights["fc.conv.weight"]),
        channels=[*channels, len(weights["mfa.conv.conv.weight"])],
        attention_channels=len(weights["asp.tdnn.conv.conv.weight"]),
        res2net_scale=scale,
        se_channels=len(weights["blocks.1.se_block.conv1.conv.weight"]),
    )
