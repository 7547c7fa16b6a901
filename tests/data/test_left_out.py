"""Nothing vanishes: what is left out is counted by reason, told once, and limited."""

import json
import shutil

import pytest

from empathy_lightning.__main__ import main
from empathy_lightning.corpora import CORPORA, Corpus, CorpusError
from empathy_lightning.corpora.corpus import Kind
from empathy_lightning.corpora.ravdess import RAVDESS
from empathy_lightning.data import Manifest, read_manifest, write_manifest
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.data.left_out import Tally, kind_of
from empathy_lightning.data.protocols import SentenceSplit, Whole
from empathy_lightning.data.published import protocol_named
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.data.sentences import sentences
from empathy_lightning.utterance import Utterance
from empathy_lightning.walk import files_below
from tests.corpora import ravdess
from tests.corpora.noise import noise


def test_links_are_followed_under_their_own_names(tmp_path):
    real = ravdess.write(tmp_path / "real")
    expected = {u.id: u.emotion for u in RAVDESS(str(real)).utterances()}
    annex = tmp_path / "annexed" / ".git" / "annex" / "objects"
    annex.mkdir(parents=True)
    for number, path in enumerate(sorted(real.rglob("*.wav"))):
        key = annex / f"KEY{number}.wav"
        shutil.copy(path, key)
        link = tmp_path / "annexed" / path.relative_to(real)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(key)
    corpus = RAVDESS(str(tmp_path / "annexed"))
    assert {u.id: u.emotion for u in corpus.utterances()} == expected
    folders = tmp_path / "folders"
    folders.mkdir()
    for folder in sorted({path.parent for path in real.rglob("*.wav")}):
        (folders / folder.name).symlink_to(folder)
    assert {u.id: u.emotion for u in RAVDESS(str(folders)).utterances()} == expected
    write_manifest(tmp_path / "annexed" / "m.jsonl", corpus.utterances())
    stored = [json.loads(line)["path"] for line in (tmp_path / "annexed" / "m.jsonl").read_text().splitlines()]
    assert all("annex/objects" not in path and not path.startswith("/") for path in stored)


def test_links_in_a_circle_have_an_end_and_dangling_ones_are_named(tmp_path):
    root = ravdess.write(tmp_path / "corpus")
    count = len(RAVDESS(str(root)).utterances())
    folder = next(root.rglob("*.wav")).parent
    (folder / "up").symlink_to(root)
    (folder / "self").symlink_to(folder)
    (folder / "03-01-01-01-01-01-24.wav").symlink_to(tmp_path / "gone.wav")
    corpus = RAVDESS(str(root))
    assert len(corpus.utterances()) == count
    ((path, _),) = [(p, r) for p, r, _ in corpus.skipped if "leads nowhere" in r]
    assert path.endswith("03-01-01-01-01-01-24.wav")


def test_a_real_folder_goes_before_a_link_to_it(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.wav").touch()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "y.wav").touch()
    (tmp_path / "a").symlink_to(tmp_path / "b")
    assert files_below(tmp_path) == [tmp_path / "b" / "x.wav"]


def spelt(corpus, target, **changes):
    """The fixture's manifest with other spellings of some values."""
    rows = [json.loads(line) for line in corpus.read_text().splitlines()]
    for row in rows:
        row["path"] = str(corpus.parent / row["path"])
        if "response_path" in row:
            row["response_path"] = str(corpus.parent / row["response_path"])
        for name, words in changes.items():
            row[name] = words.get(row[name], row[name])
    target.write_text("\ufeff" + "".join(json.dumps(row) + "\n\n" for row in rows))
    return target


def test_other_spellings_train_and_validate_the_same(corpus, tmp_path):
    emotions = {"happy": "Happiness", "sad": "Sad", "angry": "anger", "surprised": "SURPRISE", "neutral": "Neutral"}
    splits = {"train": "Train", "validation": "dev", "test": "TEST"}
    path = spelt(corpus, tmp_path / "m.jsonl", emotion=emotions, split=splits)
    ours, theirs = EmpathyDataModule([Manifest(str(path))]), EmpathyDataModule([Manifest(str(corpus))])
    ours.setup()
    theirs.setup()
    for split in ("train", "validation", "test"):
        labels = [(u.id, u.emotion) for u in ours.splits[split]]
        assert labels and labels == [(u.id, u.emotion) for u in theirs.splits[split]]
    own = EmpathyDataModule([Manifest(str(path))], emotions=["joy", "sadness"], allow_empty_classes=True)
    own.setup()
    assert {u.emotion for u in own.splits["train"]} == {"joy", "sadness", "angry", "surprised", "neutral"}


def test_the_summary_counts_by_reason_and_a_lost_share_stops(corpus, tmp_path, capsys):
    path = spelt(corpus, tmp_path / "m.jsonl", path={str(corpus.parent / "3.wav"): "gone.wav"})
    with pytest.raises(CorpusError, match=r"1 of 30 utterances would be lost: 1 without a file .*--data.max_left_out"):
        EmpathyDataModule([Manifest(str(path))]).setup()
    data = EmpathyDataModule([Manifest(str(path))], protocol=Whole("train", ["sad", "angry"]), max_left_out=0.5)
    data.setup()
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "read 11 of 30 utterances: 18 by the protocol, 1 without a file"


def test_lightning_refuses_unknown_labels_and_empty_classes(corpus, tmp_path, backbones, capsys):
    """Through the trainer's command, with a recipe that learns emotions."""
    config = recipe(tmp_path, spelt(corpus, tmp_path / "m.jsonl", emotion={"happy": "cheerful"}))
    assert main(["fit", "--config", str(config)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "6 of 30 utterances would be lost: 6 labelled 'cheerful' (did you mean happy?)" in said
    assert "--data.max_left_out 0.2" in said and len(said) <= 310
    assert main(["fit", "--config", str(config), "--data.max_left_out", "0.5"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "no training utterance is labelled happy" in said and "allow_empty_classes" in said
    assert (
        main(["fit", "--config", str(config), "--data.max_left_out", "0.5", "--data.allow_empty_classes", "true"]) == 0
    )


def recipe(folder, manifest):
    values = {
        "trainer": {"accelerator": "cpu", "max_steps": 1, "logger": False, "enable_checkpointing": False,
                    "limit_val_batches": 1, "enable_progress_bar": False, "default_root_dir": str(folder)},
        "model": {"class_path": "EmotionNuanceTask", "init_args": {
            "model": {"listener": {"speech_encoder": {
                "class_path": "empathy_lightning.modules.convolutional_encoder.ConvolutionalEncoder",
                "init_args": {"hidden_size": 16}},
                "emotion_nuance": {"class_path": "empathy_lightning.modules.emotion_nuance.EmotionNuance",
                                   "init_args": {"input_size": 16, "output_size": 16, "hidden_size": 16,
                                                 "gate_size": 8}}}},
            "auxiliary_losses": {"categorical": {"class_path": "empathy_lightning.losses.categorical.CategoricalLoss"}},
        }},
        "data": {"corpora": [{"class_path": "empathy_lightning.data.Manifest",
                              "init_args": {"path": str(manifest)}}]},
    }  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(values))
    return path


def test_a_protocol_that_knows_no_corpus_says_so(corpus):
    with pytest.raises(CorpusError, match=r"knows none of the corpora \(tones\), only .*null for"):
        EmpathyDataModule([Manifest(str(corpus))], protocol="freezeempath").setup()
    assert protocol_named("freezeempath")([]) == []


def test_own_manifests_are_checked_and_exported_and_the_count_is_true(corpus, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    command = ["corpora", "export", "manifest", str(corpus), "--protocol", "iemocap-four", "--out", str(out)]
    sessions = tmp_path / "m.jsonl"
    rows = [json.loads(line) | {"session": line.count("sad")} for line in corpus.read_text().splitlines()]
    for row in rows:
        row["path"] = str(corpus.parent / row["path"])
    sessions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command[3] = str(sessions)
    assert main(command) == 0
    said = capsys.readouterr()
    assert said.err.splitlines()[-1] == "read 24 of 30 utterances: 6 by the protocol"
    assert len(read_manifest(out)) == 24
    assert main(["corpora", "check", "manifest", str(out), "--out", str(tmp_path / "r.json")]) in (0, 1)
    assert "read 24 of 24 utterances" in capsys.readouterr().out


def test_export_is_stopped_by_what_nobody_asked_for(corpus, tmp_path, capsys):
    path = spelt(corpus, tmp_path / "m.jsonl", path={str(corpus.parent / "3.wav"): "gone.wav"})
    command = ["corpora", "export", "manifest", str(path), "--out", str(tmp_path / "out.jsonl")]
    assert main(command) == 2
    assert "--allow_left_out" in capsys.readouterr().err and not (tmp_path / "out.jsonl").exists()
    assert main([*command, "--allow_left_out", "0.1"]) == 0
    assert len(read_manifest(tmp_path / "out.jsonl")) == 29


def test_a_split_is_chosen_in_any_spelling(corpus, capsys):
    assert [u.id for u in read_chosen(corpus, "DEV")] == ["20", "21", "22", "23", "24"]
    assert "read 5 of 30 utterances: 25 of other splits" in capsys.readouterr().err
    with pytest.raises(CorpusError, match="no split is named 'holdout'"):
        read_chosen(corpus, "holdout")


def test_a_sentence_is_one_whatever_its_spelling():
    said = ["The small boat left.", "the small boat left", "The boat left!", "It's late", "Its late", None]
    numbers = ["1", None, "1", None, "2", None]
    rows = [
        Utterance(str(i), "c", "/a", transcript=t, raw_labels={} if n is None else {"sentence": n})
        for i, (t, n) in enumerate(zip(said, numbers, strict=True))
    ]
    names = sentences(rows)
    assert len({names[0], names[1], names[2]}) == 1 and names[3] == names[4]
    assert len(set(names)) == 3
    for seed in range(5):
        splits = SentenceSplit(0.5, seed).splits(rows)
        assert len({*splits[:3]}) == 1 and splits[3] == splits[4]


def test_kinds_of_reasons():
    assert kind_of("row '390' has no audio file (x.wav)") == "row has no audio file"
    assert kind_of("a Git LFS pointer, not audio; run `git lfs pull`") == "a Git LFS pointer, not audio"
    tally = Tally(kept=99)
    tally.lose("without a file", "a.wav")
    tally.refuse_above(0.01, "--data.max_left_out")
    tally.lose("without a file", "b.wav")
    with pytest.raises(CorpusError, match=r"2 of 101 .*\(a.wav\).*max_left_out 0.02"):
        tally.refuse_above(0.01, "--data.max_left_out")


class Told(Corpus):
    """Skips as much as it yields, each time with the same words; only their kinds differ."""

    name, access, kind = "told", "", Kind.LOST

    def read(self, folder):
        for index in range(10):
            noise(folder / f"{index}.wav")
            self.skip(folder / f"{index}.wav", "something is odd here", self.kind)
            yield Utterance(str(index), self.name, str(folder / f"{index}.wav"), split="train")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Kind.KEPT, "read 10 of 10 utterances"),
        (Kind.ASKED, "read 10 of 20 utterances: 10 something is odd here"),
        (Kind.COPY, "read 10 of 20 utterances: 10 doubled copies"),
        (Kind.LOST, "error: 10 of 20 utterances would be lost: 10 something is odd here"),
    ],
)
def test_the_kind_of_a_skip_decides_and_not_its_words(tmp_path, monkeypatch, capsys, kind, said):
    monkeypatch.setitem(CORPORA, "told", type("Kinds", (Told,), {"kind": kind}))
    words = ["corpora", "export", "told", str(tmp_path), "--out", str(tmp_path / "out.jsonl")]
    assert main(words) == (2 if kind is Kind.LOST else 0)
    assert capsys.readouterr().err.splitlines()[-1].startswith(said)
