"""Whole models of given parts, for tests that care about one of them."""

from empathy_lightning.filled_prompt import Turn
from empathy_lightning.listener import Listener
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.responder import Responder
from empathy_lightning.talker import Talker

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
