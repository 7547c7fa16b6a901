"""Each stage's training lowers its loss, changes nothing frozen, and saves only what it trained."""

from dataclasses import replace

import lightning as L
import pytest
import torch

from empathy_lightning.checkpoints import load, save
from empathy_lightning.data import Manifest, read_manifest, write_manifest
from empathy_lightning.data.batch import SpeechDataset, collate
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.errors import InputError
from empathy_lightning.losses import CategoricalLoss, RatingLoss
from empathy_lightning.modules.convolutional_encoder import ConvolutionalEncoder
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.modules.unit_language_model import Qwen2Body
from empathy_lightning.modules.vocoder import NeuralVocoder
from empathy_lightning.tasks import EmotionNuanceTask, Export, SpeechAdapterTask, SpeechDecoderTask
from empathy_lightning.tasks.export import frozen_digest
from empathy_lightning.utterance import EMOTIONS
from tests.tiny import adamw, spoken, whole


@pytest.fixture
def model():
    """Small parts around the shipped backbones: a language model that never learned anything cannot be steered."""
    encoder = SpeechEncoder.from_pretrained("small-world/speech_encoder")
    language_model = LanguageModel.from_pretrained("small-world/language_model")
    return whole(encoder, SpeechAdapter(192, 192, 64), language_model, nuance())


def nuance():
    return EmotionNuance(192, 192, hidden_size=32, gate_size=8)


STAGES = ("speech_adapter", "emotion_nuance", "speech_decoder")


def task(stage, model, folder):
    if stage == "speech_adapter":
        model.listener.emotion_nuance, model.responder.prompt = None, "{speech}"
        return SpeechAdapterTask(model, optimizer=adamw(1e-2))
    initial = str(folder / "initial")
    save(initial, spoken(model, list(EMOTIONS)))
    if stage == "emotion_nuance":
        losses = {"categorical": CategoricalLoss(), "rating": RatingLoss()}
        return EmotionNuanceTask(model, losses, {"categorical": 0.8}, [initial], optimizer=adamw(1e-2))
    tokenizer = model.responder.language_model.tokenizer
    decoder = SpeechDecoder(192, len(tokenizer), tokenizer.pad_token_id, num_units=8, body=Qwen2Body(32, 1, 2))
    return SpeechDecoderTask(
        spoken(model, EMOTIONS, decoder, NeuralVocoder(8, 16, 1)), [initial], optimizer=adamw(1e-2)
    )


def trainer(folder, epochs, **options):
    return L.Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, default_root_dir=folder, **options,
    )  # fmt: skip


def data(corpus, stage):
    return EmpathyDataModule([Manifest(str(corpus))], batch_seconds=5, read_audio=stage != "speech_decoder")


@pytest.mark.parametrize("stage", STAGES)
def test_training_lowers_the_loss_and_leaves_frozen_weights_alone(stage, model, corpus, tmp_path):
    module = task(stage, model, tmp_path)
    before = frozen_digest(module)
    kept = {name: p.detach().clone() for name, p in module.named_parameters() if not p.requires_grad}
    run = trainer(tmp_path, 4, callbacks=[Export(str(tmp_path / "export"))], enable_checkpointing=False)
    run.fit(module, datamodule=data(corpus, stage))
    history = next(callback for callback in run.callbacks if isinstance(callback, Export)).history
    name = next(n for n in history[0] if n.startswith("validation/") and n.endswith("loss") and "rating" not in n)
    assert history[-1][name] < 0.95 * history[0][name], [row[name] for row in history]
    assert frozen_digest(module) == before
    parameters = dict(module.named_parameters())
    assert kept and all(torch.equal(parameters[n], value) for n, value in kept.items())
    assert not any(p.grad is not None for n, p in parameters.items() if n in kept)


@pytest.mark.parametrize("stage", STAGES)
def test_a_checkpoint_holds_only_what_trained_and_resumes(stage, model, corpus, tmp_path):
    module = task(stage, model, tmp_path)
    run = trainer(tmp_path, 1)
    run.fit(module, datamodule=data(corpus, stage))
    path = run.checkpoint_callback.best_model_path
    saved = torch.load(path, weights_only=True)["state_dict"]
    part = f"model.{'talker' if stage == 'speech_decoder' else 'listener'}.{stage}."
    assert saved and all(name.startswith(part) or name.startswith(("confusion", "concordance")) for name in saved)
    resumed = trainer(tmp_path, 2)
    resumed.fit(module, datamodule=data(corpus, stage), ckpt_path=path)
    assert resumed.global_step == 2 * run.global_step


@pytest.mark.parametrize("stage", STAGES)
def test_a_batch_without_targets_gives_every_trained_part_a_gradient(stage, model, corpus, tmp_path):
    module = task(stage, model, tmp_path)
    module.log = module.log_dict = lambda *_, **__: None
    dataset = SpeechDataset(read_manifest(corpus)[:2], read_audio=stage != "speech_decoder")
    batch = collate(dataset.__getitems__([0, 1]), EMOTIONS)
    batch.responses = [None, None]
    module.training_step(batch, 0).backward()
    trained = [p for p in module.parameters() if p.requires_grad]
    assert trained and all(p.grad is not None and p.grad.isfinite().all() for p in trained)


@pytest.mark.parametrize("stage", ["speech_adapter", "speech_decoder"])
def test_a_corpus_without_targets_is_refused_before_training(stage, model, corpus, tmp_path):
    module = task(stage, model, tmp_path)
    bare = [replace(u, response=None, units=None) for u in read_manifest(corpus)]
    write_manifest(tmp_path / "bare.jsonl", bare)
    with pytest.raises(InputError, match="no training utterance has"):
        trainer(tmp_path, 1).fit(module, datamodule=data(tmp_path / "bare.jsonl", stage))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_units_of_another_vocabulary_are_refused_before_training(model, corpus, tmp_path, split):
    module, rows = task("speech_decoder", model, tmp_path), read_manifest(corpus)
    chosen = next(u for u in rows if u.split == split)
    chosen.units = [3, 8, 2]
    write_manifest(tmp_path / "other.jsonl", rows)
    said = rf"tones/{chosen.id} has unit 8, but the speech decoder writes 0 to 7: give it the num_units"
    with pytest.raises(InputError, match=said):
        trainer(tmp_path, 1).fit(module, datamodule=data(tmp_path / "other.jsonl", "speech_decoder"))


def test_a_stage_starts_from_the_one_before(model, corpus, tmp_path):
    module = task("speech_adapter", model, tmp_path)
    trainer(tmp_path, 1, callbacks=[Export(str(tmp_path / "one"))]).fit(
        module, datamodule=data(corpus, "speech_adapter")
    )
    trained = load(tmp_path / "one").listener.speech_adapter.linear1.weight
    torch.nn.init.zeros_(model.listener.speech_adapter.linear1.weight)
    nuance = EmotionNuanceTask(with_nuance(model), {"c": CategoricalLoss()}, initial_weights=[str(tmp_path / "one")])
    assert torch.equal(nuance.model.listener.speech_adapter.linear1.weight, trained)
    assert not nuance.model.listener.speech_adapter.linear1.weight.requires_grad


def with_nuance(model):
    return whole(model.listener.speech_encoder, model.listener.speech_adapter, model.responder.language_model, nuance())


def test_wrong_wiring_is_refused(model):
    with pytest.raises(ValueError, match="frozen untrained"):
        EmotionNuanceTask(model, {"categorical": CategoricalLoss()})
    with pytest.raises(ValueError, match="name no loss"):
        EmotionNuanceTask(model, {"categorical": CategoricalLoss()}, {"categorial": 1.0})
    recogniser = whole(model.listener.speech_encoder, emotion_nuance=model.listener.emotion_nuance)
    with pytest.raises(ValueError, match="speech_adapter"):
        SpeechAdapterTask(recogniser)


def test_an_encoder_of_ones_own_is_not_frozen_as_it_was_made(tmp_path):
    def _recogniser():
        own = ConvolutionalEncoder(hidden_size=32, channels=(4, 4))
        return whole(own, emotion_nuance=EmotionNuance(32, 32, 5, hidden_size=16, gate_size=4))

    losses = {"categorical": CategoricalLoss()}
    task = EmotionNuanceTask(_recogniser(), losses)
    assert any(p.requires_grad for p in task.model.listener.speech_encoder.parameters())
    with pytest.raises(InputError, match="speech_encoder would be frozen untrained"):
        EmotionNuanceTask(_recogniser(), losses, trainable=["listener.emotion_nuance.*"])
    save(tmp_path, _recogniser())
    trained = EmotionNuanceTask(
        _recogniser(), losses, initial_weights=[str(tmp_path)], trainable=["listener.emotion_nuance.*"]
    )
    assert not any(p.requires_grad for p in trained.model.listener.speech_encoder.parameters())
