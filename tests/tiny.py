"""Whole models of given parts, for tests that care about one of them."""

from functools import partial

import torch

from empathy_lightning.data.batch import batch_of
from empathy_lightning.decoding import Decoding
from empathy_lightning.filled_prompt import Turn
from empathy_lightning.folders import read_config
from empathy_lightning.listener import Listener
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.parts import entries
from empathy_lightning.responder import Responder
from empathy_lightning.talker import Talker
from empathy_lightning.thinking import reply_text

HEARS = ("speech_encoder", "speech_adapter", "emotion_nuance", "emotion_encoder", "untrained_heads")
SPEAKS = ("speech_decoder", "vocoder")


def whole(speech_encoder, speech_adapter=None, language_model=None, emotion_nuance=None, emotions=(), **others):
    """A model of its parts by their names, and of the responder's other arguments."""
    listener = {"speech_encoder": speech_encoder, "speech_adapter": speech_adapter, "emotion_nuance": emotion_nuance}
    responder, talker = {}, {}
    for name, value in others.items():
        (listener if name in HEARS else talker if name in SPEAKS else responder)[name] = value
    return EmpatheticLM(
        Listener(**listener),
        None if language_model is None else Responder(language_model, **responder),
        Talker(**talker) if talker else None,
        emotions,
    )


def adamw(rate):
    """A task's optimiser with a rate of its own."""
    return partial(torch.optim.AdamW, lr=rate)


def spoken(model, emotions, speech_decoder=None, vocoder=None):
    """The model with names for its emotions, and perhaps a talker."""
    model.emotions = list(emotions)
    if speech_decoder is not None:
        model.talker = Talker(speech_decoder, vocoder)
    return model


def filled(model, speech, emotion=None, prompts=()):
    """Prompts of single turns, filled with embeddings or words."""
    emotion = [None] * len(speech) if emotion is None else emotion
    return model.responder.fill([[Turn(*turn)] for turn in zip(speech, emotion, strict=True)], prompts)


def tokens_of(model, prompts, max_new_tokens=256, temperature=0.0, seed=0, top_p=1.0):
    """Token ids of the replies to filled prompts; ``seed`` is one for all, or one for each."""
    seeds = () if isinstance(seed, int) else seed
    chosen = Decoding(max_new_tokens, temperature, top_p, seed if isinstance(seed, int) else 0)
    return [written.tokens for written in model.responder.write(prompts, chosen, seeds)]


def heard(model, waveforms):
    """What a model's listener makes of waveforms."""
    with torch.no_grad():
        return model.listener(batch_of(waveforms, model.emotions))


def text_of(model, tokens):
    """The words of a reply's tokens."""
    return reply_text(model.responder.language_model.tokenizer, tokens)


def writes(monkeypatch, texts):
    """Let language models write these texts, one reply after the other; the states of each, once it is written."""
    left, written = iter(texts), []

    def _generate(self, embeddings, *rest):
        step = rest[-1]
        ids = self.tokenizer(next(left), add_special_tokens=False).input_ids
        ids = ids if ids and ids[-1] == self.tokenizer.eos_token_id else [*ids, self.tokenizer.eos_token_id]
        states = torch.randn(len(ids), self.hidden_size)
        written.append(states)
        for token, state in zip(ids, states, strict=True):
            step([token], state[None])
        return [(ids, states)]

    monkeypatch.setattr(LanguageModel, "generate", _generate)
    return written


def arguments_in(folder):
    """Arguments of the parts that a folder's config.json names, by the parts' own names."""
    config = read_config(folder)
    return {path.rpartition(".")[2]: found["init_args"] for path, found in entries(config["model"])}


def ids_of_turns(decoder, text, decoding=None, seed=0, method="write_ids"):
    """What a speech decoder writes of one reply's pieces of text, turn by turn; the last turn's blocks in one."""
    stream = decoder.begin(1, decoding, [seed])
    turns = []
    for states, tokens in text:
        stream.read([states], [tokens], [False])
        turns += [block for (block,) in getattr(stream, method)()]
    stream.read([states[:0]], [tokens[:0]], [True])
    last = [block for (block,) in getattr(stream, method)()]
    return [*turns, torch.cat(last)] if last else turns


def units_of_turns(decoder, text, decoding=None, seed=0):
    """As ``ids_of_turns``, but units only."""
    return ids_of_turns(decoder, text, decoding, seed, "write")
