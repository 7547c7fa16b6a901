"""Auxiliary losses: each an ``nn.Module`` with ``forward(output, batch)`` to a scalar.

A loss of your own needs nothing else; name it by ``class_path`` under
``auxiliary_losses``. With an attribute ``needs``, fields of an utterance, a
training is refused in which no utterance has any of them. One that reads only
what was heard says ``hears_only = True``: where all do and the response weighs
nothing, the language model does not run. Utterances without the label count for
nothing, and a batch without any gives a zero that is still connected to the graph,
so that every process of a distributed run has the same gradients to exchange.
"""

from empathy_lightning.losses.adversarial import AdversarialLoss
from empathy_lightning.losses.alignment import AlignmentLoss
from empathy_lightning.losses.categorical import CategoricalLoss, FocalLoss, SoftLabelLoss
from empathy_lightning.losses.contrastive import SupervisedContrastiveLoss
from empathy_lightning.losses.distillation import InputDistillationLoss, ResponseDistillationLoss
from empathy_lightning.losses.quantity import QuantityLoss
from empathy_lightning.losses.ratings import ConcordanceLoss, RatingLoss
from empathy_lightning.losses.rationale import RationaleLoss
from empathy_lightning.losses.spectral import MultiResolutionSpectralLoss

__all__ = [
    "AdversarialLoss",
    "AlignmentLoss",
    "CategoricalLoss",
    "ConcordanceLoss",
    "FocalLoss",
    "InputDistillationLoss",
    "MultiResolutionSpectralLoss",
    "QuantityLoss",
    "RatingLoss",
    "RationaleLoss",
    "ResponseDistillationLoss",
    "SoftLabelLoss",
    "SupervisedContrastiveLoss",
]
