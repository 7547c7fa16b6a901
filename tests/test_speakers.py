"""Speakers whose voices are known before their emotions are heard."""

import json

import pytest
import soundfile
import torch
import yaml

from empathy_lightning.__main__ import main
from empathy_lightning.checkpoints import load
from empathy_lightning.data import write_manifest
from empathy_lightning.data.batch import collate
from empathy_lightning.errors import InputError
from empathy_lightning.listener import Listener
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.layer_statistics import PRIOR, LayerStatistics
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.tasks.speaker_enrolment import some_of_each
from empathy_lightning.utterance import Utterance
from tests.conftest import whisper_config


def spoken(speaker, number):
    generator = torch.Generator().manual_seed(number)
    utterance = Utterance(id=str(number), corpus="c", path="", speaker=speaker)
    return torch.randn(6_000 + 500 * number, generator=generator), utterance


def ears():
    nuance = LayerStatistics(32, 8, num_layers=2, num_emotions=3, dropout=0.0)
    listener = Listener(SpeechEncoder(whisper_config()), emotion_nuance=nuance)
    listener.train()
    listener(collate([spoken("anna", number) for number in range(8)], ["a", "b", "c"]))
    return listener.eval()


def test_a_known_speakers_mean_is_taken_off_by_as_much_as_was_heard_of_it():
    listener = ears()
    nuance = listener.emotion_nuance
    asked = collate([spoken("ben", 20), spoken("cem", 21), spoken(None, 22)], ["a"])
    before = listener(asked).emotion.embedding
    met = [spoken("ben", number) for number in (10, 11, 12)]
    for row in met:
        listener.enrol(collate([row], ["a"]))
    after = listener(asked).emotion.embedding
    assert torch.equal(after[1:], before[1:]), "of whom nothing is known, nothing is taken off"
    own = [listener(collate([row], ["a"])) for row in [spoken("ben", n) for n in (10, 11, 12)]]
    assert len(own) == 3 and not torch.allclose(after[0], before[0])
    # The projection is linear, so the mean of the embeddings is the embedding of the mean.
    nuance.voices.clear()
    embeddings = torch.cat([listener(collate([row], ["a"])).emotion.embedding for row in met])
    bias = nuance.project.bias
    expected = before[0] - 3 / (3 + PRIOR) * (embeddings.mean(0) - bias)
    torch.testing.assert_close(after[0], expected, rtol=1e-3, atol=1e-3)


def test_a_module_that_knows_no_speakers_says_so():
    listener = Listener(SpeechEncoder(whisper_config()), emotion_nuance=EmotionNuance(32, 8, 3, 16, 4))
    with pytest.raises(InputError, match="EmotionNuance knows no speakers: take LayerStatistics"):
        listener.enrol(collate([spoken("ben", 1)], ["a"]))


def test_some_of_each_speaker_are_drawn_whatever_their_order():
    rows = [spoken(name, number)[1] for number, name in enumerate("aabbbbc")]
    drawn = some_of_each(rows, 2)
    assert sorted(u.speaker for u in drawn) == list("aabbc")
    assert {u.id for u in drawn} == {u.id for u in some_of_each(rows[::-1], 2)}
    assert len(some_of_each(rows, None)) == 7


@pytest.fixture
def choir(backbones, tmp_path):
    """Speakers with a loudness of their own, each a little louder when happy: a loudness alone says nothing."""
    utterances = []
    levels = {"train": (5, 10, 20, 40, 80, 160), "validation": (14, 110), "test": (7, 55)}
    for split, own in levels.items():
        for level in own:
            for number in range(8):
                emotion = "happy" if number % 2 else "sad"
                path = tmp_path / f"{level}-{number}.wav"
                noise = torch.randn(8_000 + 100 * number) * level / 1_000 * (1.6 if number % 2 else 1.0)
                soundfile.write(path, noise.clamp(-1, 1).numpy(), 16_000, subtype="FLOAT")
                row = Utterance(path.stem, "choir", str(path), speaker=str(level), emotion=emotion, split=split)
                utterances.append(row)
    write_manifest(tmp_path / "choir.jsonl", utterances)
    listener = {
        "speech_encoder": {
            "class_path": "empathy_lightning.modules.speech_encoder.SpeechEncoder.from_pretrained",
            "init_args": {"name_or_path": str(backbones / "speech_encoder")},
        },
        "emotion_nuance": {
            "class_path": "LayerStatistics",
            "init_args": {"input_size": 32, "num_layers": 2, "output_size": 16, "num_emotions": 2, "dropout": 0.0},
        },
    }
    task = {
        "auxiliary_losses": {"categorical": {"class_path": "CategoricalLoss"}},
        "model": {"listener": listener},
        "optimizer": {"class_path": "AdamW", "init_args": {"lr": 0.01}},
    }
    content = {
        "out": str(tmp_path / "out"),
        "monitor": None,
        "keep_encoded": str(tmp_path / "encoded"),
        "trainer": {"max_epochs": 30, "accelerator": "cpu", "log_every_n_steps": 1, "check_val_every_n_epoch": 30},
        "data": {
            "corpora": [{"class_path": "Manifest", "init_args": {"path": str(tmp_path / "choir.jsonl")}}],
            "emotions": ["sad", "happy"],
            "batch_size": 16,
        },
        "model": {"class_path": "EmotionNuanceTask", "init_args": task},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def test_known_speakers_are_heard_in_training_and_in_evaluation(choir, capsys):
    knowing = "--trainer.callbacks+=SpeakerEnrolment"
    figures = {}
    for name, words in (("unknown", []), ("known", [knowing])):
        asked = [f"--config={choir / 'run.yaml'}", f"--out={choir / name}", *words]
        assert main(["fit", *asked]) == 0
        capsys.readouterr()
        assert main(["test", *asked, "--ckpt_path=last"]) == 0
        (line,) = [row for row in capsys.readouterr().out.splitlines() if "test/unweighted_accuracy" in row]
        figures[name] = float(line.split()[-1])
    assert figures["known"] > max(0.75, figures["unknown"] + 0.1)
    words = ["--by=classifier", f"--checkpoint={choir / 'known'}", f"--manifest={choir / 'choir.jsonl'}"]
    for name, more in (("met", ["--enrol"]), ("strangers", [])):
        assert main(["evaluate", "emotion", *words, f"--out={choir / name}.json", *more]) == 0
        figures[name] = json.loads((choir / f"{name}.json").read_text())["unweighted_accuracy"]
    assert figures["met"] == pytest.approx(figures["known"], abs=1e-4) and figures["strangers"] < figures["met"]
    # Whom it met is nobody else's business.
    assert not load(choir / "known").listener.emotion_nuance.voices
