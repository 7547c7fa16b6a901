"""Stage 3: from the frozen model's hidden states of a reply to the units of its expressive speech."""

from __future__ import annotations

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.errors import InputError
from empathy_lightning.filled_prompt import Turn
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.chat_format import end_token_id
from empathy_lightning.modules.speech_encoder import freeze
from empathy_lightning.outputs import SpokenOutput
from empathy_lightning.prompts import response_ids
from empathy_lightning.tasks.schedule import Schedule
from empathy_lightning.tasks.task import TrainedPartsTask
from empathy_lightning.tasks.training_data import check_known_units, quantizer_of_units


class SpeechDecoderTask(TrainedPartsTask):
    """Train the speech decoder on replies whose units are known.

    The prompt is the transcript with its emotion label, as when the replies were
    made, so no audio of the question is read.

    Args:
        model: Its talker's speech decoder is trained; listener, responder and vocoder stay frozen.
        initial_weights: Folders of the stages before, whose parts the result holds too, the speech decoder's among
            them where it was pretrained.
        optimizer: Makes the optimiser of the trained parameters (paper: AdamW, peak rate of 5e-4, then 1e-5).
        schedule: Of the learning rate; None takes :class:`.schedule.Cosine`.
        trainable: Patterns of the names of the parameters to train; None takes the whole speech decoder.
        auxiliary_losses: Modules with ``forward(output, batch)``, by name; output is a :class:`.outputs.SpokenOutput`.
        loss_weights: Weight of each auxiliary loss by name, and of ``unit``; 1 where not given.
        metrics: Of validation and test, by name, which read the same.
    """

    own_loss = "unit"
    trains = ("talker.speech_decoder",)

    def __init__(
        self,
        model: EmpatheticLM,
        initial_weights: list[str] | None = None,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=5e-4, weight_decay=0.01),
        schedule: Schedule | None = None,
        trainable: list[str] | None = None,
        auxiliary_losses: dict[str, nn.Module] | None = None,
        loss_weights: dict[str, float] | None = None,
        metrics: dict[str, Metric] | None = None,
    ) -> None:
        if model.responder is None or model.talker is None:
            raise InputError("SpeechDecoderTask needs a model with a responder and a talker")
        super().__init__(model, optimizer, schedule, auxiliary_losses, loss_weights, metrics, initial_weights)
        for part in (model.listener, model.responder, model.talker.vocoder):
            if part is not None:
                freeze(part)
        self.refuse_untrained("listener.speech_adapter", "listener.emotion_nuance")
        # Replies hold words and the end of a turn; markers such as <speech>, which come later, never stand in them.
        tokenizer = model.responder.language_model.tokenizer
        needed = max(tokenizer.vocab_size, (end_token_id(tokenizer) or 0) + 1)
        rows = getattr(model.talker.speech_decoder, "text_vocab_size", needed)
        if rows < needed:
            raise InputError(f"text_vocab_size {rows} is too small: the tokenizer has {needed} tokens of text")
        self.train_only(trainable)

    def output(self, batch: SpeechBatch) -> SpokenOutput:
        """States, tokens and units of the replies in a batch, and the loss of the units."""
        states, tokens, units = self.reply_states(batch)
        loss = torch.zeros((), device=self.device)
        if units:
            assert self.model.talker is not None
            loss = self.model.talker(states, tokens, units)
        return SpokenOutput(loss, states, tokens, units)

    @torch.no_grad()
    def reply_states(self, batch: SpeechBatch) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Hidden states, tokens and units of the replies in a batch; utterances without units are left out."""
        responder = self.model.responder
        assert responder is not None
        rows: list[int] = []
        units: list[Tensor] = []
        for row, found in enumerate(batch.units):
            if batch.responses[row] and found is not None:
                rows.append(row)
                units.append(found)
        if not rows:
            return [], [], []
        conversations = [[Turn(batch.transcripts[row], batch.emotions[row])] for row in rows]
        own = [batch.prompts[row] for row in rows] if batch.prompts else []
        tokens = [response_ids(responder.language_model.tokenizer, batch.responses[row] or "") for row in rows]
        states = responder.states(responder.fill(conversations, own), tokens)
        return states, [torch.tensor(ids, device=states[0].device) for ids in tokens], units

    def on_fit_start(self) -> None:
        """Refuse to train without responses and their units, or on units that are not the speech decoder's."""
        self.check_training_data("units", "response")
        assert self.model.talker is not None
        decoder = self.model.talker.speech_decoder
        check_known_units(self.trainer, getattr(decoder, "num_units", None))
        # Of what it begins with, it may have learned other units.
        decoder.quantizer_digest = quantizer_of_units(self.trainer)
        self.model.talker.check_units()
