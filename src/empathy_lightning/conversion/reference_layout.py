"""The prompt as BLSP-Emo and RE-LLM lay it out in memory: padding inside, and positions that count it.

The library pads at one end, so that a reply never depends on the batch. This is the original's
way, for comparing with it; what it computes changes with the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from empathy_lightning.modules.language_model import LanguageModel, pack


def inner_padded(segments: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Tensor, list[slice]]:
    """Pad each segment of the prompt on its own, then join them.

    Args:
        segments: For each segment (start, instruction, speech, suffix) the rows' embeddings, each (T_i, D).

    Returns:
        Embeddings (B, T, D), the mask (B, T), True where valid, and where each segment lies. Partial LoRA
        acts on the whole width of the speech, padding included.
    """
    padded, masks = zip(*(pack(rows) for rows in segments), strict=True)
    places, start = [], 0
    for mask in masks:
        places.append(slice(start, start + mask.shape[1]))
        start += mask.shape[1]
    return torch.cat(padded, 1), torch.cat(masks, 1), places


def hidden_by_physical_positions(language_model: LanguageModel, embeddings: Tensor, mask: Tensor) -> Tensor:
    """Last hidden states (B, T, D) of :func:`inner_padded` prompts; positions count padding too."""
    output = language_model.model.model(
        inputs_embeds=embeddings.to(language_model.model.dtype),
        attention_mask=mask.long(),
        position_ids=torch.arange(embeddings.shape[1], device=embeddings.device)[None],
        use_cache=False,
    )
    hidden: Tensor = output.last_hidden_state
    return hidden


@torch.no_grad()
def reply_by_physical_positions(
    language_model: LanguageModel, embeddings: Tensor, mask: Tensor, max_new_tokens: int
) -> list[list[int]]:
    """Greedy replies to :func:`inner_padded` prompts whose last segment has no padding, end token included."""
    positions = torch.arange(embeddings.shape[1], device=embeddings.device).expand(len(embeddings), -1)
    tokens: Tensor = language_model.model.generate(
        inputs_embeds=embeddings.to(language_model.model.dtype),
        attention_mask=mask.long(),
        position_ids=positions,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=language_model.tokenizer.pad_token_id,
        eos_token_id=language_model.tokenizer.eos_token_id,
    )
    rows: list[list[int]] = tokens.tolist()
    return rows
