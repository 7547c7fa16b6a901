"""The schedules against formulas of their own, and against torch and transformers where those have them."""

import math
import warnings
from functools import partial

import lightning as L
import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from empathy_lightning.tasks.schedule import Cosine, Schedule, WarmupDecay, warmup_steps
from empathy_lightning.tasks.task import TrainedPartsTask


def test_cosine_rises_in_its_share_and_then_follows_transformers():
    """Transformers begins its warm-up at 0; ours makes use of the first step too."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = get_cosine_schedule_with_warmup(optimizer, 6, 200).lr_lambdas[0]
    ours = [Cosine(0.03).factor(step, 200) for step in range(201)]
    assert ours[:6] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert ours[6:] == pytest.approx([reference(step) for step in range(6, 201)])
    assert ours[200] == 0


@pytest.mark.parametrize(("steps", "warmup"), [(1_000, 200), (50, 1), (300, 0.1)])
def test_warmup_decay_is_deepspeeds(steps, warmup):
    """A list written by hand from DeepSpeed's rules: logarithm of the step over that of the last warm-up step."""
    rising = {200: 200, 1: 2, 0.1: 30}[warmup]
    expected = [math.log(i + 1, rising) for i in range(rising)]
    expected += [1 - i / (steps - rising) for i in range(steps - rising + 1)]
    ours = [WarmupDecay(warmup).factor(step, steps) for step in range(steps + 1)]
    assert ours == pytest.approx(expected, abs=1e-9)
    assert ours[0] == 0 and ours[steps] == 0 and max(ours) == pytest.approx(1)


@pytest.mark.parametrize("schedule", [Cosine, WarmupDecay])
def test_without_an_end_the_rate_stays_up(schedule):
    assert schedule(0.03).factor(10**6, math.inf) == 1
    assert warmup_steps(math.inf, 0.03) == 300 and warmup_steps(math.inf, 200) == 200


class Line(TrainedPartsTask):
    """A task of one weight."""

    def __init__(self, schedule):
        super().__init__(torch.nn.Linear(1, 1), partial(torch.optim.SGD, lr=0.5), schedule)

    def training_step(self, batch, batch_idx):
        return self.model(batch).sum()


class Rates(L.Callback):
    """Writes down the rate of every optimiser step."""

    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen.append(optimizer.param_groups[0]["lr"])


def rates(task, **options):
    seen = Rates()
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, callbacks=[seen], **options,
    )  # fmt: skip
    trainer.fit(task, torch.utils.data.DataLoader(torch.randn(12, 1), batch_size=2))
    return seen.seen


class Halved(Schedule):
    """A schedule from outside."""

    def factor(self, step, steps):
        return 0.5**step


@pytest.mark.parametrize("schedule", [Cosine(3), WarmupDecay(3), Halved()])
def test_the_trainer_follows_it_in_optimiser_steps(schedule):
    """Six batches an epoch, two of them a step, four epochs: twelve steps."""
    seen = rates(Line(schedule), max_epochs=4, accumulate_grad_batches=2)
    assert seen == pytest.approx([0.5 * schedule.factor(step, 12) for step in range(12)])


def test_an_endless_run_is_warned_of_in_optimiser_steps():
    with pytest.warns(
        UserWarning, match="number of optimiser steps is unknown, so the learning rate stays up after its rise"
    ):
        seen = rates(Line(Cosine(0.03)), max_epochs=-1, max_time={"seconds": 1})
    assert seen[:3] == pytest.approx([0.5 * (i + 1) / 300 for i in range(3)])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*optimiser steps")
        rates(Line(Cosine(0.03)), max_steps=3)
