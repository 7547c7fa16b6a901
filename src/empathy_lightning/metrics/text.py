"""Variety of a set of texts, and likeness of two texts in an encoder's eyes."""

from __future__ import annotations

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
    grams = [tuple(words[start : start + n]) for words in texts for start in range(len(words) - n + 1)]
    return len(set(grams)) / max(1, len(grams))


def greedy_match(candidate: Tensor, candidate_mask: Tensor, reference: Tensor, reference_mask: Tensor) -> Tensor:
    """F-measure of BERTScore: each token's best cosine in the other text, averaged over either text.

    Zhang et al. 2020, arXiv 1904.09675, section 3, without weights of rare words.

    Args:
        candidate: Embeddings of the tokens, shape (B, T, D).
        candidate_mask: Shape (B, T), True at tokens that count.
        reference: As candidate, shape (B, S, D).
        reference_mask: Shape (B, S).

    Returns:
        Shape (B,), at most 1; every text needs a token that counts.
    """
    cosines = torch.einsum("btd,bsd->bts", *(nn.functional.normalize(x, dim=-1) for x in (candidate, reference)))
    cosines = cosines.masked_fill(~candidate_mask[:, :, None] | ~reference_mask[:, None], -torch.inf)
    precision = cosines.amax(2).masked_fill(~candidate_mask, 0.0).sum(1) / candidate_mask.sum(1)
    recall = cosines.amax(1).masked_fill(~reference_mask, 0.0).sum(1) / reference_mask.sum(1)
    return 2 * precision * recall / (precision + recall)
