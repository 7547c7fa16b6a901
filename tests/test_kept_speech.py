"""What a frozen encoder made of speech is found again: by other runs, stages and evaluations, and by nobody else."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from empathy_lightning.__main__ import main
from empathy_lightning.data.batch import batch_of
from empathy_lightning.errors import InputError
from empathy_lightning.kept_speech import KeptSpeech, keep_encoded
from empathy_lightning.listener import Listener
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.layer_statistics import LayerStatistics
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from tests.conftest import whisper_config
from tests.forked import Forked


def ears(nuance=True, frozen=True, seed=0):
    """A listener of random weights, and the sizes of the batches that its encoder is given."""
    torch.manual_seed(seed)
    encoder, calls = SpeechEncoder(whisper_config(), frozen=frozen), []
    encoder.source = {"name_or_path": "somewhere", "revision": None, "pad_to_30s": False}
    encoder.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    torch.manual_seed(1)
    head = EmotionNuance(32, 8, hidden_size=16, gate_size=4) if nuance else None
    return Listener(encoder, SpeechAdapter(32, 8, hidden_size=16), head).eval(), calls


@pytest.fixture
def speech():
    return batch_of([torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (9_000, 5_000, 7_000)])


def hear(listener, speech, folder):
    kept = keep_encoded(listener, folder)
    heard = listener(speech)
    kept.write()
    return heard


def test_speech_is_encoded_once_and_heard_alike_ever_after(tmp_path, speech):
    plain = ears()[0](speech)
    first, calls = ears()
    then = hear(first, speech, tmp_path)
    assert calls == [1, 1, 1]
    again, calls = ears()
    now = hear(again, speech, tmp_path)
    assert not calls
    assert torch.equal(now.emotion.logits, then.emotion.logits)
    assert all(torch.equal(a, b) for a, b in zip(now.said, then.said, strict=True))
    # Half precision alone sets it apart from what is heard without.
    torch.testing.assert_close(now.emotion.logits, plain.emotion.logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(torch.cat(now.said), torch.cat(plain.said), rtol=1e-3, atol=1e-3)


def test_a_later_stage_that_reads_the_layers_too_encodes_what_lacks_them(tmp_path, speech):
    hear(ears(nuance=False)[0], speech, tmp_path)
    (shard,) = tmp_path.rglob("*.safetensors")
    assert {name.partition(".")[2] for name in load_file(shard)} == {"frames"}
    listener, calls = ears()
    hear(listener, speech, tmp_path)
    assert calls == [1, 1, 1]
    listener, calls = ears(nuance=False)
    hear(listener, speech, tmp_path)
    assert not calls


def test_of_layers_that_are_read_as_statistics_these_alone_are_kept(tmp_path, speech):
    def _ears():
        listener, calls = ears()
        torch.manual_seed(2)
        listener.emotion_nuance = LayerStatistics(32, 8, num_layers=2).eval()
        return listener, calls

    plain = _ears()[0](speech)
    then = hear(_ears()[0], speech, tmp_path)
    (shard,) = tmp_path.rglob("*.safetensors")
    kept = load_file(shard)
    assert {name.partition(".")[2] for name in kept} == {"frames", "layer_statistics"}
    listener, calls = _ears()
    now = hear(listener, speech, tmp_path)
    assert not calls and torch.equal(now.emotion.embedding, then.emotion.embedding)
    torch.testing.assert_close(now.emotion.embedding, plain.emotion.embedding, rtol=1e-3, atol=1e-3)


def test_each_encoder_has_its_own(tmp_path, speech):
    hear(ears()[0], speech, tmp_path)
    others, calls = ears(seed=7)
    hear(others, speech, tmp_path)
    assert calls == [1, 1, 1]
    padded, calls = ears()
    padded.speech_encoder.pad_to_30s = padded.speech_encoder.source["pad_to_30s"] = True
    hear(padded, speech, tmp_path)
    assert calls == [1, 1, 1]
    elsewhere, calls = ears()
    elsewhere.speech_encoder.source["name_or_path"] = "moved"
    hear(elsewhere, speech, tmp_path)
    assert not calls
    claims = [json.loads(path.read_text()) for path in tmp_path.rglob("made_from.json")]
    assert sorted(claim["settings"]["pad_to_30s"] for claim in claims) == [False, False, True]
    assert len({claim["weights"] for claim in claims}) == 2


def test_what_is_kept_depends_on_no_batch(tmp_path, speech):
    hear(ears()[0], speech, tmp_path / "together")
    listener, _ = ears()
    for row in (2, 0, 1):
        hear(listener, batch_of([speech.waveform[row, : speech.lengths[row]]]), tmp_path / "apart")

    def _all(folder):
        return {name: value for path in folder.rglob("*.safetensors") for name, value in load_file(path).items()}

    together, apart = _all(tmp_path / "together"), _all(tmp_path / "apart")
    assert together.keys() == apart.keys() and all(torch.equal(together[name], apart[name]) for name in together)


def test_shards_are_written_whole_and_a_damaged_one_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("empathy_lightning.kept_speech.SHARD", 1000)
    kept = KeptSpeech(tmp_path)
    for number in range(5):
        kept[f"{number}.frames"] = torch.full((100, 2), number, dtype=torch.float16)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    kept.write()
    again = KeptSpeech(tmp_path)
    assert len(again) == 5 and all(bool((again[f"{n}.frames"] == n).all()) for n in range(5))
    assert not list(tmp_path.glob(".*safetensors"))
    path = next(tmp_path.glob("*.safetensors"))
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"cut.safetensors is damaged.*remove it"):
        KeptSpeech(tmp_path)


def test_an_encoder_that_trains_is_refused(tmp_path):
    with pytest.raises(InputError, match="this one trains"):
        keep_encoded(ears(frozen=False)[0], tmp_path)


def counted(words):
    """A command that says how many utterances it encoded."""
    counts, forward = [], SpeechEncoder.forward

    def _count(encoder, waveform, lengths):
        counts.append(len(waveform))
        return forward(encoder, waveform, lengths)

    SpeechEncoder.forward = _count
    code = main(words)
    print("encoded", sum(counts))
    return code


@pytest.fixture
def recogniser(backbones, corpus, tmp_path):
    """A configuration that trains a recogniser on the tiny corpus, and its manifest."""
    listener = {
        "speech_encoder": {
            "class_path": "empathy_lightning.modules.speech_encoder.SpeechEncoder.from_pretrained",
            "init_args": {"name_or_path": str(backbones / "speech_encoder")},
        },
        "emotion_nuance": {
            "class_path": "EmotionNuance",
            "init_args": {"input_size": 32, "output_size": 16, "hidden_size": 16, "gate_size": 8},
        },
    }
    task = {"auxiliary_losses": {"categorical": {"class_path": "CategoricalLoss"}}, "model": {"listener": listener}}
    content = {
        "out": str(tmp_path / "out"),
        "keep_encoded": str(tmp_path / "encoded"),
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "log_every_n_steps": 1},
        "data": {"corpora": [{"class_path": "Manifest", "init_args": {"path": str(corpus)}}], "batch_size": 4},
        "model": {"class_path": "EmotionNuanceTask", "init_args": task},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def child(*words):
    """Run a command in a process of its own; its exit code and how many utterances it encoded."""
    done = Forked(counted, words).wait()
    return done.returncode, int(done.stdout.rpartition("encoded ")[2] or -1)


def test_runs_and_evaluations_of_other_processes_find_it(recogniser, corpus):
    words = [f"--config={recogniser / 'run.yaml'}"]
    assert child("fit", *words) == (0, 25)
    weights = (recogniser / "out/model.safetensors").read_bytes()
    assert child("fit", *words, "--again") == (0, 0)
    assert (recogniser / "out/model.safetensors").read_bytes() == weights
    assert child("test", *words, "--ckpt_path=last") == (0, 5)
    asked = ["evaluate", "emotion", "--by=classifier", f"--checkpoint={recogniser / 'out'}", f"--manifest={corpus}"]
    assert child(*asked, f"--keep_encoded={recogniser / 'encoded'}") == (0, 0)
    # The folder names the encoder itself, and nothing of what was kept.
    config = (recogniser / "out/config.json").read_text()
    assert "Cached" not in config and "encoded" not in config


def test_what_would_never_be_found_again_is_refused(recogniser, capsys):
    words = ["fit", f"--config={recogniser / 'run.yaml'}"]
    augmentation = "--data.augmentation=empathy_lightning.data.augmentation.Augmentation"
    assert main([*words, augmentation]) == 2
    assert "data.augmentation makes all speech new" in capsys.readouterr().err
    assert main([*words, "--trainer.precision=bf16-true"]) == 2
    assert "leave out keep_encoded" in capsys.readouterr().err
    assert not Path(recogniser / "encoded").exists()
