"""Mixed precision: the arithmetic is in bfloat16, what trains and its optimiser stay in float32."""

import lightning as L
import pytest
import torch

from empathy_lightning.checkpoints import save
from empathy_lightning.data import Manifest
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.losses import CategoricalLoss
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.tasks import EmotionNuanceTask, SpeechAdapterTask
from empathy_lightning.utterance import EMOTIONS
from tests.tiny import adamw, spoken, whole


class Listen(L.Callback):
    """Losses of the batches, and what the optimiser was given."""

    def __init__(self):
        self.losses, self.gradients = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(outputs["loss"]))

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.gradients += [p.grad.clone() for p in pl_module.parameters() if p.requires_grad]


def fit(stage, precision, dtype, backbones, corpus, folder):
    L.seed_everything(0)
    encoder = SpeechEncoder.from_pretrained(str(backbones / "speech_encoder"))
    language_model = LanguageModel.from_pretrained(str(backbones / "language_model"), dtype=dtype)
    adapter = SpeechAdapter(32, 32, hidden_size=48)
    model = whole(encoder, adapter, language_model)
    if stage == "adapter":
        task = SpeechAdapterTask(model, optimizer=adamw(1e-3))
    else:
        save(folder, spoken(model, list(EMOTIONS)))
        nuance = EmotionNuance(32, 32, hidden_size=48, gate_size=8)
        model = whole(encoder, adapter, language_model, nuance)
        task = EmotionNuanceTask(model, {"c": CategoricalLoss()}, {"c": 0.8}, [str(folder)], optimizer=adamw(1e-3))
    listen = Listen()
    trainer = L.Trainer(
        max_epochs=1, limit_train_batches=6, limit_val_batches=1, accelerator="cpu", precision=precision, logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, gradient_clip_val=1.0,
        use_distributed_sampler=False, callbacks=[listen],
    )  # fmt: skip
    trainer.fit(task, datamodule=EmpathyDataModule([Manifest(str(corpus))], batch_size=3))
    return task, trainer, listen


@pytest.mark.parametrize("stage", ["adapter", "nuance"])
def test_mixed_precision_trains_float32_weights_to_nearly_the_same_losses(stage, backbones, corpus, tmp_path):
    _, _, expected = fit(stage, "32-true", "float32", backbones, corpus, tmp_path / "stage")
    task, trainer, mixed = fit(stage, "bf16-mixed", "bfloat16", backbones, corpus, tmp_path / "stage")
    assert len(mixed.losses) == 6 and mixed.losses == pytest.approx(expected.losses, rel=1e-3)
    assert mixed.losses != expected.losses, "nothing was computed in another precision"

    assert mixed.gradients and all(g.dtype is torch.float32 and g.isfinite().all() for g in mixed.gradients)
    assert any(g.abs().sum() > 0 for g in mixed.gradients)
    cosine = torch.nn.functional.cosine_similarity(
        *(torch.cat([g.flatten() for g in heard.gradients]) for heard in (mixed, expected)), dim=0
    )
    assert cosine > 0.99

    trained = [p for p in task.parameters() if p.requires_grad]
    assert trained and all(p.dtype is torch.float32 for p in trained)
    moments = [v for state in trainer.optimizers[0].state.values() for k, v in state.items() if k != "step"]
    assert len(moments) == 2 * len(trained) and all(v.dtype is torch.float32 for v in moments)
    frozen = {p.dtype for p in task.model.responder.language_model.parameters()}
    assert frozen == {torch.bfloat16} and {p.dtype for p in task.model.listener.speech_encoder.parameters()} == {
        torch.float32
    }
    # What had gone through bfloat16 would be unchanged by rounding to it.
    assert not any(torch.equal(p, p.bfloat16().float()) for p in trained)
