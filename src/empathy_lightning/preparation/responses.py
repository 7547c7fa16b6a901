"""Expected responses: what the frozen language model itself says to the transcript, with or without its label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from empathy_lightning.corpora.manifest import read_manifest, write_manifest
from empathy_lightning.modules.language_model import LanguageModel, pack
from empathy_lightning.prompts import Prompt
from empathy_lightning.utterance import Utterance


@torch.no_grad()
def respond_to_text(
    language_model: LanguageModel, prompt: Prompt, utterances: Sequence[Utterance], max_new_tokens: int = 64
) -> list[str]:
    """Greedy replies to transcripts, and to their emotion labels where the prompt has the slot.

    Args:
        language_model: The frozen model.
        prompt: Its slots are filled with words.
        utterances: Each with a transcript and, for an emotion slot, an emotion.
        max_new_tokens: Longest reply.
    """
    tokenizer = language_model.tokenizer
    rows = [
        language_model.embed(prompt.text_ids(tokenizer, speech=u.transcript or "", emotion=u.emotion or ""))
        for u in utterances
    ]
    replies = language_model.generate(*pack(rows, left=True), max_new_tokens=max_new_tokens)
    return [tokenizer.decode(reply, skip_special_tokens=True).strip() for reply in replies]


def prepare_responses(
    manifest: str | Path, out: str | Path, language_model: str, prompt: Prompt, batch_size: int = 64
) -> Path:
    """Write a manifest with the response to each utterance; an existing one is kept.

    Utterances of like length share a batch. Replies that did not come to an end are
    kept as they are.

    Args:
        manifest: Utterances with transcripts.
        out: Manifest to write.
        language_model: Folder or model id of the frozen language model.
        prompt: Prompt whose slots the transcript and the label fill.
        batch_size: Prompts per generation.
    """
    out = Path(out)
    if out.is_file():
        return out
    utterances = sorted(read_manifest(manifest), key=lambda u: len(u.transcript or ""))
    model = LanguageModel.from_pretrained(language_model).to("cuda" if torch.cuda.is_available() else "cpu")
    answered: list[Utterance] = []
    for start in tqdm(
        range(0, len(utterances), batch_size),
        desc=f"replies to {'labels' if '{emotion}' in prompt.user else 'transcripts'}",
    ):
        batch = utterances[start : start + batch_size]
        replies = respond_to_text(model, prompt, batch)
        answered += [replace(u, response=r) for u, r in zip(batch, replies, strict=True)]
    write_manifest(out, sorted(answered, key=lambda u: u.id))
    return out
