"""Bad input gets one clear line and exit code 2, never a traceback, and leaves nothing behind."""

import inspect
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import fields, is_dataclass
from typing import get_args, get_origin

import numpy as np
import pytest
import soundfile

from empathy_lightning.__main__ import COMMANDS, application, main
from empathy_lightning.audio import read_speech
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.checkpoints import save
from empathy_lightning.commands import TRAINER_COMMANDS
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.unit_language_model import Qwen2Body
from empathy_lightning.utterance import EMOTIONS
from tests.conftest import ROOT
from tests.forked import fork
from tests.tiny import spoken


@pytest.fixture
def bot(model, tmp_path):
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    return tmp_path / "bot"


def recording(folder, name, samples, rate=16_000, **options):
    soundfile.write(folder / name, samples, rate, **options)
    return folder / name


def bad_recordings(folder):
    (folder / "text.wav").write_text("hello")
    noise = np.random.default_rng(0).standard_normal(16_000) * 0.1
    noise_with_nan = noise.copy()
    noise_with_nan[5] = np.nan
    return {
        "no such file": folder / "none.wav",
        "not audio": folder / "text.wav",
        "no samples": recording(folder, "empty.wav", np.zeros(0)),
        "too short": recording(folder, "short.wav", noise[:1_600]),
        "silent": recording(folder, "silent.wav", np.zeros(16_000)),
        "not numbers": recording(folder, "nan.wav", noise_with_nan, subtype="FLOAT"),
    }


def test_bad_recordings(bot, tmp_path, capsys):
    good = recording(tmp_path, "good.wav", np.random.default_rng(0).standard_normal(16_000) * 0.1)
    for reason, path in bad_recordings(tmp_path).items():
        out = tmp_path / "out"
        assert main(["chat", str(good), str(path), "--out", str(out), "--checkpoint", str(bot)]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error:") and reason in error and path.name in error
        assert not out.exists()


@pytest.mark.parametrize(
    ("suffix", "rate", "channels", "seconds"), [("wav", 8_000, 2, 0.25), ("mp3", 44_100, 1, 2), ("flac", 48_000, 2, 40)]
)
def test_any_recording_is_answered(bot, tmp_path, suffix, rate, channels, seconds):
    noise = np.random.default_rng(0).standard_normal((round(rate * seconds), channels)) * 0.1
    path = recording(tmp_path, f"a.{suffix}", noise, rate)
    assert main(["chat", str(path), "--out", str(tmp_path / "out"), "--checkpoint", str(bot)]) == 0
    assert (tmp_path / "out" / "replies.json").is_file()


def test_a_recording_that_was_cut_is_answered_and_said_to_be(bot, tmp_path):
    path = recording(tmp_path, "a.wav", np.random.default_rng(0).standard_normal(32_000) * 0.1)
    path.write_bytes(path.read_bytes()[:40_000])
    with pytest.warns(UserWarning, match=r"a.wav: cut: the header promises 64000 bytes .*; what is there is heard"):
        assert main(["chat", str(path), "--out", str(tmp_path / "out"), "--checkpoint", str(bot)]) == 0


def test_all_bad_recordings_are_named_at_once(bot, tmp_path, capsys):
    paths = [*bad_recordings(tmp_path).values(), tmp_path]
    assert main(["chat", *map(str, paths), "--out", str(tmp_path / "out"), "--checkpoint", str(bot)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.count(";") >= len(paths) - 1 and all(f"{path}: " in error for path in paths)
    assert "a folder" in error and "b'" not in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("subtype", "peak"), [("PCM_U8", 1), ("PCM_24", 1), ("PCM_32", 1), ("FLOAT", 1.4)])
def test_every_kind_of_samples_is_read(tmp_path, subtype, peak):
    wave = peak * np.sin(np.arange(16_000) / 20)
    path = recording(tmp_path, "a.wav", wave, subtype=subtype)
    np.testing.assert_allclose(read_speech(path).numpy(), wave, atol=0.01)


def test_what_is_answered_is_heard_in_the_right_scale_and_from_every_channel(bot, tmp_path, capsys):
    generator = np.random.default_rng(0)
    good = np.round(3_000 * generator.standard_normal(24_000) * np.sin(np.arange(24_000) / 4_000)) / 32_768
    files = [
        recording(tmp_path, "clean.wav", good, subtype="PCM_16"),
        recording(tmp_path, "integers.wav", 32_768 * good, subtype="FLOAT"),
        recording(tmp_path, "opposite.wav", np.stack([good, -good], 1), subtype="PCM_16"),
        recording(tmp_path, "dead.wav", np.stack([0 * good, good], 1), subtype="PCM_16"),
    ]
    words = ["chat", *map(str, files), "--out", str(tmp_path / "out"), "--checkpoint", str(bot), "--batch_size=1"]
    assert main([*words, "--max_new_tokens=4"]) == 0
    clean, *others = json.loads((tmp_path / "out" / "replies.json").read_text())
    for other in others:
        assert {**other, "file": ""} == {**clean, "file": ""}
    wild = recording(tmp_path, "wild.wav", 2**23 * good, subtype="FLOAT")
    assert main(["chat", str(wild), "--out", str(tmp_path / "wild"), "--checkpoint", str(bot)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "wild.wav: samples reach" in error and "scale them to -1..1" in error


@pytest.mark.parametrize("name", ["file", "file/below", "closed"])
def test_a_folder_that_cannot_be_written_is_one_line_before_any_answer(bot, tmp_path, capsys, monkeypatch, name):
    good = recording(tmp_path, "good.wav", np.random.default_rng(0).standard_normal(16_000) * 0.1)
    (tmp_path / "file").write_text("here before")
    (tmp_path / "closed").mkdir()
    real = tempfile.mkstemp

    def _mkstemp(prefix, dir):
        if dir == tmp_path / "closed":  # root may write anywhere
            raise PermissionError(13, "Permission denied")
        return real(prefix=prefix, dir=dir)

    monkeypatch.setattr("tempfile.mkstemp", _mkstemp)
    monkeypatch.setattr(EmpatheticChatbot, "respond", lambda *a, **k: pytest.fail("answered in vain"))
    assert main(["chat", str(good), "--out", str(tmp_path / name), "--checkpoint", str(bot)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error:") and str(tmp_path / name) in error and "--out" in error
    assert (tmp_path / "file").read_text() == "here before" and not list((tmp_path / "closed").iterdir())


def test_files_of_the_same_name_are_answered_apart_and_an_interruption_keeps_what_was_said(
    bot, tmp_path, capsys, monkeypatch
):
    paths = []
    for name in "abc":
        (tmp_path / name).mkdir()
        noise = np.random.default_rng(ord(name)).standard_normal(16_000) * 0.1
        paths.append(recording(tmp_path / name, "q.wav", noise))
    words = ["chat", *map(str, paths), "--checkpoint", str(bot), "--max_new_tokens=4", "--out"]
    assert main([*words, str(tmp_path / "whole"), "--explain"]) == 0
    entries = json.loads((tmp_path / "whole" / "replies.json").read_text())
    assert [entry["file"] for entry in entries] == [str(path) for path in paths]
    assert len(list((tmp_path / "whole").glob("*_q_explained.png"))) == 3
    respond, left = EmpatheticChatbot.respond, [2]

    def _interrupted(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return respond(*args, **kwargs)

    monkeypatch.setattr(EmpatheticChatbot, "respond", _interrupted)
    assert main([*words, str(tmp_path / "part"), "--batch_size=1"]) == 130
    assert capsys.readouterr().err.strip().splitlines()[-1] == "interrupted"
    said = json.loads((tmp_path / "part" / "replies.json").read_text())
    assert [entry["text"] for entry in said] == [entry["text"] for entry in entries[:2]]


def test_replies_that_are_there_are_kept_unless_they_are_to_be_made_again(bot, tmp_path, capsys):
    for name in "ab":
        recording(tmp_path, f"{name}.wav", np.random.default_rng(ord(name)).standard_normal(16_000) * 0.1)
    words = ["--checkpoint", str(bot), "--out", str(tmp_path / "out"), "--max_new_tokens=4"]
    replies = tmp_path / "out" / "replies.json"
    assert main(["chat", str(tmp_path / "a.wav"), *words]) == 0
    first = replies.read_text()
    assert main(["chat", str(tmp_path / "b.wav"), *words]) == 2
    assert "holds replies already" in capsys.readouterr().err and replies.read_text() == first
    assert main(["chat", str(tmp_path / "b.wav"), *words, "--again"]) == 0
    (entry,) = json.loads(replies.read_text())
    assert entry["file"] == str(tmp_path / "b.wav")


def test_a_bot_that_speaks_without_a_voice_says_so_once(model, tmp_path, capsys):
    decoder = SpeechDecoder(32, 300, 0, num_units=8, body=Qwen2Body(16, 1, 2))
    save(tmp_path / "mute", spoken(model, list(EMOTIONS), decoder))
    noise = np.random.default_rng(0).standard_normal(16_000) * 0.1
    files = [str(recording(tmp_path, f"{name}.wav", noise)) for name in "ab"]
    words = ["--checkpoint", str(tmp_path / "mute"), "--out", str(tmp_path / "out"), "--max_new_tokens=4"]
    assert main(["chat", *files, *words]) == 0
    assert capsys.readouterr().out.count("has no vocoder: its speech is written as units") == 1
    entries = json.loads((tmp_path / "out/replies.json").read_text())
    assert [entry["speech"] for entry in entries] == [None, None] and not list((tmp_path / "out").glob("*.wav"))


def test_missing_checkpoints(bot, tmp_path, capsys):
    good = recording(tmp_path, "good.wav", np.random.default_rng(0).standard_normal(16_000) * 0.1)
    assert main(["chat", str(good), "--out", str(tmp_path / "out"), "--checkpoint", str(tmp_path / "no")]) == 2
    assert "is no checkpoint folder: there is nothing; train it first" in capsys.readouterr().err
    assert main(["chat", str(good), "--out", str(tmp_path / "out"), "--checkpoint", str(good)]) == 2
    assert "is no checkpoint folder: it is a file; give its folder" in capsys.readouterr().err
    measured = ["--measures", "variety", "heard_emotion", "--out", str(tmp_path / "out")]
    assert main(["evaluate", "run", "my.jsonl", "--checkpoint", str(tmp_path / "no"), *measured]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'no'} is no checkpoint folder")
    (bot / "model.safetensors").unlink()
    assert main(["chat", str(good), "--out", str(tmp_path / "out"), "--checkpoint", str(bot)]) == 2
    assert "model.safetensors is missing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_manifests(tmp_path, capsys):
    words = ["prepare", "responses", str(tmp_path / "no.jsonl"), "--out", str(tmp_path / "o.jsonl")]
    assert main([*words, "--language_model", "small-world/language_model"]) == 2
    assert "no manifest" in capsys.readouterr().err
    assert not (tmp_path / "o.jsonl").exists()


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (["--trainer.max_epochss=1"], "max_epochss"),
        (["--data.batch_seconds=many"], "data.batch_seconds: Expected a float"),
        (["--model.init_args.learning_rat=1"], "learning_rat"),
        (["--data.corpora.path=/nowhere/manifest.jsonl"], "no manifest at /nowhere"),
        (["--model.model.responder.language_model.name_or_path=/nowhere"], "/nowhere"),
    ],
)
def test_bad_configurations(extra, reason, tmp_path):
    config = str(ROOT / "examples/demo/speech_adapter.yaml")
    result = fork(["fit", "--config", config, *extra], tmp_path).wait()
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr and reason in result.stderr.splitlines()[-1]
    assert result.stderr.count("error") == 1
    assert not list(tmp_path.rglob("*.safetensors"))


def shown(words, capsys):
    """The help of a command, in one line."""
    assert main([*words, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in TRAINER_COMMANDS])
def test_help_teaches_every_option(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    page = shown(command.split(), capsys)
    options = re.findall(r"--([a-z][\w-]*)(?: +[A-Z.]+)? *(.*?) *│", page)
    assert {name for name, _ in options} == set(names_of(COMMANDS[command])) - {"help"}
    assert all(help_ and "-" not in name for name, help_ in options)


def names_of(function):
    """Options of a command: its keywords, and the fields of those that are dataclasses."""
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        kind = get_args(parameter.annotation)[0] if get_origin(parameter.annotation) else parameter.annotation
        if is_dataclass(kind):
            yield from (field.name for field in fields(kind))
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            yield name


@pytest.mark.parametrize("words", [[], ["chat"], ["prepare"], ["prepare", "responses"], ["evaluate"], ["demo"]])
def test_help_loads_no_library(words):
    program = (
        "import sys; from empathy_lightning.__main__ import main; "
        f"main({[*words, '--help']}); "
        "print(sorted({'torch', 'lightning', 'transformers', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Usage: empathy-lightning" in done.stdout and done.stdout.splitlines()[-1] == "[]"


def test_help_names_every_command_and_what_it_does(capsys):
    page = " ".join(shown([], capsys).split())
    for name in COMMANDS:
        assert name.split()[0] in page
    assert "Answer recordings with text and speech" in page and "Train" in page
    assert shown(["-h"], capsys) == shown([], capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chatt"], 'Did you mean "chat"?'),
        (["prepare", "response"], 'Did you mean "responses"?'),
        (["chat", "a.wav", "--out=o", "--checkpoint=c", "--explian"], "Did you mean --explain?"),
        (["chat", "a.wav", "--out=o"], "--checkpoint is missing"),
        (["respond", "m.jsonl", "--out=o"], "--checkpoint is missing"),
        (["evaluate", "emotion", "--manifest=m"], "--checkpoint is missing"),
        (["evaluate", "understanding"], "EXPECTED is missing"),
        (["chat", "a.wav", "--checkpoint=c", "--out"], "--out needs a value"),
        (["chat", "a.wav", "--checkpoint=c", "--outt=o"], "--out is missing; did you mean it by --outt?"),
        (["chat", "a.wav", "--out=o", "--checkpoint=c", "--seed=one"], "--seed"),
        (["chat", "a.wav", "--out=o", "--checkpoint=c", "--seed=1.7"], "--seed 1.7: give a whole number"),
        (["prepare", "units", "m.jsonl", "--out=o", "--quantizer=q", "more"], "more"),
    ],
)
def test_a_wrong_word_is_one_line_that_helps(words, said, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error:") and error.count("\n") == 1 and said in error and "--help`)" in error


def test_a_training_of_nothing_says_what_to_give(capsys):
    assert main(["fit"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: give --config FILE.yaml, or --config recipe:NAME")


@pytest.mark.parametrize("words", [[], ["prepare"], ["evaluate"]])
def test_nothing_asked_for_is_no_success(words, capsys):
    assert main(words) == 2
    assert "Usage: empathy-lightning" in capsys.readouterr().out


def test_the_last_of_an_option_counts_and_words_may_begin_with_a_hyphen():
    words = ["respond", "m", "--out=o", "--checkpoint=c", "--seed", "1", "--seed", "2", "--prompt", "- {speech}"]
    _, bound, _ = application().parse_args(words)
    assert bound.kwargs["decoding"].seed == 2 and bound.kwargs["prompt"] == "- {speech}"


@pytest.mark.parametrize("form", [["--explain"], ["--explain=true"]])
def test_a_switch_may_be_given_a_value_as_the_trainers_are(form):
    _, bound, _ = application().parse_args(["chat", "a.wav", "b.wav", *form, "--out=o", "--checkpoint=c"])
    assert bound.kwargs["explain"] is True and len(bound.args[0]) == 2
