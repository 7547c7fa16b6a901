"""Which of many responses to keep so that they differ: repeats, shared n-grams, distance of embeddings."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor

from empathy_lightning.modules.chat_format import literal_ids
from empathy_lightning.modules.language_model import LanguageModel, pack
from empathy_lightning.progress import progress_bar
from empathy_lightning.text import words

_BLOCK = 256
"""Rows compared with all kept ones in one matrix product."""


def repeats(texts: Sequence[str], most: int) -> list[int]:
    """Indices of texts whose words came ``most`` times before.

    Args:
        texts: In order of preference.
        most: How often the same words may come, 1 or more.
    """
    seen: Counter[tuple[str, ...]] = Counter()
    over = []
    for index, text in enumerate(texts):
        key = tuple(words(text))
        seen[key] += 1
        if seen[key] > most:
            over.append(index)
    return over


def ngrams(text: str, n: int = 3) -> frozenset[tuple[str, ...]]:
    """Distinct runs of n words, or of all words where there are fewer."""
    tokens = words(text)
    n = min(n, len(tokens))
    if not n:
        return frozenset()
    starts = range(len(tokens) - n + 1)
    return frozenset(tuple(tokens[start : start + n]) for start in starts)


def near_duplicates(texts: Sequence[str], overlap: float, n: int = 3) -> dict[int, int]:
    """Texts that share too many n-grams with an earlier one that is kept.

    The overlap is Jaccard's: shared n-grams over all n-grams of the two. The search is
    exact. Two sets of overlap t or more share one of the rarest (1 - t) parts of
    their n-grams, so only those are indexed (prefix filter of Chaudhuri et al., ICDE 2006).

    Args:
        texts: In order of preference.
        overlap: Least overlap of a duplicate, above 0 and at most 1.
        n: Words in an n-gram.

    Returns:
        For each dropped index, the index of the kept text that it repeats.
    """
    sets = [ngrams(text, n) for text in texts]
    frequency = Counter(chain.from_iterable(sets))
    index: dict[tuple[str, ...], list[int]] = defaultdict(list)
    duplicates: dict[int, int] = {}
    for current, grams in enumerate(sets):
        rarest = sorted(grams, key=lambda gram: (frequency[gram], gram))
        # A share of the size, rounded up; the small term keeps 0.7 * 10 from becoming 8.
        prefix = rarest[: len(grams) - math.ceil(overlap * len(grams) - 1e-9) + 1]
        candidates: set[int] = set()
        for gram in prefix:
            candidates.update(index[gram])
        twin = next((kept for kept in sorted(candidates) if _jaccard(grams, sets[kept]) >= overlap - 1e-9), None)
        if twin is not None:
            duplicates[current] = twin
            continue
        for gram in prefix:
            index[gram].append(current)
    return duplicates


def _jaccard(first: frozenset[tuple[str, ...]], second: frozenset[tuple[str, ...]]) -> float:
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared)


@torch.no_grad()
def mean_embeddings(language_model: LanguageModel, texts: Sequence[str], batch_size: int = 64) -> Tensor:
    """Mean of the language model's last hidden states over each text, float32 on the CPU.

    Args:
        language_model: The frozen model.
        texts: Not empty, each.
        batch_size: Texts at a time; those of like length share a batch.

    Returns:
        Shape (texts, D).
    """
    ids = [literal_ids(language_model.tokenizer, text) for text in texts]
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    means = torch.zeros(len(ids), language_model.hidden_size)
    for start in progress_bar(range(0, len(order), batch_size), what="embeddings of replies"):
        batch = order[start : start + batch_size]
        embeddings, mask = pack([language_model.embed(ids[index]) for index in batch])
        hidden = language_model(embeddings, mask).float() * mask[..., None]
        means[batch] = (hidden.sum(1) / mask.sum(1, keepdim=True)).cpu()
    return means


def directions(embeddings: Tensor) -> Tensor:
    """Embeddings (N, D) less their mean, at length one: hidden states share a large common part that says nothing."""
    return torch.nn.functional.normalize(embeddings - embeddings.mean(0), dim=1)


def similar(embeddings: Tensor, most: float) -> dict[int, int]:
    """Rows whose cosine with an earlier one that is kept is above a threshold.

    Args:
        embeddings: Shape (N, D), in order of preference; compared as :func:`directions`.
        most: Highest cosine that is still different, in -1..1.

    Returns:
        For each dropped index, the index of the kept row that is nearest.
    """
    unit = directions(embeddings)
    kept: list[int] = []
    dropped: dict[int, int] = {}
    for start in range(0, len(unit), _BLOCK):
        block = unit[start : start + _BLOCK]
        among = block @ block.T
        if kept:
            before, nearest = (block @ unit[kept].T).max(1)
            nearest = torch.tensor(kept)[nearest]
        else:
            # Below any cosine.
            before, nearest = torch.full((len(block),), -2.0), torch.zeros(len(block), dtype=torch.long)
        new: list[int] = []
        # Inside a block one row after the other: whether one is kept decides the next.
        for row in range(len(block)):
            cosine, twin = float(before[row]), int(nearest[row])
            if new:
                beside = among[row, new]
                if float(beside.max()) > cosine:
                    cosine, twin = float(beside.max()), start + new[int(beside.argmax())]
            if cosine > most:
                dropped[start + row] = twin
            else:
                new.append(row)
        kept += [start + row for row in new]
    return dropped


def farthest_points(embeddings: Tensor, count: int) -> list[int]:
    """Indices of rows far from each other: first the one nearest to the mean, then always the one farthest from all.

    Greedy k-centre selection (Gonzalez 1985): its largest gap is at most twice the smallest possible.

    Args:
        embeddings: Shape (N, D).
        count: How many to take.

    Returns:
        ``min(count, N)`` indices in the order in which they were taken.
    """
    count = min(count, len(embeddings))
    if count < 1:
        return []
    centred = embeddings - embeddings.mean(0)
    squares = centred.square().sum(1)
    taken = [int(squares.argmin())]
    distance = torch.full((len(embeddings),), math.inf)
    while len(taken) < count:
        latest = (squares + squares[taken[-1]] - 2 * (centred @ centred[taken[-1]])).clamp(min=0.0)
        distance = torch.minimum(distance, latest)
        # Rows that are equal have distance 0: below it, this one is not taken again before them.
        distance[taken[-1]] = -1.0
        taken.append(int(distance.argmax()))
    return taken
