from types import SimpleNamespace

import pytest
import torch

from empathy_lightning.audio import read
from empathy_lightning.corpora import CorpusError
from empathy_lightning.corpora.msp_podcast import MSPPodcast
from empathy_lightning.data.batch import collate
from empathy_lightning.data.published import protocol_named
from empathy_lightning.losses import SoftLabelLoss
from empathy_lightning.outputs import EmpatheticOutput
from empathy_lightning.utterance import EMOTIONS
from tests.corpora import msp_podcast

LAYOUTS = [
    ("MSP-PODCAST-Publish-1.6", "label/labels_concensus.csv", "Audio", "Workers"),
    ("MSP-PODCAST-Publish-1.8", "Labels/labels_concensus.csv", "Audio", "detail"),
    ("MSP-PODCAST-Publish-1.11", "Labels/labels_consensus.json", "Audios"),
    ("MSP-PODCAST-Publish-2.0", "Labels/labels_consensus.csv", "Audios", "WorkerID"),
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
    votes = {name: u.emotion_votes for name, u in found.items() if u.emotion_votes}
    assert votes == {
        "0042_0017": {"angry": 0.5, "other": 0.25, "contempt": 0.25},
        "0042_0018": {"surprised": 0.5, "fearful": 0.5},
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
        "raters": "Angry; Angry; Other-fed up, tired; Contempt",
    }  # fmt: skip
    assert (first.speaker, first.transcript) == ("311", "Well, that is that.")
    assert (second.speaker, second.transcript, second.raw_labels["emotion"]) == (None, None, "X")
    assert (third.arousal, third.valence) == (1.0, 0.0)


def test_what_is_odd_is_reported(corpus):
    odd = next(u for u in corpus.utterances() if u.id.endswith("0042_0020"))
    assert (odd.emotion, odd.arousal, odd.valence, odd.dominance) == (None, None, None, 0.5)
    reasons = [(path.split("/")[-1], reason) for path, reason, _ in corpus.skipped]
    assert [reason.split(":")[0] for path, reason in reasons if path.endswith("0042_0020.wav")] == ["label only"] * 3
    assert ("MSP-PODCAST_0042_0021", "a row without audio") in reasons
    assert ("MSP-PODCAST_0042_0099.wav", "no row in the consensus labels") in reasons
    assert any("0042_0022" in reason for path, reason in reasons if path == "labels_concensus.csv")
    assert ("labels_detailed.csv", "ratings without a file name or a primary emotion: 1") in reasons
    assert len(reasons) == 7


def test_votes_reach_the_batch_and_the_protocol_keeps_them(corpus):
    utterances = [u for u in corpus.utterances() if u.emotion_votes]
    batch = collate([(read(u.path), u) for u in utterances], EMOTIONS)
    # Anger has half of the first one's votes; of the second one's, surprise is the only category of the task.
    assert batch.emotion_votes.tolist() == [[0, 0, 0, 0.5, 0], [0, 0, 0, 0, 0.5]]
    logits = torch.tensor([[0.0, 0.0, 0.0, 2.0, 0.0], [1.0, 0.0, 0.0, 0.0, -1.0]])
    estimate = SimpleNamespace(logits=logits)
    loss = SoftLabelLoss()(EmpatheticOutput(None, estimate), batch)
    assert loss.item() == pytest.approx(-(logits.log_softmax(1)[0, 3] + logits.log_softmax(1)[1, 4]).item() / 2)
    (chosen,) = protocol_named("re-llm-msp-podcast").__class__({"train": 1}, 0, EMOTIONS, "")(utterances)
    assert chosen.emotion_votes == {"angry": 0.5, "other": 0.25, "contempt": 0.25}


def test_without_detailed_labels_there_are_no_votes(tmp_path):
    root = msp_podcast.write(tmp_path)
    next(root.rglob("labels_detailed.csv")).unlink()
    assert not any(u.emotion_votes for u in MSPPodcast(str(root)).utterances())


def test_ratings_that_are_none_are_counted(tmp_path):
    root = msp_podcast.write(tmp_path)
    next(root.rglob("labels_detailed.csv")).write_text("FileName,EmoDetail\na.wav,\nb.wav,nonsense\n")
    corpus = MSPPodcast(str(root))
    assert not any(u.emotion_votes for u in corpus.utterances())
    assert any(reason.startswith("ratings without") and reason.endswith(": 2") for _, reason, _ in corpus.skipped)


def test_free_text_is_one_vote(tmp_path):
    root = msp_podcast.write(tmp_path)
    file = next(root.rglob("labels_detailed.csv"))
    name = MSPPodcast(str(root)).utterances()[0].path.rpartition("/")[2]
    file.write_text(f'FileName,EmoClass_Major\n{name},"excited, amused"\n{name},"Sad, Happy"\n{name},Sad\n')
    votes = next(u for u in MSPPodcast(str(root)).utterances() if u.path.endswith(name)).emotion_votes
    assert votes == pytest.approx({"other": 0.25, "sad": 0.5, "happy": 0.25})


def test_missing_labels_are_named(tmp_path):
    with pytest.raises(CorpusError, match="labels_consensus"):
        MSPPodcast(str(tmp_path)).utterances()
