"""From ``.pth`` files of EPITOME's training script to folders for EmpathyClassifier (research use only)."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import RobertaConfig

from empathy_lightning import __version__
from empathy_lightning.conversion.released import finish, found, new_folder, place, read_weights, renamed
from empathy_lightning.conversion.report import ConversionReport
from empathy_lightning.errors import InputError
from empathy_lightning.modules.empathy_classifier import EmpathyClassifier

MECHANISMS = {
    "emotional_reaction": r"ER|emotional[-_ ]?reactions?",
    "interpretation": r"IP|interpretations?",
    "exploration": r"EX|explorations?",
}
"""The mechanisms, and what stands for them in a file's name."""

_MODULES = {
    "seeker_encoder.roberta": "seeker_encoder",
    "responder_encoder.roberta": "response_encoder",
    "attn.q_linear": "query",
    "attn.k_linear": "key",
    "attn.v_linear": "value",
    "attn.out": "output",
    "rationale_classifier": "rationale_head",
    "empathy_classifier.dense": "empathy_dense",
    "empathy_classifier.out_proj": "empathy_head",
}
_TOKENIZER = ("vocab.json", "merges.txt")


def convert(source: str | Path, out: str | Path, dry_run: bool = False) -> ConversionReport:
    """Convert one file per mechanism, told apart by ER, IP and EX (or the words) in their names.

    Args:
        source: Folder with ``.pth`` files, or one of them. RoBERTa's ``vocab.json`` and ``merges.txt`` beside
            them are taken along; without them the folder names ``roberta-base``.
        out: Folder to make, with a folder per mechanism inside.
        dry_run: Read and report only.

    Raises:
        InputError: If no file is there, its mechanism is unclear, or weights are missing.
    """
    source, out = Path(source), Path(out)
    files = _files(source)
    report = ConversionReport()
    converted = {}
    for mechanism, file in files.items():
        weights = read_weights(file)
        config = roberta_config(weights, file)
        own = ConversionReport()
        with torch.device("meta"):
            classifier = EmpathyClassifier(config)
        converted[mechanism] = config, place(own, mechanism, classifier, found(weights, renamed("", _MODULES)))
        finish(own, weights, dry_run)
        report.used += [f"{mechanism}.{key}" for key in own.used]
        report.left_over += [f"{mechanism}.{key}" for key in own.left_over]
        report.missing += own.missing
    if not dry_run:
        folder = source if source.is_dir() else source.parent
        with new_folder(out) as partial:
            for mechanism, (config, placed) in converted.items():
                _write(partial / mechanism, mechanism, config, placed, folder)
            report.write(partial / "conversion.json")
    return report


def _files(source: Path) -> dict[str, Path]:
    candidates = [source] if source.is_file() else sorted(p for p in source.glob("*") if p.suffix in (".pth", ".pt"))
    files: dict[str, Path] = {}
    for file in candidates:
        named = [
            name
            for name, words in MECHANISMS.items()
            if re.search(rf"(?:^|[^A-Za-z])(?:{words})(?![A-Za-z])", file.stem)
        ]
        if len(named) != 1 or named[0] in files:
            raise InputError(f"{file}: name each file by one mechanism, ER, IP or EX, for instance reddit_ER.pth")
        files[named[0]] = file
    if not files:
        raise InputError(f"{source} holds no .pth file of EPITOME")
    return files


def roberta_config(weights: dict[str, Tensor], file: Path) -> RobertaConfig:
    """Sizes of the encoders, from the shapes of their weights; attention heads have width 64.

    Raises:
        InputError: If it is no state dict of EPITOME.
    """
    prefix = "seeker_encoder.roberta."
    layers = {int(m[1]) for key in weights if (m := re.match(rf"{re.escape(prefix)}encoder\.layer\.(\d+)\.", key))}
    try:
        words = weights[f"{prefix}embeddings.word_embeddings.weight"]
        positions = weights[f"{prefix}embeddings.position_embeddings.weight"]
        types = weights[f"{prefix}embeddings.token_type_embeddings.weight"]
        intermediate = weights[f"{prefix}encoder.layer.0.intermediate.dense.weight"]
    except KeyError as error:
        raise InputError(f"{file} is no state dict of EPITOME: it lacks {error}") from None
    return RobertaConfig(
        vocab_size=len(words),
        hidden_size=words.shape[1],
        num_hidden_layers=len(layers),
        num_attention_heads=max(1, words.shape[1] // 64),
        intermediate_size=len(intermediate),
        max_position_embeddings=len(positions),
        type_vocab_size=len(types),
        layer_norm_eps=1e-5,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )


def _write(folder: Path, mechanism: str, config: RobertaConfig, weights: dict[str, Tensor], tokenizer: Path) -> None:
    folder.mkdir()
    there = all((tokenizer / name).is_file() for name in _TOKENIZER)
    if there:
        (folder / "tokenizer").mkdir()
        for name in _TOKENIZER:
            shutil.copyfile(tokenizer / name, folder / "tokenizer" / name)
    values: dict[str, Any] = {
        "library": "empathy_lightning",
        "version": __version__,
        "mechanism": mechanism,
        "dropout": 0.1,
        "lower_case": True,
        "tokenizer": "tokenizer" if there else "roberta-base",
        "roberta": config.to_diff_dict(),
    }
    save_file({name: value.clone() for name, value in weights.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
