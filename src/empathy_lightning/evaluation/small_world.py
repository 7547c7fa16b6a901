"""How well a bot understands the small world: emotion, replies with ablations, and the prosody of its speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional import concordance_corrcoef

from empathy_lightning.audio import read
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.errors import InputError
from empathy_lightning.metrics import EmotionConfusion, unweighted_accuracy, weighted_accuracy
from empathy_lightning.metrics.prosody import prosody
from empathy_lightning.modules.emotion_nuance import EmotionEstimate
from empathy_lightning.preparation.small_world import EMOTION_WORDS, sentence_of
from empathy_lightning.progress import progress_bar
from empathy_lightning.slots import EmotionSlot, SpeechSlot, emotion_content, known
from empathy_lightning.utterance import RATINGS, Utterance


@dataclass
class Heard:
    """What a bot made of the questions: words and emotion of each, in the order of the utterances."""

    speech: list[Tensor]
    emotion: EmotionEstimate


def hear_all(bot: EmpatheticChatbot, utterances: Sequence[Utterance]) -> Heard:
    """Listen to every question.

    Raises:
        InputError: If an utterance lacks what is measured.
    """
    for utterance in utterances:
        if utterance.emotion not in bot.emotions or any(getattr(utterance, name) is None for name in RATINGS):
            raise InputError(
                f"{utterance.id} needs one of the emotions {', '.join(bot.emotions)}, and all three ratings"
            )
    parts = [bot.hear([read(u.path, u.start, u.end)]) for u in progress_bar(utterances, what="listening")]
    names = vars(parts[0][1])
    joined = {name: torch.cat([getattr(emotion, name).cpu() for _, emotion in parts]) for name in names}
    return Heard([speech for said, _ in parts for speech in said], EmotionEstimate(**joined))


def emotion_figures(heard: Heard, utterances: Sequence[Utterance], emotions: Sequence[str]) -> dict[str, Any]:
    """Unweighted and weighted accuracy, confusion matrix, and concordance of the ratings over the whole split."""
    confusion = EmotionConfusion(len(emotions))
    confusion.update(heard.emotion.logits, torch.tensor([list(emotions).index(u.emotion or "") for u in utterances]))
    counts = confusion.compute()
    figures: dict[str, Any] = {
        "unweighted_accuracy": float(unweighted_accuracy(counts)),
        "weighted_accuracy": float(weighted_accuracy(counts)),
        "confusion": counts.tolist(),
    }
    for name in RATINGS:
        target = torch.tensor([getattr(u, name) for u in utterances])
        figures[f"concordance_{name}"] = float(concordance_corrcoef(getattr(heard.emotion, name), target))
    return figures


def names_emotion(reply: str, emotion: str) -> bool:
    """Whether a reply names this emotion and no other."""
    words = reply.lower().replace(",", " ").replace(".", " ").replace("!", " ").split()
    return [word for word in EMOTION_WORDS.values() if word in words] == [EMOTION_WORDS[emotion]]


def names_content(reply: str, transcript: str) -> bool:
    """Whether a reply names the object, the person and the place of the question, and no other."""
    said, answered = sentence_of(transcript), sentence_of(reply)
    return said is not None and answered is not None and said.content_words == answered.content_words


def answer(
    bot: EmpatheticChatbot, speech: Sequence[Tensor] | Sequence[str], emotion: Tensor | Sequence[str], name: str
) -> list[str]:
    """Greedy replies to all questions, prompts of like length together."""
    prompts = bot.model.prompt_rows(speech, emotion)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    replies = [""] * len(prompts)
    for start in progress_bar(range(0, len(order), 50), what=name):
        rows = order[start : start + 50]
        for row, ids in zip(rows, bot.model.respond([prompts[i] for i in rows], 64), strict=True):
            replies[row] = bot.model.text(ids)
    return replies


VARIANTS: dict[str, tuple[SpeechSlot, EmotionSlot]] = {
    "own": ("speech", "embedding"),
    "random_emotion": ("speech", "embedding"),
    "true_label": ("speech", "label"),
    "transcript": ("transcript", "embedding"),
    "transcript_true_label": ("transcript", "label"),
    "transcript_random_label": ("transcript", "random label"),
}
"""What fills the slots of the bot's own replies and of each ablation (FreezeEmpath's Table 5)."""


def of_others(embedding: Tensor, seed: int) -> Tensor:
    """Two or more embeddings (B, D) in a drawn order in which each stands in another's place."""
    order = torch.randperm(len(embedding), generator=torch.Generator().manual_seed(seed))
    return embedding[order[(order.argsort() + 1) % len(order)]]


def reply_figures(
    bot: EmpatheticChatbot, heard: Heard, utterances: Sequence[Utterance], seed: int = 0
) -> dict[str, Any]:
    """Shares of right replies with the model's own emotion embedding and with each ablation."""
    ids, labels = [u.id for u in utterances], [u.emotion or "" for u in utterances]
    transcripts = known([u.transcript or "" for u in utterances], ids, "transcript")
    shares: dict[str, dict[str, float]] = {}
    for name, (speech_slot, emotion_slot) in VARIANTS.items():
        if name == "random_emotion" and len(utterances) < 2:
            continue  # There is no other's embedding to take.
        said = transcripts if speech_slot == "transcript" else heard.speech
        embedding = heard.emotion.embedding
        if name == "random_emotion":
            embedding = of_others(embedding, seed)
        tone = emotion_content(emotion_slot, embedding, labels, ids, bot.emotions, seed)
        replies = answer(bot, said, tone, f"replies: {name}")
        right = [names_emotion(r, u) for r, u in zip(replies, labels, strict=True)]
        content = [names_content(r, t) for r, t in zip(replies, transcripts, strict=True)]
        shares[name] = {
            "emotion_accuracy": sum(right) / len(right),
            "content_accuracy": sum(content) / len(content),
        }
    own = shares.pop("own")
    ratio = own["emotion_accuracy"] / max(1e-9, shares["true_label"]["emotion_accuracy"])
    figures: dict[str, Any] = {**own, "own_to_true_label": ratio, "ablations": shares}
    return figures


def speech_figures(bot: EmpatheticChatbot, utterances: Sequence[Utterance], per_emotion: int = 8) -> dict[str, Any]:
    """Prosody of spoken replies beside their rendered targets, per style.

    The bot speaks the expected response, so that both say the same words. For each
    quantity the differences between styles are correlated with the targets', and
    the share of style pairs that move in the same direction is counted.
    """
    chosen: list[Utterance] = []
    for emotion in bot.emotions:
        chosen += [u for u in utterances if u.emotion == emotion and u.response and u.response_path][:per_emotion]
    measured: dict[str, list[dict[str, dict[str, float]]]] = {}
    for utterance in progress_bar(chosen, what="speaking"):
        spoken = speak_text(bot, utterance)
        words = len((utterance.response or "").split())
        try:
            pair = {"spoken": prosody(spoken, words), "target": prosody(read(utterance.response_path or ""), words)}
        except ValueError:
            continue  # Without a voice there is no prosody; "replies" counts those that have one.
        measured.setdefault(utterance.emotion or "", []).append(pair)
    means = {
        emotion: {
            kind: {key: sum(row[kind][key] for row in rows) / len(rows) for key in rows[0][kind]}
            for kind in ("spoken", "target")
        }
        for emotion, rows in measured.items()
    }
    figures: dict[str, Any] = {"styles": means, "replies": sum(len(rows) for rows in measured.values())}
    for key in ("f0_mean", "f0_range", "rate"):
        spoken = torch.tensor([means[e]["spoken"][key] for e in means])
        target = torch.tensor([means[e]["target"][key] for e in means])
        pairs = torch.triu_indices(len(means), len(means), 1)
        same = (spoken[pairs[0]] - spoken[pairs[1]]).sign() == (target[pairs[0]] - target[pairs[1]]).sign()
        figures[f"{key}_correlation"] = float(torch.corrcoef(torch.stack([spoken, target]))[0, 1])
        figures[f"{key}_same_direction"] = float(same.float().mean())
    return figures


def speak_text(bot: EmpatheticChatbot, utterance: Utterance) -> Tensor:
    """Let the bot say an utterance's expected response; nothing without a speech decoder."""
    from empathy_lightning.prompts import response_ids

    assert bot.model.language_model is not None
    tokens = response_ids(bot.model.language_model.tokenizer, utterance.response or "")
    prompts = bot.model.prompt_rows([utterance.transcript or ""], [utterance.emotion or ""])
    spoken = bot.speak(bot.model.reply_states(prompts, [tokens])[0], tokens)
    return torch.zeros(0) if spoken is None else spoken
