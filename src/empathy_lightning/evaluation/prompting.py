"""Speech emotion recognition (SER) by asking the chatbot: its answer parsed, or the options scored.

Parsers, by name:

``words`` (default). The answer is lower-cased and searched for the categories' names and
their synonyms as whole words. A mention right after a negation ("not", "isn't", "neither",
"rather than", ..., with at most one adverb or article between) does not count. If all
mentions that are left belong to one category, that is the answer; if there is none, or
they belong to several, the answer is unparseable.

``substring``. How RE-LLM's code maps the label names of corpora: sad, happy, angry and
neutral are looked for in this order anywhere in the lower-cased text, inside words too
("unhappy" is happy), and the last of the order that is found is taken; anything else must
be the name of a category and nothing more. Its authors published no parser of answers.

An unparseable answer counts as wrong and is reported; it is never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from empathy_lightning.audio import AudioError
from empathy_lightning.batch import SpeechBatch, SpeechDataset, collate
from empathy_lightning.checkpoints import load
from empathy_lightning.corpora.manifest import read_manifest
from empathy_lightning.errors import InputError
from empathy_lightning.files import write_json
from empathy_lightning.metrics.classification import unweighted_accuracy, weighted_accuracy
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.emotion_nuance import EmotionEstimate, EmotionNuance
from empathy_lightning.modules.language_model import LanguageModel, pack
from empathy_lightning.prompts import Prompt
from empathy_lightning.slots import positions_of
from empathy_lightning.utterance import Utterance

SYNONYMS: dict[str, tuple[str, ...]] = {
    "neutral": ("neutrality", "emotionless", "unemotional", "matter-of-fact"),
    "happy": ("happiness", "happily", "joy", "joyful", "cheerful", "delighted"),
    "sad": ("sadness", "sadly", "sorrow", "sorrowful", "unhappy", "unhappiness"),
    "angry": ("anger", "angrily", "furious", "irate", "enraged"),
    "surprised": ("surprise", "surprising", "astonished", "astonishment", "amazed"),
    "fearful": ("fear", "afraid", "scared", "frightened", "terrified"),
    "disgusted": ("disgust", "disgusting", "revolted"),
    "calm": ("calmness", "calmly"),
    "excited": ("excitement",),
    "frustrated": ("frustration",),
}
"""Words that stand for a category, unless they are the name of another one of the task."""

OFFERED = {"surprised": "surprise"}
"""Categories that the papers' questions offer under another word."""

_NEGATION = re.compile(
    r"(?:\b(?:not|no|never|neither|nor|without|than)|n't|\binstead of)\s+(?:(?:an?|the|very|really|\w+ly)\s+)?$"
)


def parse_words(answer: str, emotions: Sequence[str]) -> str | None:
    """The category that an answer names, by whole words and synonyms; None if there is not exactly one.

    Args:
        answer: What the model said.
        emotions: The task's categories.

    Example:
        >>> parse_words("The speaker is not sad; the tone is one of joy.", ["sad", "happy"])
        'happy'
    """
    meaning = {word: name for name in emotions for word in SYNONYMS.get(name, ())}
    meaning |= {name.lower(): name for name in emotions}
    text = answer.lower().replace("\u2019", "'")
    longest_first = sorted(meaning, key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])")
    named = {meaning[mention[0]] for mention in pattern.finditer(text) if not _NEGATION.search(text[: mention.start()])}
    return named.pop() if len(named) == 1 else None


def parse_substring(answer: str, emotions: Sequence[str]) -> str | None:
    """The category by the order of RE-LLM's label mapping; see the module's text."""
    text = answer.lower().strip()
    found = text if text in emotions else None
    for name in ("sad", "happy", "angry", "neutral"):
        if name in text:
            found = name
    return found if found in emotions else None


PARSERS: dict[str, Callable[[str, Sequence[str]], str | None]] = {"words": parse_words, "substring": parse_substring}
"""Parsers by name."""


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
    ids = [language_model.tokenizer(option, add_special_tokens=False).input_ids for option in options]
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
            log_probabilities = language_model.model.lm_head(states).float().log_softmax(-1)
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
    """

    utterance: Utterance
    answer: str
    emotion: str | None


@torch.no_grad()
def ask(model: EmpatheticLM, batch: SpeechBatch) -> tuple[Sequence[Tensor], EmotionEstimate | None]:
    """Embeddings of the model's prompt around each utterance, and what was heard in the voice."""
    said, emotion = model.listen(batch)
    # Pooled heads give nothing for the prompt: a question with an emotion slot is refused.
    felt = emotion if isinstance(model.emotion_nuance, EmotionNuance) else None
    return model.prompt_rows(said, None if felt is None else felt.embedding), emotion


def recogniser(
    model: EmpatheticLM, emotions: Sequence[str], by: str, parser: str, per_token: bool, max_new_tokens: int
) -> Callable[[SpeechBatch], list[tuple[str, str | None]]]:
    """A function from a batch to answers and categories, by the way that is named.

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

    def _answer(batch: SpeechBatch) -> list[tuple[str, str | None]]:
        prompts, _ = ask(model, batch)
        texts = [model.text(tokens) for tokens in model.respond(prompts, max_new_tokens)]
        return [(text, PARSERS[parser](text, emotions)) for text in texts]

    def _options(batch: SpeechBatch) -> list[tuple[str, str | None]]:
        assert model.language_model is not None
        prompts, _ = ask(model, batch)
        words = [OFFERED.get(name, name) for name in emotions]
        scores = score_options(model.language_model, prompts, words, per_token, adapted_at=model.adapted_at)
        best = scores.argmax(1)
        return [(words[index], emotions[index]) for index in best.tolist()]

    @torch.no_grad()
    def _classifier(batch: SpeechBatch) -> list[tuple[str, str | None]]:
        _, emotion = model.hear(batch)
        assert emotion is not None
        return [(emotions[index], emotions[index]) for index in emotion.logits.argmax(1).tolist()]

    return {"answer": _answer, "options": _options, "classifier": _classifier}[by]


def confusion(recognitions: Sequence[Recognition], emotions: Sequence[str]) -> Tensor:
    """Counts, shape (classes, classes + 1): rows by reference, the last column holds the unparseable answers."""
    counts = torch.zeros(len(emotions), len(emotions) + 1, dtype=torch.long)
    for recognition in recognitions:
        column = len(emotions) if recognition.emotion is None else emotions.index(recognition.emotion)
        counts[emotions.index(recognition.utterance.emotion or ""), column] += 1
    return counts


def figures(recognitions: Sequence[Recognition], emotions: Sequence[str]) -> dict[str, Any]:
    """UA, WA, the number of unparseable answers and the confusion; an unparseable answer is a wrong one."""
    counts = confusion(recognitions, emotions)
    return {
        "utterances": len(recognitions),
        "unweighted_accuracy": round(float(unweighted_accuracy(counts)), 6),
        "weighted_accuracy": round(float(weighted_accuracy(counts)), 6),
        "unparseable": int(counts[:, -1].sum()),
        "emotions": list(emotions),
        "confusion": counts.tolist(),
    }


def table(measured: dict[str, Any]) -> str:
    """The figures for the screen."""
    names, width = [*measured["emotions"], "none"], max(map(len, [*measured["emotions"], "none"])) + 2
    lines = [f"{'':<{width}}" + "".join(f"{name:>{width}}" for name in names)]
    for name, row in zip(measured["emotions"], measured["confusion"], strict=True):
        lines.append(f"{name:<{width}}" + "".join(f"{count:>{width}}" for count in row))
    return (
        f"UA {measured['unweighted_accuracy']:.3f}  WA {measured['weighted_accuracy']:.3f}  "
        f"{measured['unparseable']} of {measured['utterances']} answers unparseable\n" + "\n".join(lines)
    )


def evaluate_emotion(
    checkpoint: Path,
    manifest: Path,
    question: Prompt,
    out: Path | None = None,
    split: str = "test",
    by: str = "answer",
    parser: str = "words",
    per_token: bool = False,
    max_new_tokens: int = 32,
) -> dict[str, Any]:
    """Measure how well a checkpoint recognises emotion, print UA, WA and the confusion, and write them.

    Args:
        checkpoint: Folder of the bot.
        manifest: Utterances; those of the split whose emotion is one of the checkpoint's are used.
        question: What the bot is asked; takes the place of its prompt.
        out: JSON file with figures and answers.
        split: Split to use, or ``all``.
        by: ``answer`` parses the answer, ``options`` scores the categories' words, ``classifier`` takes the head's.
        parser: ``words`` or ``substring``.
        per_token: See :func:`score_options`.
        max_new_tokens: Longest answer.

    Raises:
        InputError: If the checkpoint or the manifest cannot be used.
    """
    loaded = load(checkpoint)
    loaded.model.prompt, loaded.model.system = question.user, question.system
    model = loaded.model.to("cuda" if torch.cuda.is_available() else "cpu")
    recognise = recogniser(model, loaded.emotions, by, parser, per_token, max_new_tokens)
    chosen = [u for u in read_manifest(manifest) if split in ("all", u.split) and u.emotion in loaded.emotions]
    if not chosen:
        raise InputError(f"{manifest} has no utterance in split {split} with one of {', '.join(loaded.emotions)}")
    recognitions: list[Recognition] = []
    unreadable: list[str] = []
    dataset = SpeechDataset(chosen, getattr(model.speech_encoder, "max_seconds", 30.0))
    for batch, utterances in tqdm(
        readable_batches(dataset, loaded.emotions, unreadable), desc="asking for the emotion"
    ):
        answers = recognise(batch.to(next(model.parameters()).device))
        recognitions += [Recognition(u, *answer) for u, answer in zip(utterances, answers, strict=True)]
    if not recognitions:
        raise InputError(f"none of {len(chosen)} utterances can be read, for example {unreadable[0]}")
    measured = {"by": by, "question": vars(question), "unreadable": unreadable}
    measured |= figures(recognitions, loaded.emotions)
    print(table(measured))
    if out is not None:
        _write(out, measured, recognitions)
    return measured


def _write(out: Path, measured: dict[str, Any], recognitions: Sequence[Recognition]) -> None:
    entries = [
        {"id": r.utterance.id, "emotion": r.utterance.emotion, "answer": r.answer, "recognised": r.emotion}
        for r in recognitions
    ]
    write_json(out, measured | {"answers": entries})


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
