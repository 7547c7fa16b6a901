"""Talk to a trained bot: recordings in, text and speech out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from empathy_lightning.audio import AudioError, from_samples, read_speech
from empathy_lightning.checkpoints import CheckpointError, load, save
from empathy_lightning.data.batch import batch_of
from empathy_lightning.decoding import Decoding
from empathy_lightning.devices import own_device
from empathy_lightning.errors import InputError
from empathy_lightning.files import write_text
from empathy_lightning.filled_prompt import Turn as Turn
from empathy_lightning.hub import local_folder
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.prompts import follow_language
from empathy_lightning.publishing import push
from empathy_lightning.reply import Reply as Reply
from empathy_lightning.streaming import AudioBlock as AudioBlock
from empathy_lightning.streaming import ReplyStream
from empathy_lightning.streaming import TextPiece as TextPiece

Recording = str | Path | Tensor | NDArray[np.floating[Any]]
"""An audio file, or a waveform at 16 kHz, shape (T,)."""


class EmpatheticChatbot:
    """A trained bot, ready to answer.

    Args:
        model: With a responder and an emotion nuance module; with a talker it answers aloud.

    Raises:
        CheckpointError: If it has not.
    """

    def __init__(self, model: EmpatheticLM) -> None:
        if model.responder is None or model.listener.emotion_nuance is None:
            lacking = "emotion nuance module" if model.responder is not None else "language model"
            raise CheckpointError(f"this checkpoint cannot chat: it has no {lacking}; give the folder of a later stage")
        self.model = model.eval()
        self.responder = model.responder
        self.folder: Path | None = None

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str | None = None,
        trust: Sequence[str] = (),
        *,
        revision: str | None = None,
        backbones: Mapping[str, str] | None = None,
        dtype: str | None = None,
        quantization: str | None = None,
    ) -> EmpatheticChatbot:
        """Load a checkpoint and the backbones that it names.

        Args:
            folder: Written by a trainer, or ``user/name`` or ``user/name@revision`` of the Hub.
            device: For example ``"cuda"``; None takes a GPU if there is one.
            trust: Packages besides this library whose classes the folder may name, see :func:`.checkpoints.load`.
            revision: Branch, tag or commit on the Hub.
            backbones: See :func:`.checkpoints.load`.
            dtype: As well.
            quantization: As well.

        Raises:
            CheckpointError: If the folder is incomplete or damaged.
            InputError: If it cannot be fetched, or another argument cannot be used.
        """
        chosen = {"revision": revision, "dtype": dtype, "quantization": quantization}
        bot = cls(load(folder, trust, backbones=backbones, device=device or own_device(), **chosen))
        bot.folder = local_folder(folder, revision)
        return bot

    def save_pretrained(self, folder: str | Path) -> None:
        """Write what was trained, see :func:`.checkpoints.save`, and what was told of its training."""
        save(folder, self.model)
        told = None if self.folder is None else self.folder / "training.json"
        if told is not None and told.is_file():
            write_text(Path(folder) / told.name, told.read_text(encoding="utf-8"))

    def push_to_hub(
        self, name: str, *, private: bool = False, branch: str = "main", commit_message: str = "Checkpoint"
    ) -> str:
        """Publish the bot, with a model card; see :func:`.publishing.push`, which takes more.

        Args:
            name: ``user/name``; is made if it is not there.
            private: Whether only its owner sees it, where it is made.
            branch: Is made if it is not there.
            commit_message: Of the commit.

        Returns:
            The address of the commit.

        Raises:
            InputError: If its backbones are folders that nobody else has, or the Hub refuses it.
        """
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return push(Path(folder), name, private=private, branch=branch, message=commit_message)

    @property
    def emotions(self) -> list[str]:
        """Names of the classifier's categories, in its order."""
        return self.model.emotions

    def respond(
        self,
        recordings: Recording | Sequence[Recording],
        history: Sequence[Sequence[Turn]] | None = None,
        language: str | None = None,
        decoding: Decoding | None = None,
        batch_size: int = 8,
        aloud: bool = True,
    ) -> list[Reply]:
        """Answer recordings, each as if it were alone.

        Args:
            recordings: Audio files, or waveforms at 16 kHz, each (T,); 0.2 s to 5 minutes. One alone may be given as
                it is; its reply comes in a list too.
            history: Earlier turns of each recording's conversation (:attr:`Reply.turn`, or with words); None where
                each recording begins one. The oldest are left out where the language model's window is too short.
            language: ``"auto"`` asks for a reply in the user's language, any other name for that one.
            decoding: How the replies are chosen; None takes the likeliest words.
            batch_size: Recordings that are answered together.
            aloud: Whether the replies are spoken too, where the checkpoint can.

        Raises:
            AudioError: If a recording cannot be used; none is answered then.
            InputError: If another argument cannot be used.
        """
        if batch_size < 1:
            raise InputError("batch_size has to be at least 1")
        recordings = as_list(recordings)
        if history is not None and len(history) != len(recordings):
            raise InputError(f"{len(history)} histories for {len(recordings)} recordings: give one for each")
        system = self._system(language)
        # All are read before the first is answered, so that a bad one costs no work.
        waveforms = waveforms_of(recordings)
        replies: list[Reply] = []
        for start in range(0, len(waveforms), batch_size):
            few = slice(start, start + batch_size)
            batch = batch_of(waveforms[few], self.emotions).to(self.model.device)
            past = () if history is None else history[few]
            replies += self.model.reply(batch, decoding, past, system, aloud=aloud)
        return replies

    def stream(
        self,
        recording: Recording,
        history: Sequence[Turn] = (),
        language: str | None = None,
        decoding: Decoding | None = None,
        aloud: bool = True,
    ) -> ReplyStream:
        """Answer a recording, and give out the reply as it comes.

        Listening is not streamed: the recording is there whole, and is heard and read into the language model at once.
        Then come pieces of the text and, after the first tokens that the speech decoder reads, blocks of sound, if the
        vocoder can speak in blocks; in the end, the whole reply, which is that of :meth:`respond`.

        Args:
            recording: As for :meth:`respond`.
            history: Earlier turns of the conversation.
            language: As for :meth:`respond`.
            decoding: How the reply is chosen; None takes the likeliest words.
            aloud: As for :meth:`respond`.

        Returns:
            An iterator over :class:`.TextPiece`, :class:`.AudioBlock` and the :class:`.Reply`, whose ``cancel()`` ends
            the work within a step. It is a context that does so too, and one that is let go of ends by itself.

        Raises:
            AudioError: If the recording cannot be used.
            InputError: If another argument cannot be used.
        """
        system = self._system(language)
        batch = batch_of(waveforms_of([recording]), self.emotions).to(self.model.device)
        return self.model.stream(batch, decoding, [history], system, aloud=aloud)

    @torch.no_grad()
    def hear(self, recording: Recording) -> Turn:
        """Hear a recording as an earlier turn, whose reply is known: ``replace(bot.hear(file), reply="I see.")``.

        Args:
            recording: As for :meth:`respond`.

        Raises:
            AudioError: If the recording cannot be used.
        """
        batch = batch_of(waveforms_of([recording]), self.emotions).to(self.model.device)
        (turn,) = self.responder.turns(batch, self.model.listener(batch))
        return turn

    def _system(self, language: str | None) -> str | None:
        """The system message that asks for a language; None for the model's own."""
        return None if language is None else follow_language(self.responder.system, language)


def as_list(recordings: Recording | Sequence[Recording]) -> Sequence[Recording]:
    """The recordings, also where one was given that could be taken for a list: of letters, or of samples."""
    if isinstance(recordings, str | Path):
        return [recordings]
    if isinstance(recordings, Tensor | np.ndarray):
        return [recordings] if recordings.ndim == 1 else list(recordings)
    return recordings


def waveforms_of(recordings: Sequence[Recording]) -> list[Tensor]:
    """Waveforms (T,) at 16 kHz of all recordings, checked.

    Args:
        recordings: As for :meth:`EmpatheticChatbot.respond`.

    Raises:
        AudioError: If one of them cannot be used.
    """
    waveforms = []
    for number, recording in enumerate(recordings, 1):
        if isinstance(recording, np.ndarray):
            recording = torch.from_numpy(recording)
        if isinstance(recording, Tensor):
            is_waveform = recording.ndim == 1 and recording.is_floating_point()
            if not is_waveform or not recording.isfinite().all():
                shape = tuple(recording.shape)
                raise AudioError(
                    f"recording {number}: {recording.dtype}, shape {shape}; a waveform has finite floats, shape (T,)"
                )
            waveforms.append(from_samples(recording, f"recording {number}"))
        else:
            waveforms.append(read_speech(recording))
    return waveforms
