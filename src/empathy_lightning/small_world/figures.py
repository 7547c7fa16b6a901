"""How well a bot understands the small world: emotion, replies with ablations, and the prosody of its speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from empathy_lightning.audio import read
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.data.batch import SpeechBatch, batch_of, collate
from empathy_lightning.decoding import Decoding
from empathy_lightning.errors import InputError
from empathy_lightning.filled_prompt import Turn
from empathy_lightning.listener import Heard
from empathy_lightning.metrics.emotion import Recognised
from empathy_lightning.metrics.prosody import prosody
from empathy_lightning.modules.emotion_heads import EmotionEstimate
from empathy_lightning.progress import progress_bar
from empathy_lightning.prompts import response_ids
from empathy_lightning.slots import (
    Content,
    HeardEmotion,
    HeardSpeech,
    RandomLabel,
    SlotFiller,
    Transcript,
    TrueLabel,
    known,
)
from empathy_lightning.small_world.world import EMOTION_WORDS, sentence_of
from empathy_lightning.utterance import RATINGS, Utterance


@dataclass
class HeardQuestions:
    """What a bot made of the questions, in the order of the utterances.

    Attributes:
        batch: All that is known of them; no sound.
        heard: Words and emotion.
    """

    batch: SpeechBatch
    heard: Heard

    @property
    def emotion(self) -> EmotionEstimate:
        """How they were said."""
        assert self.heard.emotion is not None
        return self.heard.emotion


@torch.no_grad()
def hear_all(bot: EmpatheticChatbot, utterances: Sequence[Utterance]) -> HeardQuestions:
    """Listen to every question.

    Raises:
        InputError: If an utterance lacks what is measured.
    """
    for utterance in utterances:
        if utterance.emotion not in bot.emotions or any(getattr(utterance, name) is None for name in RATINGS):
            raise InputError(
                f"{utterance.id} needs one of the emotions {', '.join(bot.emotions)}, and all three ratings"
            )
    said: list[Tensor] = []
    felt: list[EmotionEstimate] = []
    for u in progress_bar(utterances, what="listening"):
        heard = bot.model.listener(batch_of([read(u.path, u.start, u.end)]).to(bot.model.device))
        said += heard.said
        felt.append(heard.emotion)
    joined: dict[str, Any] = dict.fromkeys(vars(felt[0]))
    for name, value in vars(felt[0]).items():
        if value is not None:
            joined[name] = torch.cat([getattr(estimate, name).cpu() for estimate in felt])
    emotion = EmotionEstimate(**joined)
    facts = collate([(torch.zeros(1), u) for u in utterances], bot.emotions)
    return HeardQuestions(facts, Heard(said, emotion, emotion.embedding))


def emotion_figures(heard: HeardQuestions, utterances: Sequence[Utterance], emotions: Sequence[str]) -> dict[str, Any]:
    """Figures of the categories and of the ratings over the whole split."""
    shares = heard.emotion.logits.float().softmax(-1)
    named = [emotions[index] for index in shares.argmax(1).tolist()]
    probabilities = [dict(zip(emotions, row, strict=True)) for row in shares.tolist()]
    ratings = {}
    for name in RATINGS:
        ratings[name] = (getattr(heard.emotion, name).tolist(), [getattr(u, name) for u in utterances])
    return Recognised(emotions, [u.emotion or "" for u in utterances], named, probabilities, ratings).figures()


def names_emotion(reply: str, emotion: str) -> bool:
    """Whether a reply names this emotion and no other."""
    words = reply.lower().replace(",", " ").replace(".", " ").replace("!", " ").split()
    return [word for word in EMOTION_WORDS.values() if word in words] == [EMOTION_WORDS[emotion]]


def names_content(reply: str, transcript: str) -> bool:
    """Whether a reply names the object, the person and the place of the question, and no other."""
    said, answered = sentence_of(transcript), sentence_of(reply)
    return said is not None and answered is not None and said.content_words == answered.content_words


def answer(bot: EmpatheticChatbot, turns: Sequence[Turn], name: str) -> list[str]:
    """Greedy replies to all questions, prompts of like length together."""
    prompts = bot.responder.fill([[turn] for turn in turns])
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    replies = [""] * len(prompts)
    for start in progress_bar(range(0, len(order), 50), what=name):
        rows = order[start : start + 50]
        written = bot.responder.write([prompts[row] for row in rows], Decoding(max_new_tokens=64))
        for row, words in zip(rows, written, strict=True):
            replies[row] = words.text
    return replies


class AnothersEmotion(SlotFiller):
    """The emotion embedding of another utterance, drawn.

    Args:
        seed: Of the draw.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(self, batch: SpeechBatch, heard: Heard) -> Sequence[Content]:
        """Embeddings (D,)."""
        assert heard.emotion_embedding is not None
        return list(of_others(heard.emotion_embedding, self.seed))


VARIANTS: dict[str, tuple[SlotFiller, SlotFiller]] = {
    "own": (HeardSpeech(), HeardEmotion()),
    "random_emotion": (HeardSpeech(), AnothersEmotion()),
    "true_label": (HeardSpeech(), TrueLabel()),
    "transcript": (Transcript(), HeardEmotion()),
    "transcript_true_label": (Transcript(), TrueLabel()),
    "transcript_random_label": (Transcript(), RandomLabel()),
}
"""What fills the slots of the bot's own replies and of each ablation (FreezeEmpath's Table 5)."""


def of_others(embedding: Tensor, seed: int) -> Tensor:
    """Two or more embeddings (B, D) in a drawn order in which each stands in another's place."""
    order = torch.randperm(len(embedding), generator=torch.Generator().manual_seed(seed))
    return embedding[order[(order.argsort() + 1) % len(order)]]


def reply_figures(bot: EmpatheticChatbot, questions: HeardQuestions, utterances: Sequence[Utterance]) -> dict[str, Any]:
    """Shares of right replies with the model's own emotion embedding and with each ablation."""
    batch, heard = questions.batch, questions.heard
    transcripts = known(batch.transcripts, batch.ids, "transcript")
    shares: dict[str, dict[str, float]] = {}
    for name, (speech_slot, emotion_slot) in VARIANTS.items():
        if name == "random_emotion" and len(utterances) < 2:
            continue  # There is no other's embedding to take.
        contents = zip(speech_slot(batch, heard), emotion_slot(batch, heard), strict=True)
        turns = [Turn(said, tone) for said, tone in contents]
        replies = answer(bot, turns, f"replies: {name}")
        right = [names_emotion(r, u) for r, u in zip(replies, batch.emotions, strict=True)]
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
    means: dict[str, dict[str, dict[str, float]]] = {}
    for emotion, rows in measured.items():
        means[emotion] = {kind: _means([row[kind] for row in rows]) for kind in ("spoken", "target")}
    figures: dict[str, Any] = {"styles": means, "replies": sum(len(rows) for rows in measured.values())}
    for key in ("f0_mean", "f0_range", "rate"):
        spoken = torch.tensor([of["spoken"][key] for of in means.values()])
        target = torch.tensor([of["target"][key] for of in means.values()])
        # Each pair of styles once.
        pairs = torch.triu_indices(len(means), len(means), 1)
        same = (spoken[pairs[0]] - spoken[pairs[1]]).sign() == (target[pairs[0]] - target[pairs[1]]).sign()
        figures[f"{key}_correlation"] = float(torch.corrcoef(torch.stack([spoken, target]))[0, 1])
        figures[f"{key}_same_direction"] = float(same.float().mean())
    return figures


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


def speak_text(bot: EmpatheticChatbot, utterance: Utterance) -> Tensor:
    """Let the bot say an utterance's expected response; nothing without a speech decoder."""
    talker, responder = bot.model.talker, bot.responder
    if talker is None or talker.vocoder is None:
        return torch.zeros(0)
    tokens = response_ids(responder.language_model.tokenizer, utterance.response or "")
    prompts = responder.fill([[Turn(utterance.transcript or "", utterance.emotion or "")]])
    (states,) = responder.states(prompts, [tokens])
    waveform = talker.speak(states, tokens).waveform
    assert waveform is not None
    return waveform
