"""Speech emotion recognition (SER) by asking the chatbot: its answer parsed, or the options scored."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from math import isfinite

import torch
from torch import Tensor

from empathy_lightning.audio import AudioError
from empathy_lightning.batch import SpeechBatch, SpeechDataset, collate
from empathy_lightning.emotion_words import words_for
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.parsing import PARSERS
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.chat_format import literal_ids
from empathy_lightning.modules.emotion_nuance import EmotionEstimate, EmotionNuance
from empathy_lightning.modules.language_model import LanguageModel, pack
from empathy_lightning.slots import positions_of
from empathy_lightning.utterance import RATINGS, Utterance


def offered(name: str, question: str) -> str:
    """The word under which a question offers a category: its name, or the first of its other words that is there.

    >>> offered("surprised", "Is it neutral or surprise?")
    'surprise'
    """
    for word in (name, *words_for(name)):
        spelt = r"[\s_-]+".join(map(re.escape, word.split()))
        if found := re.search(rf"(?<![\w-]){spelt}(?![\w-])", question, re.IGNORECASE):
            return found[0]
    return name


@torch.no_grad()
def score_options(
    language_model: LanguageModel,
    prompts: Sequence[Tensor],
    options: Sequence[str],
    per_token: bool = False,
    batch_size: int = 32,
    adapted_at: Callable[[Sequence[Tensor]], AbstractContextManager[None]] | None = None,
) -> Tensor:
    """Log-probability of each option as the start of the answer: the sum over its tokens.

    Args:
        language_model: The frozen model.
        prompts: Embeddings of the prompts, each (T_i, D).
        options: Words that may be the answer.
        per_token: Divide each sum by the option's number of tokens, so that long options are not at a loss.
        batch_size: Pairs of prompt and option at a time.
        adapted_at: Makes the context in which the model reads prompts, such as
            :meth:`~empathy_lightning.models.EmpatheticLM.adapted_at`; None reads them as they are.

    Returns:
        Shape (prompts, options).
    """
    ids = [literal_ids(language_model.tokenizer, option) for option in options]
    pairs = [(prompt, tokens) for prompt in prompts for tokens in ids]
    scores = []
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        asked = [prompt for prompt, _ in batch]
        embeddings, mask = pack([torch.cat([p, language_model.embed(tokens)]) for p, tokens in batch])
        with nullcontext() if adapted_at is None else adapted_at(asked):
            hidden = language_model(embeddings, mask, positions=positions_of(asked, mask.shape[1]))
        for row, (prompt, tokens) in zip(hidden, batch, strict=True):
            # The state before a token is the one that predicts it.
            states = row[len(prompt) - 1 : len(prompt) - 1 + len(tokens)]
            log_probabilities = language_model.logits(states).float().log_softmax(-1)
            own = log_probabilities[range(len(tokens)), tokens].sum()
            scores.append(own / len(tokens) if per_token else own)
    return torch.stack(scores).view(len(prompts), len(options))


@dataclass(frozen=True)
class Recognition:
    """What was recognised in one utterance.

    Attributes:
        utterance: With the true emotion.
        answer: What was said, or the best option or class.
        emotion: The category, or None where the answer could not be parsed.
        ratings: What the rating heads heard, by name, in 0..1; empty where there are none.
    """

    utterance: Utterance
    answer: str
    emotion: str | None
    ratings: dict[str, float] = field(default_factory=dict)


@torch.no_grad()
def ask(model: EmpatheticLM, batch: SpeechBatch) -> tuple[Sequence[Tensor], EmotionEstimate | None]:
    """Embeddings of the model's prompt around each utterance, and what was heard in the voice."""
    said, emotion = model.listen(batch)
    # Pooled heads give nothing for the prompt: a question with an emotion slot is refused.
    felt = emotion if isinstance(model.emotion_nuance, EmotionNuance) else None
    return model.prompt_rows(said, None if felt is None else felt.embedding), emotion


def recogniser(
    model: EmpatheticLM, emotions: Sequence[str], by: str, parser: str, per_token: bool, max_new_tokens: int
) -> Callable[[SpeechBatch, Sequence[Utterance]], list[Recognition]]:
    """A function from a batch and its utterances to what was recognised, by the way that is named.

    Raises:
        InputError: If the way or the parser is unknown, or the checkpoint lacks the part for it.
    """
    if parser not in PARSERS:
        raise InputError(f"no parser named {parser!r}; there are {', '.join(PARSERS)}")
    parts = {"answer": model.language_model, "options": model.language_model, "classifier": model.emotion_nuance}
    if by not in parts:
        raise InputError(f"emotion cannot be recognised by {by!r}; there are {', '.join(parts)}")
    if parts[by] is None:
        raise InputError(f"the checkpoint has no part to recognise emotion by {by}")
    if by == "classifier" and "categorical" in model.untrained_heads:
        raise InputError("the checkpoint's classifier was never trained: recognise emotion by answer or options")

    def _answer(prompts: Sequence[Tensor]) -> list[tuple[str, str | None]]:
        texts = [model.text(tokens) for tokens in model.respond(prompts, max_new_tokens)]
        return [(text, PARSERS[parser](text, emotions)) for text in texts]

    def _options(prompts: Sequence[Tensor]) -> list[tuple[str, str | None]]:
        assert model.language_model is not None
        words = [offered(name, model.prompt) for name in emotions]
        scores = score_options(model.language_model, prompts, words, per_token, adapted_at=model.adapted_at)
        return [(words[index], emotions[index]) for index in scores.argmax(1).tolist()]

    @torch.no_grad()
    def _recognise(batch: SpeechBatch, utterances: Sequence[Utterance]) -> list[Recognition]:
        if by == "classifier":
            _, heard = model.hear(batch)
            assert heard is not None
            answers = [(emotions[index], emotions[index]) for index in heard.logits.argmax(1).tolist()]
        else:
            prompts, heard = ask(model, batch)
            answers = _answer(prompts) if by == "answer" else _options(prompts)
        ratings = {} if heard is None else {name: getattr(heard, name).clamp(0, 1).tolist() for name in RATINGS}
        recognitions = []
        for row, (utterance, answer) in enumerate(zip(utterances, answers, strict=True)):
            # Heads that are not there, or never trained, rate NaN.
            rated = {name: values[row] for name, values in ratings.items() if isfinite(values[row])}
            recognitions.append(Recognition(utterance, *answer, rated))
        return recognitions

    return _recognise


def readable_batches(
    dataset: SpeechDataset, emotions: Sequence[str], unreadable: list[str], size: int = 16
) -> Iterator[tuple[SpeechBatch, list[Utterance]]]:
    """Batches of readable utterances of like length; reasons of the others are added to the list."""
    durations = dataset.durations()
    order = sorted(range(len(dataset)), key=durations.__getitem__)
    for start in range(0, len(order), size):
        rows = []
        for index in order[start : start + size]:
            try:
                rows.append(dataset[index])
            except AudioError as error:
                unreadable.append(str(error))
        if rows:
            yield collate(rows, emotions), [row[1] for row in rows]
