"""Manifests, recordings and shards behind URLs, from a local server that speaks S3 and counts what it sends."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from empathy_lightning import storage
from empathy_lightning.__main__ import main
from empathy_lightning.audio import AudioError, duration_of, read
from empathy_lightning.corpora import CorpusError
from empathy_lightning.data import Manifest, read_manifest, write_manifest
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.data.shard_export import write_shards
from empathy_lightning.data.shards import Shards
from empathy_lightning.storage import StorageError
from empathy_lightning.utterance import Utterance
from tests.s3_server import emptied, forget_credentials, served

SHARDS = "s3://corpus/shards"


@pytest.fixture(scope="module")
def running():
    with served() as found:
        yield found


@pytest.fixture
def server(running):
    return emptied(running)


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """A manifest of 24 recordings of 2 to 5 seconds: 20 train, 4 validate."""
    folder, generator, utterances = tmp_path_factory.mktemp("speech"), np.random.default_rng(0), []
    for index in range(24):
        seconds = float(generator.uniform(2, 5))
        soundfile.write(folder / f"{index}.flac", 0.1 * generator.standard_normal(round(seconds * 16_000)), 16_000)
        split = "train" if index < 20 else "validation"
        utterances.append(Utterance(str(index), "noise", f"{folder}/{index}.flac", duration=seconds, split=split))
    write_manifest(folder / "m.jsonl", utterances)
    write_manifest(folder / "m.parquet", utterances)
    return folder


def export(speech, *words):
    return main(["corpora", "export", "manifest", str(speech / "m.jsonl"), "--shards", *words])


def put(speech):
    for path in speech.iterdir():
        storage.write(f"s3://corpus/files/{path.name}", path)


def sizes(utterances):
    """Bytes of the recordings by themselves."""
    return sum(int(u.path.rpartition("+")[2]) for u in utterances)


def heard(data):
    """Ids and waveforms of the training in its order, of two epochs, and of the validation."""
    batches = [*data.train_dataloader(), *data.val_dataloader()]
    return [batch.ids for batch in batches], [batch.waveform for batch in batches]


def test_shards_are_read_no_more_than_they_are_used(server, speech, capsys):
    assert export(speech, "--out", SHARDS) == 0
    assert f"24 utterances in {SHARDS}" in capsys.readouterr().out
    with server.counted():
        data = EmpathyDataModule([Shards(SHARDS)], batch_seconds=12)
        data.setup()
        listed = server.total()
        ids, _ = heard(data)
    rows = [*data.splits["train"], *data.splits["validation"]]
    order = [int(id) for batch in ids for id in batch]
    assert sorted(order) == sorted(int(u.id) for u in rows) and order != sorted(order)
    assert listed < 0.05 * sizes(rows)
    assert sizes(rows) <= server.total() < 1.1 * sizes(rows)
    with server.counted():
        for utterance in data.splits["train"][3:20:4]:
            read(utterance.path)
    assert server.total() == sizes(data.splits["train"][3:20:4])


def test_what_is_heard_is_that_of_the_local_files(server, speech, tmp_path):
    assert export(speech, "--out", SHARDS) == export(speech, "--out", str(tmp_path / "shards")) == 0
    ids, waveforms = {}, {}
    for name, corpus, workers in (("s3", SHARDS, 2), ("http", f"{server.url}/corpus/shards", 0), ("file", "", 0)):
        data = EmpathyDataModule([Shards(corpus or f"file://{tmp_path}/shards")], batch_seconds=12, num_workers=workers)
        data.setup()
        ids[name], waveforms[name] = heard(data)
    for name in ("s3", "http"):
        assert ids[name] == ids["file"]
        assert all(map(torch.equal, waveforms[name], waveforms["file"]))


@pytest.mark.parametrize("scheme", ["s3", "http", "memory"])
def test_manifests_and_recordings_by_url(server, speech, scheme):
    put(speech)
    home = {"s3": "s3://corpus/files", "http": f"{server.url}/corpus/files", "memory": "memory://files"}[scheme]
    if scheme == "memory":
        for path in speech.iterdir():
            storage.write(f"{home}/{path.name}", path)
    here, there = read_manifest(speech / "m.jsonl"), Manifest(f"{home}/m.jsonl").utterances()
    assert there == Manifest(f"{home}/m.parquet").utterances()
    assert [replace(u, path="") for u in there] == [replace(u, path="") for u in here]
    assert there[7].path == f"{home}/7.flac"
    with server.counted():
        assert duration_of(there[7].path) == duration_of(here[7].path)
        assert torch.equal(read(there[7].path), read(here[7].path))
    if scheme != "memory":
        assert server.total() == (speech / "7.flac").stat().st_size


def test_check_listens_to_a_manifest_by_url(server, speech, tmp_path, capsys):
    put(speech)
    assert main(["corpora", "check", "manifest", "s3://corpus/files/m.jsonl", "--out", str(tmp_path / "r.json")]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["utterances"] == 24 and not report["problems"]
    assert main(["corpora", "check", "manifest", "s3://corpus/files/none.jsonl"]) == 2
    assert capsys.readouterr().err.startswith("error: s3://corpus/files/none.jsonl: not there")


def test_an_export_elsewhere_goes_on_and_is_no_corpus_before_its_end(server, speech, tmp_path, capsys):
    utterances = read_manifest(speech / "m.jsonl")
    write_shards(utterances, SHARDS, per_shard=10)
    names = storage.files_in(SHARDS, "*")
    assert [name.rpartition("/")[2] for name in names] == [
        "made_from.json",
        *(f"part-0000{i}.parquet" for i in range(3)),
    ]
    whole = Shards(SHARDS).utterances()
    storage.remove(names[2])
    with pytest.raises(CorpusError, match="holds 2 of 3 shards"):
        Shards(SHARDS).utterances()
    with server.counted():
        write_shards(utterances, SHARDS, per_shard=10)
    assert [path for method, path in server.requests if method == "PUT"] == ["/corpus/shards/part-00001.parquet"]
    assert Shards(SHARDS).utterances() == whole
    assert export(speech, "--out", SHARDS) == 2
    assert "s3://corpus/shards was made from something else (per_shard, parts changed)" in capsys.readouterr().err
    assert export(speech, "--out", SHARDS, "--again") == 0
    assert len(storage.files_in(SHARDS, "part-*")) == 1 and len(Shards(SHARDS).utterances()) == 24


def test_an_upload_that_fails_leaves_no_shard(server, speech, capsys):
    server.refused.add("/corpus/shards/part-00000.parquet")
    assert export(speech, "--out", SHARDS) == 2
    assert "access is denied" in capsys.readouterr().err
    server.refused.clear()
    assert storage.files_in(SHARDS, "part-*") == []
    with pytest.raises(CorpusError, match="no shards"):
        Shards(SHARDS).utterances()


def test_what_is_wrong_is_one_line(server, speech, monkeypatch, capsys):
    put(speech)
    said = {
        "s3://nowhere/m.jsonl": "s3://nowhere/m.jsonl: not there (The specified bucket does not exist)",
        "s3://corpus/files/none.parquet": "s3://corpus/files/none.parquet: not there",
        "nothing://a/m.jsonl": "nothing://a/m.jsonl: Protocol not known: nothing",
        "simplecache::s3://corpus/files/m.jsonl": "chained URLs and references are not followed",
        "reference://m.jsonl": "chained URLs and references are not followed",
    }
    for url, line in said.items():
        assert export_of(url) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert line in error and error.startswith("error: ")
    server.refused.add("/corpus/files/m.jsonl")
    assert export_of("s3://corpus/files/m.jsonl") == 2
    assert "s3://corpus/files/m.jsonl: access is denied" in capsys.readouterr().err
    server.refused.clear()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    forget_credentials()
    assert export_of("s3://corpus/files/m.jsonl") == 2
    assert "Unable to locate credentials; set AWS_PROFILE" in capsys.readouterr().err


def export_of(url):
    return main(["corpora", "export", "manifest", url, "--out", "never.jsonl"])


def test_a_server_that_breaks_off_is_asked_again_a_few_times(server, speech, monkeypatch):
    monkeypatch.setattr(storage, "PAUSE", 0.01)
    put(speech)
    whole = (speech / "3.flac").read_bytes()
    for home in ("s3://corpus", f"{server.url}/corpus"):
        server.breaks["/corpus/files/3.flac"] = 1
        assert storage.read(f"{home}/files/3.flac") == whole
    server.breaks["/corpus/files/3.flac"] = 100
    with server.counted(), pytest.raises(AudioError, match=r"files/3.flac: .*tried 4 times$"):
        read(f"{server.url}/corpus/files/3.flac")
    assert server.requests["GET", "/corpus/files/3.flac"] == storage.ATTEMPTS


def test_a_server_without_ranges_and_a_shard_that_was_replaced(server, speech, tmp_path):
    write_shards(read_manifest(speech / "m.jsonl")[:4], SHARDS)
    (first, *_) = Shards(SHARDS).utterances()
    write_shards(read_manifest(speech / "m.jsonl")[4:5], SHARDS, again=True)
    storage.write("s3://corpus/files/short", speech / "m.parquet")
    file, _, place = first.path.rpartition("#")
    with pytest.raises(AudioError, match=r"part-00000\.parquet"):
        read(f"{file}#{10**9}+{place.partition('+')[2]}")
    with pytest.raises(StorageError, match="bytes came of"):
        storage.read("s3://corpus/files/short", 0, 10**7)


def test_local_paths_import_no_library_for_urls(speech, tmp_path):
    code = f"""
import sys
from empathy_lightning.audio import read
from empathy_lightning.data.manifest import read_manifest
from empathy_lightning.data.shard_export import write_shards
from empathy_lightning.data.shards import Shards
write_shards(read_manifest("{speech}/m.jsonl")[:2], "{tmp_path}/shards")
read(Shards("{tmp_path}/shards").utterances()[1].path)
print(*({{"fsspec", "s3fs", "aiohttp", "boto3"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
