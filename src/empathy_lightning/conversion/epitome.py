"""From ``.pth`` files of EPITOME's training script to folders for EmpathyClassifier (research use only)."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import torch
from torch import Tensor

from empathy_lightning.conversion.outcome import ConversionReport, new_folder
from empathy_lightning.conversion.placing import finish, place, renamed
from empathy_lightning.conversion.released import read_weights
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_new_folder
from empathy_lightning.folders import write_folder
from empathy_lightning.modules.empathy_classifier import EmpathyClassifier
from empathy_lightning.modules.model_files import check_file
from empathy_lightning.parts import described

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
    if not dry_run:
        check_new_folder(out)
    files = _files(source)
    report = ConversionReport()
    converted = {}
    for mechanism, file in files.items():
        weights = read_weights(file)
        classifier, own = _classifier(weights, file), ConversionReport()
        converted[mechanism] = classifier, place(own, mechanism, classifier, renamed(weights, "", _MODULES))
        finish(own, weights, dry_run)
        report.used += [f"{mechanism}.{key}" for key in own.used]
        report.left_over += [f"{mechanism}.{key}" for key in own.left_over]
        report.missing += own.missing
    if not dry_run:
        folder = source if source.is_dir() else source.parent
        with new_folder(out, source) as partial:
            for mechanism, (classifier, placed) in converted.items():
                _write(partial / mechanism, mechanism, classifier, placed, folder)
            report.write(partial / "conversion.json")
    return report


def _files(source: Path) -> dict[str, Path]:
    candidates = [source]
    if not source.is_file():
        candidates = sorted(path for path in source.glob("*") if path.suffix in (".pth", ".pt"))
    files: dict[str, Path] = {}
    for file in candidates:
        named = [name for name, words in MECHANISMS.items() if _is_named(file.stem, words)]
        if len(named) != 1 or named[0] in files:
            raise InputError(f"{file}: name each file by one mechanism, ER, IP or EX, for instance reddit_ER.pth")
        files[named[0]] = file
    if not files:
        raise InputError(f"{source} holds no .pth file of EPITOME")
    return files


def _is_named(stem: str, words: str) -> bool:
    """Whether one of the words stands in a name by itself: ER is not in SPEAKER."""
    return re.search(rf"(?:^|[^A-Za-z])(?:{words})(?![A-Za-z])", stem) is not None


def _classifier(weights: dict[str, Tensor], file: Path) -> EmpathyClassifier:
    """A classifier without values, of the sizes in the shapes of the weights; attention heads have width 64."""
    prefix = "seeker_encoder.roberta."
    matches = [re.match(rf"{re.escape(prefix)}encoder\.layer\.(\d+)\.", key) for key in weights]
    layers = {int(match[1]) for match in matches if match}
    try:
        words = weights[f"{prefix}embeddings.word_embeddings.weight"]
        positions = weights[f"{prefix}embeddings.position_embeddings.weight"]
        intermediate = weights[f"{prefix}encoder.layer.0.intermediate.dense.weight"]
    except KeyError as error:
        raise InputError(f"{file} is no state dict of EPITOME: it lacks {error}") from None
    width = words.shape[1]
    with torch.device("meta"):
        return EmpathyClassifier(len(words), width, len(layers), max(1, width // 64), len(intermediate), len(positions))


def _write(
    folder: Path, mechanism: str, classifier: EmpathyClassifier, weights: dict[str, Tensor], tokenizer: Path
) -> None:
    there = all((tokenizer / name).is_file() for name in _TOKENIZER)
    if there:
        (folder / "tokenizer").mkdir(parents=True)
        for name in _TOKENIZER:
            check_file(tokenizer / name)
            shutil.copyfile(tokenizer / name, folder / "tokenizer" / name)
    source = "tokenizer" if there else "roberta-base"
    write_folder(folder, described(classifier), weights, mechanism=mechanism, tokenizer=source)
