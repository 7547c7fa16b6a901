"""What a linear classifier hears in a frozen encoder's layers: a figure to hold an emotion module against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from empathy_lightning.data.batch import SpeechDataset
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.recognisers import readable_batches
from empathy_lightning.listener import Listener
from empathy_lightning.metrics import confusion_matrix, unweighted_accuracy
from empathy_lightning.modules.layer_statistics import layer_statistics
from empathy_lightning.progress import progress_bar
from empathy_lightning.utterance import Utterance

PENALTIES = (0.003, 0.03, 0.3)
"""Of the squared weights, of which the validation split chooses one."""


def linear_probe(
    listener: Listener, splits: Mapping[str, Sequence[Utterance]], emotions: Sequence[str]
) -> dict[str, Any]:
    """Fit a multinomial logistic regression to the mean and the deviation over time of every layer, and measure it.

    Each dimension is standardised on the training split. Of speech beyond the encoder's window the beginning is heard.

    Args:
        listener: Whose speech encoder is probed.
        splits: ``train`` to fit, ``validation`` to choose the penalty, ``measured``; all with one of the emotions.
        emotions: Names of the categories.

    Returns:
        ``unweighted_accuracy`` of the measured utterances, that of the ``validation``, and the ``penalty``.

    Raises:
        InputError: If a split is empty, or the encoder gives no layers.
    """
    heard = {name: _statistics(listener, name, rows, emotions) for name, rows in splits.items()}
    rows = heard["train"][0]
    mean, deviation = rows.mean(0), rows.std(0, correction=0).clamp(min=1e-6)
    standard = {name: ((own - mean) / deviation, said) for name, (own, said) in heard.items()}
    best: dict[str, Any] = {"validation": -1.0}
    for penalty in PENALTIES:
        classifier = logistic_regression(*standard["train"], len(emotions), penalty)
        scores = {name: _accuracy(classifier, *standard[name]) for name in ("validation", "measured")}
        if scores["validation"] > best["validation"]:
            best = {
                "unweighted_accuracy": scores["measured"],
                "validation": scores["validation"],
                "penalty": penalty,
            }
    return best


def logistic_regression(rows: Tensor, labels: Tensor, classes: int, penalty: float) -> nn.Linear:
    """The classifier that minimises mean cross-entropy + penalty / 2 * squared weights, by L-BFGS.

    Args:
        rows: Shape (N, D).
        labels: Shape (N,).
        classes: Number of categories.
        penalty: More than 0.
    """
    classifier = nn.Linear(rows.shape[1], classes, device=rows.device)
    # The loss is convex, so any start would do; this one is the same in every run.
    nn.init.zeros_(classifier.weight)
    nn.init.zeros_(classifier.bias)
    optimizer = torch.optim.LBFGS(classifier.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    # L-BFGS asks for the loss several times in its one step.
    def _loss() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(classifier(rows), labels) + penalty / 2 * classifier.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(_loss)
    return classifier.requires_grad_(False)


def _accuracy(classifier: nn.Linear, rows: Tensor, labels: Tensor) -> float:
    counts = confusion_matrix(classifier(rows), labels, classifier.out_features)
    return round(float(unweighted_accuracy(counts)), 6)


@torch.no_grad()
def _statistics(
    listener: Listener, split: str, utterances: Sequence[Utterance], emotions: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Mean and deviation of every layer (N, 2 L D) of a split's readable utterances, and their categories (N,)."""
    found: list[Tensor] = []
    labels: list[Tensor] = []
    device = next(listener.parameters()).device
    dataset = SpeechDataset(utterances, listener.window)
    with progress_bar(total=len(dataset), what=f"probing the encoder on the {split} split") as progress:
        for batch, rows in readable_batches(dataset, emotions, []):
            batch = batch.to(device)
            encoded = listener.speech_encoder(batch.waveform, batch.lengths)
            if not encoded.layers:
                raise InputError(f"--probe: {type(listener.speech_encoder).__name__} gives no layers to be read")
            found.append(layer_statistics(encoded.layers, encoded.mask))
            labels.append(batch.emotion)
            progress.update(len(rows))
    if not found:
        raise InputError(f"--probe: the manifest has no {split} utterance with one of {', '.join(emotions)}")
    return torch.cat(found), torch.cat(labels)
