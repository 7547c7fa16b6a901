"""Judges behind HTTP and on this machine, by the command line; the server stalls, limits, lies, refuses, breaks off."""

import base64
import io
import json
import os
import re
import resource
import shlex
import signal
import threading
import time
from email.utils import formatdate

import pytest
import soundfile
import torch

from empathy_lightning.__main__ import application, main
from empathy_lightning.audio import write
from empathy_lightning.data import write_manifest
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.criterion_files import criterion_names
from empathy_lightning.evaluation.judges import Answer, AskAgain, LocalJudge, OpenAIJudge, Pace
from empathy_lightning.evaluation.measures.judged import Judged
from empathy_lightning.utterance import Utterance
from tests.conftest import ROOT
from tests.evaluation.judge_server import Reply, candidate, completion, serving, words
from tests.forked import fork


@pytest.fixture
def replies(tmp_path):
    """A manifest of six replies, spoken."""
    rows = []
    for number in range(6):
        for name in ("user", "reply"):
            write(tmp_path / f"{name}{number}.wav", 0.1 * torch.sin(torch.arange(1_600) * (0.1 + 0.05 * number)))
        rows.append(
            Utterance(
                id=f"u{number}",
                corpus="tales",
                path=str(tmp_path / f"user{number}.wav"),
                transcript=f"tale {number} of {{reply}}",
                emotion="sad",
                split="test",
                response=f"answer {number}",
                response_path=str(tmp_path / f"reply{number}.wav"),
                ability="empathy/sadness",
                references=["a reference"],
            )
        )
    write_manifest(tmp_path / "replies.jsonl", rows)
    return tmp_path / "replies.jsonl"


def command(replies, server, *options, criterion="freezeempath_empathy", judge="OpenAIJudge"):
    """The words of a run whose answers and figures lie beside the replies."""
    return [
        "evaluate", "run", "--replies", str(replies), "--out", str(replies.parent / "judged"), "--measures", "judged",
        f"criterion={criterion}", f"judge={judge}", "judge.model=judge", f"judge.base_url={server.url}",
        f"cache={replies.parent / 'answers'}", *options,
    ]  # fmt: skip


def written(replies):
    """Figures, and under ``scores`` the rows; {} where there are none."""
    folder = replies.parent / "judged"
    (suite,) = json.loads((folder / "metrics.json").read_text())["suites"].values()
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    if not suite["measures"]:
        return {}
    ((name, held),) = suite["measures"].items()
    return {**held["figures"], "scores": [line["measures"][name] for line in lines]}


def number_in(request):
    """Number of the reply that a request asks about."""
    return int(words(request).partition("answer ")[2][0])


def rated(number, request):
    return Reply(completion(f"Warm. [[1]] at first, [[{number_in(request) + 3}]]"))


def test_scores_are_the_judge_s_and_say_how_they_came_about(replies, capsys):
    with serving(rated) as server:
        assert main(command(replies, server)) == 0
        found = written(replies)
        assert [row["score"] for row in found["scores"]] == [3, 4, 5, 6, 7, 8]
        assert found["score"]["value"] == 5.5 and found["score"]["low"] < 5.5 < found["score"]["high"]
        assert found["scores"][0]["answers"] == ["Warm. [[1]] at first, [[3]]"]
        assert (found["questions"], found["unparsed"], found["refused"], found["unanswered"]) == (6, 0, 0, 0)
        asked = found["asked"]
        assert asked["judge"] == "judge" and asked["served"] == ["judge-2026-01-01"]
        assert asked["settings"]["temperature"] == 0 and len(asked["prompt_sha256"]) == 64
        assert asked["asked"]["first"] <= asked["asked"]["last"] and asked["asked"]["first"].startswith("20")
        assert (asked["user_given"], asked["reply_given"], asked["wording"]) == ("transcript", "text", "ours")
        # What fills a slot is not searched for slots.
        assert all(f"tale {number} of {{reply}}" in "".join(server.asked()) for number in range(6))
        assert server.paths == ["/v1/chat/completions"] * 6
        shown = capsys.readouterr().out
        assert "5.500" in shown and "given user transcript, reply text" in shown
        assert "given user transcript, reply text" in (replies.parent / "judged/report.html").read_text()
        assert main(command(replies, server)) == 0
    assert len(server.requests) == 6 and written(replies) == found


def test_another_model_temperature_or_wording_is_asked_anew(replies, tmp_path):
    with serving(rated) as server:
        main(command(replies, server))
        main(command(replies, server, "judge.model=other"))
        main(command(replies, server, 'judge.body={"temperature": 0.3}'))
        assert [request["temperature"] for request in server.requests] == [0] * 12 + [0.3] * 6
        assert written(replies)["asked"]["settings"]["temperature"] == 0.3
        main(command(replies, server, "user=nothing"))
        assert len(server.requests) == 24 and written(replies)["asked"]["user_given"] == "nothing"
        assert "tale" not in "".join(server.asked()[18:])


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (lambda n, r: Reply({"error": "busy"}, 429, {"Retry-After": "1"}), 429),
        (lambda n, r: Reply({"error": "busy"}, 429, {"Retry-After": formatdate(time.time() + 2, usegmt=True)}), 429),
        (lambda n, r: Reply(b"<html>overloaded</html>", 503), 503),
        (lambda n, r: Reply(completion("[[9]]"), cut=20), 200),
        (lambda n, r: Reply(b"<html>welcome</html>"), 200),
        (lambda n, r: Reply({"choices": []}), 200),
        (lambda n, r: Reply([1, 2]), 200),
        (lambda n, r: Reply(completion(None)), 200),
        (lambda n, r: Reply(completion("[[9]]"), after=1.5), 200),
    ],
    ids=["limit", "limit until a date", "down", "broken off", "no JSON", "no choice", "a list", "no text", "stalls"],
)
def test_a_call_that_fails_is_made_again(replies, bad, status):
    def _answer(number, request):
        return bad(number, request) if number == 0 else rated(number, request)

    begin = time.monotonic()
    with serving(_answer) as server:
        judge = OpenAIJudge(server.url, "judge", at_once=1, timeout=0.5, first_wait=0.01)
        measured = Judged(judge, "freezeempath_empathy", str(replies.parent / "answers"))(manifest(replies))
    assert [row["score"] for row in measured.rows] == [3, 4, 5, 6, 7, 8]
    assert len(server.requests) == 7 and server.asked()[0] == server.asked()[1]
    if status == 429:
        # Everyone waits for as long as the server asks.
        assert time.monotonic() - begin > 0.5


def manifest(replies):
    from empathy_lightning.data import read_manifest

    return read_manifest(replies)


LIES = ["I like it, 9 of 10.", "[[11]]", "[[0]]", '{"score": 5}', "[9]", "[[nine]]"]


def test_lies_are_not_guessed_but_counted(replies):
    with serving(lambda n, request: Reply(completion(LIES[number_in(request)]))) as server:
        assert main(command(replies, server)) == 0
    found = written(replies)
    assert found["unparsed"] == 1 and found["score"] == {"replies": 0}
    assert [row["score"] for row in found["scores"]] == [None] * 6
    assert [row["answers"] for row in found["scores"]] == [[lie] for lie in LIES]
    assert found["scores"][1]["faults"] == ["11 is not on the scale (1 to 10)"]


def test_refusals_and_cut_answers_are_told_apart(replies):
    cut = completion("[[9]] is what I would say if")
    cut["choices"][0]["finish_reason"] = "length"
    filtered = Reply({"error": {"code": "content_filter", "message": "no"}}, 400)
    answers = [
        Reply(completion(None, refusal="I will not.")), filtered, Reply(cut), Reply(completion("[[7]]")),
        Reply(completion("I cannot say.")), Reply(completion("<think>[[1]]?</think>[[5]]")),
    ]  # fmt: skip
    with serving(lambda n, request: answers[number_in(request)]) as server:
        assert main(command(replies, server)) == 0
        found = written(replies)
        assert [row["score"] for row in found["scores"]] == [None, None, None, 7, None, 5]
        assert (found["refused"], found["unparsed"]) == (round(2 / 6, 6), round(2 / 6, 6))
        assert found["scores"][0]["answers"] == ["I will not."] and found["scores"][1]["faults"] == ["refused"]
        assert main(command(replies, server)) == 0
    assert len(server.requests) == 6 and found["score"]["value"] == 6


def test_requests_are_under_way_at_once_up_to_the_limit(replies):
    def _slow(number, request):
        reply = rated(number, request)
        reply.after = 0.15
        return reply

    with serving(_slow) as server:
        assert main(command(replies, server, "judge.at_once=3")) == 0
    assert server.most_at_once == 3


def test_a_judge_that_is_down_is_left_and_what_it_said_is_kept(replies, capsys):
    def _dies(number, request):
        return rated(number, request) if number < 2 else Reply(b"", 500)

    with serving(_dies) as server:
        assert main(command(replies, server, "judge.at_once=1", "judge.attempts=1")) == 1
    shown = capsys.readouterr()
    assert "HTTP status 500; what was answered is kept" in shown.out and "Traceback" not in shown.err
    assert len(server.requests) == 5 and not written(replies)
    with serving(rated) as server:
        assert main(command(replies, server)) == 0
    assert len(server.requests) == 4
    assert main(command(replies, server, "judge.model=new", "judge.attempts=1")) == 1
    assert "cannot be reached" in capsys.readouterr().out


def test_one_question_that_finds_no_answer_costs_itself_only(replies, capsys):
    def _fails(number, request):
        return Reply(b"", 500) if number_in(request) == 2 else rated(number, request)

    with serving(_fails) as server:
        options = ("judge.attempts=1", "judge.at_once=1")
        assert main(command(replies, server, *options)) == 1
        assert "16.7% of the questions found no answer (the judge at" in capsys.readouterr().out
        assert len(server.requests) == 6 and not written(replies)
        assert main(command(replies, server, *options, "allow_unanswered=0.2")) == 0
        found = written(replies)
        assert [row["score"] for row in found["scores"]] == [3, 4, None, 6, 7, 8]
        assert found["unanswered"] == round(1 / 6, 6) and "500" in found["scores"][2]["faults"][0]
        server.answer = rated
        assert main(command(replies, server)) == 0
    assert len(server.requests) == 8 and written(replies)["unanswered"] == 0


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply({"error": {"message": "bad key secret-1"}}, 401), "does not accept the key"),
        (Reply({"error": {"message": "temperature is unknown"}}, 400), "temperature is unknown"),
        (Reply({"error": "no"}, 404), "look at base_url and model"),
        (Reply({}, 307, {"Location": "http://127.0.0.1:9/v1"}), "is not followed"),
        (Reply({}, 429, {"Retry-After": "86400"}), "asks to wait 86400 s"),
    ],
    ids=["key", "field", "place", "redirected", "for a day"],
)
def test_what_asking_again_would_not_mend_is_told_at_once(replies, reply, told, capsys, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "secret-1")
    with serving(lambda n, request: reply) as server:
        assert main(command(replies, server, "judge.key_variable=JUDGE_KEY", "judge.at_once=1")) == 1
    shown = capsys.readouterr()
    assert told in shown.out and len(server.requests) == 1 and "secret" not in shown.out + shown.err
    assert server.headers[0]["Authorization"] == "Bearer secret-1"


def test_the_key_is_kept_nowhere(replies, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "secret-1")
    with serving(rated) as server:
        assert main(command(replies, server, "judge.key_variable=JUDGE_KEY")) == 0
    for path in replies.parent.rglob("*.json*"):
        assert "secret" not in path.read_text()


def wait_until(true, seconds=90):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_and_gone_on_with_no_question_asked_twice(replies, number):
    free = threading.Event()

    def _holds_the_third(count, request):
        if count == 2:
            free.wait(60)
        return rated(count, request)

    answers = replies.parent / "answers/answers.jsonl"
    with serving(_holds_the_third) as server:
        running = fork(command(replies, server, "judge.at_once=1"))
        wait_until(lambda: len(server.requests) == 3)
        assert answers.read_text().count("\n") == 2
        running.send_signal(number)
        if number == signal.SIGINT:
            # The question under way is still answered.
            wait_until(lambda: "interrupted" in running.stdout + running.stderr)
            assert running.poll() is None
        free.set()
        running.wait(60)
        assert running.returncode == (130 if number == signal.SIGINT else -number)
        kept = 3 if number == signal.SIGINT else 2
        assert answers.read_text().count("\n") == kept and len(server.requests) == 3
        assert not (replies.parent / "judged/metrics.json").exists()
        assert main(command(replies, server)) == 0
    # A process that is killed loses the one answer that had not come.
    assert len(server.requests) == 3 + 6 - kept and len(set(server.asked())) == 6
    assert [row["score"] for row in written(replies)["scores"]] == [3, 4, 5, 6, 7, 8]


def test_a_torn_line_is_asked_again_and_harms_no_other(replies):
    with serving(rated) as server:
        main(command(replies, server, "judge.at_once=1"))
        answers = replies.parent / "answers/answers.jsonl"
        whole = answers.read_bytes()
        answers.write_bytes(b'{"key": 3}\nnot JSON\n' + whole[:-30])
        main(command(replies, server, "--again"))
        assert len(server.requests) == 7
        main(command(replies, server, "--again"))
    assert len(server.requests) == 7 and written(replies)["score"]["replies"] == 6


@pytest.fixture
def full_disk():
    """Files of this process end after so many bytes."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_is_told_and_what_was_answered_before_is_kept(replies, capsys, full_disk):
    with serving(rated) as server:
        main(command(replies, server, "judge.at_once=1"))
        answers = replies.parent / "answers/answers.jsonl"
        # More than the block that is tried beforehand, and than the other files of the run.
        kept = b" " * 500_000 + b"\n" + b"".join(answers.read_bytes().splitlines(keepends=True)[:3])
        answers.write_bytes(kept)
        capsys.readouterr()
        full_disk(len(kept) + 50)
        ended = main(command(replies, server, "judge.at_once=1", "--again"))
        full_disk(resource.RLIM_INFINITY)
        assert ended == 1 and "answers.jsonl cannot be written" in capsys.readouterr().out
        before = len(server.requests)
        assert answers.stat().st_size == len(kept) + 50
        assert main(command(replies, server, "--again")) == 0
    assert len(server.requests) == before + 3 and written(replies)["score"]["replies"] == 6


def test_samples_are_drawn_apart_and_their_mean_counts(replies):
    def _answer(number, request):
        text = words(request)
        draws = sum(words(other) == text for other in server.requests)
        return Reply(completion(f"[[{min(5, draws)}]]"))

    with serving(_answer) as server:
        assert main(command(replies, server, "judge.at_once=1", criterion="voicebench_open")) == 0
        assert {request["top_p"] for request in server.requests} == {0.95}
        found = written(replies)
        assert found["questions"] == len(server.requests) == 18
        assert [row["score"] for row in found["scores"]] == [2.0] * 6
        server.answer = lambda n, request: Reply(completion(["Yes.", "**No**", "perhaps"][n % 3]))
        assert main(command(replies, server, "judge.at_once=1", criterion="voicebench_sd_qa")) == 0
    found = written(replies)
    # One says yes, one no, one neither: there is no majority.
    assert [row["score"] for row in found["scores"]] == [None] * 6 and found["unparsed"] == round(1 / 3, 6)


def test_what_cannot_be_read_is_asked_again_where_the_rule_says_so(replies, monkeypatch):
    seen = {}

    def _answer(number, request):
        reply = request["messages"][-1]["content"][1]["input_audio"]["data"]
        seen[reply] = seen.get(reply, 0) + 1
        return Reply(completion("no score" if seen[reply] < 3 else "[[4]]"))

    with serving(_answer) as server:
        assert main(command(replies, server, criterion="vstyle_empathy")) == 0
        found = written(replies)
        assert [row["score"] for row in found["scores"]] == [4] * 6 and found["unparsed"] == 0
        assert found["scores"][0]["answers"] == ["no score", "no score", "[[4]]"]
        assert main(command(replies, server, criterion="vstyle_empathy")) == 0
    assert len(server.requests) == 18 and written(replies) == found


def test_openai_s_form_hears_both_recordings(replies):
    with serving(lambda n, r: Reply(completion("[[5]]"))) as server:
        options = ("user=both", "reply=speech")
        assert main(command(replies, server, *options, criterion="freezeempath_acoustic")) == 0
    titles, sounds = zip(*(server.requests[0]["messages"][0]["content"][i : i + 2] for i in (0, 2)), strict=True)
    assert [part["text"] for part in titles] == ["Recording USER:", "Recording REPLY:"]
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sounds[0]["input_audio"]["data"])))
    assert rate == 16_000 and len(samples) == 1_600 and sounds[0]["input_audio"]["format"] == "wav"
    assert written(replies)["asked"]["user_given"] == "both"


def test_gemini_s_form(replies, monkeypatch):
    monkeypatch.setenv("GEMINI", "secret-2")
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}}
    ended = {"candidates": [{"finishReason": "PROHIBITED_CONTENT"}]}
    cut = {"candidates": [{"finishReason": "MAX_TOKENS", "content": {"role": "model"}}]}
    answers = [candidate("[[10]]"), candidate("[[5]]"), candidate("[[7]]"), blocked, ended, cut]
    with serving(lambda n, request: Reply(answers[n])) as server:
        options = ("judge.key_variable=GEMINI", "judge.at_once=1", "judge.model=gemini-2.5-pro")
        asked = command(replies, server, *options, criterion="freezeempath_acoustic", judge="GeminiJudge")
        assert main(asked) == 0
    assert set(server.paths) == {"/v1/models/gemini-2.5-pro:generateContent"}
    assert server.headers[0]["x-goog-api-key"] == "secret-2"
    request = server.requests[0]
    title, sound, question = request["contents"][0]["parts"]
    assert title["text"] == "Recording REPLY:" and "(in the recording REPLY)" in question["text"]
    assert base64.b64decode(sound["inline_data"]["data"])[:4] == b"RIFF"
    assert request["generationConfig"] == {"temperature": 0, "maxOutputTokens": 1024}
    found = written(replies)
    # 7 is none of 1, 5 and 10.
    assert [row["score"] for row in found["scores"]] == [10, 5, None, None, None, None]
    assert (found["refused"], found["unparsed"]) == (round(2 / 6, 6), round(2 / 6, 6))
    assert found["asked"]["served"] == ["gemini-007"]


def test_another_recording_is_another_question(replies):
    with serving(lambda n, r: Reply(completion("[[5]]"))) as server:
        main(command(replies, server, criterion="freezeempath_acoustic"))
        write(replies.parent / "reply0.wav", 0.1 * torch.ones(1_600).cumsum(0).sin())
        main(command(replies, server, criterion="freezeempath_acoustic"))
        assert len(server.requests) == 7
        (replies.parent / "reply1.wav").unlink()
        main(command(replies, server, criterion="freezeempath_acoustic"))
    found = written(replies)
    assert len(server.requests) == 7 and found["unreadable"] == 1 and found["scores"][1] is None


def test_replies_that_lack_what_is_asked_about_are_left_out_and_counted(tmp_path, replies):
    rows = manifest(replies)
    rows[0].transcript, rows[1].emotion = None, None
    write_manifest(replies, rows)
    with serving(rated) as server:
        assert main(command(replies, server)) == 0
    found = written(replies)
    assert (found["without_transcript"], found["without_emotion"], found["questions"]) == (1, 1, 4)
    assert found["scores"][:2] == [None, None]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["judge.base_url=ftp://a"], "no address of a judge"),
        (["judge.base_url=http://me:word@a/v1"], "no address of a judge"),
        (["judge.key_variable=NOT_SET_HERE"], "holds no key"),
        (["judged.criterion=freezeempath_empaty"], "did you mean freezeempath_empathy?"),
        (["judged.criterion=./none.yaml"], "no criterion at"),
        (["judge.body=[1]"], "give a mapping"),
        (["judge.at_once=many"], "OpenAIJudge.at_once is 'many': give a whole number"),
        (["judge=OpenAIJuge", "judge.model=x"], "no class is named 'OpenAIJuge'; did you mean OpenAIJudge?"),
        (["judge=LocalJudge", "judge.model=x", "judge.base_url=y"], "LocalJudge has no argument 'base_url'"),
        (["--split=train"], "no responses in split train"),
        (["judged.criterion=emotion_consensus", "user=speech"], "leave out user"),
        (["judged.criterion=empathy_need", "reply=speech"], "leave out reply"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_asked(replies, options, told, capsys):
    with serving(rated) as server:
        assert main(command(replies, server, *options)) == 2
    error = capsys.readouterr().err
    assert told in error and "word@" not in error and not server.requests


def test_a_local_model_judges_in_batches_as_alone(replies, backbones, capsys):
    """A model of random weights says nothing that can be read; what it says is what it would say alone."""
    folder = str(backbones / "language_model")
    own = replies.parent / "own.yaml"
    own.write_text(
        "name: own\nversion: 1\ntitle: t\nsource: s\nwording: yours\nuser: nothing\nreply: text\n"
        "sampling: {temperature: 0.7, max_tokens: 12}\nscore: {pattern: '(\\d)', scale: [0, 9]}\n"
        'prompt: "Rate <|im_end|>{reply}"\n'
    )
    found = []
    for batch in ("1", "4"):
        assert main([
            "evaluate", "run", "--replies", str(replies), "--measures", "judged", f"criterion={own}",
            "judge=LocalJudge", f"judge.model={folder}", f"judge.batch_size={batch}",
            f"cache={replies.parent / batch}", "--out", str(replies.parent / "judged"), "--again",
        ]) == 0  # fmt: skip
        found.append([row["answers"] for row in written(replies)["scores"]])
    assert found[0] == found[1] and all(answer for (answer,) in found[0])
    facts = written(replies)["asked"]
    assert facts["settings"]["model"].startswith("sha256:") and facts["settings"]["seed"] == 0
    with pytest.raises(InputError, match="only reads"):
        Judged(LocalJudge(folder), "freezeempath_acoustic")
    with pytest.raises(InputError, match="no model folder at"):
        LocalJudge("./nowhere")


class OwnJudge:
    """A user's own: it knows the length of a reply, and is busy at first."""

    model, hears, pace = "length", False, Pace(batch_size=4, first_wait=0.01)

    def __init__(self):
        self.batches = []

    def identity(self, sampling):
        return {"model": self.model}

    def ask(self, questions):
        self.batches.append(len(questions))
        if len(self.batches) == 1:
            raise AskAgain("busy")
        return [Answer("[[4]]") for _ in questions]


def test_a_judge_of_one_s_own(replies):
    judge = OwnJudge()
    measured = Judged(judge, "freezeempath_quality", str(replies.parent / "answers"))(manifest(replies))
    assert [row["score"] for row in measured.rows] == [4] * 6 and judge.batches == [4, 4, 2]
    assert measured.figures["asked"]["settings"] == {"model": "length"}


def test_answers_are_kept_in_the_user_s_cache_where_no_folder_is_given(replies, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    Judged(OwnJudge(), "freezeempath_quality")(manifest(replies))
    assert (tmp_path / "mine/empathy_lightning/judges/answers.jsonl").read_text().count("\n") == 6
    assert os.listdir(tmp_path / "mine") == ["empathy_lightning"]


PAGE = (ROOT / "docs/judges.md").read_text()


def test_the_judge_of_the_page(replies, monkeypatch):
    monkeypatch.chdir(replies.parent)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {}
    exec(example, names)
    assert [row["score"] for row in names["measured"].rows] == [2] * 6


def test_the_criterion_of_the_page(replies):
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (replies.parent / "mine.yaml").write_text(example)
    with serving(lambda n, request: Reply(completion(["[[2]]", "[[4]]"][n % 2]))) as server:
        assert main(command(replies, server, "judge.at_once=1", criterion=str(replies.parent / "mine.yaml"))) == 0
    assert len(server.requests) == 18 and {request["seed"] for request in server.requests} == {1, 2, 3}
    assert written(replies)["score"]["value"] == 3


def test_the_page_names_every_criterion_and_every_option():
    assert all(f"`{name}`" in PAGE for name in criterion_names())
    commands = [shlex.split(line) for line in re.findall(r"^empathy-lightning (.*?)$", PAGE.replace("\\\n", ""), re.M)]
    assert len(commands) > 6
    for words_of_command in commands:
        if words_of_command[0] == "evaluate":
            application().parse_args(words_of_command, print_error=False, exit_on_error=False)
