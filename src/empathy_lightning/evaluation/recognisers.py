"""Speech emotion recognition (SER) by asking the chatbot: its answer parsed, or the options scored."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import isfinite

import torch
from torch import Tensor

from empathy_lightning.audio import AudioError
from empathy_lightning.data.batch import SpeechBatch, SpeechDataset, collate
from empathy_lightning.decoding import Decoding
from empathy_lightning.emotion_words import words_for
from empathy_lightning.errors import InputError, meant
from empathy_lightning.evaluation.parsing import parser_named
from empathy_lightning.filled_prompt import FilledPrompt, Turn
from empathy_lightning.listener import Heard
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.chat_format import literal_ids
from empathy_lightning.responder import Responder
from empathy_lightning.slots import HeardEmotion, HeardSpeech
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
    responder: Responder,
    prompts: Sequence[FilledPrompt],
    options: Sequence[str],
    per_token: bool = False,
    batch_size: int = 32,
) -> Tensor:
    """Log-probability of each option as the start of the answer: the sum over its tokens.

    Args:
        responder: Whose language model answers.
        prompts: Its filled prompts.
        options: Words that may be the answer.
        per_token: Divide each sum by the option's number of tokens, so that long options are not at a loss.
        batch_size: Pairs of prompt and option at a time.

    Returns:
        Shape (prompts, options).
    """
    language_model = responder.language_model
    ids = [literal_ids(language_model.tokenizer, option) for option in options]
    pairs = list(product(prompts, ids))
    scores = []
    for start in range(0, len(pairs), batch_size):
        asked, answers = zip(*pairs[start : start + batch_size], strict=True)
        for states, tokens in zip(responder.states(asked, answers), answers, strict=True):
            log_probabilities = language_model.logits(states).float().log_softmax(-1)
            own = log_probabilities[range(len(tokens)), tokens].sum()
            if per_token:
                own = own / len(tokens)
            scores.append(own)
    return torch.stack(scores).view(len(prompts), len(options))


@dataclass(frozen=True)
class Recognition:
    """What was recognised in one utterance.

    Attributes:
        utterance: With the true emotion.
        answer: What was said, or the best option or class.
        emotion: The category, or None where the answer could not be parsed.
        ratings: What the rating heads heard, by name, in 0..1; empty where there are none.
        probabilities: Of each category, by name; empty where the answer was parsed.
        layers: Share of each of the speech encoder's layers in what was heard; empty where it is not known.
    """

    utterance: Utterance
    answer: str
    emotion: str | None
    ratings: dict[str, float] = field(default_factory=dict)
    probabilities: dict[str, float] = field(default_factory=dict)
    layers: list[float] = field(default_factory=list)


Answers = list[tuple[str, str | None, dict[str, float]]]
"""Of each utterance what was said, the category that it means (None where it means none), and the probabilities."""


def recogniser(
    model: EmpatheticLM, emotions: Sequence[str], by: str, parser: str, per_token: bool, max_new_tokens: int
) -> Callable[[SpeechBatch, Sequence[Utterance]], list[Recognition]]:
    """A function from a batch and its utterances to what was recognised, by the way that is named.

    Whatever fills the folder's slots, the question is about what is heard.

    Raises:
        InputError: If the way or the parser is unknown, or the checkpoint lacks the part for it.
    """
    _check_way(model, by, parser)

    @torch.no_grad()
    def _recognise(batch: SpeechBatch, utterances: Sequence[Utterance]) -> list[Recognition]:
        heard = model.listener(batch, words=by != "classifier")
        if by == "classifier":
            answers = _chosen(heard.emotion.logits, emotions, emotions)
        else:
            assert model.responder is not None
            contents = zip(HeardSpeech()(batch, heard), HeardEmotion()(batch, heard), strict=True)
            prompts = model.responder.fill([[Turn(said, felt)] for said, felt in contents])
            if by == "answer":
                answers = _parsed(model.responder, prompts, emotions, parser, max_new_tokens)
            else:
                answers = _likeliest(model.responder, prompts, emotions, per_token)
        return _recognitions(utterances, answers, heard)

    return _recognise


def _check_way(model: EmpatheticLM, by: str, parser: str) -> None:
    parser_named(parser)
    responder = model.responder
    parts = {"answer": responder, "options": responder, "classifier": model.listener.emotion_nuance}
    if by not in parts:
        raise InputError(f"emotion cannot be recognised by {by!r}; there are {', '.join(parts)}{meant(by, parts)}")
    if parts[by] is None:
        raise InputError(f"the checkpoint has no part to recognise emotion by {by}")
    if by == "classifier" and "categorical" in model.listener.untrained_heads:
        raise InputError("the checkpoint's classifier was never trained: recognise emotion by answer or options")
    question = "" if responder is None or by == "classifier" else str(responder.prompt)
    if "{emotion}" in question and not model.listener.fills_emotion_slot:
        # The label's own word, which stage 1 puts there, would be the answer.
        raise InputError(
            "the question has an {emotion} slot, but nothing is heard to fill it: give --prompt without one, or "
            "another --paper"
        )


def _parsed(
    responder: Responder, prompts: Sequence[FilledPrompt], emotions: Sequence[str], parser: str, max_new_tokens: int
) -> Answers:
    parse = parser_named(parser)
    texts = [written.text for written in responder.write(prompts, Decoding(max_new_tokens))]
    return [(text, parse(text, emotions), {}) for text in texts]


def _likeliest(
    responder: Responder, prompts: Sequence[FilledPrompt], emotions: Sequence[str], per_token: bool
) -> Answers:
    words = [offered(name, responder.prompt or "") for name in emotions]
    scores = score_options(responder, prompts, words, per_token)
    return _chosen(scores, words, emotions)


def _chosen(scores: Tensor, words: Sequence[str], emotions: Sequence[str]) -> Answers:
    """The highest of scores (N, emotions) whose softmax are the probabilities."""
    answers: Answers = []
    for index, shares in zip(scores.argmax(1).tolist(), scores.float().softmax(-1).tolist(), strict=True):
        answers.append((words[index], emotions[index], dict(zip(emotions, shares, strict=True))))
    return answers


def _recognitions(utterances: Sequence[Utterance], answers: Answers, heard: Heard) -> list[Recognition]:
    ratings: dict[str, list[float]] = {}
    if heard.emotion is not None:
        ratings = {name: getattr(heard.emotion, name).clamp(0, 1).tolist() for name in RATINGS}
    layers: list[list[float]] = [[] for _ in utterances]
    if heard.emotion is not None and heard.emotion.layer_weights is not None:
        layers = heard.emotion.layer_weights.float().tolist()
    recognitions = []
    for row, (utterance, (answer, emotion, shares)) in enumerate(zip(utterances, answers, strict=True)):
        # Heads that are not there, or were never trained, rate NaN.
        rated = {name: values[row] for name, values in ratings.items() if isfinite(values[row])}
        recognitions.append(Recognition(utterance, answer, emotion, rated, shares, layers[row]))
    return recognitions


def readable_batches(
    dataset: SpeechDataset, emotions: Sequence[str], unreadable: list[str], size: int = 16
) -> Iterator[tuple[SpeechBatch, list[Utterance]]]:
    """Batches of readable utterances of like length; reasons of the others are added to the list."""
    durations = dataset.durations()
    # By length, so that little of a batch is padding.
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
