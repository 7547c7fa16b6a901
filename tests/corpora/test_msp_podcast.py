import pytest

from empathy_lightning.audio import read
from empathy_lightning.corpora import CorpusError
from empathy_lightning.corpora.msp_podcast import MSPPodcast
from tests.corpora import msp_podcast

LAYOUTS = [
    ("MSP-PODCAST-Publish-1.8", "Labels/labels_concensus.csv", "Audio"),
    ("MSP-PODCAST-Publish-1.11", "Labels/labels_consensus.csv", "Audios"),
    ("MSP-PODCAST-Publish-2.0", "label/labels_consensus.json", "Audios"),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_release_is_read(tmp_path, layout):
    corpus = MSPPodcast(str(msp_podcast.write(tmp_path, *layout)))
    found = {u.id.removeprefix("MSP-PODCAST_"): u for u in corpus.utterances()}
    assert {name: (u.emotion, u.split) for name, u in found.items()} == {
        "0042_0017": ("angry", "train"),
        "0042_0018": (None, "validation"),
        "0042_0019": ("surprised", "validation"),
        "0042_0020": (None, "train"),
        "1023_0235": ("contempt", "test"),
        "2001_0001_0002": ("other", "test2"),
        "test3_0001": (None, "test3"),
    }
    assert all(read(u.path).ndim == 1 for u in found.values())
    assert [u.id for u in MSPPodcast(str(tmp_path / layout[0])).utterances()] == [u.id for u in corpus.utterances()]


@pytest.fixture
def corpus(tmp_path):
    return MSPPodcast(str(msp_podcast.write(tmp_path)))


def test_ratings_are_read_by_name_of_their_column(corpus):
    first, second, third, *_ = corpus.utterances()
    assert (first.arousal, first.valence, first.dominance) == pytest.approx((4.4 / 6, 1.2 / 6, 4 / 6))
    assert first.raw_labels == {
        "emotion": "A", "arousal": "5.4", "valence": "2.2", "dominance": "5.0", "gender": "Female", "split": "Train",
    }  # fmt: skip
    assert (first.speaker, first.transcript) == ("311", "Well, that is that.")
    assert (second.speaker, second.transcript, second.raw_labels["emotion"]) == (None, None, "X")
    assert (third.arousal, third.valence) == (1.0, 0.0)


def test_what_is_odd_is_reported(corpus):
    odd = next(u for u in corpus.utterances() if u.id.endswith("0042_0020"))
    assert (odd.emotion, odd.arousal, odd.valence, odd.dominance) == (None, None, None, 0.5)
    reasons = [(path.split("/")[-1], reason) for path, reason in corpus.skipped]
    assert [reason.split(":")[0] for path, reason in reasons if path.endswith("0042_0020.wav")] == ["label only"] * 3
    assert ("MSP-PODCAST_0042_0021", "a row without audio") in reasons
    assert ("MSP-PODCAST_0042_0099.wav", "no row in the consensus labels") in reasons
    assert any("0042_0022" in reason for path, reason in reasons if path == "labels_concensus.csv")
    assert len(reasons) == 6


def test_missing_labels_are_named(tmp_path):
    with pytest.raises(CorpusError, match="labels_consensus"):
        MSPPodcast(str(tmp_path)).utterances()
