"""A prompt whose slots are filled, and the turns of a conversation that fill them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from empathy_lightning.prompts import Segment


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation: what the user said, how, and the reply to it.

    Attributes:
        speech: Embeddings of what was said, shape (T, D), or a transcript; None for a prompt without that slot.
        emotion: Embedding of how it was said, shape (D,), or a label; None for a prompt without that slot.
        reply: What was replied; "" where that is still to come.
    """

    speech: Tensor | str | None
    emotion: Tensor | str | None = None
    reply: str = ""


@dataclass(frozen=True)
class FilledPrompt:
    """A prompt as the language model reads it.

    Attributes:
        embeddings: Shape (T, D).
        speech: Where an embedding came from the speech adapter, shape (T,), bool.
        prefix: Token ids of the words before the first slot.
        still: How many first embeddings need no gradient.
    """

    embeddings: Tensor
    speech: Tensor
    prefix: list[int]
    still: int

    def __len__(self) -> int:
        return len(self.embeddings)

    @classmethod
    def of(cls, segments: Sequence[Segment], contents: Sequence[Tensor], heard: Sequence[bool]) -> FilledPrompt:
        """Join the contents of a prompt's segments.

        Args:
            segments: Words and slots.
            contents: Embeddings (T_i, D) of each.
            heard: Whether each came from the speech adapter.
        """
        marks = []
        still = 0
        for content, from_speech in zip(contents, heard, strict=True):
            marks.append(torch.full((len(content),), from_speech, device=content.device))
        for content in contents:
            if content.requires_grad:
                break
            still += len(content)
        prefix = [] if isinstance(segments[0], str) else segments[0]
        return cls(torch.cat(list(contents)), torch.cat(marks), prefix, still)


def shared_prefix(prompts: Sequence[FilledPrompt]) -> list[int]:
    """Token ids with which all prompts begin, before their first slots."""
    shared = list(prompts[0].prefix)
    for prompt in prompts[1:]:
        same = 0
        while same < min(len(shared), len(prompt.prefix)) and shared[same] == prompt.prefix[same]:
            same += 1
        shared = shared[:same]
    return shared
