"""Stage 3: from the frozen model's hidden states of a reply to the units of its expressive speech."""

from __future__ import annotations

import torch
from torch import Tensor

from empathy_lightning.batch import SpeechBatch
from empathy_lightning.checkpoints import load_weights
from empathy_lightning.errors import InputError
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.chat_format import end_token_id
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.speech_encoder import freeze
from empathy_lightning.modules.vocoder import Vocoder
from empathy_lightning.prompts import response_ids
from empathy_lightning.tasks.schedule import ScheduleName
from empathy_lightning.tasks.task import TrainedPartsTask


class SpeechDecoderTask(TrainedPartsTask):
    """Train the speech decoder on replies whose units are known.

    The prompt is the transcript with its emotion label, as when the replies were
    made, so no audio of the question is read.

    Args:
        model: Model of stages 1 and 2; stays frozen.
        speech_decoder: What is trained.
        vocoder: Folder of the vocoder whose units these are; saved with the decoder.
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
        speech_decoder: SpeechDecoder,
        vocoder: Vocoder | None = None,
        initial_weights: list[str] | None = None,
        learning_rate: float = 5e-4,
        weight_decay: float = 0.01,
        warmup: float = 0.03,
        schedule: ScheduleName = "cosine",
        trainable: list[str] | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, warmup, schedule)
        self.model = model
        language_model = model.language_model
        if language_model is None:
            raise InputError("SpeechDecoderTask needs a model with a language_model")
        # Replies hold words and the end of a turn; markers such as <speech>, which come later, never stand in them.
        needed = max(language_model.tokenizer.vocab_size, (end_token_id(language_model.tokenizer) or 0) + 1)
        if speech_decoder.text_vocab_size < needed:
            raise InputError(
                f"text_vocab_size {speech_decoder.text_vocab_size} is too small: the language model's tokenizer has "
                f"{needed} tokens of text"
            )
        self.initial_weights = list(initial_weights or [])
        filled = {part for folder in self.initial_weights for part in load_weights(folder, model)}
        for name in ("speech_adapter", "emotion_nuance"):
            if getattr(model, name) is not None and name not in filled:
                raise InputError(f"{name} would be frozen untrained: give the folder of its stage as initial_weights")
        freeze(model)
        self.speech_decoder = speech_decoder
        for folder in self.initial_weights:
            filled.update(load_weights(folder, self))
        self._filled = filled
        self.vocoder = vocoder
        self.train_only(trainable)

    @torch.no_grad()
    def reply_states(self, batch: SpeechBatch) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Hidden states, tokens and units of the replies in a batch; utterances without units are left out.

        Raises:
            InputError: If none is left.
        """
        rows = [i for i, (r, u) in enumerate(zip(batch.responses, batch.units, strict=True)) if r and u is not None]
        if not rows:
            raise InputError("no utterance has units; make them with `empathy-lightning prepare units`")
        assert self.model.language_model is not None
        tokens = [response_ids(self.model.language_model.tokenizer, batch.responses[i] or "") for i in rows]
        own = [batch.prompts[i] for i in rows] if batch.prompts else []
        prompts = self.model.prompt_rows([batch.transcripts[i] for i in rows], [batch.emotions[i] for i in rows], own)
        states = self.model.reply_states(prompts, tokens)
        units = [unit for i in rows if (unit := batch.units[i]) is not None]
        return states, [torch.tensor(t, device=states[0].device) for t in tokens], units

    def on_fit_start(self) -> None:
        """Refuse to train without units."""
        self.check_training_data("units", "units; make them with `empathy-lightning prepare units`")

    def _step(self, batch: SpeechBatch, stage: str) -> Tensor:
        loss = self.untouched()
        if any(response and units is not None for response, units in zip(batch.responses, batch.units, strict=True)):
            loss = loss + self.speech_decoder(*self.reply_states(batch))
        self.log_with_mean(stage, self.watched({"unit": loss}, stage), len(batch))
        return loss
