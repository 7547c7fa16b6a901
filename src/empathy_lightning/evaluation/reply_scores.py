"""Scores of replies: empathy by EPITOME, overlap with expected responses, variety, and emotions that they name."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from empathy_lightning.checkpoints import load_empathy_classifier
from empathy_lightning.conversion.epitome import MECHANISMS
from empathy_lightning.devices import own_device
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.parsing import parse_words
from empathy_lightning.metrics.text import chrf, distinct, greedy_match
from empathy_lightning.modules.empathy_classifier import EmpathyClassifier
from empathy_lightning.modules.model_files import PretrainedError
from empathy_lightning.modules.pretrained import opened
from empathy_lightning.progress import progress_bar
from empathy_lightning.text import words
from empathy_lightning.utterance import EMOTIONS, Utterance

LEVELS = ("none", "weak", "strong")
"""What the levels 0, 1 and 2 of a mechanism mean."""


@dataclass(frozen=True)
class Empathy:
    """How strongly each reply shows one mechanism.

    Attributes:
        levels: 0, 1 or 2 for each reply; None where it is not known what was said.
        truncated: Whether each reply was longer than the classifier reads.
    """

    levels: list[int | None]
    truncated: list[bool]

    def figures(self) -> dict[str, float]:
        """Mean and standard deviation over the replies that have a level, and shares of the levels; none of none."""
        known = [(level, cut) for level, cut in zip(self.levels, self.truncated, strict=True) if level is not None]
        if not known:
            return {"replies": 0}
        levels, cut = torch.tensor(known, dtype=torch.float64).T
        shares = {name: float((levels == level).double().mean()) for level, name in enumerate(LEVELS)}
        spread = float(levels.std(correction=0))
        return {"replies": len(known)} | rounded(
            {"mean": float(levels.mean()), "standard_deviation": spread, **shares, "truncated": float(cut.mean())}
        )


def load_classifiers(folder: Path) -> dict[str, EmpathyClassifier]:
    """EPITOME's classifiers by mechanism, from what ``convert epitome`` or trainings wrote, or one mechanism's folder.

    Raises:
        InputError: If there is none.
    """
    folders = [folder] if (folder / "config.json").is_file() else [folder / name for name in MECHANISMS]
    present = [path for path in folders if path.is_dir()]
    if not present:
        raise InputError(f"{folder} holds no empathy classifier; train one (recipe:epitome) or convert one")
    device = own_device()
    loaded = {}
    for path in present:
        classifier = load_empathy_classifier(path).to(device)
        loaded[json.loads((path / "config.json").read_text(encoding="utf-8"))["mechanism"]] = classifier
    return loaded


def empathy(
    classifier: EmpathyClassifier, utterances: Sequence[Utterance], batch_size: int = 64, what: str = "empathy"
) -> Empathy:
    """Levels of replies: the likeliest by the classifier.

    Args:
        classifier: Of one mechanism.
        utterances: With transcripts and responses; a response without a word shows nothing and has level 0.
        batch_size: Replies at a time.
        what: Stands before the progress bar.
    """
    levels: list[int | None] = [0 if (u.transcript or "").strip() else None for u in utterances]
    truncated = [False] * len(utterances)
    said = [i for i, u in enumerate(utterances) if levels[i] is not None and (u.response or "").strip()]
    for start in progress_bar(range(0, len(said), batch_size), what=what):
        rows = said[start : start + batch_size]
        seekers, responses = ([getattr(utterances[i], name) for i in rows] for name in ("transcript", "response"))
        estimate = classifier.estimate(seekers, responses)
        assert estimate.truncated is not None
        for i, level, cut in zip(rows, estimate.logits.argmax(1).tolist(), estimate.truncated.tolist(), strict=True):
            levels[i], truncated[i] = level, cut
    return Empathy(levels, truncated)


def compare(levels: Sequence[float | None], others: Sequence[float | None]) -> dict[str, float | int]:
    """Two systems' scores for the same utterances: difference of the means and Wilcoxon's signed-rank test.

    Ties are left out of the ranks and p is two-sided, as ``scipy.stats.wilcoxon`` does by default.

    Args:
        levels: Of one system; levels of empathy, or error rates.
        others: Of the other; pairs of which one is None do not count.
    """
    from scipy.stats import wilcoxon

    pairs = [(a, b) for a, b in zip(levels, others, strict=True) if a is not None and b is not None]
    if not pairs:
        raise InputError("no reply of the two systems can be compared")
    # Differences of rates that are equal share a rank, whatever their last bits.
    differences = [round(a - b, 9) for a, b in pairs]
    return {"pairs": len(pairs), **rounded({"difference": sum(differences) / len(pairs)})} | {
        "p": float(wilcoxon(differences).pvalue) if any(differences) else 1.0
    }


def overlap(replies: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """BLEU (sacreBLEU's 13a words), chrF and the F-measures of ROUGE over one reference each, all in 0..1.

    torchmetrics' own chrF (1.9) leaves out the references of replies that share nothing with them (its issue 3480).
    """
    from torchmetrics.functional.text import rouge_score, sacre_bleu_score

    lists = [[reference] for reference in references]
    keys = ("rouge1", "rouge2", "rougeL")
    # By default torchmetrics knows no letters but a to z.
    rouge = rouge_score(list(replies), list(references), rouge_keys=keys, normalizer=str, tokenizer=words)
    return {
        "bleu": float(sacre_bleu_score(replies, lists)),
        "chrf": chrf(replies, references),
        **{name: float(rouge[f"{name}_fmeasure"]) for name in keys},
    }


def bert_scorer(
    folder: Path, layer: int | None = None, batch_size: int = 64
) -> Callable[[Sequence[str], Sequence[str]], list[float]]:
    """A function from replies and references to F-measures of BERTScore, neither weighted nor rescaled.

    The marks at both ends are left out; a text without a token scores 0.
    torchmetrics' own (1.9) confuses the pairs of a batch when it sorts them (its issue 2728).

    Args:
        folder: Of an encoder with its tokenizer.
        layer: Hidden states that are compared; None takes the last.
        batch_size: Pairs at a time.

    Raises:
        InputError: If there is no encoder that can be loaded, or it has no such layer.
    """
    encoder, tokenizer = _load_encoder(folder)
    if layer is not None and not 0 <= layer <= encoder.config.num_hidden_layers:
        raise InputError(f"{folder} has layers 0 to {encoder.config.num_hidden_layers}, not {layer}")
    # RoBERTa and its kin count positions from the one after that of the padding.
    first = getattr(getattr(encoder, "embeddings", None), "padding_idx", -1) + 1
    positions = getattr(encoder.config, "max_position_embeddings", 512) - first
    longest = min(512, tokenizer.model_max_length, positions)

    def _tokens(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        encoded = tokenizer(
            list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt",
            return_special_tokens_mask=True, split_special_tokens=True,
        ).to(encoder.device)  # fmt: skip
        counts = encoded.attention_mask.bool() & ~encoded.pop("special_tokens_mask").bool()
        hidden = encoder(**encoded, output_hidden_states=True).hidden_states[-1 if layer is None else layer]
        return hidden.float(), counts

    @torch.no_grad()
    def _scores(replies: Sequence[str], references: Sequence[str]) -> list[float]:
        scores = [0.0] * len(replies)
        said = [i for i, reply in enumerate(replies) if reply.strip() and references[i].strip()]
        for start in progress_bar(range(0, len(said), batch_size), what="BERTScore"):
            rows = said[start : start + batch_size]
            found = greedy_match(*_tokens([replies[i] for i in rows]), *_tokens([references[i] for i in rows]))
            for i, score in zip(rows, found.tolist(), strict=True):
                scores[i] = score
        return scores

    return _scores


def _load_encoder(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    if not folder.is_dir():
        raise InputError(f"no folder at {folder}: BERTScore needs that of an encoder, for example a roberta-large")
    try:
        with opened(str(folder)) as (_, where):
            encoder = AutoModel.from_pretrained(folder, **where).eval()
            tokenizer = AutoTokenizer.from_pretrained(folder, **where)
    except PretrainedError as error:
        raise InputError(f"BERTScore: {error}"[:300]) from None
    if encoder.config.is_encoder_decoder or tokenizer.pad_token is None:
        raise InputError(f"{folder} is no encoder: give --bert_score one such as a roberta-large")
    return encoder.to(own_device()), tokenizer


def variety(replies: Sequence[str]) -> dict[str, float]:
    """Mean number of words, distinct-1 and distinct-2, and the share of replies that no other one repeats first."""
    tokens = [words(reply) for reply in replies]
    different = len({tuple(row) for row in tokens})
    return {
        "words": sum(map(len, tokens)) / len(tokens),
        "distinct_1": distinct(tokens, 1),
        "distinct_2": distinct(tokens, 2),
        "different": different / len(tokens),
    }


def named_emotions(utterances: Sequence[Utterance]) -> dict[str, float | int] | None:
    """Shares of replies that name the speaker's labelled emotion, another one, or none or several.

    Whole words and synonyms count, by the rules of ``parse_words``; None without labels.
    The categories are the five of FreezeEmpath and the labels that are there.
    It is a count of words: "I would be happy to help" names happiness.
    """
    labelled = [u for u in utterances if u.emotion]
    if not labelled:
        return None
    emotions = sorted({*EMOTIONS, *(u.emotion or "" for u in labelled)})
    named = [(parse_words(u.response or "", emotions), u.emotion) for u in labelled]
    own, none = sum(a == b for a, b in named), sum(a is None for a, _ in named)
    shares = {"own": own, "another": len(named) - own - none, "none": none}
    return {"replies": len(named)} | rounded({name: count / len(named) for name, count in shares.items()})


def rounded(values: dict[str, float]) -> dict[str, float]:
    """Six decimals."""
    return {name: round(value, 6) for name, value in values.items()}
