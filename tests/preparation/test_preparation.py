import builtins
import subprocess
import sys

import pytest

from empathy_lightning.__main__ import main
from empathy_lightning.audio import read
from empathy_lightning.data import read_manifest
from empathy_lightning.errors import InputError
from empathy_lightning.metrics.prosody import prosody
from empathy_lightning.preparation.responses import prepare_responses
from empathy_lightning.preparation.speech import prepare_speech
from empathy_lightning.preparation.units import prepare_units
from empathy_lightning.prompts import Prompt
from empathy_lightning.small_world import espeak
from empathy_lightning.small_world.corpus import write_synthetic_corpus


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    pytest.importorskip("espeakng_loader")
    return write_synthetic_corpus(tmp_path_factory.mktemp("small"), train=10, validation=5, test=5)


def test_the_corpus_is_written_once(synthetic):
    utterances = read_manifest(synthetic)
    assert [u.split for u in utterances] == ["train"] * 10 + ["validation"] * 5 + ["test"] * 5
    for utterance in utterances:
        assert abs(len(read(utterance.path)) / 16_000 - utterance.duration) < 0.01
    changed = synthetic.stat().st_mtime_ns
    assert write_synthetic_corpus(synthetic.parent, 10, 5, 5) == synthetic and synthetic.stat().st_mtime_ns == changed


def test_rate_and_pitch_are_rendered():
    pytest.importorskip("espeakng_loader")
    text, voice = "I painted the fence with my sister.", "gmw/en-US+f2"
    figures = {}
    for name, style in {"low": espeak.Prosody(130, 20, 20, 80), "high": espeak.Prosody(200, 80, 90, 80)}.items():
        waveform, rate = espeak.render(text, voice, style)
        figures[name] = prosody(espeak_to_tensor(waveform), 7, rate)
    for key in ("f0_mean", "f0_range", "rate"):
        assert figures["high"][key] > 1.2 * figures["low"][key]


def espeak_to_tensor(waveform):
    import torch

    return torch.from_numpy(waveform)


def test_an_unknown_voice_is_refused():
    pytest.importorskip("espeakng_loader")
    with pytest.raises(ValueError, match="no voice"):
        espeak.render("hello", "gmw/nowhere", espeak.Prosody())


def test_without_espeak_the_extra_is_named(monkeypatch, tmp_path):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "espeakng_loader":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    espeak._library.cache_clear()
    with pytest.raises(InputError, match=r"empathy_lightning\[synthetic\]"):
        write_synthetic_corpus(tmp_path, 5, 5, 5)
    assert not (tmp_path / "manifest.jsonl").exists()
    espeak._library.cache_clear()


def test_responses_are_the_frozen_model_s_own_and_batches_do_not_matter(synthetic, backbones, tmp_path):
    name = str(backbones / "language_model")
    together = prepare_responses(synthetic, tmp_path / "a.jsonl", name, Prompt(), batch_size=20)
    alone = prepare_responses(synthetic, tmp_path / "b.jsonl", name, Prompt(), batch_size=1)
    replies = [u.response for u in read_manifest(together)]
    assert replies == [u.response for u in read_manifest(alone)]
    assert sorted(u.id for u in read_manifest(together)) == sorted(u.id for u in read_manifest(synthetic))


def test_the_shipped_language_model_answers_label_and_words(synthetic, tmp_path):
    from empathy_lightning.small_world.figures import names_content, names_emotion

    out = prepare_responses(synthetic, tmp_path / "a.jsonl", "small-world/language_model", Prompt())
    utterances = read_manifest(out)
    right = [names_emotion(u.response, u.emotion) and names_content(u.response, u.transcript) for u in utterances]
    assert sum(right) / len(right) >= 0.95


def test_units_of_replies_sound_in_their_style(synthetic, tmp_path):
    labelled = prepare_responses(synthetic, tmp_path / "l.jsonl", "small-world/language_model", Prompt())
    said = prepare_speech(labelled, tmp_path / "s.jsonl")
    units = prepare_units(said, tmp_path / "u.jsonl", "small-world/quantizer")
    rows = read_manifest(units)
    assert len(rows) == 20
    for row in rows:
        seconds = len(read(row.response_path)) / 16_000
        assert abs(len(row.units) / 25 - seconds) < 0.1 and max(row.units) < 1024


def test_a_corpus_of_other_sizes_is_refused_or_made_anew(tmp_path, capsys):
    pytest.importorskip("espeakng_loader")
    words = ["demo", "corpus", "--out", str(tmp_path / "world"), "--validation", "1", "--test", "1", "--train"]
    assert main([*words, "2"]) == main([*words, "2"]) == 0
    assert "made from the same" in capsys.readouterr().out
    assert main([*words, "3"]) == 2
    assert "(train changed)" in capsys.readouterr().err and len(read_manifest(tmp_path / "world/manifest.jsonl")) == 4
    assert main([*words, "3", "--again"]) == 0
    assert len(read_manifest(tmp_path / "world/manifest.jsonl")) == 5


def test_a_corpus_that_is_begun_anew_ends_with_the_same_bytes(tmp_path):
    pytest.importorskip("espeakng_loader")
    for name in "ab":
        words = ["demo", "corpus", "--out", str(tmp_path / name), "--train=3", "--validation=1", "--test=1"]
        subprocess.run([sys.executable, "-m", "empathy_lightning", *words], check=True, capture_output=True)
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).rglob("*.*")} for name in "ab")
    assert first == second and len(first) == 7
