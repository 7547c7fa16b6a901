"""Measures of spoken replies through ``evaluate run``: words, opinion scores, tone, latency."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.audio import read
from empathy_lightning.checkpoints import save
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.evaluation.reply_speech import SpeechRecogniser
from empathy_lightning.evaluation.statistics import ratio
from empathy_lightning.metrics.prosody import prosody
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.speechbrain_imports import speechbrain_imports
from empathy_lightning.modules.unit_language_model import Qwen2Body
from empathy_lightning.modules.vocoder import NeuralVocoder
from empathy_lightning.recogniser import EmotionRecogniser
from empathy_lightning.utterance import EMOTIONS
from tests.evaluation.test_reply_speech import whisper  # noqa: F401 - a fixture
from tests.evaluation.test_speech import spoken as written
from tests.evaluation.test_speech import training
from tests.tiny import spoken

with speechbrain_imports():
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

SOUNDS = [("test", "low", 120, 0.1, 1.0), ("test", "high", 240, 0.4, 2.0), ("test", "low", 230, 0.4, 1.0)]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Three spoken replies of two styles, of which one is spoken in the other's."""
    monkeypatch.chdir(tmp_path)
    written("replies", SOUNDS)
    return tmp_path


def run(*words, manifest="replies.jsonl", more=()):
    source = (manifest,) if "--checkpoint" in more else ("--replies", manifest)
    return main(["evaluate", "run", *source, "--out", "out", *more, "--measures", *map(str, words)])


def rows(measure):
    lines = [json.loads(line) for line in Path("out/predictions.jsonl").read_text().splitlines()]
    return [line["measures"][measure] for line in lines]


def figures(measure, suite="replies"):
    return json.loads(Path("out/metrics.json").read_text())["suites"][suite]["measures"][measure]["figures"]


def test_word_errors_are_the_recogniser_s_over_all_words(place, request):
    folder = request.getfixturevalue("whisper")
    assert run("word_errors", f"word_errors.asr={folder}", "word_errors.asr_language=en") == 0
    heard = SpeechRecogniser(str(folder), "en").measure(read_manifest("replies.jsonl"), {}, None)
    assert [row["word_errors"] for row in rows("word_errors")] == [one.word_errors for one in heard]
    errors, said = ([getattr(one, name) for one in heard] for name in ("word_errors", "words"))
    expected = ratio(errors, said)
    assert {key: figures("word_errors")["word_error_rate"][key] for key in expected} == expected
    assert figures("word_errors")["normaliser"].startswith("Whisper's")


def test_the_tone_is_measured_and_the_style_told_by_the_training_replies(place):
    written("targets", training())
    assert run("tone", "tone.targets=targets.jsonl") == 0
    found, expected = rows("tone"), prosody(read("replies/0.wav"), 4)
    assert {name: found[0][name] for name in expected} == pytest.approx(expected, abs=1e-4)
    assert [row["style_right"] for row in found] == [1, 1, 0] and found[2]["heard_style"] == "high"
    assert figures("tone")["style_right"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert run("tone", "tone.targets=replies.jsonl") == 0
    assert figures("tone")["styles"].startswith("left out: styles are told apart where two have 2 training replies")


def test_a_file_of_torchscript_predicts_opinions(place, capsys):
    class Loudness(torch.nn.Module):
        """In the place of UTMOS: from a wave and its rate to a score."""

        def forward(self, wave: torch.Tensor, rate: int) -> torch.Tensor:
            return 1 + 4 * wave.abs().amax(1) * (rate / 16000)

    torch.jit.script(Loudness()).save("utmos.pt")
    assert run("opinion_scores", "opinion_scores.torchscript={utmos: utmos.pt}", "opinion_scores.predictors=[]") == 0
    loudest = [float(read(f"replies/{index}.wav").abs().max()) for index in range(3)]
    assert [row["utmos"] for row in rows("opinion_scores")] == pytest.approx([1 + 4 * x for x in loudest], abs=1e-3)
    Path("replies.pt").write_text("no module")
    for word, told in (
        ("torchscript={utmos: replies.pt}", "replies.pt is no TorchScript module"),
        ("predictors=[dnsmos]", "no predictor is named 'dnsmos'"),
        ("predictors=[]", "has no predictor"),
    ):
        assert run("opinion_scores", f"opinion_scores.{word}") == 2
        assert told in capsys.readouterr().err.strip().splitlines()[-1]


def test_speech_that_cannot_be_read_has_no_row(place):
    Path("replies/1.wav").write_bytes(b"no sound")
    assert run("tone") == 0
    assert "replies/1.wav" in rows("tone")[1]["unreadable"] and figures("tone")["unreadable"] == 1


def test_a_voice_is_like_its_target_s(place):
    torch.manual_seed(0)
    sizes = {"channels": [16, 16, 16, 16, 48], "attention_channels": 8, "lin_neurons": 12, "se_channels": 8}
    Path("ecapa").mkdir()
    torch.save(ECAPA_TDNN(80, **sizes).state_dict(), "ecapa/embedding_model.ckpt")
    written("targets", SOUNDS[:2])
    assert run("voice_likeness", "voice_likeness.folder=ecapa", "voice_likeness.targets=targets.jsonl") == 0
    found = rows("voice_likeness")
    assert found[2] is None and [row["speaker_similarity"] for row in found[:2]] == pytest.approx([1, 1], abs=1e-3)


def test_latency_is_that_of_streams(place, corpus, model):
    torch.manual_seed(1)
    decoder = SpeechDecoder(32, len(model.responder.language_model.tokenizer), 0, 64, Qwen2Body(32, 1, 2))
    decoder.model.get_input_embeddings().weight.data[0] *= 40  # so that replies end
    save("talker", spoken(model, list(EMOTIONS), decoder.eval(), NeuralVocoder(64, 16, 1)))
    write_manifest("questions.jsonl", [replace(u, split="test") for u in read_manifest(corpus)[:3]])
    words = ("latency", "latency.questions=2", "latency.max_new_tokens=6", "latency.temperature=1.0")
    more = ("--checkpoint", "talker", "--max_new_tokens", "6")
    # At temperature 1: the likeliest words of random weights are none.
    assert run(*words, manifest="questions.jsonl", more=more) == 0
    found = rows("latency")
    assert found[2] is None and all(0 < row["first_text"] <= row["first_audio"] for row in found[:2])
    assert figures("latency", "questions")["real_time_factor"]["value"] > 0
    assert run("latency", "latency.questions=0", manifest="questions.jsonl", more=more) == 2


def test_the_emotion_of_a_reply_s_speech_is_heard_by_a_recogniser_that_is_named(place, model, request):
    save("ear", spoken(model, list(EMOTIONS)))
    folder = request.getfixturevalue("whisper")
    replies = read_manifest("replies.jsonl")
    replies[0].emotion, replies[1].emotion, replies[2].emotion = "Sadness", "boredom", "happy"
    write_manifest("replies.jsonl", replies)
    assert run("spoken_emotion", "recogniser=ear", f"asr={folder}", "asr_language=en") == 0
    ear = EmotionRecogniser.from_pretrained("ear")
    heard = SpeechRecogniser(str(folder), "en").measure(replies, {}, None)
    found = rows("spoken_emotion")
    assert found[1] is None and figures("spoken_emotion")["other_labels"] == 1
    for index, wanted in ((0, "sad"), (2, "happy")):
        share = ear.recognise([replies[index].response_path])[0].probabilities[wanted]
        assert found[index]["probability"] == pytest.approx(share, abs=1e-5)
        rate = min(1.0, heard[index].word_error_rate)
        assert found[index]["score"] == pytest.approx(100 * share * (1 - rate), abs=1e-2)
    assert run("spoken_emotion", "recogniser=ear", "--again") == 0
    scores = figures("spoken_emotion")
    assert scores["score"]["value"] == pytest.approx(100 * scores["probability"]["value"], abs=1e-2)
    assert scores["heard_by"] == "ear" and run("spoken_emotion", "recogniser=nowhere") == 2
