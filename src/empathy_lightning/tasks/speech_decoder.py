"""Stage 3: from the frozen model's hidden states of a reply to the units of its expressive speech."""

from __future__ import annotations

import torch
from torch import Tensor

from empathy_lightning.batch import SpeechBatch
from empathy_lightning.checkpoints import load_weights
from empathy_lightning.errors import InputError
from empathy_lightning.filled_prompt import Turn
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.chat_format import end_token_id
from empathy_lightning.modules.speech_encoder import freeze
from empathy_lightning.prompts import response_ids
from empathy_lightning.tasks.schedule import ScheduleName
from empathy_lightning.tasks.task import TrainedPartsTask
from empathy_lightning.tasks.training_data import check_training_data


class SpeechDecoderTask(TrainedPartsTask):
    """Train the speech decoder on replies whose units are known.

    The prompt is the transcript with its emotion label, as when the replies were
    made, so no audio of the question is read.

    Args:
        model: Its talker's speech decoder is trained; listener, responder and vocoder stay frozen.
        initial_weights: Folders of the stages before, whose parts the result holds too, the speech decoder's among
            them where it was pretrained.
        learning_rate: Peak rate (paper: 5e-4, then 1e-5).
        weight_decay: AdamW's weight decay.
        warmup: Share of the optimiser steps in which the rate rises, or, from 1 on, their number.
        schedule: ``cosine`` (FreezeEmpath) or ``warmup_decay``.
        trainable: Patterns of the names of the parameters to train; None takes the whole speech decoder.
    """

    def __init__(
        self,
        model: EmpatheticLM,
        initial_weights: list[str] | None = None,
        learning_rate: float = 5e-4,
        weight_decay: float = 0.01,
        warmup: float = 0.03,
        schedule: ScheduleName = "cosine",
        trainable: list[str] | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, warmup, schedule)
        if model.responder is None or model.talker is None:
            raise InputError("SpeechDecoderTask needs a model with a responder and a talker")
        self.model = model
        self.initial_weights = list(initial_weights or [])
        self._filled = {part for folder in self.initial_weights for part in load_weights(folder, model)}
        listener, tokenizer = model.listener, model.responder.language_model.tokenizer
        for name in ("speech_adapter", "emotion_nuance"):
            if getattr(listener, name) is not None and f"listener.{name}" not in self._filled:
                raise InputError(f"{name} would be frozen untrained: give the folder of its stage as initial_weights")
        # Replies hold words and the end of a turn; markers such as <speech>, which come later, never stand in them.
        needed = max(tokenizer.vocab_size, (end_token_id(tokenizer) or 0) + 1)
        rows = getattr(model.talker.speech_decoder, "text_vocab_size", needed)
        if rows < needed:
            raise InputError(
                f"text_vocab_size {rows} is too small: the language model's tokenizer has {needed} tokens of text"
            )
        for part in (listener, model.responder, model.talker.vocoder):
            if part is not None:
                freeze(part)
        self.train_only(trainable)

    @torch.no_grad()
    def reply_states(self, batch: SpeechBatch) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Hidden states, tokens and units of the replies in a batch; utterances without units are left out.

        Raises:
            InputError: If none is left.
        """
        responder = self.model.responder
        assert responder is not None
        conversations, own, tokens, units = [], [], [], []
        for row, (response, unit) in enumerate(zip(batch.responses, batch.units, strict=True)):
            if not response or unit is None:
                continue
            conversations.append([Turn(batch.transcripts[row], batch.emotions[row])])
            own.append(batch.prompts[row] if batch.prompts else None)
            tokens.append(response_ids(responder.language_model.tokenizer, response))
            units.append(unit)
        if not units:
            raise InputError("no utterance has units; make them with `empathy-lightning prepare units`")
        states = responder.states(responder.fill(conversations, own), tokens)
        return states, [torch.tensor(ids, device=states[0].device) for ids in tokens], units

    def on_fit_start(self) -> None:
        """Refuse to train without responses and their units."""
        check_training_data(self.trainer, ["units", "response"], {})

    def _step(self, batch: SpeechBatch, stage: str) -> Tensor:
        loss = self.untouched()
        if any(response and units is not None for response, units in zip(batch.responses, batch.units, strict=True)):
            assert self.model.talker is not None
            loss = loss + self.model.talker(*self.reply_states(batch))
        self.log_with_mean(stage, self.watched({"unit": loss}, stage), len(batch))
        return loss
