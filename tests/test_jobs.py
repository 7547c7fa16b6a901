"""Jobs that are stopped and go on: with the date they began with, and never with another model's or recording's."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import chat_template_utils

from empathy_lightning.__main__ import main
from empathy_lightning.audio import read
from empathy_lightning.checkpoints import save
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.digests import digest, folder_digest
from empathy_lightning.errors import InputError
from empathy_lightning.jobs import Claim, settled
from empathy_lightning.listener import Listener
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.preparation import answers
from empathy_lightning.utterance import EMOTIONS
from tests.conftest import ROOT
from tests.tiny import spoken, whole


@pytest.fixture
def dated(backbones, tmp_path):
    """A language model whose template puts today's date into the prompt, as Llama 3.1's does."""
    folder = Path(shutil.copytree(backbones / "language_model", tmp_path / "dated"))
    template = folder / "chat_template.jinja"
    template.write_text("Today is {{ strftime_now('%d %b %Y') }}. " + template.read_text())
    return folder


@pytest.fixture
def bot(backbones, dated, tmp_path):
    language_model = LanguageModel.from_pretrained(str(dated))
    encoder = SpeechEncoder.from_pretrained(str(backbones / "speech_encoder"))
    parts = (SpeechAdapter(32, 32, hidden_size=48), language_model, EmotionNuance(32, 32, hidden_size=48, gate_size=8))
    save(tmp_path / "bot", spoken(whole(encoder, *parts).eval(), list(EMOTIONS)))
    return tmp_path / "bot"


@pytest.fixture
def today(monkeypatch):
    """Sets the date that templates are told; a step in days is made at each look."""

    def _set(day, step=0):
        class Date:
            now = staticmethod(lambda: Date)
            seen = 0

            @staticmethod
            def strftime(_):
                Date.seen += 1
                return f"{day + step * Date.seen} Nov 2026"

        monkeypatch.setattr(chat_template_utils, "datetime", Date)

    return _set


@pytest.fixture(params=["prepare responses", "respond"])
def command(request, bot, dated, corpus, tmp_path):
    """Answer 8 utterances in shards of 2."""
    manifest = tmp_path / "in.jsonl"
    write_manifest(manifest, read_manifest(corpus)[:8])

    def _run(name, *more):
        files = [*request.param.split(), str(manifest), "--out", str(tmp_path / name)]
        model = {"respond": ["--checkpoint", str(bot), "--split", "all"]}.get(
            request.param, ["--language_model", str(dated), "--refusals", "off"]
        )
        return main([*files, *model, "--per_shard=2", "--batch_size=2", "--max_new_tokens=4", *more])

    return _run


@pytest.fixture
def asked(monkeypatch):
    """Digests of the prompts' embeddings, batch by batch."""
    prompts, real = [], LanguageModel.generate

    def _generate(self, embeddings, *args, **options):
        prompts.append(hashlib.sha256(embeddings.numpy().tobytes()).hexdigest())
        return real(self, embeddings, *args, **options)

    monkeypatch.setattr(LanguageModel, "generate", _generate)
    return prompts


def shards(folder):
    return {path.name: path.read_bytes() for path in folder.glob("part-*")}


def rendering(folder):
    (path,) = folder.glob("settled-*.json")
    return path.read_text()


def stop_after(monkeypatch, count):
    left = iter(range(count))

    def _write(path, rows):
        next(left)
        write_manifest(path, rows)

    monkeypatch.setattr(answers, "write_manifest", _write)


def test_a_job_goes_on_with_the_date_it_began_with(command, asked, today, monkeypatch, tmp_path):
    today(1)
    assert command("whole.jsonl") == 0
    prompts = asked[:]
    asked.clear()
    whole = shards(tmp_path / "whole.jsonl.shards")
    with monkeypatch.context() as patched, pytest.raises(StopIteration):
        stop_after(patched, 1)
        command("stopped.jsonl")
    assert len(shards(tmp_path / "stopped.jsonl.shards")) == 1
    today(2)
    assert command("stopped.jsonl") == 0
    assert shards(tmp_path / "stopped.jsonl.shards") == whole and len(whole) == 4
    # The batch in which it was stopped was asked twice.
    assert asked[:2] + asked[3:] == prompts and asked[2] == asked[1]
    asked.clear()
    assert rendering(tmp_path / "stopped.jsonl.shards") == rendering(tmp_path / "whole.jsonl.shards")
    # A job that begins on another day asks otherwise, and one that began by mistake may begin again.
    assert command("tomorrow.jsonl") == 0
    assert not set(asked) & set(prompts)
    assert rendering(tmp_path / "tomorrow.jsonl.shards") != rendering(tmp_path / "whole.jsonl.shards")
    assert command("whole.jsonl", "--again") == 0
    assert rendering(tmp_path / "whole.jsonl.shards") == rendering(tmp_path / "tomorrow.jsonl.shards")


def test_midnight_within_a_job_changes_nothing(command, asked, today, tmp_path):
    today(0, step=1)  # Each look at the clock sees another day.
    assert command("long.jsonl") == 0
    prompts, settled = asked[:], rendering(tmp_path / "long.jsonl.shards")
    for day in range(1, 20):
        today(day)
        asked.clear()
        assert command(f"{day}.jsonl") == 0
        if rendering(tmp_path / f"{day}.jsonl.shards") == settled:
            break
    assert asked == prompts and shards(tmp_path / "long.jsonl.shards") == shards(tmp_path / f"{day}.jsonl.shards")


def test_another_language_model_of_the_same_name_is_refused(command, dated, tmp_path, capsys):
    assert command("out.jsonl") == 0
    assert command("out.jsonl") == 0
    held = (tmp_path / "out.jsonl").read_bytes()
    weights = load_file(dated / "model.safetensors")
    save_file({name: value + 0.1 for name, value in weights.items()}, dated / "model.safetensors", {"format": "pt"})
    assert command("out.jsonl") == 2
    assert "(language_model changed)" in capsys.readouterr().err and (tmp_path / "out.jsonl").read_bytes() == held
    assert command("out.jsonl", "--again") == 0


def test_a_recording_that_was_changed_is_answered_anew(bot, corpus, tmp_path, monkeypatch):
    rows = read_manifest(corpus)[:4]
    for row in rows:
        row.path = shutil.copyfile(row.path, str(tmp_path / f"{row.id}.wav"))
    write_manifest(tmp_path / "in.jsonl", rows)
    words = ["respond", str(tmp_path / "in.jsonl"), "--checkpoint", str(bot), "--split", "all", "--max_new_tokens=4"]
    assert main([*words, "--out", str(tmp_path / "out.jsonl")]) == 0
    louder = 2 * read(rows[2].path).flip(0)
    soundfile.write(rows[2].path, louder.clamp(-1, 1).numpy(), 16_000)
    asked = []
    real = Listener.forward
    monkeypatch.setattr(Listener, "forward", lambda self, batch: asked.append(len(batch.lengths)) or real(self, batch))
    assert main([*words, "--out", str(tmp_path / "out.jsonl")]) == 0
    assert asked == [1]
    monkeypatch.setattr(Listener, "forward", real)
    assert main([*words, "--out", str(tmp_path / "new.jsonl")]) == 0
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "new.jsonl").read_bytes()


def test_a_claim_that_is_written_before_its_output_promises_nothing(tmp_path):
    out = tmp_path / "out.txt"
    Claim(out, {"a": (1, 2)}).write()
    assert not Claim(out, {"a": 3}).is_met()
    out.write_text("of (1, 2)")
    assert Claim(out, {"a": [1, 2]}).is_met() and Claim(out, {"a": [1, 2], "b": None}).is_met()
    with pytest.raises(InputError, match=r"\(a, b changed\)"):
        Claim(out, {"a": 3, "b": 0}).is_met()
    with pytest.raises(InputError, match=r"\(a changed\)"):
        Claim(out, {}).is_met()
    assert not Claim(out, {"a": 3}).is_met(again=True) and not out.exists()


def test_again_is_for_one_process(command, tmp_path, monkeypatch, capsys):
    (tmp_path / "part-0").write_text("")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="single process"):
        Claim(tmp_path, {}, "part-*").is_met(again=True)
    assert (tmp_path / "part-0").exists()
    monkeypatch.delenv("WORLD_SIZE")
    assert command("out.jsonl") == 0
    held = {path: path.read_bytes() for path in tmp_path.glob("out*/*")}
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert command("out.jsonl", "--again") == 2 and "single process" in capsys.readouterr().err
    assert (tmp_path / "out.jsonl").exists() and held == {path: path.read_bytes() for path in tmp_path.glob("out*/*")}


def test_the_first_process_settles_for_all(tmp_path, monkeypatch):
    assert settled(tmp_path, "date", lambda: [1]) == [1]
    monkeypatch.setenv("RANK", "1")
    assert settled(tmp_path, "date", lambda: [2]) == [1]

    def _while_another_writes():
        assert settled(tmp_path, "late", lambda: [3]) == [3]
        return [4]

    assert settled(tmp_path, "late", _while_another_writes) == [3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["settled-date.json", "settled-late.json"]


def test_other_weights_in_a_large_file_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("empathy_lightning.digests._WHOLE", 1_000)
    monkeypatch.setattr("empathy_lightning.digests._BLOCK", 10)
    generator = torch.Generator().manual_seed(0)
    for name in ("a.pt", "b.pt"):
        (tmp_path / name).write_bytes(bytes(torch.randint(256, (5_000,), generator=generator).tolist()))
    shutil.copyfile(tmp_path / "a.pt", tmp_path / "copy.pt")
    assert digest(tmp_path / "a.pt") == digest(tmp_path / "copy.pt") != digest(tmp_path / "b.pt")
    for at in (0, 4_999):
        content = bytearray((tmp_path / "a.pt").read_bytes())
        content[at] ^= 1
        (tmp_path / "copy.pt").write_bytes(content)
        assert digest(tmp_path / "a.pt") != digest(tmp_path / "copy.pt")


def test_the_demo_skips_only_what_was_made_from_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "examples")
    sys.modules.pop("demo", None)
    import demo

    monkeypatch.chdir(tmp_path)
    config = tmp_path / "stage.yaml"
    config.write_text("a: 1")
    steps = [("corpus.jsonl", ["demo", "corpus"]), ("s/training.json", ["fit", "--config", str(config)])]
    last = Path("logs/s/last.ckpt")
    last.parent.mkdir(parents=True)
    Path("s").mkdir()
    last.write_text("of another job")
    monkeypatch.setattr(demo, "STEPS", steps)
    monkeypatch.setattr(demo, "OUT", ".")
    monkeypatch.setattr(demo, "show", lambda path: None)
    ran, corpus = [], ["first"]

    def _main(words):
        words = words[1:] if words[0] == "demo" else words
        ran.append("go on" if words[0] == "fit" and last.exists() else words[0])
        if corpus[0] == "stopped" and ran[-1] == "fit":
            last.parent.mkdir(parents=True, exist_ok=True)
            last.write_text("of this job")
            raise KeyboardInterrupt
        outputs = {"corpus": "corpus.jsonl", "fit": "s/training.json", "evaluate": "report.html"}
        content = corpus[0] if words[0] == "corpus" else f"{words[0]} {len(ran)}"
        Path(outputs[words[0]]).write_text(json.dumps(content))
        return 0

    monkeypatch.setattr(demo, "main", _main)
    monkeypatch.setattr(demo.subprocess, "call", lambda command: _main(command[3:]))
    demo.demo(again=False)
    told = capsys.readouterr().out
    assert "ten to 25 minutes" in told.splitlines()[0] and "empathy-lightning serve ./speech_decoder" in told
    demo.demo(again=False)
    assert ran == ["corpus", "fit", "evaluate", "corpus"]
    for change in (lambda: config.write_text("a: 2"), lambda: corpus.__setitem__(0, "second")):
        change()
        with pytest.raises(InputError, match=r"training\.json was made from something else"):
            demo.demo(again=False)
        ran.clear()
        demo.demo(again=True)
        assert ran == ["corpus", "fit", "evaluate"] and not last.exists()
    corpus[0] = "stopped"
    with pytest.raises(KeyboardInterrupt):
        demo.demo(again=True)
    ran.clear()
    demo.demo(again=False)
    assert ran == ["corpus", "go on", "evaluate"]


def test_a_change_anywhere_in_a_large_manifest_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("empathy_lightning.digests._WHOLE", 1_000)
    monkeypatch.setattr("empathy_lightning.digests._BLOCK", 10)
    content = bytearray(b"sad," * 2_500)
    (tmp_path / "m.jsonl").write_bytes(content)
    before = digest(tmp_path / "m.jsonl")
    for at in range(0, len(content), 997):
        content[at] ^= 1
        (tmp_path / "m.jsonl").write_bytes(content)
        assert digest(tmp_path / "m.jsonl") != before
        content[at] ^= 1


def test_a_model_in_a_subfolder_is_part_of_a_folder(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "model.safetensors").write_bytes(b"one")
    before = folder_digest(tmp_path)
    (tmp_path / "inside" / "model.safetensors").write_bytes(b"two")
    assert folder_digest(tmp_path) != before
