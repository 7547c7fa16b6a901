"""Trained parts are chosen by name; everything else stays frozen, in eval mode and out of checkpoints."""

import lightning as L
import pytest
import torch
from torch import nn

from empathy_lightning.data import Manifest
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.errors import InputError
from empathy_lightning.losses import CategoricalLoss, ResponseDistillationLoss
from empathy_lightning.modules.cached_encoder import CachedSpeechEncoder
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.tasks import EmotionNuanceTask, JointTask, SpeechAdapterTask
from empathy_lightning.tasks.heads import HEADS
from empathy_lightning.tasks.task import TrainedPartsTask
from tests.conftest import whisper_config
from tests.tiny import adamw, whole


def trained(task):
    return {name for name, parameter in task.named_parameters() if parameter.requires_grad}


def nuance_task(model, trainable):
    return EmotionNuanceTask(model, {"categorical": CategoricalLoss()}, trainable=trainable)


def joint_task(model, trainable):
    return JointTask(model, {"categorical": CategoricalLoss()}, trainable=trainable)


def test_only_what_matches_trains(model):
    task = joint_task(model, ["listener.speech_adapter.linear2.*", "listener.emotion_nuance.*_head.weight"])
    assert trained(task) == {
        "model.listener.speech_adapter.linear2.weight", "model.listener.speech_adapter.linear2.bias",
        *(f"model.listener.emotion_nuance.{name}_head.weight" for name in HEADS),
    }  # fmt: skip
    task.train()
    assert (
        task.model.listener.speech_adapter.linear2.training and not task.model.listener.speech_adapter.linear1.training
    )
    assert (
        not task.model.listener.emotion_nuance.extractor.training
        and not task.model.responder.language_model.model.training
    )


def test_a_part_that_was_loaded_frozen_can_train(model):
    task = joint_task(model, ["listener.speech_encoder.encoder.layers.1.*", "listener.speech_adapter.*"])
    encoder = task.model.listener.speech_encoder.encoder
    task.eval()
    assert not encoder.layers[1].training
    task.train()
    assert encoder.layers[1].training and encoder.layers[1].fc1.training
    assert not encoder.layers[0].training and not encoder.training
    with pytest.raises(InputError, match="CachedSpeechEncoder cannot train"):
        model.listener.speech_encoder.requires_grad_(False)
        model.listener.speech_encoder = CachedSpeechEncoder(model.listener.speech_encoder)
        joint_task(model, ["listener.speech_encoder.*"])


class Adapted(nn.Module):
    """A frozen layer with a small trained one and its dropout beside it, deep inside a frozen part."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(2, 2)
        self.adaptation = nn.Linear(2, 2)
        self.dropout = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(2)


def test_dropout_beside_what_trains_is_on_and_frozen_statistics_stay():
    task = TrainedPartsTask(nn.Sequential(Adapted(), nn.Sequential(nn.Linear(2, 2), nn.Dropout())), adamw(1e-3))
    task.train_only(["*.adaptation.*"])
    adapted, frozen = task.model
    assert adapted.dropout.training and adapted.adaptation.training
    assert not adapted.norm.training and not adapted.base.training and not frozen[1].training


def test_a_pattern_for_nothing_is_refused(model):
    with pytest.raises(InputError, match=r"no parameter has a name like 'speech_adaptor.\*'.*speech_adapter.\*"):
        nuance_task(model, ["speech_adaptor.*"])
    for task in (nuance_task, joint_task):
        with pytest.raises(InputError, match="speech_adapter would be frozen untrained"):
            task(model, ["listener.emotion_nuance.*"])
    with pytest.raises(InputError, match="leaves the speech_adapter frozen: use JointTask"):
        nuance_task(model, ["listener.*"])


def test_a_nuance_module_without_rating_heads_trains(corpus):
    """Its ratings are NaN, which must not reach the loss."""
    encoder = SpeechEncoder(whisper_config())
    nuance = EmotionNuance(32, 8, hidden_size=8, gate_size=4, rate_dimensions=False)
    task = EmotionNuanceTask(whole(encoder, emotion_nuance=nuance), {"categorical": CategoricalLoss()})
    task.log_dict = lambda *_, **__: None
    data = EmpathyDataModule([Manifest(str(corpus))])
    data.setup()
    task.training_step(next(iter(data.val_dataloader())), 0).backward()
    gradients = [p.grad for p in nuance.parameters()]
    assert all(g.isfinite().all() for g in gradients) and any(g.abs().sum() > 0 for g in gradients)


def test_distillation_trains_the_adapter_alone(model, corpus, tmp_path):
    model.listener.emotion_nuance, model.responder.prompt = None, "{speech}"
    task = SpeechAdapterTask(
        model, optimizer=adamw(1e-2), trainable=["listener.speech_adapter.linear2.*"], loss_weights={"response": 0.0},
        auxiliary_losses={"distillation": ResponseDistillationLoss()},
    )  # fmt: skip
    before = {name: p.detach().clone() for name, p in task.named_parameters()}
    trainer = L.Trainer(
        max_epochs=1, limit_train_batches=2, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(task, datamodule=EmpathyDataModule([Manifest(str(corpus))], batch_seconds=5))
    changed = {name for name, p in task.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"model.listener.speech_adapter.linear2.weight", "model.listener.speech_adapter.linear2.bias"}
    saved = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=True)["state_dict"]
    assert set(saved) == changed
    figures = trainer.callback_metrics
    torch.testing.assert_close(figures["validation/loss"], figures["validation/distillation_loss"])
    assert figures["validation/response_loss"] > 0
