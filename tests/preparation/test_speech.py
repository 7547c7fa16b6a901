"""Replies are said in the style that answers the emotion: by eSpeak NG, a program, recordings that are there."""

import hashlib
import json
import re
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch
import yaml

from empathy_lightning.__main__ import main
from empathy_lightning.audio import read, write
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.jobs import seed_of
from empathy_lightning.metrics.prosody import prosody
from empathy_lightning.utterance import EMOTIONS, Utterance
from tests.conftest import ROOT

TEXT = "I hear you, tell me more about the garden."

PROGRAM = """
import struct, sys, time, wave
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
text = open(words["--text-file"], encoding="utf-8").read()
assert text == words["--text"]
if "silent" in text:
    sys.exit(0)
if "breaks" in text:
    print("warming up", file=sys.stderr)
    sys.exit("no voice today")
if "hangs" in text:
    time.sleep(60)
with wave.open(words["--out"], "wb") as file:
    file.setparams((1, 2, 22050, 0, "NONE", ""))
    step = int(words["--hertz"]) + int(words["--seed"]) % 7
    file.writeframes(b"".join(struct.pack("<h", 9000 if i * step % 22050 < 11025 else -9000) for i in range(4410)))
print("said")
"""


def rows(count=10, **fields):
    return [
        Utterance(f"a/{i}", "c", "a.wav", split="train", emotion=EMOTIONS[i % 5], response=f"{TEXT} {i}", **fields)
        for i in range(count)
    ]


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_manifest("replies.jsonl", rows())
    return Path("replies.jsonl")


def say(manifest, *more, out="spoken.jsonl"):
    return main(["prepare", "speech", str(manifest), "--out", out, *map(str, more)])


def error_of(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


def tones(file="tones.yaml", answers=None, otherwise=None, **engine):
    content = {"engine": engine, "answers": answers or {}, "otherwise": otherwise}
    Path(file).write_text(yaml.safe_dump({key: value for key, value in content.items() if value}))
    return ["--tones", file]


def program(styles=None, **more):
    Path("tts.py").write_text(PROGRAM)
    names = ("text", "text_file", "out", "hertz", "seed")
    options = [word for name in names for word in (f"--{name.replace('_', '-')}", f"{{{name}}}")]
    arguments = {"command": [sys.executable, "-SE", "tts.py", *options], "voice": "square", **more}
    arguments["styles"] = styles or {"low": {"hertz": 110}, "high": {"hertz": 330}}
    return tones(otherwise="low", answers={"happy": "high"}, class_path="Program", init_args=arguments)


def bytes_of(folder):
    files = sorted(path for path in Path().rglob("*") if path.suffix in (".wav", ".jsonl"))
    return {str(path): path.read_bytes() for path in files if str(path).startswith(folder)}


def espeak():
    pytest.importorskip("espeakng_loader")


def test_each_reply_is_said_in_the_style_that_answers_its_emotion(manifest):
    espeak()
    assert say(manifest) == 0
    said = read_manifest("spoken.jsonl")
    assert [replace(u, response_path=None, raw_labels={}, path="a.wav") for u in said] == rows()
    styles = dict(zip(EMOTIONS, ("calm", "bright", "soft", "steady", "lively"), strict=True))
    heard = {}
    for u, first in zip(said, rows(), strict=True):
        assert u.raw_labels == {
            "reply_engine": "eSpeak NG", "reply_version": u.raw_labels["reply_version"],
            "reply_voice": "gmw/en-US+klatt4", "reply_style": styles[u.emotion], "reply_seed": str(seed_of(0, first)),
        }  # fmt: skip
        heard.setdefault(u.raw_labels["reply_style"], prosody(read(u.response_path), 10))
    assert u.raw_labels["reply_version"].startswith("1.")
    # The soft voice is slower and lower than the bright one, the lively one the highest.
    assert heard["soft"]["rate"] < 0.8 * heard["bright"]["rate"]
    assert heard["soft"]["f0_mean"] < heard["calm"]["f0_mean"] < heard["lively"]["f0_mean"]
    assert heard["soft"]["f0_range"] < 0.5 * heard["lively"]["f0_range"]


def test_what_espeak_says_does_not_depend_on_what_was_said_before(manifest):
    espeak()
    # A voice whose pitch flutters at random.
    named = {"voice": "gmw/en-US+f2", "styles": {"plain": {"rate": 200}}}
    options = tones(otherwise="plain", class_path="Espeak", init_args=named)
    assert say(manifest, *options) == 0 and say(manifest, *options, "--per_shard=3", out="shards.jsonl") == 0
    write_manifest("backwards.jsonl", read_manifest(manifest)[::-1])
    assert say("backwards.jsonl", *options, out="other.jsonl") == 0

    def _samples(out):
        return {u.id: Path(u.response_path).read_bytes() for u in read_manifest(out)}

    assert _samples("spoken.jsonl") == _samples("other.jsonl") == _samples("shards.jsonl")
    assert say(manifest, *options, "--seed=1", out="seed.jsonl") == 0
    assert all(_samples("seed.jsonl")[name] != wave for name, wave in _samples("spoken.jsonl").items())


def test_a_job_that_was_stopped_ends_with_the_same_bytes(manifest, capsys):
    options = [*program(version=["echo", "1"]), "--per_shard=3"]
    assert say(manifest, *options) == 0
    whole = bytes_of("spoken")
    assert len(whole) == 11
    for path in Path().glob("spoken*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    Path("tts.py").write_text(PROGRAM.replace('"breaks"', '"garden. 4"'))
    assert say(manifest, *options) == 2
    made = {path: path.stat().st_mtime_ns for path in Path().glob("spoken.jsonl.speech/c/*.wav")}
    # One whole shard of three, and the first of the second one.
    assert len(made) == 4 and not Path("spoken.jsonl").exists() and "garden. 4" in error_of(capsys)
    Path("tts.py").write_text(PROGRAM)
    assert say(manifest, *options) == 0 and bytes_of("spoken") == whole
    assert all(path.stat().st_mtime_ns == time for path, time in made.items())
    min(made).unlink()
    assert say(manifest, *options) == 0 and bytes_of("spoken") == whole


def test_processes_share_the_shards(manifest, monkeypatch, capsys):
    options = [*program(), "--per_shard=2"]
    assert say(manifest, *options, out="alone.jsonl") == 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        assert say(manifest, *options) == 0
        assert Path("spoken.jsonl").is_file() == (rank == "1")
    there = {Path(name).name: content for name, content in bytes_of("spoken.jsonl.speech").items()}
    assert there == {Path(name).name: content for name, content in bytes_of("alone.jsonl.speech").items()}


def test_nothing_of_another_job_is_taken_or_written_over(manifest, capsys):
    options = program()
    assert say(manifest, *options) == 0
    before = bytes_of("spoken")
    for changed, name in (
        (["--seed=1"], "seed"),
        (program({"low": {"hertz": 120}, "high": {"hertz": 330}}), "tones"),
        (program(voice="round"), "tones"),
    ):
        assert say(manifest, *{"--tones": changed, "--seed": [*options, *changed]}[changed[0].split("=")[0]]) == 2
        assert f"was made from something else ({name}" in error_of(capsys)
    program()
    Path("tts.py").write_text(f"{PROGRAM}\n# newer\n")
    assert say(manifest, *options) == 2
    assert "(version changed)" in error_of(capsys)
    Path("tts.py").write_text(PROGRAM)
    write_manifest(manifest, [replace(u, response="Other words.") for u in read_manifest(manifest)])
    assert say(manifest, *options) == 2
    assert "(replies changed)" in error_of(capsys) and bytes_of("spoken") == before
    assert say(manifest, *options, "--again") == 0
    assert {u.response for u in read_manifest("spoken.jsonl")} == {"Other words."}
    # Speech that lies there without its claim may be anybody's.
    for path in (Path("spoken.jsonl"), *Path("spoken.jsonl.speech").glob("made_from.json")):
        path.unlink()
    shutil.rmtree("spoken.jsonl.shards")
    assert say(manifest, *options) == 2
    assert "spoken.jsonl.speech is there, but no made_from.json" in error_of(capsys)


def test_a_program_is_given_text_style_and_seed_and_its_sound_is_kept(manifest):
    assert say(manifest, *program()) == 0
    version = " ".join(
        f"sha256:{hashlib.sha256(Path(name).read_bytes()).hexdigest()[:16]}" for name in (sys.executable, "tts.py")
    )
    for u, row in zip(read_manifest("spoken.jsonl"), rows(), strict=True):
        style = "high" if u.emotion == "happy" else "low"
        assert u.raw_labels["reply_style"] == style and u.raw_labels["reply_voice"] == "square"
        assert u.raw_labels["reply_version"] == version
        samples, rate = soundfile.read(u.response_path, dtype="int16")
        step = {"low": 110, "high": 330}[style] + seed_of(0, row) % 7
        assert rate == 22_050 and len(samples) == 4_410
        signs = [1 if i * step % 22_050 < 11_025 else -1 for i in range(4_410)]
        assert ((samples > 0) == (torch.tensor(signs) > 0).numpy()).all()


@pytest.mark.parametrize(
    ("text", "seconds", "reason"),
    [
        ("It breaks here.", 60, "ended with code 1 at 'It breaks here.': no voice today"),
        ("It hangs here.", 0.5, "took more than 0.5 s for 'It hangs here.'"),
        ("It is silent here.", 60, "wrote no speech for 'It is silent here.': no such file"),
    ],
)
def test_a_program_that_fails_is_one_line(manifest, capsys, text, seconds, reason):
    write_manifest(manifest, [*rows(2), replace(rows(3)[2], response=text)])
    begun = time.monotonic()
    assert say(manifest, *program(seconds=seconds)) == 2
    error = error_of(capsys)
    assert reason in error and len(error) < 320 and time.monotonic() - begun < 30
    # What was said before is kept, and the job goes on where the text is mended.
    assert len(list(Path("spoken.jsonl.speech").rglob("*.wav"))) == 2 and not Path("spoken.jsonl").exists()


def test_no_shell_reads_the_text(manifest):
    text = "$(touch stolen); `touch stolen` {out} \"quoted\" 'too' -- ünïcode"
    write_manifest(manifest, [replace(rows(1)[0], response=text)])
    assert say(manifest, *program()) == 0
    assert not Path("stolen").exists() and read_manifest("spoken.jsonl")[0].response == text


def test_recordings_stay_where_they_are(manifest, capsys):
    named = {
        "class_path": "Recordings",
        "init_args": {"files": "studio/{style}/{id}.flac", "styles": ["kind", "plain"]},
    }
    options = tones(answers={"sad": "kind"}, otherwise="plain", **named)
    for row in rows():
        place = Path("studio", "kind" if row.emotion == "sad" else "plain", f"{row.id}.flac")
        place.parent.mkdir(parents=True, exist_ok=True)
        write(place, 0.1 * torch.randn(8_000, generator=torch.Generator().manual_seed(int(row.id[2:]))))
    assert say(manifest, *options) == 0
    said = read_manifest("spoken.jsonl")
    assert Path(said[2].response_path) == Path("studio/kind/a/2.flac") and not Path("spoken.jsonl.speech").exists()
    assert said[2].raw_labels == {
        "reply_engine": "recordings", "reply_voice": "studio/{style}/{id}.flac", "reply_style": "kind"
    }  # fmt: skip
    Path("studio/kind/a/2.flac").unlink()
    assert say(manifest, *options, out="other.jsonl") == 2
    assert "1 of 10 utterances would be lost: 1 no recording of the reply" in error_of(capsys)
    assert say(manifest, *options, "--allow_left_out=0.1", out="other.jsonl") == 0
    assert [u.id for u in read_manifest("other.jsonl")] == [row.id for row in rows() if row.id != "a/2"]
    write("studio/plain/a/0.flac", torch.zeros(4_000) + 0.1)
    assert say(manifest, *options, "--allow_left_out=0.1", out="other.jsonl") == 2
    assert "(recordings changed)" in error_of(capsys)


def test_a_corpus_says_its_own_transcripts(manifest):
    texts = [replace(u, transcript=f"Words {u.id}", response=None, path=f"{u.id[2:]}.wav") for u in rows(3)]
    for u in texts:
        write(u.path, 0.1 * torch.randn(8_000))
    write_manifest("corpus.jsonl", texts)
    assert say("corpus.jsonl", "--transcripts", "--tones", "recipe:speech/recorded") == 0
    for u, row in zip(read_manifest("spoken.jsonl"), texts, strict=True):
        assert u.response == u.transcript == row.transcript
        assert Path(u.response_path) == Path(u.path) == Path(row.path)


def test_a_text_file_becomes_a_manifest(manifest):
    Path("words.txt").write_text("First text.\n\n  Second text, über.\n", encoding="utf-8")
    assert say("words.txt", *program()) == 0
    first, second = read_manifest("spoken.jsonl")
    assert (first.corpus, first.transcript, second.response) == ("words", "First text.", "Second text, über.")
    assert first.path == first.response_path and Path(first.path).is_file() and second.split == "train"


def test_replies_without_words_or_tone_are_counted(manifest, capsys):
    few = rows()
    few[1].response = "..."
    few[3].emotion = "fearful"
    write_manifest(manifest, few)
    options = tones(answers=dict.fromkeys(EMOTIONS, "low"), class_path="Program", init_args=_simple())
    assert say(manifest, *options) == 2
    error = error_of(capsys)
    assert (
        "2 of 10 utterances would be lost" in error and "no style answers fearful" in error and "no response" in error
    )
    assert say(manifest, *options, "--allow_left_out=0.2") == 0
    assert len(read_manifest("spoken.jsonl")) == 8


def _simple():
    program()
    content = yaml.safe_load(Path("tones.yaml").read_text())
    return content["engine"]["init_args"]


OWN_ENGINES = """
class Mute:
    styles = ["a"]
class Plain:
    def say(self, text, style, seed): ...
class Nameless(Plain):
    styles = ["a"]
class Broken(Nameless):
    def __init__(self):
        raise OSError("no such device")
"""

OUT = "command: [sh, '{out}'"


@pytest.mark.parametrize(
    ("engine", "arguments", "table", "reason"),
    [
        ("Espeek", "", "otherwise: a", "did you mean Espeak?"),
        ("mine.Voice", "", "otherwise: a", "PYTHONPATH"),
        ("Espeak", "voic: en", "otherwise: a", "Espeak refuses its arguments"),
        ("Program", "command: [sh], styles: {a: {}}", "otherwise: a", "has no {out}"),
        ("Program", OUT + ", '{tone}'], styles: {a: {}}", "otherwise: a", "style a does not fill"),
        ("Program", "command: [no-tts, '{out}'], styles: {a: {}}", "otherwise: a", "no program no-tts"),
        ("Program", OUT + "], styles: {calm: {}}", "otherwise: clam", "did you mean calm?"),
        ("Recordings", "styles: [a]", "otherwise: a", "not both"),
        ("Recordings", "column: units, styles: [a]", "otherwise: a", "column is path or response_path"),
        ("Recordings", "column: path, styles: [a]", "answers: {}", "answers gives no emotion a style"),
        ("Recordings", "column: path, styles: [a]", "answer: {sad: a}", "did you mean answers?"),
        ("Recordings", "column: path, styles: [a]", "answers: {sadd: a}", "sadd is no emotion word, and no utterance"),
        ("Recordings", "column: path, styles: [a]", "answers: {sad: a, Sadness: a}", "answers names sad twice"),
        ("own_engine.Mute", "", "otherwise: a", "has no say("),
        ("own_engine.Plain", "", "otherwise: a", "has no styles"),
        ("own_engine.Nameless", "", "otherwise: a", "has no identity()"),
        ("own_engine.Broken", "", "otherwise: a", "Broken refuses its arguments: no such device"),
        ("Piper", "voice: none.onnx, styles: {a: {}}", "otherwise: a", "iper"),
    ],
)
def test_a_wrong_table_is_one_line(manifest, monkeypatch, capsys, engine, arguments, table, reason):
    Path("own_engine.py").write_text(OWN_ENGINES)
    monkeypatch.syspath_prepend(".")
    monkeypatch.delitem(sys.modules, "own_engine", raising=False)
    Path("tones.yaml").write_text(f"{{engine: {{class_path: {engine}, init_args: {{{arguments}}}}}, {table}}}")
    assert say(manifest, "--tones=tones.yaml") == 2
    error = error_of(capsys)
    assert error.startswith("error: tones.yaml") and reason in error and not list(Path().glob("spoken*"))


def test_a_label_of_the_manifest_s_own_may_be_answered(manifest):
    few = rows(4)
    few[1].emotion = "wistfully odd"
    write_manifest(manifest, few)
    program()
    content = yaml.safe_load(Path("tones.yaml").read_text())
    Path("tones.yaml").write_text(yaml.safe_dump({**content, "answers": {"wistfully odd": "high"}}))
    assert say(manifest, "--tones=tones.yaml") == 0
    said = [u.raw_labels["reply_style"] for u in read_manifest("spoken.jsonl")]
    assert said == ["low", "high", "low", "low"]
    assert say(manifest, "--tones=tones.yaml", "--train=-1", out="other.jsonl") == 2


@pytest.mark.parametrize(("content", "reason"), [("engin: {}", "names no engine"), ("[", "no YAML")])
def test_what_is_no_table_is_one_line(manifest, capsys, content, reason):
    Path("tones.yaml").write_text(content)
    assert say(manifest, "--tones=tones.yaml") == 2
    assert reason in error_of(capsys)


def test_espeak_s_voice_and_styles_are_checked(manifest, capsys):
    espeak()
    named = {"class_path": "Espeak", "init_args": {"voice": "gmw/en-US", "styles": {"a": {"rat": 100}}}}
    assert say(manifest, *tones(otherwise="a", **named)) == 2
    assert "style a has no rat" in (error := error_of(capsys)) and "did you mean rate?" in error
    named["init_args"] = {"voice": "gmw/nowhere", "styles": {"a": {}}}
    assert say(manifest, *tones(otherwise="a", **named)) == 2
    assert "no voice named 'gmw/nowhere'" in error_of(capsys)


def test_the_engine_of_the_page_speaks(manifest, monkeypatch):
    page = (ROOT / "docs/how-to/expressive-speech.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    *others, table = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    Path("my_voice.py").write_text(code)
    Path("tones.yaml").write_text(table)
    monkeypatch.syspath_prepend(str(Path().absolute()))
    assert say(manifest, "--tones=tones.yaml") == 0
    spoken = read_manifest("spoken.jsonl")[0]
    assert spoken.raw_labels["reply_voice"] == "200 Hz" and spoken.raw_labels["reply_style"] == "hum"
    assert abs(prosody(read(spoken.response_path), 1)["f0_mean"] - 200) < 8
    espeak()
    for table in others:
        Path("tones.yaml").write_text(table)
        assert say(manifest, "--tones=tones.yaml", out="other.jsonl") == 0


def test_other_words_forget_how_the_earlier_ones_were_spoken(manifest, backbones):
    assert say(manifest, *program()) == 0
    write_manifest("asked.jsonl", [replace(u, transcript="hello") for u in read_manifest("spoken.jsonl")])
    words = ["--language_model", str(backbones / "language_model"), "--max_new_tokens=2", "--refusals=off"]
    assert main(["prepare", "responses", "asked.jsonl", "--out=new.jsonl", *words]) == 0
    for u in read_manifest("new.jsonl"):
        assert u.response_path is None and u.raw_labels == {}
    assert json.loads(Path("spoken.jsonl").read_text().splitlines()[0])["raw_labels"]["reply_style"]


def test_so_many_training_replies_are_said_and_all_others(manifest):
    write_manifest(manifest, [replace(u, split="test" if i > 7 else "train") for i, u in enumerate(rows())])
    assert say(manifest, *program(), "--train=2") == 0
    assert [u.id for u in read_manifest("spoken.jsonl")] == ["a/0", "a/1", "a/8", "a/9"]


def test_all_other_fields_are_those_of_the_manifest_as_it_is_now(manifest):
    assert say(manifest, *program()) == 0
    write_manifest(manifest, [replace(u, speaker="anna", raw_labels={"own": "label"}) for u in rows()])
    assert say(manifest, *program()) == 0
    for u in read_manifest("spoken.jsonl"):
        assert u.speaker == "anna" and u.raw_labels["own"] == "label" and u.raw_labels["reply_style"]


def users(drawn=None):
    """Several voices side by side, drawn by split."""
    Path("tts.py").write_text(PROGRAM)
    names = ("text", "text_file", "out", "hertz", "seed")
    options = [word for name in names for word in (f"--{name.replace('_', '-')}", f"{{{name}}}")]

    def _voice(**styles):
        arguments = {"command": [sys.executable, "-SE", "tts.py", *options], "voice": "square", "styles": styles}
        return {"class_path": "Program", "init_args": arguments}

    engines = {"anna": _voice(low={"hertz": 110}, high={"hertz": 330}), "ben": _voice(own={"hertz": 90})}
    engine = {"class_path": "Ensemble", "init_args": {"engines": engines}}
    drawn = drawn or {"train": ["anna/low", "anna/high"], "test": ["ben/own"]}
    Path("users.yaml").write_text(yaml.safe_dump({"engine": engine, "drawn": drawn}))
    return ["--tones", "users.yaml", "--users"]


def test_what_users_say_becomes_their_recording_in_voices_held_out_by_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = [
        Utterance(f"{i}", "q", "unspoken/x.wav", split="test" if i > 7 else "train", transcript=f"Who is {i}?")
        for i in range(10)
    ]
    asked[0] = replace(asked[0], response="Nobody.", response_cut=True)
    write_manifest("asked.jsonl", asked)
    assert say("asked.jsonl", *users()) == 0
    said = read_manifest("spoken.jsonl")
    assert {u.speaker for u in said[:8]} == {"anna/low", "anna/high"} and {u.speaker for u in said[8:]} == {"ben/own"}
    assert [(u.transcript, u.response, u.response_cut) for u in said] == [
        (u.transcript, u.response, u.response_cut) for u in asked
    ]
    for u in said:
        assert u.response_path is None and len(read(u.path)) == 3200
        assert u.raw_labels["user_style"] == u.speaker and u.raw_labels["user_engine"].startswith("python")
    whole_run = bytes_of("spoken")
    Path("spoken.jsonl").unlink()
    assert say("asked.jsonl", *users()) == 0 and bytes_of("spoken") == whole_run


def test_texts_are_said_by_users_who_expect_no_reply_yet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("asked.txt").write_text("Who is it?\n\nWhere?\n")
    assert say("asked.txt", *users()) == 0
    said = read_manifest("spoken.jsonl")
    assert [u.transcript for u in said] == ["Who is it?", "Where?"]
    for u in said:
        assert u.response is None and u.response_path is None and len(read(u.path)) == 3200


def test_voices_that_are_not_there_and_splits_without_any_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_manifest("asked.jsonl", [Utterance("1", "q", "a.wav", split="validation", transcript="Who is it?")])
    assert say("asked.jsonl", *users({"train": ["anna/loud"]})) == 2
    assert "no style anna/loud; there are anna/high, anna/low, ben/own" in error_of(capsys)
    assert say("asked.jsonl", *users({"valid": ["ben/own"]})) == 2
    assert "no split is named 'valid'" in error_of(capsys)
    assert say("asked.jsonl", *users()) == 2
    assert "no style" in error_of(capsys)
    assert say("asked.jsonl", "--transcripts", *users()) == 2
    assert "not both" in error_of(capsys)
