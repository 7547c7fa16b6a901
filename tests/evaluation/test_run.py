"""``evaluate run``: manifests are answered, measured and reported, and all of it can be done again."""

import json
import os
import re
import resource
import shutil
import signal
from dataclasses import replace

import pytest
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.checkpoints import save
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.evaluation.result_folder import replies_in
from empathy_lightning.evaluation.statistics import mean, ratio
from empathy_lightning.metrics.text import chrf
from empathy_lightning.utterance import EMOTIONS, Utterance
from tests.conftest import ROOT
from tests.tiny import spoken

MEASURE = """
import json
from pathlib import Path

from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.evaluation.statistics import mean


class Length:
    '''Characters of each reply, at least ``least``.'''

    name = "length"
    needs = ()
    lower_is_better = ("characters",)
    ratios = {"mean_share": ("characters_of", "all_of")}

    def __init__(self, least: int = 0, calls: str = "calls") -> None:
        self.least, self.calls = least, Path(calls)

    def __call__(self, replies):
        with self.calls.open("a") as file:
            file.write(f"{len(replies)} ")
        rows = [{"characters": max(self.least, len(u.response)), "characters_of": len(u.response), "all_of": 7}
                for u in replies]
        own = mean([row["characters"] for row in rows])
        return Measured(rows, {"longest": max(row["characters"] for row in rows), "note": "words", "own_mean": own})


class Down:
    '''A judge that is down.'''

    name = "down"
    needs = ()

    def __call__(self, replies):
        raise InputError("the judge at 127.0.0.1 does not answer: start it")


class Broken(Down):
    '''A measure with a fault.'''

    name = "broken"

    def __call__(self, replies):
        raise KeyError("oops")


class Short(Down):
    name = "short"

    def __call__(self, replies):
        return Measured([], {})
"""


@pytest.fixture
def place(tmp_path, corpus, monkeypatch):
    """A working folder with replies of 15 questions of two suites, and a user's own measures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine_measures.py").write_text(MEASURE)
    rows = []
    for index, u in enumerate(read_manifest(corpus)[:15]):
        suite, ability = ("feelings", f"empathy/{u.emotion}") if index < 10 else (None, None)
        reply = ["I am so sorry.", "How lovely!", "Is it so?"][index % 3] + " Tell me." * (index % 2)
        facts = {"suite": suite, "ability": ability, "references": ["I am sorry.", "Oh."], "language": "en"}
        rows.append(replace(u, split="test", response=reply, response_path=u.path, **facts))
    write_manifest(tmp_path / "questions.jsonl", rows)
    return tmp_path


@pytest.fixture
def bot(model, tmp_path):
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    return "bot"


def run(*words, out="results", manifest="questions.jsonl"):
    source = (manifest,) if "--checkpoint" in words else ("--replies", manifest)
    return main(["evaluate", "run", *source, "--out", out, *words])


def metrics(out="results"):
    return json.loads(open(f"{out}/metrics.json").read())


def predictions(out="results"):
    return [json.loads(line) for line in open(f"{out}/predictions.jsonl")]


def test_replies_are_measured_by_suite_and_group(place):
    assert run("--measures", "variety", "overlap", "named_emotions", "mine_measures.Length") == 0
    replies, found = read_manifest("questions.jsonl"), metrics()["suites"]
    assert {suite: of["replies"] for suite, of in found.items()} == {"feelings": 10, "questions": 5}
    lines = predictions()
    assert [(line["id"], line["reply"], line["suite"]) for line in lines] == [
        (u.id, u.response, u.suite or "questions") for u in replies
    ]
    first = replies[:10]
    measured = found["feelings"]["measures"]
    own = [chrf([u.response], ["I am sorry."]) for u in first]
    assert [line["measures"]["overlap"]["chrf_of_reply"] for line in lines[:10]] == pytest.approx(own, abs=1e-6)
    # Intervals are drawn over speakers, of whom there are six.
    speakers = [u.speaker for u in first]
    expected = mean([round(value, 6) for value in own], speakers)
    figure = measured["overlap"]["figures"]["chrf_of_reply"]
    assert {key: figure[key] for key in expected} == expected and figure["clusters"] == 6
    assert measured["overlap"]["figures"]["chrf"] == pytest.approx(
        chrf([u.response for u in first], ["I am sorry."] * 10), abs=1e-6
    )
    lengths = [len(u.response) for u in first]
    share = ratio(lengths, [7.0] * 10, speakers)
    assert measured["length"]["figures"]["mean_share"] == share and measured["length"]["figures"]["longest"] == max(
        lengths
    )
    by = measured["length"]["groups"]
    assert set(by) == {"speaker", "ability", "emotion"}
    one = [len(u.response) for u in first if u.ability == "empathy/sad"]
    assert by["ability"]["empathy/sad"]["characters"]["value"] == pytest.approx(sum(one) / len(one))
    other = found["questions"]["measures"]["variety"]["groups"]["speaker"]
    assert set(other) == {u.speaker for u in replies[10:]} and all("distinct_1" in of for of in other.values())


def test_what_was_measured_is_not_measured_again(place, capsys):
    assert run("--measures", "mine_measures.Length") == 0
    assert run("--measures", "mine_measures.Length", "variety") == 0
    assert (place / "calls").read_text() == "10 5 " and set(metrics()["suites"]["feelings"]["measures"]) == {
        "length",
        "variety",
    }
    assert run("--measures", "mine_measures.Length", "Length.least=20") == 0
    assert (place / "calls").read_text() == "10 5 10 5 "
    assert metrics()["suites"]["feelings"]["measures"]["length"]["figures"]["characters"]["value"] >= 20
    rows = read_manifest("questions.jsonl")
    write_manifest(place / "questions.jsonl", [replace(rows[0], response="No."), *rows[1:]])
    assert run("--measures", "mine_measures.Length", "Length.least=20") == 0
    assert (place / "calls").read_text() == "10 5 10 5 10 "  # of the suite whose reply changed
    assert run("--measures", "mine_measures.Length", "Length.least=20", "--again") == 0
    assert (place / "calls").read_text() == "10 5 10 5 10 10 5 "


def test_a_measure_that_fails_leaves_the_others(place, capsys):
    assert run("--measures", "variety", "mine_measures.Down", "mine_measures.Short", "mine_measures.Length") == 1
    said = capsys.readouterr().out
    assert "missing: feelings: down: the judge at 127.0.0.1 does not answer: start it" in said
    assert "missing: questions: short: short gave 0 rows for 5 replies" in said
    assert set(metrics()["missing"]) == {
        f"{suite}: {name}" for suite in ("feelings", "questions") for name in ("down", "short")
    }
    assert set(predictions()[0]["measures"]) == {"variety", "length"}
    assert "does not answer" in (place / "results/report.html").read_text()
    # A fault is shown as one, after what the others say was written.
    (place / "results/metrics.json").unlink()
    with pytest.raises(KeyError, match="oops"):
        run("--measures", "mine_measures.Broken", "variety")
    assert metrics()["missing"].keys() == {"feelings: broken", "questions: broken"}
    assert set(predictions()[0]["measures"]) == {"variety"}


def test_a_full_disk_leaves_what_was_scored(place, capsys):
    assert run("--measures", "mine_measures.Length") == 0
    before = {path: path.read_bytes() for path in (place / "results").glob("*.*")}
    asked = ("--measures", "variety", "mine_measures.Length", "named_emotions")
    limits, signals = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # There is room for what a measure says, and none for all predictions.
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
    ended = run(*asked)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, signals)
    assert ended == 2 and "predictions.jsonl cannot be written" in capsys.readouterr().err.splitlines()[-1]
    assert {path: path.read_bytes() for path in (place / "results").glob("*.*")} == before
    kept = {path.name for path in (place / "results/measured").iterdir()}
    assert kept == {f"{name}.{suite}.json" for name in ("length", "variety", "named_emotions")
                    for suite in ("feelings", "questions")}  # fmt: skip
    assert (place / "calls").read_text() == "10 5 "
    assert run(*asked) == 0 and (place / "calls").read_text() == "10 5 "
    assert set(predictions()[0]["measures"]) == {"length", "variety", "named_emotions"}


def test_one_class_alone_has_its_recall_for_ua(place):
    rows = [replace(u, emotion="sad", response="You sound sad." if n % 4 else "Oh.", suite="s")
            for n, u in enumerate(read_manifest("questions.jsonl")[:8])]  # fmt: skip
    write_manifest(place / "questions.jsonl", rows)
    assert run("--measures", "answered_emotion", "same_words") == 0
    figures = metrics()["suites"]["s"]["measures"]["answered_emotion"]["figures"]
    assert figures["unweighted_accuracy"] == figures["weighted_accuracy"] == 0.75 and set(figures["recalls"]) == {"sad"}
    assert metrics()["suites"]["s"]["measures"]["same_words"]["figures"]["groups"] == 0


def test_a_bot_answers_and_the_folder_says_from_what(place, bot, model):
    words = (
        "--checkpoint",
        bot,
        "--max_new_tokens",
        "6",
        "--temperature",
        "1",
        "--measures",
        "variety",
        "heard_emotion",
    )
    assert run(*words) == 0
    found, lines = metrics(), predictions()
    replies = read_manifest(place / "results/replies/questions.jsonl")
    assert [line["reply"] for line in lines] == [u.response for u in replies] and len({u.response for u in replies}) > 5
    assert found["bot"]["max_new_tokens"] == 6 and len(found["bot"]["checkpoint_digest"]) == 64
    assert found["manifests"]["questions"]["digest"] and found["versions"]["torch"] == torch.__version__.split("+")[0]
    assert found["measures"][1] == {"class_path": "heard_emotion", "init_args": {}}
    main(
        [
            "evaluate",
            "emotion",
            "--checkpoint",
            bot,
            "--manifest",
            "questions.jsonl",
            "--by",
            "classifier",
            "--out",
            "e.json",
        ]
    )
    alone = json.loads((place / "e.json").read_text())
    rows = [line["measures"]["heard_emotion"] for line in lines]
    assert [row["emotion"] for row in rows] == [
        next(a["recognised"] for a in alone["answers"] if a["id"] == line["id"]) for line in lines
    ]
    by_suite = found["suites"]["questions"]["measures"]["heard_emotion"]["figures"]
    right = [row["right"] for row, line in zip(rows, lines, strict=True) if line["suite"] == "questions"]
    assert by_suite["weighted_accuracy"] == pytest.approx(sum(right) / 5) == by_suite["right"]["value"]
    assert {"unweighted_accuracy", "confusion", "calibration_error", "concordance_arousal"} <= set(by_suite)
    text = (place / "results/report.html").read_text()
    for picture in ("confusion matrix", "reliability curve", "valence, heard against rated"):
        assert f'<img alt="{picture}" src="data:image/png' in text
    assert 'aria-label="question"' in text and ">highest<" in text and "http" not in text.replace("data:", "")


def test_processes_share_the_answering_and_one_of_them_measures(place, bot, monkeypatch, capsys):
    words = ("--checkpoint", bot, "--max_new_tokens", "4", "--per_shard", "4", "--measures", "variety")
    assert run(*words, out="whole") == 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, done in (("1", False), ("0", True)):
        monkeypatch.setenv("RANK", rank)
        assert run(*words) == 0
        assert (place / "results/metrics.json").is_file() is done
    assert [line["reply"] for line in predictions()] == [line["reply"] for line in predictions("whole")]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--measures", "varietty"], "no measure is named 'varietty'; did you mean variety?"),
        (["--measures", "mine_measures.Lenght"], "mine_measures has no class Lenght; did you mean Length?"),
        (["--measures", "nowhere.Length"], "No module named 'nowhere'"),
        (["--measures", "json.JSONDecoder"], "is no measure"),
        (["--measures", "variety", "variety"], "two measures are named variety"),
        (["--measures", "variety", "variety.loud=1"], "has no argument 'loud'"),
        (["--measures", "overlap", "variety.loud=1"], "not named before it"),
        (["--measures", "empathy"], "empathy needs folder: give empathy.folder=..."),
        (["--measures", "empathy", "empathy.folder=nowhere"], "nowhere holds no empathy classifier"),
        (["--measures", "list.yaml"], "no measures at list.yaml"),
        (["--measures", "heard_emotion"], "heard_emotion needs checkpoint"),
        (["--split", "train"], "has no responses in split train"),
        (["--checkpoint", "nowhere"], "nowhere"),
        (["--cluster", "corpus"], "cluster"),
    ],
)
def test_what_cannot_be_used_is_one_line_before_the_work(place, words, told, capsys):
    assert run(*words) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ") and told in line
    assert not list(place.glob("results/*.json*"))


def test_lines_without_a_response_are_no_replies_that_vanish(place, capsys):
    rows = read_manifest("questions.jsonl")
    write_manifest("half.jsonl", [replace(u, response=None) if index < 7 else u for index, u in enumerate(rows)])
    assert run(manifest="half.jsonl") == 2
    assert "7 of 15 utterances would be lost: 7 without a response" in capsys.readouterr().err
    assert run("--allow_left_out", "0.5", manifest="half.jsonl") == 0 and len(predictions()) == 8


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("{class_path: variety, init_args: [1]}", "init_args of variety are [1]: give names and values"),
        ("{class_path: variety, suites: feelings}", "suites of variety are 'feelings': give a list of names"),
    ],
)
def test_entries_of_other_kinds_are_told_with_their_file(place, entry, told, capsys):
    (place / "list.yaml").write_text(f"- {entry}\n")
    assert run("--measures", "list.yaml") == 2
    assert f"error: list.yaml: {told}" in capsys.readouterr().err


def test_a_measure_of_a_suite_that_is_not_there_is_missing(place, capsys):
    (place / "list.yaml").write_text("- {class_path: variety, suites: [feelngs]}\n")
    assert run("--measures", "list.yaml", "overlap") == 1
    shown = capsys.readouterr().out
    assert "missing: variety: it is for feelngs, and the suites of this run are feelings, questions" in shown
    assert "variety" in metrics()["missing"]


def test_a_measure_whose_code_was_changed_measures_anew(place):
    file = place / "changing_measures.py"
    file.write_text(MEASURE)
    for times in (1, 1, 2):
        if times == 2:
            file.write_text(f"{MEASURE}# mended\n")
        assert run("--measures", "changing_measures.Length") == 0
        assert (place / "calls").read_text().split() == ["10", "5"] * times


def test_a_recording_of_the_emotion_that_was_changed_is_measured_anew(place):
    rows = read_manifest("questions.jsonl")
    shutil.copy(rows[0].path, place / "felt.wav")
    felt = str(place / "felt.wav")
    write_manifest(place / "questions.jsonl", [replace(rows[0], emotion_path=felt), *rows[1:10]])
    for times in (1, 1, 2):
        if times == 2:
            os.utime(felt, (1, 1))
        assert run("--measures", "mine_measures.Length") == 0
        assert (place / "calls").read_text().split() == ["10"] * times
    # Who measures these replies again finds it too, from wherever the folder is.
    line = predictions()[0]
    assert line["emotion_path"] == felt and line["emotion_start"] == 0 and line["emotion_end"] is None
    (again, *_) = replies_in(place / "results/predictions.jsonl")
    assert again.emotion_path == felt


def test_files_of_one_name_and_empty_ones_are_refused(place, bot, capsys):
    def _refused(*words):
        assert main(["evaluate", "run", *words, "--out", "r"]) == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    (place / "more").mkdir()
    rows = read_manifest("questions.jsonl")
    write_manifest(place / "more/questions.jsonl", rows)
    assert "have one name" in _refused("--replies", "questions.jsonl", "more/questions.jsonl")
    assert "have one name" in _refused("questions.jsonl", "more/questions.jsonl", "--checkpoint", bot)
    write_manifest(place / "others.jsonl", rows[:2])
    assert "in two manifests: give it once" in _refused("--replies", "questions.jsonl", "others.jsonl")
    line = (place / "questions.jsonl").read_text().splitlines()[0]
    (place / "twice.jsonl").write_text(f"{line}\n{line}\n")
    assert rows[0].id in _refused("--replies", "twice.jsonl")
    (place / "empty.jsonl").write_text("")
    assert "has no responses" in _refused("--replies", "empty.jsonl")
    assert "no utterance in split test" in _refused("empty.jsonl", "--checkpoint", bot)
    for words in (["questions.jsonl"], ["questions.jsonl", "--checkpoint", bot, "--replies", "others.jsonl"], []):
        assert "give --checkpoint, a bot's, or --replies" in _refused(*words)
    assert "give one manifest of questions" in _refused("--checkpoint", bot)


def test_replies_of_files_are_measured_by_what_the_questions_expect(place, capsys):
    """Another system's replies hold its words alone; all else is the questions'."""
    questions = read_manifest("questions.jsonl")
    expected = [replace(u, references=u.references if u.suite else [], raw_labels={"reply_style": "soft"})
                for u in questions]  # fmt: skip
    write_manifest("expected.jsonl", expected)
    said = [Utterance(u.id, u.corpus, "none.wav", response=u.response[::-1]) for u in reversed(questions[1:])]
    write_manifest("theirs.jsonl", [*said, Utterance("extra", "c", "none.wav", response="Who?")])
    words = ["evaluate", "run", "expected.jsonl", "--replies", "theirs.jsonl", "--measures", "overlap", "--out"]
    assert main([*words, "results"]) == 2
    assert "1 without a reply" in capsys.readouterr().err
    words = [*words[:-1], "--allow_left_out", "0.1", "--out"]
    assert main([*words, "results"]) == 0
    assert "1 of 15 questions have no reply and are left out" in capsys.readouterr().out
    lines = predictions()
    assert [(line["id"], line["reply"]) for line in lines] == [(u.id, u.response[::-1]) for u in questions[1:]]
    references = [u.references if u.suite else [u.response] for u in questions[1:]]
    assert [line["references"] for line in lines] == references and lines[0]["emotion"] == questions[1].emotion
    scores = [chrf([line["reply"]], line["references"][:1]) for line in lines]
    assert [line["measures"]["overlap"]["chrf_of_reply"] for line in lines] == pytest.approx(scores, abs=1e-6)
    # How the expected reply was spoken is not how this one was.
    assert all(line["raw_labels"] == {} for line in lines)
    assert metrics()["replies"]["theirs"]["digest"] and metrics()["manifests"]["expected"]["digest"]
    write_manifest("theirs.jsonl", [replace(said[0], id="none")])
    assert main([*words, "r"]) == 2
    assert "there is no reply to any of its questions" in capsys.readouterr().err
    write_manifest("again.jsonl", [replace(said[0])])
    write_manifest("theirs.jsonl", said[:1])
    assert main(["evaluate", "run", "expected.jsonl", "--replies", "theirs.jsonl", "again.jsonl", "--out", "r"]) == 2
    assert f"two replies to {said[0].corpus}/{said[0].id}" in capsys.readouterr().err


def test_what_a_run_answered_is_measured_again_elsewhere_without_answering(place, bot, capsys):
    words = ("--checkpoint", bot, "--max_new_tokens", "4", "--measures", "variety")
    assert run(*words) == 0
    (place / "results").rename(place / "moved")
    shutil.rmtree(place / "bot")
    facts = ("suite", "id", "reply", "cut", "references")
    for given in ("moved", "moved/predictions.jsonl", "moved/replies/questions.jsonl"):
        out = given.replace("/", "_")
        assert run("--measures", "overlap", "variety", out=f"out_{out}", manifest=given) == 0
        same, before = ([[line[name] for name in facts] for line in predictions(folder)]
                        for folder in (f"out_{out}", "moved"))  # fmt: skip
        assert len(same) == 15 and same == before
        figures = [metrics(of)["suites"]["feelings"]["measures"]["variety"] for of in ("moved", f"out_{out}")]
        assert figures[0] == figures[1]
    (place / "moved/predictions.jsonl").write_text('{"reply": "x", "measures": {}}\n')
    assert run(manifest="moved", out="r") == 2
    assert "moved/predictions.jsonl, line 1: is no prediction" in capsys.readouterr().err


def test_an_argument_without_a_measure_s_name_goes_to_all_that_have_it(place, capsys):
    (place / "two.py").write_text(
        "from mine_measures import Length\n\n\nclass Another(Length):\n    name = 'another'\n"
    )
    asked = ("--measures", "two.Another", "Another.least=30", "variety", "mine_measures.Length", "least=20")
    assert run(*asked) == 0
    found = metrics()
    assert [choice["init_args"] for choice in found["measures"]] == [{"least": 30}, {}, {"least": 20}]
    line = predictions()[0]["measures"]
    assert (line["another"]["characters"], line["length"]["characters"]) == (30, 20)
    for word, told in (
        ("loud=1", "none of these measures has an argument 'loud'"),
        ("Another.least=many", "two.Another.least is 'many': give a whole number"),
        ("Another.least.of=1", "give least=CLASS first"),
    ):
        assert run("--measures", "two.Another", word, out="r") == 2
        assert told in capsys.readouterr().err


def test_labels_of_another_task_are_counted_and_not_guessed(place, capsys):
    rows = read_manifest("questions.jsonl")[:10]
    others = [replace(u, emotion="zeal" if u.emotion == "sad" else u.emotion) for u in rows]
    write_manifest(place / "questions.jsonl", others)
    assert run("--measures", "answered_emotion") == 0
    figures = metrics()["suites"]["feelings"]["measures"]["answered_emotion"]["figures"]
    assert (figures["other_labels"], figures["utterances"]) == (2, 8) and "sad" not in figures["recalls"]
    write_manifest(place / "questions.jsonl", [replace(u, emotion="zeal") for u in rows])
    assert run("--measures", "answered_emotion", "variety") == 1
    assert "no question has one of the emotions neutral, happy" in capsys.readouterr().out


def test_measures_come_from_a_file_too(place):
    (place / "list.yaml").write_text("- variety\n- class_path: mine_measures.Length\n  init_args: {least: 9}\n")
    assert run("--measures", "list.yaml") == 0
    assert metrics()["measures"][1] == {"class_path": "mine_measures.Length", "init_args": {"least": 9}}


def test_replies_without_what_a_measure_needs_have_no_row(place, capsys):
    rows = read_manifest("questions.jsonl")
    write_manifest(
        place / "questions.jsonl", [replace(u, references=[] if int(u.id) % 2 else ["Oh."]) for u in rows[:10]]
    )
    assert run("--measures", "overlap") == 0
    assert [line["measures"]["overlap"] is None for line in predictions()] == [bool(index % 2) for index in range(10)]
    write_manifest(place / "questions.jsonl", [replace(u, references=[]) for u in rows[:10]])
    assert run("--measures", "overlap", "variety") == 1
    assert "missing: feelings: overlap: no reply has references" in capsys.readouterr().out


def test_the_measure_of_the_page(place, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/evaluation.md").read_text(), re.DOTALL)
    (place / "mine.py").write_text(example)
    assert run("--measures", "mine.Questions") == 0
    assert "| feelings | questions | asks | 0." in capsys.readouterr().out
    asks = ["?" in line["reply"] for line in predictions()]
    assert [line["measures"]["questions"]["asks"] for line in predictions()] == asks and {*asks} == {True, False}


def test_words_are_answered_without_their_recordings(place, bot):
    rows = [replace(u, path="gone.wav", response_path=None) for u in read_manifest("questions.jsonl")]
    write_manifest("typed.jsonl", rows)
    asked = ["--checkpoint", bot, "--max_new_tokens", "6"]
    assert run(*asked, "--words", "--measures", "variety", manifest="typed.jsonl") == 0
    assert main(["respond", "typed.jsonl", "--out", "typed_replies.jsonl", *asked, "--words"]) == 0
    replies = {u.id: u.response for u in read_manifest("typed_replies.jsonl")}
    assert {line["id"]: line["reply"] for line in predictions()} == replies
    assert metrics()["bot"]["words"] is True
