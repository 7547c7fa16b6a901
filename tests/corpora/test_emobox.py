import pytest

from empathy_lightning.audio import read
from empathy_lightning.corpora import CorpusError
from empathy_lightning.corpora.emobox import EmoBox
from tests.corpora import emobox


@pytest.fixture
def root(tmp_path):
    return emobox.write(tmp_path)


def emotions(path, **options):
    return [utterance.emotion for utterance in EmoBox(str(path), **options).utterances()]


def test_a_whole_corpus_has_no_splits(root):
    excited, neutral = EmoBox(str(root / "data" / "iemocap")).utterances()
    assert (excited.id, excited.emotion, excited.split) == ("iemocap-Ses01F_impro01_M004", "happy", None)
    assert (excited.corpus, excited.language, excited.speaker, excited.duration) == ("emobox", "en", None, 0.1)
    assert excited.raw_labels == {"emotion": "exc", "dataset": "iemocap", "channel": "1"}
    assert read(neutral.path).shape == (1600,) and neutral.emotion == "neutral"


@pytest.mark.parametrize("fold", [1, 2])
def test_a_fold_has_splits(root, fold):
    found = {u.split: u.id for u in EmoBox(str(root / "data" / "iemocap"), fold=fold).utterances()}
    assert found == {
        "train": f"iemocap-Ses0{3 - fold}F_impro01_M004", "test": f"iemocap-Ses0{fold}F_impro01_M004",
    }  # fmt: skip


def test_the_same_letter_means_what_its_corpus_says(root):
    assert emotions(root / "data" / "polish") == ["angry", "neutral", "fearful"]
    assert emotions(root / "data" / "emodb") == ["bored", "neutral"]
    assert emotions(root / "data" / "emovo") == ["disgust"]
    assert emotions(root / "data" / "pavoque") == ["other"]


def test_one_file_can_be_read(root):
    older = EmoBox(str(root / "data/emodb/fold_1/emodb_test_fold1.jsonl")).utterances()
    assert [(u.id, u.emotion, u.split, u.duration) for u in older] == [("emodb-03a", "bored", "test", None)]
    path = root / "data/track2/SAVEE_selected_balenced.jsonl"
    (second_track,) = EmoBox(str(path), root=str(root / "downloads" / "savee")).utterances()
    assert (second_track.id, second_track.emotion, second_track.speaker) == ("KL/a07", "angry", "KL")


def test_segments_and_videos(root):
    (segment,) = EmoBox(str(root / "data" / "pavoque")).utterances()
    assert read(segment.path, segment.start, segment.end).shape == (960,)
    (clip,) = EmoBox(str(root / "data" / "meld"), fold=1).utterances()
    assert clip.split == "validation" and clip.path.endswith("dia0_utt0.wav") and clip.emotion == "happy"


def test_what_is_odd_is_reported(root):
    corpus = EmoBox(str(root / "data" / "msppodcast"))
    assert [(u.emotion, u.raw_labels["emotion"]) for u in corpus.utterances()] == [(None, "X"), (None, "Q")]
    reasons = [(path.split("/")[-1], reason.split(":")[0]) for path, reason, _ in corpus.skipped]
    assert reasons == [
        ("2.wav", "label only"),
        ("3.wav", "a row without audio"),
        *[(f"msppodcast.jsonl, line {number}", "not a row of EmoBox") for number in (4, 5, 6)],
    ]


def test_missing_folds_and_audio_are_named(root, tmp_path):
    with pytest.raises(CorpusError, match=r"iemocap_train_fold_9\.jsonl"):
        EmoBox(str(root / "data" / "iemocap"), fold=9).utterances()
    with pytest.raises(CorpusError, match="a row without audio"):
        EmoBox(str(root / "data" / "iemocap"), root=str(tmp_path)).utterances()
