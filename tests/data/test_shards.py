import json
import shutil

import pytest
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.audio import AudioError, duration_of, read
from empathy_lightning.corpora import CorpusError
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.data.shard_export import write_shards
from empathy_lightning.data.shards import Shards
from tests.corpora import ravdess
from tests.corpora.noise import noise


def test_shards_hold_what_the_files_held(corpus, tmp_path):
    utterances = read_manifest(corpus)
    folder = write_shards(utterances, tmp_path / "shards", per_shard=13)
    assert sorted(p.name for p in folder.iterdir()) == ["made_from.json", *(f"part-{i:05d}.parquet" for i in range(3))]
    stored = Shards(str(folder)).utterances()
    assert [u.id for u in stored] == [u.id for u in utterances]
    for before, after in zip(utterances, stored, strict=True):
        assert (after.emotion, after.arousal, after.units, after.split) == (
            before.emotion, before.arousal, before.units, before.split,
        )  # fmt: skip
        torch.testing.assert_close(read(after.path), read(before.path), rtol=0, atol=1e-4)
        assert duration_of(after.path) == duration_of(before.path)


def test_a_stopped_run_goes_on_and_segments_are_cut_out(corpus, tmp_path):
    utterances = read_manifest(corpus)[:10]
    utterances[3].start, utterances[3].end = 0.1, 0.3
    whole = write_shards(utterances, tmp_path / "whole", per_shard=4)
    shutil.copytree(whole, tmp_path / "part")
    (tmp_path / "part" / "part-00001.parquet").unlink()
    kept = (tmp_path / "part" / "part-00000.parquet").stat().st_mtime_ns
    write_shards(utterances, tmp_path / "part", per_shard=4)
    assert (tmp_path / "part" / "part-00000.parquet").stat().st_mtime_ns == kept
    for path in sorted(whole.iterdir()):
        assert path.read_bytes() == (tmp_path / "part" / path.name).read_bytes()
    segment = Shards(str(whole)).utterances()[3]
    assert len(read(segment.path, segment.start, segment.end)) == 3_200


def test_a_url_is_read_like_a_folder(corpus, tmp_path):
    import fsspec

    folder = write_shards(read_manifest(corpus), tmp_path / "shards", per_shard=20)
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/corpus", recursive=True)
    data = EmpathyDataModule([Shards("memory://corpus")], batch_seconds=4)
    data.setup()
    local = EmpathyDataModule([Shards(str(folder))], batch_seconds=4)
    local.setup()
    for here, there in zip(local.train_dataloader(), data.train_dataloader(), strict=True):
        assert here.ids == there.ids and torch.equal(here.waveform, there.waveform)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(CorpusError, match="no shards"):
        Shards(str(tmp_path)).utterances()
    with pytest.raises(AudioError, match=r"part-00000.parquet"):
        read(f"{tmp_path}/part-00000.parquet#3")


def test_a_parquet_manifest_says_the_same_as_lines(corpus, tmp_path):
    utterances = read_manifest(corpus)
    utterances[0].raw_labels = {"emotion": "03", "note": "déjà"}
    utterances[1].emotion_votes = {"sad": 0.75, "happy": 0.25}
    for name in ("m.jsonl", "m.parquet"):
        write_manifest(tmp_path / name, utterances)
    assert read_manifest(tmp_path / "m.jsonl") == read_manifest(tmp_path / "m.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    with pytest.raises(CorpusError, match="not a Parquet file"):
        read_manifest(tmp_path / "bad.parquet")


def test_an_export_of_something_else_is_refused_or_made_anew(tmp_path, capsys):
    for actors, name in enumerate(("second", "first"), 1):
        ravdess.write(tmp_path / name, actors)
    for out, more in (("e.jsonl", ()), ("shards", ("--shards",))):

        def _export(name, *again, out=out, more=more):
            words = ["corpora", "export", "ravdess", str(tmp_path / name), "--out", str(tmp_path / out), *more, *again]
            return main(words)

        assert _export("first") == 0
        held = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert _export("first") == 0
        assert _export("second") == 2
        assert "utterances" in capsys.readouterr().err.strip().splitlines()[-1]
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == held
        assert _export("second", "--again") == 0
        found = Shards(str(tmp_path / out)).utterances() if more else read_manifest(tmp_path / out)
        assert len(found) == 15


def test_an_export_that_was_stopped_is_no_corpus(corpus, tmp_path):
    folder = write_shards(read_manifest(corpus), tmp_path / "shards", per_shard=13)
    (folder / "part-00001.parquet").unlink()
    with pytest.raises(CorpusError, match="holds 2 of 3 shards"):
        Shards(str(folder)).utterances()


def test_voices_and_replies_are_found_from_anywhere(tmp_path, monkeypatch):
    """Exported from one folder under relative names, read from another one, and after a move."""
    for name in ("words", "voice", "reply"):
        noise(tmp_path / "corpus" / f"{name}.wav")
    row = {"id": "1", "corpus": "c", "path": "words.wav", "emotion_path": "voice.wav", "response_path": "reply.wav"}
    (tmp_path / "corpus" / "m.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.chdir(tmp_path / "corpus")
    for out in ("shards", "."):
        assert main(["corpora", "export", "manifest", "m.jsonl", "--shards", "--out", out]) == 0
    monkeypatch.chdir("/")
    (away,) = Shards(str(tmp_path / "corpus" / "shards")).utterances()
    assert away.emotion_path == str(tmp_path / "corpus" / "voice.wav")
    assert len(read(away.path)) == len(read(away.emotion_path)) == len(read(away.response_path)) == 1_600
    (tmp_path / "corpus").rename(tmp_path / "moved")
    (beside,) = Shards(str(tmp_path / "moved")).utterances()
    assert len(read(beside.path)) == len(read(beside.emotion_path)) == len(read(beside.response_path)) == 1_600
