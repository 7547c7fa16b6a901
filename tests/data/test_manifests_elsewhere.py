"""Commands that read a manifest of this machine read one behind a URL too, and its recordings."""

import json
from pathlib import Path

import pytest

from empathy_lightning import storage
from empathy_lightning.__main__ import main
from empathy_lightning.checkpoints import save
from empathy_lightning.data import read_manifest
from empathy_lightning.preparation.answers import shards_of
from empathy_lightning.utterance import EMOTIONS
from tests.s3_server import emptied, served


@pytest.fixture(scope="module")
def running():
    with served() as found:
        yield found


@pytest.fixture
def elsewhere(running, corpus):
    """The URL of the corpus's manifest, with its recordings beside it."""
    emptied(running)
    rows = [json.loads(line) for line in corpus.read_text().splitlines()]
    for name in (corpus.name, *(row["path"] for row in rows)):
        storage.write(f"s3://corpus/files/{name}", corpus.parent / name)
    return f"s3://corpus/files/{corpus.name}"


def test_replies_to_recordings_elsewhere_are_those_to_local_ones(elsewhere, corpus, model, tmp_path):
    model.emotions = list(EMOTIONS)
    save(tmp_path / "bot", model)
    found = {}
    for name, manifest in (("here", str(corpus)), ("there", elsewhere)):
        out = tmp_path / f"{name}.jsonl"
        words = ["respond", manifest, "--checkpoint", str(tmp_path / "bot"), "--out", str(out), "--max_new_tokens=4"]
        assert main(words) == 0
        found[name] = {u.id: (u.response, u.path) for u in read_manifest(out)}
        answered = [shard.stat().st_mtime_ns for shard in shards_of(out).glob("part-*")]
        # Made from the same, it is not asked again.
        assert main(words) == 0
        assert answered == [shard.stat().st_mtime_ns for shard in shards_of(out).glob("part-*")] != []
    assert len(found["here"]) == 5
    for id, (response, path) in found["there"].items():
        assert response == found["here"][id][0] and path == f"s3://corpus/files/{Path(found['here'][id][1]).name}"


def test_evaluation_and_preparation_read_them_too(elsewhere, corpus, model, tmp_path):
    model.emotions = list(EMOTIONS)
    save(tmp_path / "bot", model)
    figures = []
    for number, manifest in enumerate((str(corpus), elsewhere)):
        out = tmp_path / f"{number}.json"
        words = ["evaluate", "emotion", "--checkpoint", str(tmp_path / "bot"), "--manifest", manifest]
        assert main([*words, "--by=classifier", "--out", str(out)]) == 0
        figures.append({k: v for k, v in json.loads(out.read_text()).items() if k not in ("made_from", "seconds")})
    assert figures[0] == figures[1]
    assert main(["prepare", "copies", elsewhere, "--out", str(tmp_path / "copies.jsonl")]) == 0
    rows = read_manifest(tmp_path / "copies.jsonl")
    assert len(rows) > 30 and {u.path for u in rows if u.split == "test"} == {
        f"s3://corpus/files/{index}.wav" for index in range(25, 30)
    }


def test_what_is_not_read_by_url_is_one_line(elsewhere, tmp_path, capsys):
    respond = ["respond", "--checkpoint=bot", "--out"]
    for words, line in (
        ([*respond, "s3://corpus/out.jsonl", elsewhere], "--out s3://corpus/out.jsonl: give a local path"),
        ([*respond, "o.jsonl", "s3://corpus/none.jsonl"], "s3://corpus/none.jsonl: not there"),
        ([*respond, "o.jsonl", "s3://corpus/files/1.wav"], "s3://corpus/files/1.wav, line 1: "),
        (["evaluate", "understanding", elsewhere], f"{elsewhere}: give a local path; manifests"),
    ):
        assert main(words) == 2
        (told,) = capsys.readouterr().err.splitlines()
        assert told.startswith("error: ") and line in told
