"""Units of two quantizers with as many units are not taken for one another: from the recordings to the bot's folder."""

import json

import lightning as L
import pytest
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.checkpoints import load, load_quantizer, load_vocoder, save
from empathy_lightning.data import Manifest, read_manifest, write_manifest
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.errors import InputError
from empathy_lightning.modules.mel_quantizer import MelQuantizer
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.unit_language_model import Qwen2Body
from empathy_lightning.modules.vocoder import NeuralVocoder
from empathy_lightning.tasks import Export, SpeechDecoderTask, VocoderTask
from empathy_lightning.utterance import EMOTIONS
from tests.tiny import spoken


def fitted(task, manifest, folder=None):
    callbacks = [] if folder is None else [Export(str(folder))]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(
        max_steps=1, accelerator="cpu", devices=1, callbacks=callbacks, enable_checkpointing=False,
        use_distributed_sampler=False, limit_val_batches=0, **quiet,
    )  # fmt: skip
    speaks = isinstance(task, SpeechDecoderTask)
    trainer.fit(task, EmpathyDataModule([Manifest(str(manifest))], batch_size=4, read_audio=not speaks))


@pytest.fixture
def place(corpus, tmp_path):
    """Two quantizers of 8 units with a vocoder of each, and the units of one corpus by each."""
    rows = read_manifest(corpus)
    write_manifest(tmp_path / "spoken.jsonl", rows)
    for seed, name in enumerate("ab"):
        quantizer = MelQuantizer(8)
        torch.nn.init.normal_(quantizer.codebook, generator=torch.Generator().manual_seed(seed))
        save(tmp_path / f"quantizer_{name}", quantizer.half() if name == "a" else quantizer)
        command = ["prepare", "units", str(tmp_path / "spoken.jsonl"), "--out", str(tmp_path / f"{name}.jsonl")]
        assert main([*command, "--quantizer", str(tmp_path / f"quantizer_{name}")]) == 0
        heard = load_quantizer(str(tmp_path / f"quantizer_{name}"))
        fitted(VocoderTask(NeuralVocoder(8, 8, 1), heard), tmp_path / "spoken.jsonl", tmp_path / f"vocoder_{name}")
    return tmp_path


def trained(model, units, vocoder, folder=None):
    tokenizer = model.responder.language_model.tokenizer
    decoder = SpeechDecoder(32, len(tokenizer), tokenizer.pad_token_id, num_units=8, body=Qwen2Body(16, 1, 2))
    before = vocoder.parent / "before"
    if not before.is_dir():
        save(before, spoken(model, EMOTIONS))
    bot = spoken(model, EMOTIONS, decoder, load_vocoder(str(vocoder)))
    fitted(SpeechDecoderTask(bot, [str(before)]), units, folder)


def test_a_decoder_is_not_trained_beside_another_quantizer_s_vocoder(place, model):
    trained(model, place / "a.jsonl", place / "vocoder_a", place / "bot")
    assert load(place / "bot").talker.vocoder is not None
    with pytest.raises(InputError, match="trained with the quantizer of `prepare units`"):
        trained(model, place / "b.jsonl", place / "vocoder_a")
    config = json.loads((place / "bot" / "config.json").read_text())
    other = json.loads((place / "vocoder_b" / "config.json").read_text())["quantizers"][""]
    assert set(config["quantizers"]) == {"talker.vocoder", "talker.speech_decoder"} and other not in str(config)
    config["quantizers"]["talker.vocoder"] = other
    (place / "bot" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=f"but the vocoder knows those of {other}"):
        load(place / "bot")


def test_units_of_two_quantizers_are_no_corpus(place, model):
    mixed = [*read_manifest(place / "a.jsonl")[:12], *read_manifest(place / "b.jsonl")[12:]]
    write_manifest(place / "mixed.jsonl", mixed)
    with pytest.raises(InputError, match="the units are of 2 quantizers"):
        trained(model, place / "mixed.jsonl", place / "vocoder_a")


def test_the_voice_that_is_shipped_knows_the_quantizer_that_is_shipped(tmp_path, corpus):
    command = ["prepare", "units", str(corpus), "--out", str(tmp_path / "units.jsonl")]
    assert main([*command, "--quantizer", "small-world/quantizer"]) == 0
    (made_by,) = {u.raw_labels["reply_quantizer"] for u in read_manifest(tmp_path / "units.jsonl")}
    assert load_vocoder("small-world/vocoder").quantizer_digest == made_by
