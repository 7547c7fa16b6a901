"""Variety of a set of texts, and likeness of texts: by their characters, and in an encoder's eyes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def distinct(texts: Sequence[Sequence[str]], n: int) -> float:
    """Distinct n-grams over all n-grams of a set of texts (distinct-n, Li et al. 2016, arXiv 1510.03055).

    It falls with the number of words, so only sets of like size compare.

    Args:
        texts: Words of each text.
        n: Words in an n-gram, 1 or more.

    Returns:
        Share in 0..1; 0 where no text has n words.

    Example:
        >>> distinct([["i", "am", "so", "sorry"], ["i", "am", "glad"]], 2)
        0.8
    """
    grams: list[tuple[str, ...]] = []
    for words in texts:
        grams += [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return len(set(grams)) / max(1, len(grams))


def chrf(candidates: Sequence[str], references: Sequence[str], longest: int = 6, beta: float = 2.0) -> float:
    """Character n-gram F-measure of a whole set (chrF, Popovic 2015, aclanthology.org/W15-3049).

    Precision and recall are counted over the set for each n, averaged over the n of
    which both sides have some, and then joined. White space does not count.

    Args:
        candidates: Texts to be measured.
        references: One for each.
        longest: Characters in the longest n-grams.
        beta: How much more recall weighs than precision.

    Returns:
        In 0..1; 0 where nothing is shared.
    """
    precisions, recalls = [], []
    for n in range(1, longest + 1):
        shared = said = expected = 0
        for candidate, reference in zip(candidates, references, strict=True):
            own = _characters(candidate, n)
            wanted = _characters(reference, n)
            # Each n-gram as often as both have it.
            shared += (own & wanted).total()
            said += own.total()
            expected += wanted.total()
        if said and expected:
            precisions.append(shared / said)
            recalls.append(shared / expected)
    if not any(precisions):
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def _characters(text: str, n: int) -> Counter[str]:
    letters = "".join(text.split())
    return Counter(letters[start : start + n] for start in range(len(letters) - n + 1))


def greedy_match(candidate: Tensor, candidate_mask: Tensor, reference: Tensor, reference_mask: Tensor) -> Tensor:
    """F-measure of BERTScore: each token's best cosine in the other text, averaged over either text.

    Zhang et al. 2020, arXiv 1904.09675, section 3, without weights of rare words.

    Args:
        candidate: Embeddings of the tokens, shape (B, T, D).
        candidate_mask: Shape (B, T), True at tokens that count.
        reference: As candidate, shape (B, S, D).
        reference_mask: Shape (B, S).

    Returns:
        Shape (B,), at most 1; 0 where a text has no token that counts.
    """
    candidate = nn.functional.normalize(candidate, dim=-1)
    reference = nn.functional.normalize(reference, dim=-1)
    cosines = torch.einsum("btd,bsd->bts", candidate, reference)
    cosines = cosines.masked_fill(~candidate_mask[:, :, None] | ~reference_mask[:, None], -torch.inf)
    precision = cosines.amax(2).masked_fill(~candidate_mask, 0.0).sum(1) / candidate_mask.sum(1)
    recall = cosines.amax(1).masked_fill(~reference_mask, 0.0).sum(1) / reference_mask.sum(1)
    both = precision + recall
    known = candidate_mask.any(1) & reference_mask.any(1) & (both != 0)
    return torch.where(known, 2 * precision * recall / both, 0.0)
