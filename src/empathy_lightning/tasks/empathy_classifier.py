"""EPITOME's classifier of one mechanism, from pairs of posts and replies (Sharma et al. 2020, arXiv 2009.08441)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from empathy_lightning.checkpoints import save
from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.errors import InputError
from empathy_lightning.metrics.empathy import LevelAccuracy, LevelMacroF1, RationaleF1
from empathy_lightning.modules.empathy_classifier import EmpathyClassifier, encode_posts, rationale_tokens
from empathy_lightning.modules.speech_encoder import freeze
from empathy_lightning.outputs import EmpathyOutput
from empathy_lightning.tasks.schedule import Linear, Schedule
from empathy_lightning.tasks.task import TrainedPartsTask

Mechanism = Literal["emotional_reaction", "interpretation", "exploration"]


class EmpathyClassifierTask(TrainedPartsTask):
    """Train the levels of one mechanism, and beside them the words that are the reason.

    The encoder of what was said stays as it was loaded, as in the released script. The folder that is written is one
    that the measure ``empathy`` of ``evaluate run`` reads, its tokenizer included.

    Args:
        classifier: With a tokenizer, as :func:`.modules.empathy_classifier.from_roberta` makes it.
        mechanism: That the pairs are labelled with.
        initial_weights: Folder of a classifier to begin with.
        optimizer: Makes the optimiser (released script: Adam with a rate of 2e-5, no weight decay).
        schedule: Of the learning rate; None takes :class:`.schedule.Linear` without a rise.
        auxiliary_losses: Modules with ``forward(output, batch)``, by name; output is a :class:`.outputs.EmpathyOutput`.
        loss_weights: Weight of each auxiliary loss by name, and of ``level``; 1 where not given.
        metrics: Of validation and test, by name; None takes accuracy and macro F1 of the levels, F1 of the rationales.

    Raises:
        InputError: If the classifier has no tokenizer.
    """

    own_loss = "level"

    def __init__(
        self,
        classifier: nn.Module,
        mechanism: Mechanism,
        initial_weights: list[str] | None = None,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=2e-5, weight_decay=0.0),
        schedule: Schedule | None = None,
        auxiliary_losses: dict[str, nn.Module] | None = None,
        loss_weights: dict[str, float] | None = None,
        metrics: dict[str, Metric] | None = None,
    ) -> None:
        if not isinstance(classifier, EmpathyClassifier) or classifier.tokenizer is None:
            raise InputError("classifier: give one with a tokenizer, by modules.empathy_classifier.from_roberta")
        if metrics is None:
            metrics = {"accuracy": LevelAccuracy(), "macro_f1": LevelMacroF1(), "rationale_f1": RationaleF1()}
        schedule = schedule or Linear()
        super().__init__(classifier, optimizer, schedule, auxiliary_losses, loss_weights, metrics, initial_weights)
        self.mechanism = mechanism
        freeze(self.model.seeker_encoder)

    def output(self, batch: SpeechBatch) -> EmpathyOutput:
        """What the classifier finds in the replies of a batch, and what there is to find.

        Raises:
            InputError: If a pair is not labelled with the mechanism.
        """
        wrong = [labels for labels in batch.raw_labels if labels.get("mechanism") != self.mechanism]
        if wrong:
            given = wrong[0].get("mechanism", "none")
            raise InputError(
                f"a pair is labelled with {given}, and the classifier is of {self.mechanism}: give "
                f"data.corpora.mechanism {self.mechanism} too"
            )
        tokenizer, lower_case = self.model.tokenizer, self.model.lower_case
        replies = [response or "" for response in batch.responses]
        seeker_ids, seeker_mask, _ = encode_posts(tokenizer, batch.transcripts, lower_case=lower_case)
        ids, mask, _ = encode_posts(tokenizer, replies, lower_case=lower_case)
        reasons = [labels["rationales"].split("|") for labels in batch.raw_labels]
        rationales = rationale_tokens(tokenizer, replies, reasons, lower_case=lower_case)
        levels = torch.tensor([int(labels["level"]) for labels in batch.raw_labels])
        there = [tensor.to(self.device) for tensor in (seeker_ids, seeker_mask, ids, mask)]
        estimate = self.model(*there)
        levels = levels.to(self.device)
        loss: Tensor = nn.functional.cross_entropy(estimate.logits.float(), levels)
        return EmpathyOutput(loss, estimate, levels, rationales.to(self.device), there[-1])

    def untrained_parts(self) -> list[str]:
        """The classifier, unless it began with the weights of a folder."""
        return [] if self.initial_weights else ["classifier"]

    def export(self, folder: str) -> None:
        """Write weights, mechanism and tokenizer."""
        self.model.tokenizer.save_pretrained(Path(folder) / "tokenizer")
        save(folder, self.model, mechanism=self.mechanism, tokenizer="tokenizer")
