"""Spoken replies are measured against tones whose pitch, length and loudness are known, and against eSpeak's styles."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import image
from scipy.stats import bootstrap

from empathy_lightning.__main__ import main
from empathy_lightning.audio import write
from empathy_lightning.data import write_manifest
from empathy_lightning.evaluation import styles
from empathy_lightning.evaluation.speech_judges import SpeakerEncoder, installed_predictors
from empathy_lightning.evaluation.statistics import mean, ratio
from empathy_lightning.evaluation.styles import FEATURES, StyleClassifier
from empathy_lightning.utterance import EMOTIONS, Utterance

STYLES = {"low": (120.0, 0.1), "high": (240.0, 0.4)}
"""Pitch in Hz and amplitude."""


def tone(hertz, amplitude, seconds=1.0):
    time = torch.arange(round(seconds * 16_000)) / 16_000
    # A little wider than one frequency, so that the styles have a spread.
    return amplitude * torch.sin(2 * torch.pi * hertz * time)


def spoken(name, sounds):
    """A manifest of replies of four words; each sound is (split, style, hertz, amplitude, seconds)."""
    said = []
    for index, (split, style, hertz, amplitude, seconds) in enumerate(sounds):
        path = Path(name, f"{index}.wav")
        path.parent.mkdir(exist_ok=True)
        write(path, tone(hertz, amplitude, seconds))
        row = Utterance(f"r{index}", "c", "a.wav", split=split, emotion="sad", response="four words of speech")
        said.append(replace(row, response_path=str(path), raw_labels={"reply_style": style}))
    write_manifest(f"{name}.jsonl", said)
    return said


def training(count=4):
    return [
        ("train", style, hertz * (1 + 0.02 * i), amplitude * (1 + 0.05 * i), 1.0)
        for style, (hertz, amplitude) in STYLES.items()
        for i in range(count)
    ]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def command(replies, *measures, out="out"):
    return ["evaluate", "run", "--replies", replies, "--out", out, "--measures", *map(str, measures)]


def evaluate(replies, *measures, out="out"):
    """Figures of the first measure."""
    assert main(command(replies, *measures, out=out)) == 0
    (suite,) = json.loads(Path(out, "metrics.json").read_text())["suites"].values()
    return suite["measures"][measures[0]]["figures"]


def rows(measure="tone", out="out"):
    lines = [json.loads(line) for line in Path(out, "predictions.jsonl").read_text().splitlines()]
    return [line["measures"][measure] for line in lines]


def error_of(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_pitch_length_and_energy_are_those_of_the_tones_beside_their_targets():
    spoken("targets", [*training(), ("test", "low", 120, 0.1, 1.0), ("test", "high", 240, 0.4, 2.0)])
    said = spoken("bot", [("test", "low", 150, 0.2, 1.5), ("test", "high", 240, 0.4, 1.0)])
    write_manifest("bot.jsonl", [replace(u, id=f"r{8 + i}", raw_labels={}) for i, u in enumerate(said)])
    figures = evaluate("bot.jsonl", "tone", "targets=targets.jsonl", "pictures", "count=2")
    assert (figures["unreadable"], figures["without_voice"]) == (0, 0)
    assert figures["f0_mean_error"]["value"] == pytest.approx(30 / 2, abs=2)
    assert figures["f0_range_error"]["value"] < 1
    assert figures["energy_error"]["value"] == pytest.approx(20 * math.log10(2) / 2, abs=0.1)
    assert figures["duration_error"]["value"] == pytest.approx((0.5 + 0.5) / 2, abs=1e-6)
    assert figures["duration_ratio"]["value"] == pytest.approx(2.5 / 3, abs=1e-6)
    # Words a second over the time in which there is sound.
    assert figures["rate_error"]["value"] == pytest.approx((4 - 4 / 1.5 + 4 - 4 / 2) / 2, abs=0.15)
    low, _ = rows()
    assert low["f0_mean"] == pytest.approx(150, abs=3) and low["style"] == "low"
    assert (low["seconds"], low["target_seconds"]) == (1.5, 1.0)
    assert figures["sounds_like"]["high"]["f0_mean"]["target"] == pytest.approx(240 * 1.03, abs=4)
    pictures = [row["picture"] for row in rows("pictures")]
    assert pictures == ["pictures/low_c_r8.png", "pictures/high_c_r9.png"]
    side_by_side = image.imread(Path("out", pictures[0])).shape
    assert Path("out/report.html").read_text().count('<img alt="low_c_r8"') == 1
    assert evaluate("targets.jsonl", "pictures", "count=1", out="alone")["drawn"] == 1
    (alone,) = Path("alone/pictures").iterdir()
    assert side_by_side[1] == 2 * image.imread(alone).shape[1] and side_by_side[0] == image.imread(alone).shape[0]


def test_the_style_is_heard_and_each_reply_says_which():
    test = [("test", "low", 122, 0.1, 1.0), ("test", "high", 235, 0.4, 1.0), ("test", "high", 121, 0.1, 1.0)]
    spoken("bot", [*training(), *test, ("test", "unknown", 200, 0.1, 1.0)])
    figures = evaluate("bot.jsonl", "tone", "targets=bot.jsonl")
    assert [row.get("heard_style") for row in rows()] == ["low", "high", "low", None]
    assert figures["style_right"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert figures["style_right"]["replies"] == 3
    assert figures["styles"] == ["high", "low"] and figures["styles_heard"] == [[1, 1, 0], [0, 1, 0]]


def test_the_nearest_mean_is_the_textbook_s():
    generator = np.random.default_rng(0)
    styles = [("a", "b", "c")[i % 3] for i in range(60)]
    prosodies = [
        {
            "f0_mean": 120 + 20 * "abc".index(style) + generator.normal(0, 15), "f0_range": generator.uniform(20, 80),
            "energy": -20 - 2 * "abc".index(style) + generator.normal(), "energy_range": generator.normal(11, 1),
            "rate": generator.uniform(2, 4),
        }
        for style in styles
    ]  # fmt: skip
    points = np.array([[row[name] for name in FEATURES] for row in prosodies])
    points[:, [0, 1, 4]] = np.log(points[:, [0, 1, 4]])
    train = np.arange(60) < 40
    means = {s: points[train & (np.array(styles) == s)].mean(0) for s in "abc"}
    within = np.stack([points[i] - means[styles[i]] for i in range(40)])
    scale = np.sqrt((within**2).sum(0) / (40 - 3))
    expected = [min("abc", key=lambda s, p=p: (((p - means[s]) / scale) ** 2).sum()) for p in points[40:]]
    classify = StyleClassifier(prosodies[:40], styles[:40])
    assert [classify(row) for row in prosodies[40:]] == expected and len(set(expected)) == 3


def test_espeak_s_styles_are_told_apart_on_other_sentences():
    pytest.importorskip("espeakng_loader")
    things = ("garden", "station", "library", "market", "kitchen", "office", "harbour")
    rows = [
        Utterance(f"{emotion}{i}", "c", "a.wav", split="train" if i < 4 else "test", emotion=emotion,
                  response=f"I hear you, tell me more about the {thing} and what you did there.")
        for emotion in EMOTIONS
        for i, thing in enumerate(things)
    ]  # fmt: skip
    write_manifest("replies.jsonl", rows)
    assert main(["prepare", "speech", "replies.jsonl", "--out", "spoken.jsonl"]) == 0
    figures = evaluate("spoken.jsonl", "tone", "targets=spoken.jsonl")
    assert figures["style_right"]["value"] >= 0.9 and figures["style_right"]["replies"] == 15
    assert set(figures["styles"]) == {"calm", "bright", "soft", "steady", "lively"}
    heights = {style: figures["sounds_like"][style]["f0_mean"]["reply"] for style in figures["styles"]}
    assert max(heights, key=heights.get) == "lively" and min(heights, key=heights.get) == "soft"


def test_intervals_are_those_of_the_bootstrap():
    generator = np.random.default_rng(1)
    errors, words = generator.integers(0, 4, 80), generator.integers(4, 12, 80)
    ours = ratio(errors.tolist(), words.tolist())
    theirs = bootstrap(
        (errors, words), lambda e, w, axis: e.sum(axis) / w.sum(axis), paired=True, method="percentile", rng=0
    ).confidence_interval
    assert ours["value"] == pytest.approx(errors.sum() / words.sum(), abs=1e-6) and ours["replies"] == 80
    width = theirs.high - theirs.low
    assert abs(ours["low"] - theirs.low) < 0.1 * width and abs(ours["high"] - theirs.high) < 0.1 * width
    values = generator.normal(3, 1, 200)
    half = 1.96 * values.std() / math.sqrt(200)
    assert mean(values.tolist())["high"] - values.mean() == pytest.approx(half, rel=0.15)


def test_a_run_that_was_stopped_measures_the_rest_alone(monkeypatch):
    spoken("bot", [("test", "low", 120 + i, 0.1, 1.0) for i in range(48)])
    whole = evaluate("bot.jsonl", "tone", out="whole")
    read, left = styles.read, [35]

    def _stops(path):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return read(path)

    with monkeypatch.context() as patched:
        patched.setattr(styles, "read", _stops)
        assert main(command("bot.jsonl", "tone")) == 130
        assert [path.name for path in Path("out/measured").iterdir()] == ["tone.bot.part-00000.json"]
        left[0] = 48 - 32
        assert evaluate("bot.jsonl", "tone") == whole
    assert Path("out/predictions.jsonl").read_bytes() == Path("whole/predictions.jsonl").read_bytes()
    assert [path.name for path in Path("out/measured").iterdir()] == ["tone.bot.json"]
    # Another recording is measured anew.
    write("bot/9.wav", tone(300, 0.1))
    assert evaluate("bot.jsonl", "tone")["f0_mean"] != whole["f0_mean"]


def test_what_cannot_be_heard_is_counted():
    said = spoken("bot", [*training(), ("test", "low", 120, 0.1, 1.0), ("test", "low", 120, 0, 1.0)])
    said += [replace(said[-1], id="gone", response_path="bot/none.wav"), replace(said[-1], id="mute")]
    said[-1].response_path = None
    write_manifest("bot.jsonl", said)
    figures = evaluate("bot.jsonl", "tone", "targets=bot.jsonl")
    counted = ("without_response_path", "unreadable", "without_voice")
    assert [figures[name] for name in counted] == [1, 1, 1]
    assert [row and row.get("unreadable") for row in rows()] == [None, None, "./bot/none.wav: no such file", None]
    # A reply without a voice is in no style.
    assert figures["style_right"]["value"] == 0.5 and figures["styles_heard"][1] == [0, 1, 1]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["pictures", "count=0"], "pictures.count has to be at least 1"),
        (["voice_likeness", "folder=.", "targets=bot.jsonl"], "no embedding_model.ckpt"),
        (["voice_likeness", "folder=."], "voice_likeness needs targets"),
        (["tone", "targets=none.jsonl"], "no manifest at none.jsonl"),
        (["tone", "targets=mute.jsonl"], "mute.jsonl names no speech"),
    ],
)
def test_what_does_not_fit_is_one_line(words, reason, capsys):
    said = spoken("bot", [("test", "low", 120, 0.1, 1.0)])
    write_manifest("mute.jsonl", [replace(said[0], response_path=None)])
    assert main(command("bot.jsonl", *words)) == 2
    assert reason in error_of(capsys) and not Path("out").exists()


def test_predictors_that_are_not_installed_are_named(monkeypatch, capsys):
    for name in ("speechmos", "distillmos"):
        monkeypatch.setitem(sys.modules, name, None)
    spoken("bot", [("test", "low", 120, 0.1, 1.0)])
    assert main(command("bot.jsonl", "opinion_scores", "predictors=[speechmos, distillmos]")) == 2
    assert "not installed: speechmos, distillmos: pip install" in error_of(capsys)


@pytest.mark.parametrize(("package", "name"), [("speechmos", "dnsmos_overall"), ("distillmos", "distillmos")])
def test_predictors_prefer_a_voice_to_noise(package, name):
    pytest.importorskip(package)
    pytest.importorskip("espeakng_loader")
    from empathy_lightning.audio import resample
    from empathy_lightning.small_world.espeak import Prosody, render

    waveform, rate = render("Tell me more about the garden and your sister.", "gmw/en-US+f2", Prosody(), 0)
    voice = resample(torch.from_numpy(waveform), rate)
    noisy = voice + 0.1 * torch.randn(len(voice), generator=torch.Generator().manual_seed(0))
    judge = installed_predictors()[0][package]
    assert 1 <= judge(noisy)[name] < judge(voice)[name] - 0.2 <= 5


def test_the_speaker_encoder_is_speechbrain_s(tmp_path):
    from speechbrain.inference.speaker import EncoderClassifier
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

    torch.manual_seed(0)
    sizes = {"channels": [16, 16, 16, 16, 48], "attention_channels": 8, "lin_neurons": 12, "se_channels": 8}
    model = ECAPA_TDNN(80, **sizes).eval()
    torch.save(model.state_dict(), tmp_path / "embedding_model.ckpt")
    (tmp_path / "hyperparams.yaml").write_text(
        f"""
compute_features: !new:speechbrain.lobes.features.Fbank
  n_mels: 80
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
  norm_type: sentence
  std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
  input_size: 80
  channels: {sizes["channels"]}
  attention_channels: 8
  lin_neurons: 12
  se_channels: 8
classifier: !new:torch.nn.Identity
modules:
  compute_features: !ref <compute_features>
  mean_var_norm: !ref <mean_var_norm>
  embedding_model: !ref <embedding_model>
  classifier: !ref <classifier>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
  loadables:
    embedding_model: !ref <embedding_model>
  paths:
    embedding_model: {tmp_path}/embedding_model.ckpt
"""
    )
    theirs = EncoderClassifier.from_hparams(str(tmp_path), savedir=str(tmp_path / "save"))
    encoder = SpeakerEncoder(tmp_path)
    voices = [tone(150, 0.2) + 0.01 * torch.randn(16_000), tone(260, 0.1) + 0.02 * torch.randn(16_000)]
    for voice in voices:
        torch.testing.assert_close(encoder(voice), theirs.encode_batch(voice[None])[0, 0], atol=1e-4, rtol=1e-4)
    assert encoder.similarity(voices[0], voices[0]) == pytest.approx(1, abs=1e-5)
    assert encoder.similarity(*voices) < 0.999
    spoken("targets", [("test", "low", 150, 0.1, 1.0)])
    spoken("bot", [("test", "low", 150, 0.1, 1.0)])
    figures = evaluate("bot.jsonl", "voice_likeness", f"folder={tmp_path}", "targets=targets.jsonl")
    assert figures["speaker_similarity"]["value"] == pytest.approx(1, abs=1e-3)
