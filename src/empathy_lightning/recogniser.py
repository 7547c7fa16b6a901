"""Hear the emotion of recordings, without a language model: the listening half of a checkpoint alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from empathy_lightning.chatbot import Recording, as_list, waveforms_of
from empathy_lightning.checkpoints import CheckpointError, load_part
from empathy_lightning.data.batch import batch_of
from empathy_lightning.devices import check_device, own_device
from empathy_lightning.errors import InputError
from empathy_lightning.folders import read_config
from empathy_lightning.hub import local_folder
from empathy_lightning.listener import Listener
from empathy_lightning.reply import RecognisedEmotion, hear_emotion


class EmotionRecogniser:
    """What a bot hears in a voice: category, arousal, valence and dominance.

    Args:
        listener: With an emotion nuance module.
        emotions: Names of its categories, in its order.

    Raises:
        CheckpointError: If it has none.
    """

    def __init__(self, listener: Listener, emotions: Sequence[str]) -> None:
        if listener.emotion_nuance is None:
            raise CheckpointError("this checkpoint hears no emotion: it has no emotion nuance module")
        self.listener = listener.eval()
        self.emotions = list(emotions)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str | None = None,
        trust: Sequence[str] = (),
        *,
        revision: str | None = None,
        backbones: Mapping[str, str] | None = None,
    ) -> EmotionRecogniser:
        """Load the listening half of a checkpoint; its language model and its voice are neither fetched nor loaded.

        Args:
            folder: Of a bot or of a recogniser, here or as ``user/name`` on the Hub.
            device: For example ``"cuda"``; None takes a GPU if there is one.
            trust: Packages besides this library whose classes the folder may name.
            revision: Branch, tag or commit on the Hub.
            backbones: Other folders or model ids, for example ``{"speech_encoder": "/models/whisper"}``.

        Raises:
            CheckpointError: If the folder is incomplete, damaged, or hears no emotion.
            InputError: If it cannot be fetched.
        """
        check_device(device)
        place = local_folder(folder, revision)
        listener = load_part(place, "listener", trust, backbones=backbones)
        if not isinstance(listener, Listener):
            raise CheckpointError(f"{folder} holds a {type(listener).__name__}, no {Listener.__name__}")
        emotions = read_config(place)["model"]["init_args"].get("emotions", [])
        return cls(listener.to(device or own_device()), emotions)

    @torch.no_grad()
    def recognise(self, recordings: Recording | Sequence[Recording], batch_size: int = 16) -> list[RecognisedEmotion]:
        """Hear recordings, each as if it were alone.

        Args:
            recordings: Audio files, or waveforms at 16 kHz, each (T,); 0.2 s to 5 minutes.
            batch_size: Recordings that are heard together.

        Raises:
            AudioError: If a recording cannot be used; none is heard then.
            InputError: If ``batch_size`` is below 1.
        """
        if batch_size < 1:
            raise InputError("batch_size has to be at least 1")
        # All are read before the first is heard, so that a bad one costs no work.
        waveforms = waveforms_of(as_list(recordings))
        device = next(self.listener.parameters()).device
        recognised = []
        for start in range(0, len(waveforms), batch_size):
            few = waveforms[start : start + batch_size]
            heard = self.listener(batch_of(few, self.emotions).to(device), words=False)
            for row in range(len(few)):
                recognised.append(RecognisedEmotion())
                hear_emotion(recognised[-1], heard.emotion, row, self.emotions)
        return recognised
