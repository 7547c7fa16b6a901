"""Checkpoints and backbones by name, against a Hub on this machine; each in a process of its own."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from empathy_lightning.audio import write
from empathy_lightning.checkpoints import CheckpointError, load, save
from empathy_lightning.digests import folder_digest
from empathy_lightning.utterance import EMOTIONS
from tests.conftest import ROOT
from tests.hub_server import local_hub
from tests.tiny import spoken, whole

LOADS = """
import json, sys
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.decoding import Decoding
for name in sys.argv[2:]:
    (reply,) = EmpatheticChatbot.from_pretrained(name).respond(sys.argv[1], decoding=Decoding(8))
    print(json.dumps([reply.text, reply.emotion]))
"""
FINDS = """
import sys
from empathy_lightning.hub import local_folder
for name in sys.argv[1:]:
    try:
        print(local_folder(name))
    except ValueError as error:
        print(error)
"""


@pytest.fixture
def hub():
    with local_hub() as running:
        yield running


@pytest.fixture
def bot(model, backbones, hub, tmp_path):
    """The folder of a bot whose backbones are the Hub's."""
    for name in ("speech_encoder", "language_model"):
        hub.add(f"someone/{name}", backbones / name)
    model.listener.speech_encoder.source |= {"name_or_path": "someone/speech_encoder", "revision": None}
    model.responder.language_model.source |= {"name_or_path": "someone/language_model", "revision": None}
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    hub.add("someone/bot", tmp_path / "bot")
    return tmp_path / "bot"


def fresh(hub, place, code, *arguments, **variables):
    """Lines that a process of its own prints; its cache lies in a folder of the test."""
    environment = {
        **os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(place / "cache"), "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1", "EMPATHY_BACKBONES": "", **variables,
    }  # fmt: skip
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=place)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines(), result.stderr


def test_a_bot_is_loaded_by_name_and_from_the_cache(bot, hub, corpus, tmp_path):
    hub.repositories["someone/bot"].branches["v2"] = hub.repositories["someone/bot"].branches["main"] | {
        "x.json": b"{}"
    }
    names = [bot, "someone/bot", f"someone/bot@{hub.repositories['someone/bot'].sha('v2')}"]
    lines, told = fresh(hub, tmp_path, LOADS, corpus.parent / "3.wav", *names)
    said = lines[0]
    assert lines == [said] * 3 and not told
    asked = len(hub.asked)
    (line,), _ = fresh(hub, tmp_path, LOADS, corpus.parent / "3.wav", "someone/bot", HF_HUB_OFFLINE="1")
    assert line == said and len(hub.asked) == asked


def test_what_cannot_be_fetched_is_told_in_one_line_and_asked_for_once(hub, backbones, tmp_path):
    for name, how in {"gated": {"gated": True}, "hidden": {"private": True}, "open": {}}.items():
        hub.add(f"someone/{name}", backbones / "speech_encoder", **how)
    names = ["someone/gated", "someone/hidden", "someone/open@v9", "someone/nothing", "nothing/at/all"]
    lines, told = fresh(hub, tmp_path, FINDS, *names)
    assert lines[0].startswith("someone/gated is gated") and "hf auth login" in lines[0]
    assert "someone/hidden" in lines[1] and "private" in lines[1]
    assert lines[2].startswith("someone/open has no revision v9")
    assert "someone/nothing is no folder here, and the Hub has no such model" in lines[3]
    assert lines[4:] == ["nothing/at/all"] and not told
    # The Hub describes what is gated, and is asked about the rest once.
    assert [path for path in hub.asked if "agent" not in path] == [
        "GET /api/models/someone/gated/revision/main", "GET /api/models/someone/gated/auth-check",
        "GET /api/models/someone/hidden/revision/main", "GET /api/models/someone/open/revision/v9",
        "GET /api/models/someone/nothing/revision/main",
    ]  # fmt: skip
    hub.down = True
    hub.asked.clear()
    lines, _ = fresh(hub, tmp_path, FINDS, "someone/other")
    assert lines[0].startswith("someone/other is no folder and not whole in the cache") and "503" in lines[0]
    assert len([path for path in hub.asked if "agent" not in path]) == 1 and len(lines) == 1


ENCODES = """
import os, sys
from empathy_lightning.modules.language_model import LanguageModel
for name in sys.argv[1:]:
    if name.startswith("hf_"):
        os.environ["HF_TOKEN"] = name
        continue
    try:
        print(LanguageModel.from_pretrained(name).source["revision"])
    except ValueError as error:
        print(error)
"""


def test_backbones_that_are_gated_or_bring_code_are_refused_in_one_line(hub, backbones, tmp_path):
    hub.add("someone/gated", backbones / "language_model", gated=True)
    hub.add("someone/coded", backbones / "language_model")
    files = hub.repositories["someone/coded"].branches["main"]
    config = json.loads(files["config.json"])
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "code.Mine", "AutoModelForCausalLM": "code.Mine"}}
    files |= {"config.json": json.dumps(config).encode(), "code.py": b"open('run', 'w')"}
    lines, told = fresh(
        hub, tmp_path, ENCODES, "hf_wrong", "someone/gated", "someone/coded", hub.token, "someone/gated"
    )
    assert lines[0].startswith("someone/gated is gated") and not told
    assert lines[1].startswith("someone/coded") and "code of its own, which is never run" in lines[1]
    assert lines[2:] == [hub.repositories["someone/gated"].sha("main")]
    refused = hub.asked.index("GET /api/models/someone/gated/auth-check")
    assert "someone/coded" in hub.asked[refused + 1]  # nothing of it was fetched
    assert not (tmp_path / "run").exists() and not list(tmp_path.rglob("*.py"))


PICKLE = b"cposix\nsystem\n(S'touch run'\ntR."


def test_neither_code_nor_pickles_of_a_checkpoint_are_fetched_or_run(bot, hub, tmp_path, monkeypatch):
    files = hub.repositories["someone/bot"].branches["main"]
    files |= {"model.bin": PICKLE, "pytorch_model.bin": PICKLE, "modeling.py": b"open('run', 'w')"}
    config = json.loads(files["config.json"])
    config["auto_map"] = {"AutoModel": "modeling.Model"}
    files["config.json"] = json.dumps(config).encode()
    lines, _ = fresh(hub, tmp_path, FINDS, "someone/bot")
    place = Path(lines[0])
    assert sorted(file.name for file in place.iterdir()) == ["config.json", "model.safetensors"]
    assert not [path for path in hub.asked if path.endswith((".py", ".bin"))]
    # What is in such a folder by other ways is not run either.
    monkeypatch.chdir(tmp_path)
    config["model"]["class_path"] = "modeling.Model"
    for name, content in files.items():
        (bot / name).write_bytes(content)
    (bot / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"modeling\.Model is code from elsewhere, which is not run unasked"):
        load(bot)
    (bot / "model.safetensors").write_bytes(PICKLE)
    with pytest.raises(CheckpointError, match="damaged"):
        load(bot)
    assert not (tmp_path / "run").exists()


COMMANDS = """
import json, os, sys
from empathy_lightning.__main__ import main
codes = []
for first, *rest in json.loads(sys.argv[1]):
    if first == "token":
        (os.environ["HF_TOKEN"],) = rest
    else:
        codes.append(main([first, *rest]))
print(codes)
"""


def test_every_command_takes_a_name(bot, hub, corpus, tmp_path):
    """Those that look into the folder themselves, in one process: hear, ask, answer, and go on from it."""
    manifest = str(corpus)
    measured = ["--manifest", manifest]
    commands = [
        ["evaluate", "emotion", "--by", "classifier", "--checkpoint", "someone/bot@main", *measured, "--out", "e.json"],
        ["evaluate", "prompts", "--checkpoint", "someone/bot", *measured, "--max_new_tokens", "2", "--out", "p.json"],
        ["respond", manifest, "--checkpoint", "someone/bot", "--out", "r.jsonl", "--max_new_tokens", "2"],
        ["chat", str(corpus.parent / "3.wav"), "--checkpoint", "someone/bot", "--out", "chat", "--max_new_tokens", "2"],
    ]  # fmt: skip
    lines, _ = fresh(hub, tmp_path, COMMANDS, json.dumps(commands))
    assert lines[-1] == "[0, 0, 0, 0]"
    figures = json.loads((tmp_path / "e.json").read_text())
    assert figures["utterances"] == 5 and json.loads((tmp_path / "p.json").read_text())
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 5
    assert json.loads((tmp_path / "chat/replies.json").read_text())[0]["emotion"] in EMOTIONS


RECOGNISES = """
import sys
import torch
from empathy_lightning.checkpoints import load, load_weights
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.recogniser import EmotionRecogniser
heard = EmotionRecogniser.from_pretrained("someone/bot").recognise([sys.argv[1], sys.argv[1]])
nuance = EmotionNuance.from_pretrained("someone/bot@main")
listener = EmotionRecogniser.from_pretrained("someone/bot").listener.emotion_nuance
assert all(torch.equal(a, b) for a, b in zip(nuance.state_dict().values(), listener.state_dict().values(), strict=True))
assert not nuance.training and heard[0].emotion == heard[1].emotion
print(heard[0].emotion, round(heard[0].arousal, 5), round(sum(heard[0].probabilities.values()), 2))
try:
    EmotionNuance.from_pretrained("someone/speech_encoder")
except ValueError as error:
    print(error)
"""


def test_the_part_that_hears_emotion_is_loaded_alone(bot, hub, model, corpus, tmp_path):
    from empathy_lightning.chatbot import EmpatheticChatbot

    recording = corpus.parent / "3.wav"
    (reply,) = EmpatheticChatbot(model).respond(recording, aloud=False)
    lines, _ = fresh(hub, tmp_path, RECOGNISES, recording)
    assert lines[0] == f"{reply.emotion} {round(reply.arousal, 5)} 1.0"
    assert lines[1] == "someone/speech_encoder holds no EmotionNuance of this library"
    assert not [path for path in hub.asked if "language_model" in path]


def test_a_checkpoint_is_pushed_with_its_card_and_comes_back(bot, hub, corpus, tmp_path):
    (tmp_path / "bot/.secret").write_text("kept here")
    (tmp_path / "bot/best.ckpt").write_bytes(PICKLE)
    stage = {
        "task": "EmotionNuanceTask", "trained": ["listener.emotion_nuance"], "epochs": 3, "steps": 70,
        "validation": {"validation/loss": 0.25},
        "corpora": [{"name": "ravdess", "utterances": {"train": 64, "validation": 8}, "speakers": 4, "title": "RAVDESS",
                     "source": "x", "licence": "CC BY-NC-SA 4.0", "citation": "Livingstone and Russo 2018"}],
    }  # fmt: skip
    (bot / "training.json").write_text(json.dumps({"stages": [stage], "history": []}))
    (tmp_path / "figures.json").write_text(json.dumps({"likeness": {"value": 0.5, "low": 0.4, "high": 0.6}}))
    others = {"made_from": {"checkpoint": "another"}, "unweighted_accuracy": 1.0}
    (tmp_path / "others.json").write_text(json.dumps(others))
    said = {"figures": {"chrf": 31.5, "words": {"value": 3.1, "low": 2.4, "high": 3.7}}}
    run = {"bot": {"checkpoint_digest": folder_digest(bot)}, "suites": {"feelings": {"measures": {"overlap": said}}}}
    (tmp_path / "metrics.json").write_text(json.dumps(run))
    (tmp_path / "other_run.json").write_text(json.dumps({**run, "bot": {"checkpoint_digest": "another"}}))
    (tmp_path / "none.json").write_text('{"rows": []}')
    start = ["push", str(bot), "user/mine"]
    commands = [
        [*start, "--figures", "others.json"],
        [*start, "--figures", "other_run.json"],
        [*start, "--figures", "none.json"],
        [*start, "--figures", "figures.json", "--figures", "metrics.json", "--licence", "cc-by-nc-sa-4.0", "--private"],
        [*start, "--branch", "second", "--dry_run"],
        ["chat", str(corpus.parent / "3.wav"), "--checkpoint", str(bot), "--out", "local"],
        ["chat", str(corpus.parent / "3.wav"), "--checkpoint", "user/mine", "--out", "fetched"],
        ["token", "hf_wrong"],
        start,
    ]
    lines, told = fresh(hub, tmp_path, COMMANDS, json.dumps(commands), HF_TOKEN=hub.token)
    assert lines[-1] == "[2, 2, 2, 0, 0, 0, 0, 2]" and told.count("measured on another checkpoint") == 2
    assert "none.json holds no figures" in told
    assert lines[0].startswith(f"{hub.url}/user/mine/commit/") and any("nothing was sent" in line for line in lines)
    assert "user/mine: you may not write there" in told and len(told.splitlines()) == 4
    repository = hub.repositories["user/mine"]
    files = repository.branches["main"]
    assert repository.private and sorted(files) == ["README.md", "config.json", "model.safetensors", "training.json"]
    card = files["README.md"].decode()
    for words in (
        "license: cc-by-nc-sa-4.0", "library_name: empathy_lightning", "- someone/language_model", "arXiv 2604.18159",
        "| ravdess (64) | 3 | 70 |", "CC BY-NC-SA 4.0", "Livingstone and Russo 2018", "does not speak",
        "| likeness | 0.500 (0.400 to 0.600) |", "| feelings, overlap: words | 3.100 (2.400 to 3.700) |",
        "validation/loss | 0.25", 'from_pretrained("user/mine")',
        f"{hub.repositories['someone/language_model'].sha('main')} | apache-2.0 | float32",
    ):  # fmt: skip
        assert words in card, words
    local, fetched = (json.loads((tmp_path / out / "replies.json").read_text()) for out in ("local", "fetched"))
    assert local[0].pop("timings") and fetched[0].pop("timings") and local == fetched


def test_what_nobody_else_has_is_not_pushed(hub, model, backbones, tmp_path, capsys):
    from empathy_lightning.__main__ import main

    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    words = ["push", str(tmp_path / "bot"), "user/mine", "--dry_run"]
    assert main(words) == 2
    assert "nobody else has: give --backbones.speech_encoder USER/NAME" in capsys.readouterr().err
    words += ["--backbones.speech_encoder", "a/encoder@v1", "--backbones.language_model", "b/model"]
    assert main(words) == 0
    assert "| a/encoder | v1 | not recorded |" in capsys.readouterr().out
    assert main(["push", str(tmp_path / "bot"), "mine"]) == 2 and "give USER/NAME" in capsys.readouterr().err


def test_a_hub_that_cannot_be_reached_is_one_line_and_a_recognisers_card_tells_of_no_replies(hub, model, tmp_path):
    ear = whole(model.listener.speech_encoder, emotion_nuance=model.listener.emotion_nuance)
    save(tmp_path / "ear", spoken(ear, list(EMOTIONS)))
    start = ["push", str(tmp_path / "ear"), "user/mine"]
    start += ["--backbones.speech_encoder", "a/encoder@v1"]
    commands = json.dumps([start, [*start, "--dry_run"]])
    lines, told = fresh(hub, tmp_path, COMMANDS, commands, HF_ENDPOINT="http://127.0.0.1:9")
    assert lines[-1] == "[2, 0]" and len(told.splitlines()) == 1
    assert told.startswith("error: user/mine cannot be written to http://127.0.0.1:9: ")
    card = "\n".join(lines)
    assert "It does not answer" in card and "may hurt" not in card


def test_the_code_of_the_page_runs(bot, hub, backbones, tmp_path):
    page = (ROOT / "docs/how-to/hub.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    branches = hub.repositories["someone/bot"].branches
    branches["v2"] = dict(branches["main"])
    shutil.copytree(backbones / "language_model", tmp_path / "models/qwen2.5-0.5b")
    shutil.copytree(backbones / "speech_encoder", tmp_path / "models/whisper-small")
    for name in ("question", "other"):
        write(tmp_path / f"{name}.wav", 0.1 * torch.randn(16_000))
    check = "\nimport torch; assert model.responder.language_model.model.dtype == torch.bfloat16; print(reply.emotion)"
    lines, told = fresh(hub, tmp_path, code + check, EMPATHY_BACKBONES=str(tmp_path / "models"))
    assert lines[-1] in EMOTIONS and len(lines) >= 4 and "are not those" not in told
