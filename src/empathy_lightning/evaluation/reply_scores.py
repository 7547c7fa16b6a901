"""Scores of replies: empathy by EPITOME, overlap with expected responses, variety, and emotions that they name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from empathy_lightning.checkpoints import load_empathy_classifier
from empathy_lightning.conversion.epitome import MECHANISMS
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.prompting import parse_words
from empathy_lightning.metrics.text import distinct, greedy_match
from empathy_lightning.modules.empathy_classifier import EmpathyClassifier
from empathy_lightning.preparation.cleaning import words
from empathy_lightning.utterance import Utterance

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
    """EPITOME's classifiers by mechanism, from what ``convert epitome`` wrote or one mechanism's folder of it.

    Raises:
        InputError: If there is none.
    """
    folders = [folder] if (folder / "config.json").is_file() else [folder / name for name in MECHANISMS]
    present = [path for path in folders if path.is_dir()]
    if not present:
        raise InputError(f"{folder} holds no empathy classifier; write one with `empathy-lightning convert epitome`")
    device = "cuda" if torch.cuda.is_available() else "cpu"
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
    for start in tqdm(range(0, len(said), batch_size), desc=what):
        rows = said[start : start + batch_size]
        seekers, responses = ([getattr(utterances[i], name) for i in rows] for name in ("transcript", "response"))
        estimate = classifier.estimate(seekers, responses)
        assert estimate.truncated is not None
        for i, level, cut in zip(rows, estimate.logits.argmax(1).tolist(), estimate.truncated.tolist(), strict=True):
            levels[i], truncated[i] = level, cut
    return Empathy(levels, truncated)


def compare(levels: Sequence[int | None], others: Sequence[int | None]) -> dict[str, float | int]:
    """Two systems' levels for the same utterances: difference of the means and Wilcoxon's signed-rank test.

    Ties are left out of the ranks and p is two-sided, as ``scipy.stats.wilcoxon`` does by default.

    Args:
        levels: Of one system.
        others: Of the other; pairs of which one is None do not count.
    """
    from scipy.stats import wilcoxon

    pairs = [(a, b) for a, b in zip(levels, others, strict=True) if a is not None and b is not None]
    if not pairs:
        raise InputError("no reply of the two systems can be compared: their utterances have no transcripts")
    ours, theirs = (list(column) for column in zip(*pairs, strict=True))
    differ = any(a != b for a, b in pairs)
    difference = (sum(ours) - sum(theirs)) / len(pairs)
    return {"pairs": len(pairs), **rounded({"difference": difference})} | {
        "p": float(wilcoxon(ours, theirs).pvalue) if differ else 1.0
    }


def overlap(replies: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """BLEU (sacreBLEU's 13a words), chrF and the F-measures of ROUGE over one reference each, all in 0..1."""
    from torchmetrics.functional.text import chrf_score, rouge_score, sacre_bleu_score

    lists = [[reference] for reference in references]
    rouge = rouge_score(list(replies), list(references), rouge_keys=("rouge1", "rouge2", "rougeL"))
    return {
        "bleu": float(sacre_bleu_score(replies, lists)),
        "chrf": float(torch.as_tensor(chrf_score(replies, lists))),
        **{name: float(rouge[f"{name}_fmeasure"]) for name in ("rouge1", "rouge2", "rougeL")},
    }


@torch.no_grad()
def bert_scores(
    replies: Sequence[str], references: Sequence[str], model: str, layer: int | None = None, batch_size: int = 64
) -> list[float]:
    """F-measure of BERTScore of each reply, neither weighted nor rescaled, the marks at both ends left out.

    torchmetrics' own (1.9) confuses the pairs of a batch when it sorts them (its issue 2728).

    Args:
        replies: One without a word scores 0.
        references: One for each.
        model: Folder of an encoder with its tokenizer.
        layer: Hidden states that are compared; None takes the last.
        batch_size: Pairs at a time.

    Raises:
        InputError: If the model cannot be loaded or has no such layer.
    """
    from transformers import AutoModel, AutoTokenizer

    try:
        encoder = AutoModel.from_pretrained(model).to("cuda" if torch.cuda.is_available() else "cpu").eval()
        tokenizer = AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise InputError(f"model {model} for BERTScore cannot be loaded: {' '.join(str(error).split())}") from None
    if layer is not None and not 0 <= layer <= encoder.config.num_hidden_layers:
        raise InputError(f"{model} has layers 0 to {encoder.config.num_hidden_layers}, not {layer}")
    longest = min(512, tokenizer.model_max_length)

    def _tokens(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        encoded = tokenizer(
            list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt",
            return_special_tokens_mask=True,
        ).to(encoder.device)  # fmt: skip
        counts = encoded.attention_mask.bool() & ~encoded.pop("special_tokens_mask").bool()
        hidden = encoder(**encoded, output_hidden_states=True).hidden_states[-1 if layer is None else layer]
        return hidden.float(), counts

    scores = [0.0] * len(replies)
    said = [i for i, reply in enumerate(replies) if reply.strip() and references[i].strip()]
    for start in tqdm(range(0, len(said), batch_size), desc="BERTScore"):
        rows = said[start : start + batch_size]
        found = greedy_match(*_tokens([replies[i] for i in rows]), *_tokens([references[i] for i in rows]))
        for i, score in zip(rows, found.tolist(), strict=True):
            scores[i] = score
    return scores


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
    It is a count of words: "I would be happy to help" names happiness.
    """
    labelled = [u for u in utterances if u.emotion]
    if not labelled:
        return None
    emotions = sorted({u.emotion or "" for u in labelled})
    named = [(parse_words(u.response or "", emotions), u.emotion) for u in labelled]
    own, none = sum(a == b for a, b in named), sum(a is None for a, _ in named)
    shares = {"own": own, "another": len(named) - own - none, "none": none}
    return {"replies": len(named)} | rounded({name: count / len(named) for name, count in shares.items()})


def rounded(values: dict[str, float]) -> dict[str, float]:
    """Six decimals."""
    return {name: round(value, 6) for name, value in values.items()}
