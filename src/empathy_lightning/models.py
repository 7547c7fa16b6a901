"""The whole: speech in, text and speech out, around a frozen language model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache, partial
from time import monotonic

import torch
from torch import Tensor, nn

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.decoding import Decoding
from empathy_lightning.errors import InputError
from empathy_lightning.filled_prompt import FilledPrompt, Turn
from empathy_lightning.listener import Listener
from empathy_lightning.modules.unit_choice import UnitDecoding
from empathy_lightning.outputs import EmpatheticOutput, ResponseStates
from empathy_lightning.prompts import SPEECH_AND_EMOTION, SPEECH_ONLY, Prompt
from empathy_lightning.reply import Reply, hear_emotion
from empathy_lightning.responder import Responder
from empathy_lightning.slots import known
from empathy_lightning.streaming import ReplyStream
from empathy_lightning.talker import Talker


class EmpatheticLM(nn.Module):
    """A listener, a responder and a talker: one way to hear, one to answer and one to speak.

    Without a responder it is a recogniser of speech emotion; without a talker it answers in text. RE-LLM is a
    listener with a ``ConvolutionalAdapter``, an ``emotion_encoder`` and ``PooledEmotionHeads``, and a responder with
    ``partial_lora``.

    Args:
        listener: Waveforms to what was said and how.
        responder: What was heard to words.
        talker: Words to speech.
        emotions: Names of the classifier's categories, in its order; a trainer takes those of the data.

    Raises:
        InputError: If the listener gives nothing that the responder could read, or there is no use for it.
    """

    def __init__(
        self,
        listener: Listener,
        responder: Responder | None = None,
        talker: Talker | None = None,
        emotions: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if responder is None and listener.emotion_nuance is None:
            raise InputError("give a responder, or the listener an emotion_nuance module, or both")
        if talker is not None and responder is None:
            raise InputError("a talker says what a responder writes: give one")
        if responder is None and listener.speech_adapter is not None and not listener.reads_embeddings:
            raise InputError("a speech_adapter hears words for a responder: give one, or leave the adapter out")
        if responder is not None and listener.speech_adapter is None and responder.speech_slot.uses_voice:
            raise InputError("the responder reads what a speech_adapter hears: give the listener one")
        # Only here it is known whether anything fills the slot of the emotion.
        if responder is not None and responder.prompt is None:
            responder.prompt = SPEECH_AND_EMOTION if listener.fills_emotion_slot else SPEECH_ONLY
        if responder is not None and hasattr(listener.speech_adapter, "attach"):
            listener.speech_adapter.attach(responder.language_model)
        self.listener = listener
        self.responder = responder
        self.talker = talker
        self.emotions = list(emotions)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def hear(self, batch: SpeechBatch) -> EmpatheticOutput:
        """Hear a batch, and let the language model rest: for losses that read only what was heard.

        Args:
            batch: Waveforms (B, T) with what is known of them.
        """
        heard = self.listener(batch, tokens=self._token_counts(batch))
        return EmpatheticOutput(None, heard.emotion, None, heard)

    def _token_counts(self, batch: SpeechBatch) -> Tensor | None:
        """Word pieces of the transcripts, shape (B,), where the adapter wants to know."""
        if self.responder is None or not self.listener.counts_tokens:
            return None
        return self.responder.token_counts(batch.transcripts)

    def forward(self, batch: SpeechBatch) -> EmpatheticOutput:
        """Hear a batch and, where it has responses, score them under the frozen language model.

        Args:
            batch: Waveforms (B, T) with what is known of them.
        """
        responder = self.responder
        answered = responder is not None and any(batch.responses)
        tokens = self._token_counts(batch) if answered else None
        heard = self.listener(batch, words=answered, tokens=tokens)
        if responder is None or not answered:
            return EmpatheticOutput(None, heard.emotion, None, heard)
        prompts = responder.prompts(batch, heard)
        hidden, labels = responder(prompts, batch.responses, batch.cut)

        # Most losses never ask for it, and several may.
        @cache
        def _of_transcripts() -> tuple[Tensor, Tensor]:
            said = known(batch.transcripts, batch.ids, "transcript")
            turns = [[Turn(words, felt)] for words, felt in zip(said, batch.emotions, strict=True)]
            written = responder.fill(turns, batch.prompts)
            states: tuple[Tensor, Tensor] = responder(written, batch.responses, batch.cut, plain=True)
            return states

        loss = responder.language_model.response_loss(hidden, labels)
        answered_at = [prompt.speech for prompt, response in zip(prompts, batch.responses, strict=True) if response]
        speech = nn.utils.rnn.pad_sequence(answered_at, batch_first=True)
        # As wide as prompts and responses together: a response has no speech.
        speech = nn.functional.pad(speech, (0, hidden.shape[1] - speech.shape[1]))
        states = ResponseStates(hidden, labels, responder.language_model.logits, _of_transcripts, speech)
        return EmpatheticOutput(loss, heard.emotion, states, heard)

    def reply(
        self,
        batch: SpeechBatch,
        decoding: Decoding | None = None,
        history: Sequence[Sequence[Turn]] = (),
        system: str | None = None,
        seeds: Sequence[int] = (),
        aloud: bool = True,
    ) -> list[Reply]:
        """Answer a batch, each utterance as if it were alone: :meth:`stream`, once it has ended."""
        return self.stream(batch, decoding, history, system, seeds, aloud).drained()

    @torch.no_grad()
    def stream(
        self,
        batch: SpeechBatch,
        decoding: Decoding | None = None,
        history: Sequence[Sequence[Turn]] = (),
        system: str | None = None,
        seeds: Sequence[int] = (),
        aloud: bool = True,
    ) -> ReplyStream:
        """Answer a batch, and give out the replies as they come.

        The questions are heard here, whole; then the responder writes in a thread of its own, while the talker speaks
        in another.

        Args:
            batch: Waveforms (B, T); an utterance's own prompt takes the place of the model's.
            decoding: How the replies are chosen; None takes the likeliest words.
            history: Earlier turns of each utterance's conversation; empty where each begins one.
            system: System message in the place of the model's own.
            seeds: Of each reply's draws; empty for ``decoding.seed`` for all.
            aloud: Whether the talker, if there is one, says the replies.

        Raises:
            InputError: If there is no responder, or nothing to fill a slot of the prompt.
        """
        began = monotonic()
        responder = self._answering()
        heard = self.listener(batch)
        turns = responder.turns(batch, heard)
        replies = [Reply("", turn=Turn(turn.speech, turn.emotion)) for turn in turns]
        if heard.emotion is not None:
            for row, reply in enumerate(replies):
                hear_emotion(reply, heard.emotion, row, self.emotions)
        past = list(history) or [()] * len(turns)
        conversations = [[*earlier, turn] for earlier, turn in zip(past, turns, strict=True)]
        default = None if system is None else responder.asked(system)
        asked = [prompt or default for prompt in batch.prompts or [None] * len(turns)]
        return self._streamed(conversations, asked, replies, decoding or Decoding(), seeds, aloud, began)

    @torch.no_grad()
    def stream_words(
        self,
        words: Sequence[str],
        decoding: Decoding | None = None,
        prompts: Sequence[Prompt | None] = (),
        seeds: Sequence[int] = (),
        aloud: bool = True,
        history: Sequence[Sequence[Turn]] = (),
    ) -> ReplyStream:
        """Answer what is typed, where no voice is heard: the frozen language model as it is, but for what is trained.

        Args:
            words: Of each user.
            decoding: As for :meth:`stream`.
            prompts: Of each; None, or none at all, puts the words alone into the user's turn, below the model's own
                system message.
            seeds: As for :meth:`stream`.
            aloud: As for :meth:`stream`.
            history: As for :meth:`stream`.

        Raises:
            InputError: If there is no responder, or a prompt wants a feeling.
        """
        began = monotonic()
        responder = self._answering()
        turns = [Turn(said) for said in words]
        replies = [Reply("", turn=turn) for turn in turns]
        alone = Prompt(SPEECH_ONLY, responder.system)
        asked = [prompt or alone for prompt in prompts or [None] * len(turns)]
        past = list(history) or [()] * len(turns)
        conversations = [[*earlier, turn] for earlier, turn in zip(past, turns, strict=True)]
        return self._streamed(conversations, asked, replies, decoding or Decoding(), seeds, aloud, began)

    def _answering(self) -> Responder:
        if self.responder is None:
            raise InputError("this model cannot answer: it has no responder")
        return self.responder

    def _streamed(
        self,
        conversations: Sequence[Sequence[Turn]],
        asked: Sequence[Prompt | None],
        replies: Sequence[Reply],
        decoding: Decoding,
        seeds: Sequence[int],
        aloud: bool,
        began: float,
    ) -> ReplyStream:
        """Write the replies to conversations, and say them."""
        prompts = []
        for turns, prompt in zip(conversations, asked, strict=True):
            prompts.append(self.fitting(turns, prompt, decoding.longest))
        write = partial(self._answering().write, prompts, decoding, seeds)
        if self.talker is None or not aloud:
            return ReplyStream(write, None, replies, began=began)
        units = UnitDecoding.of(decoding)
        unit_seeds = list(seeds) or [decoding.seed] * len(replies)
        begin = partial(self.talker.begin, len(replies), units, unit_seeds)
        return ReplyStream(write, begin, replies, self.talker.sample_rate, began)

    def fitting(self, turns: Sequence[Turn], prompt: Prompt | None, max_new_tokens: int) -> FilledPrompt:
        """The prompt with as many of the latest turns as fit into the language model's window, at least one."""
        assert self.responder is not None
        window = getattr(self.responder.language_model.model.config, "max_position_embeddings", None)
        (filled,) = self.responder.fill([turns], [prompt])
        # The oldest turns go first.
        while window is not None and len(turns) > 1 and len(filled) + max_new_tokens > window:
            turns = turns[1:]
            (filled,) = self.responder.fill([turns], [prompt])
        if window is not None and len(filled) + max_new_tokens > window:
            warnings.warn(
                f"{len(filled)} positions of prompt, {max_new_tokens} of reply exceed the language model's {window}: "
                "the reply may make no sense: give shorter speech",
                stacklevel=4,
            )
        return filled
