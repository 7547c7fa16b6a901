"""Suites through the command that makes manifests of them, from fakers in their official forms."""

import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

from empathy_lightning.__main__ import main
from empathy_lightning.audio import AudioError, read
from empathy_lightning.checkpoints import save
from empathy_lightning.data import read_manifest
from empathy_lightning.data.manifest import valid
from empathy_lightning.digests import recordings_digest
from empathy_lightning.evaluation import measures
from empathy_lightning.evaluation.measures.exists_match import ExistsMatch
from empathy_lightning.evaluation.suites import SUITES
from empathy_lightning.evaluation.suites.asking import letter_of, options_of
from empathy_lightning.utterance import EMOTIONS
from tests.conftest import ROOT
from tests.corpora.noise import noise
from tests.suites import (
    echo_mind,
    humdial_eibench,
    parquet,
    sd_eval,
    speech_alpaca,
    spoken_questions,
    style_talk,
    uro_bench,
    voicebench,
    vstyle,
)
from tests.tiny import spoken

WRITERS = {
    "llama_questions": (spoken_questions.llama_questions, 2), "trivia_qa": (spoken_questions.trivia_qa, 6),
    "speech_alpaca": (speech_alpaca.write, 3), "vstyle_empathy": (vstyle.write, 4), "voicebench": (voicebench.write, 9),
    "uro_bench": (uro_bench.write, 11), "sd_eval": (sd_eval.write, 6), "style_talk": (style_talk.write, 2),
    "humdial_eibench": (humdial_eibench.write, 2), "echo_mind": (echo_mind.write, 7),
}  # fmt: skip
ODD = {
    "speech_alpaca": (4, ["no audio file", "not JSON", "not a JSON object"]), "vstyle_empathy": (4, ["no audio file"]),
    "voicebench": (9, ["not a Parquet file"]), "uro_bench": (10, ["no audio file"]), "sd_eval": (7, ["no audio file"]),
    "style_talk": (2, ["no audio file"]), "humdial_eibench": (2, ["no single audio file", "no answer among"]),
    "echo_mind": (7, ["no audio file", "no answer among the options"]),
}  # fmt: skip


def prepared(name, root, *more):
    out = root / "questions.jsonl"
    assert main(["prepare", "suite", name, str(root), "--out", str(out), *more]) == 0
    return {question.id: question for question in read_manifest(out)}


@pytest.mark.parametrize("name", WRITERS)
def test_every_question_of_the_official_form_is_read(name, tmp_path, capsys):
    write, count = WRITERS[name]
    write(tmp_path)
    found = prepared(name, tmp_path)
    assert len(found) == count and f"{count} questions in" in capsys.readouterr().out
    assert valid(found.values(), "the suite") == list(found.values())
    for question in found.values():
        assert (question.suite, question.split) == (name, "test") and question.ability
        assert question.response is None and len(read(question.path)) > 1000
        assert question.prompt is None or "{speech}" in question.prompt


@pytest.mark.parametrize("name", ODD)
def test_what_does_not_fit_is_counted_and_stops_above_the_limit(name, tmp_path, capsys):
    count, reasons = ODD[name]
    WRITERS[name][0](tmp_path, odd=True)
    words = ["prepare", "suite", name, str(tmp_path), "--out", str(tmp_path / "questions.jsonl")]
    assert main(words) == 2
    assert "--allow_left_out" in capsys.readouterr().err and not (tmp_path / "questions.jsonl").exists()
    assert len(prepared(name, tmp_path, "--allow_left_out", "0.7")) == count
    said = capsys.readouterr().err
    assert all(reason in said for reason in reasons)


def test_the_list_states_the_facts_of_every_suite(capsys):
    assert main(["evaluate", "suites"]) == 0
    said = capsys.readouterr().out
    for name, suite in SUITES.items():
        assert f"\n{name} " in f"\n{said}" and suite.licence in said and suite.scoring in said
        assert all((suite.title, suite.source, suite.access, suite.citation, suite.languages))
        assert suite.unconfirmed in said


def test_what_is_there_is_kept_and_never_another_suites(tmp_path, capsys):
    spoken_questions.llama_questions(tmp_path)
    prepared("llama_questions", tmp_path)
    written = (tmp_path / "questions.jsonl").read_bytes()
    prepared("llama_questions", tmp_path)
    assert "made from the same" in capsys.readouterr().out
    voicebench.write(tmp_path / "other")
    words = ["prepare", "suite", "voicebench", str(tmp_path / "other"), "--out", str(tmp_path / "questions.jsonl")]
    assert main(words) == 2
    assert "made from something else" in capsys.readouterr().err
    assert (tmp_path / "questions.jsonl").read_bytes() == written


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["llama_question", "."], "did you mean llama_questions?"),
        (["llama_questions", "nowhere"], "download the Parquet files of https://"),
        (["llama_questions", "empty"], "no file fits"),
    ],
)
def test_bad_choices_are_one_line(words, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["prepare", "suite", *words, "--out", "q.jsonl"]) == 2
    assert reason in capsys.readouterr().err.strip().splitlines()[-1]
    assert main(["prepare", "suite", *words, "--out", "q.txt"]) == 2


def test_spoken_questions_have_their_answers(tmp_path):
    found = prepared("trivia_qa", spoken_questions.trivia_qa(tmp_path))
    assert [u.references for u in found.values()] == [["Elgar", "Sir Edward Elgar"]] * 6
    assert [u.transcript for u in found.values()] == ["Which one, 0?"] * 3 + ["Which one, 1?"] * 3
    # The row that the path names is the row of the words: the faker's recordings grow by a tenth of a second.
    assert [round(len(read(u.path)) / 1600) for u in found.values()] == [2, 3, 4, 2, 3, 4]


def test_a_bot_answers_a_suite_and_is_measured(model, tmp_path):
    """From the hub's Parquet files to figures; what it hears are the rows' recordings."""
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    prepared("trivia_qa", spoken_questions.trivia_qa(tmp_path / "suite"))
    words = ["respond", str(tmp_path / "suite/questions.jsonl"), "--checkpoint", str(tmp_path / "bot")]
    assert main([*words, "--max_new_tokens", "6", "--temperature", "1", "--out", str(tmp_path / "r.jsonl")]) == 0
    replies = read_manifest(tmp_path / "r.jsonl")
    assert [(u.suite, u.references) for u in replies] == [("trivia_qa", ["Elgar", "Sir Edward Elgar"])] * 6
    assert len({u.response for u in replies}) > 1
    assert ExistsMatch()(replies).figures == {"replies": 6, "correct": 0}
    knowing = [replace(u, response=f"{u.response} elgar!") for u in replies]
    assert ExistsMatch()(knowing).figures == {"replies": 6, "correct": 1}
    # Another recording under the same name is another question.
    state = recordings_digest([u.path for u in replies], tmp_path)
    next((tmp_path / "suite").rglob("*.parquet")).touch()
    assert recordings_digest([u.path for u in replies], tmp_path) != state
    (tmp_path / "suite").rename(tmp_path / "moved")
    assert all(len(read(u.path)) for u in read_manifest(tmp_path / "moved/questions.jsonl"))


def test_a_question_without_an_answer_is_lost(tmp_path, capsys):
    found = prepared("web_questions", spoken_questions.web_questions(tmp_path), "--allow_left_out", "0.4")
    assert {key: u.references for key, u in found.items()} == {"00001": ["English", "French"], "00003": ["Norway"]}
    assert "no answer in the column answers" in capsys.readouterr().err


def test_a_row_of_the_hub_without_its_audio_says_so(tmp_path):
    path = parquet.write(tmp_path / "a.parquet", {"prompt": ["?", "!", "."]}, [None, b"no sound", parquet.wav()])
    assert len(read(f"file://{path}#2")) == 4800
    with pytest.raises(AudioError, match="row 0 holds no audio"):
        read(f"file://{path}#0")
    with pytest.raises(AudioError, match="damaged"):
        read(f"file://{path}#1")
    with pytest.raises(AudioError, match="no row 3"):
        read(f"file://{path}#3")


def test_speech_alpaca_takes_its_tones_for_emotions(tmp_path):
    found = prepared("speech_alpaca", speech_alpaca.write(tmp_path))
    assert [u.emotion for u in found.values()] == ["happy", "angry", "sad"]
    assert found["00003-en-US-JasonNeural-cheerful"].transcript.startswith("Come up with")


def test_vstyle_reads_empathy_alone_in_both_languages(tmp_path):
    found = prepared("vstyle_empathy", vstyle.write(tmp_path))
    assert {u.ability: (u.emotion, u.language) for u in found.values()} == {
        "empathy/joy_excitement": ("happy", "zh"), "empathy/anger": ("angry", "en"),
        "empathy/sadness_disappointment": ("sad", "en"), "empathy/anxiety_fear": ("fearful", "en"),
    }  # fmt: skip


def test_each_subset_of_voicebench_is_an_ability(tmp_path, capsys):
    found = prepared("voicebench", voicebench.write(tmp_path))
    assert {u.ability for u in found.values()} == {
        "alpacaeval",
        "openbookqa",
        "sd-qa/usa",
        "sd-qa/ind_n",
        "advbench",
        "bbh",
        "ifeval",
    }
    assert found["openbookqa-00002"].references == ["B"] and found["advbench-00001"].references == []
    assert found["sd-qa-usa-00001"].references == ["1936"]
    assert "questions of several turns" in capsys.readouterr().err


def test_uro_bench_reads_its_sets_on_emotion(tmp_path):
    found = prepared("uro_bench", uro_bench.write(tmp_path))
    assert found["UnderEmotion-en-1"].references == ["I'm sorry.", "That hurts."]
    assert [found[f"UnderEmotion-zh-{n}"].emotion for n in (0, 1)] == ["hopeful", "sad"]
    assert found["UnderEmotion-zh-0"].language == "zh" and found["GenEmotion-en-0"].emotion is None


def test_sd_eval_keeps_speakers_and_replies(tmp_path):
    found = prepared("sd_eval", sd_eval.write(tmp_path))
    assert {u.speaker for u in found.values()} == {"Actor_01", "Actor_02", "W009", "female1"}
    angry = found["MEAD/MEAD_wav/W009/audio/angry/level_1/001"]
    assert angry.emotion == "angry" and angry.references == [sd_eval.REPLIES["angry"], "Oh?"]
    assert angry.raw_labels["reply_emotions"] == "neutral, joy"


def test_style_talk_keeps_the_turns_before_as_labels(tmp_path):
    found = prepared("style_talk", style_talk.write(tmp_path))
    cheerful = found["health_306/c_1"]
    assert cheerful.transcript == "It is hard to keep it up, though." and cheerful.references == [
        "I hope to make it last!"
    ]
    assert cheerful.emotion == "happy" and found["health_306/c_0"].emotion == "unfriendly"
    assert cheerful.raw_labels["context"].startswith("A : I've") and cheerful.raw_labels["curr_speed"] == "fast"


def test_humdial_asks_the_second_turn_with_a_feeling_and_multiple_choice(tmp_path, capsys):
    found = prepared("humdial_eibench", humdial_eibench.write(tmp_path))
    reply, choice = found["task3/en-d1"], found["task4/zh/conflict-1"]
    assert (reply.ability, reply.transcript, reply.emotion) == ("T3 reply", "Turn 2.", "angry")
    assert (choice.ability, choice.references, choice.language) == ("T4 conflict", ["B"], "zh")
    assert choice.prompt.startswith("{speech}\n") and "A. 高兴\nB. 难过" in choice.prompt
    assert choice.raw_labels == {"option A": "高兴", "option B": "难过"}
    assert "no second turn" in capsys.readouterr().err


def test_echo_mind_has_deliveries_and_choices(tmp_path):
    found = prepared("echo_mind", echo_mind.write(tmp_path))
    deliveries = {u.ability: u.emotion for u in found.values() if u.session == "synthesis-id_1"}
    assert deliveries == {"reply/target": "happy", "reply/neutral": "neutral", "reply/alternative": None}
    assert "synthesis-id_2-neutral" not in found and found["synthesis-id_2-target"].emotion is None
    assert found["synthesis-understanding-q1"].references == ["B"] == found["synthesis-reasoning-q1"].references


def test_the_recording_stands_in_a_choice_as_the_bot_asks_for_it(tmp_path, capsys):
    told = "{speech}(with a {emotion} emotional tone)."
    found = prepared("echo_mind", echo_mind.write(tmp_path), "--speech", told)
    prompts = [u.prompt for u in found.values() if u.prompt]
    assert len(prompts) == 2 and all(prompt.startswith(f"{told}\n") for prompt in prompts)
    words = ["prepare", "suite", "echo_mind", str(tmp_path), "--out", str(tmp_path / "q.jsonl"), "--speech", "hello"]
    assert main(words) == 2
    assert "no {speech} in it" in capsys.readouterr().err


MINE = """
from empathy_lightning.evaluation.suites import Suite
from empathy_lightning.utterance import Utterance


class Riddles(Suite):
    name, access = "riddles", "Ask me."

    def read(self, folder):
        for path in self.audio(folder):
            yield Utterance(path.stem, self.name, str(path), ability="riddles", references=["egg"])
"""


def test_a_suite_of_ones_own_is_named_by_its_class(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_suite.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    noise(tmp_path / "one.wav")
    assert prepared("my_suite.Riddles", tmp_path)["one"].suite == "riddles"
    for name, reason in (("my_suite.Riddle", "no class of a Suite"), ("nowhere.Riddles", "on PYTHONPATH")):
        assert main(["prepare", "suite", name, str(tmp_path), "--out", str(tmp_path / "q.jsonl")]) == 2
        assert reason in capsys.readouterr().err


def test_measures_and_criteria_that_suit_a_suite_are_there():
    for suite in SUITES.values():
        for name in suite.measures:
            kind = "".join(word.capitalize() for word in name.split("_"))
            assert getattr(import_module(f"{measures.__name__}.{name}"), kind).name == name
    criteria = Path(measures.__path__[0]).parent / "criteria"
    if not criteria.is_dir():
        pytest.skip("no criteria here")
    named = {name for suite in SUITES.values() for name in suite.criteria}
    assert named <= {path.stem for path in criteria.glob("*.yaml")}


PAGE = (ROOT / "docs/suites.md").read_text()


def test_the_page_says_what_the_code_says():
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", PAGE.partition("## Measures")[0], re.MULTILINE)
    assert [name for name, _ in rows] == list(SUITES)
    for name, row in rows:
        suite = SUITES[name]
        languages, questions, licence, measures_, judged, source = (cell.strip() for cell in row.split("|"))
        assert languages == ", ".join(suite.languages) and licence == suite.licence and source == suite.source
        assert questions == str(sum(suite.counts.values()) or "")
        assert re.findall(r"`(\w+)`", measures_) == list(suite.measures)
        assert re.findall(r"`(\w+)`", judged) == list(suite.criteria)
        assert suite.title in PAGE and suite.unconfirmed in PAGE and suite.access[1:] in PAGE
    named = re.findall(r"^\| `(\w+)` \|", PAGE.partition("## Measures")[2], re.MULTILINE)
    assert set(named) <= {found.name for found in iter_modules(measures.__path__)} and len(named) == 7


def test_options_and_answers_in_the_forms_in_which_they_come():
    wanted = {"A": "sad", "B": "happy"}
    for given in (["sad", "happy"], ["A. sad", "B) happy"], {"a": "sad", "B": " happy "}, "(A) sad\n B: happy"):
        assert options_of(given) == wanted
    assert options_of(None) == {} == options_of("sad or happy")
    answers = {"B": "B", "b.": "B", "(B)": "B", "B. happy": "B", "Happy": "B", "A": "A", "C": None, "": None}
    assert {answer: letter_of(answer, wanted) for answer in answers} == answers
    assert letter_of(None, wanted) is None and letter_of("sad", {"A": "sad", "B": "sad"}) is None
