"""Suites of several turns by `prepare suite` and `evaluate run`: each turn follows the bot's own replies."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from empathy_lightning.__main__ import main
from empathy_lightning.audio import read
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.checkpoints import save
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.decoding import Decoding
from empathy_lightning.filled_prompt import Turn
from empathy_lightning.jobs import seed_of
from empathy_lightning.responder import Responder
from empathy_lightning.utterance import EMOTIONS
from tests.evaluation.judge_server import Reply, completion, serving, words
from tests.suites import uro_bench
from tests.tiny import spoken

IDS = [f"MtBenchEval-en-{number}-{turn}" for number, count in ((0, 2), (1, 3)) for turn in range(1, count + 1)]
# Of few likely words, since the draws of random weights hardly heed what was said.
HOW = ("--max_new_tokens=6", "--temperature=1", "--top_p=0.1", "--batch_size=2")


@pytest.fixture
def place(tmp_path, model, monkeypatch):
    """A working folder with a bot, and the dialogues of URO-Bench as questions."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    uro_bench.dialogues(tmp_path / "uro" / uro_bench.DIALOGUES)
    assert main(["prepare", "suite", "uro_bench", "uro", "--out", "questions.jsonl"]) == 0
    assert [question.id for question in read_manifest("questions.jsonl")] == IDS
    return tmp_path


def run(*more, out="out"):
    return main(["evaluate", "run", "questions.jsonl", "--checkpoint", "bot", "--out", out, *HOW, *more])


def lines(out="out"):
    return [json.loads(line) for line in Path(out, "predictions.jsonl").read_text().splitlines()]


def replies(out="out"):
    return {line["id"]: line["reply"] for line in lines(out)}


def test_each_turn_is_answered_after_the_bot_s_own_replies(place, monkeypatch):
    fill, before = Responder.fill, []

    def _noted(self, conversations, prompts=()):
        before.extend([turn.reply for turn in turns[:-1]] for turns in conversations)
        return fill(self, conversations, prompts)

    with monkeypatch.context() as patched:
        patched.setattr(Responder, "fill", _noted)
        assert run() == 0
    found = replies()
    assert list(found) == IDS and len(set(found.values())) == 5
    told = [[found[name] for name in names] for names in ([], [], IDS[:1], IDS[2:3], IDS[2:4])]
    assert sorted(before) == sorted(told)
    bot = EmpatheticChatbot.from_pretrained("bot")
    for dialogue in (IDS[:2], IDS[2:]):
        history = []
        for question in (q for q in read_manifest("questions.jsonl") if q.id in dialogue):
            how = Decoding(6, 1.0, 0.1, seed_of(0, question))
            (reply,) = bot.respond([read(question.path)], [history], decoding=how)
            assert found[question.id] == reply.text
            history.append(replace(reply.turn, reply=reply.text))


def test_in_words_too(place):
    assert run("--words") == 0
    model = EmpatheticChatbot.from_pretrained("bot").model
    first = Turn("Turn 0?", None, replies()[IDS[0]])
    question = read_manifest("questions.jsonl")[1]
    stream = model.stream_words(["Turn 1?"], Decoding(6, 1.0, 0.1), (), [seed_of(0, question)], False, [[first]])
    assert replies()[IDS[1]] == stream.drained()[0].text


def test_another_first_reply_is_followed_anew_and_what_is_there_is_kept(place, capsys):
    assert run() == 0
    shards = sorted((place / "out/replies").rglob("part-*.parquet"))
    times = [shard.stat().st_mtime_ns for shard in shards]
    assert len(shards) == 3 and run("--measures", "variety", "overlap") == 0
    assert [shard.stat().st_mtime_ns for shard in shards] == times
    rows = read_manifest("questions.jsonl")
    write_manifest("questions.jsonl", rows[1:])
    assert run(out="cut") == 2
    assert f"{IDS[1]} follows {IDS[0]}, which is not there" in capsys.readouterr().err


def test_a_judge_reads_the_whole_dialogue_once(place):
    with serving(lambda n, request: Reply(completion(f"[[{2 + n}]]"))) as server:
        judge = ["judge=OpenAIJudge", "judge.model=j", "judge.at_once=1", f"judge.base_url={server.url}"]
        assert run("--measures", "judged", "criterion=uro_dialogue", *judge, "cache=answers") == 0
    found = replies()
    assert len(server.requests) == 2
    for request, dialogue in zip(server.requests, (IDS[:2], IDS[2:]), strict=True):
        turns = [f"User: Turn {number}?\nAssistant: {found[name]}" for number, name in enumerate(dialogue)]
        assert "\n".join(turns) in words(request)
    scores = [line["measures"]["judged_uro_dialogue"] for line in lines()]
    assert [score and score["score"] for score in scores] == [None, 2, None, None, 3]
