from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empathy_lightning.audio import read
from empathy_lightning.corpora import CorpusError
from empathy_lightning.corpora.iemocap import IEMOCAP, parse_name
from empathy_lightning.data.manifest import valid
from tests.corpora import iemocap


@pytest.fixture
def corpus(tmp_path):
    return IEMOCAP(str(iemocap.write(tmp_path)))


@pytest.fixture
def turns(corpus):
    return {utterance.id: utterance for utterance in corpus.utterances()}


def test_every_turn_with_audio_becomes_one_utterance(turns):
    assert len(turns) == 5 * 4 + 1
    assert Counter(u.session for u in turns.values()) == {"1": 9, "3": 4, "5": 8}
    assert Counter(u.emotion for u in turns.values()) == {"frustrated": 5, None: 6, "angry": 5, "excited": 5}
    assert all(read(u.path).shape == (1600,) and u.split is None for u in turns.values())


def test_the_speaker_is_the_last_letter_not_the_wearer_of_the_markers(turns):
    assert turns["Ses01F_impro01_M001"].speaker == "1M"
    assert turns["Ses03M_impro05a_F000"].speaker == "3F"
    assert turns["Ses05M_script01_1b_M003"].speaker == "5M"


def test_ratings_stand_in_the_order_valence_activation_dominance(turns):
    turn = turns["Ses01F_impro01_F000"]
    assert (turn.valence, turn.arousal, turn.dominance) == (0.25, 0.625, 0.5)
    assert turn.raw_labels["valence"] == "2.0000" and turn.raw_labels["arousal"] == "3.5000"
    assert turn.duration == 0.2


def test_raters_are_kept(turns):
    labels = turns["Ses05F_script03_2_M001"].raw_labels
    assert labels["emotion"] == "xxx" and turns["Ses05F_script03_2_M001"].emotion is None
    assert labels["C-E3"] == "Anger; Frustration" and labels["C-E4"] == "Neutral (tired)"
    assert labels["A-E4"] == "val 2; act 4; dom" and labels["C-F1"] == "Neutral state"


def test_votes_are_those_of_the_raters_not_of_the_actors(turns):
    turn = turns["Ses05F_script03_2_M001"]
    assert turn.emotion_votes == {"frustrated": 0.5, "angry": 0.25, "neutral": 0.25}
    assert valid([turn], "the parser") == [turn]


def test_transcripts_lose_sounds_but_no_words(turns):
    for name in ("Ses01F_impro01_M001", "Ses05F_script03_2_M001"):
        assert turns[name].transcript == "It\u2019s turn 001… now."
        assert turns[name].raw_labels["transcript"] == "It\u2019s [LAUGHTER] turn 001… now."


def test_what_is_odd_is_reported(corpus, turns):
    reasons = {path.split("/")[-1]: reason for path, reason, _ in corpus.skipped}
    assert "without a file" in reasons["Ses01F_impro01_M900"]
    assert "no evaluation" in reasons["Ses01F_impro01_M999.wav"]
    lines = [reason for path, reason, _ in corpus.skipped if path.endswith("Ses01F_impro01.txt")]
    assert len(lines) == 2 and "broken" in lines[0] and "FXX0" in lines[1]
    odd = turns["Ses01F_impro01_F901"]
    assert odd.emotion is None and odd.raw_labels["emotion"] == "bor"
    assert (odd.valence, odd.arousal, odd.dominance) == (0.25, None, None)
    assert sum(path.endswith(odd.id) for path, _, _ in corpus.skipped) == 3
    assert len(corpus.skipped) == 2 + 2 + 3


def test_the_release_itself_can_be_the_root(corpus, turns, tmp_path):
    assert [u.id for u in IEMOCAP(str(tmp_path / "IEMOCAP_full_release")).utterances()] == list(turns)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="sign the licence"):
        IEMOCAP(str(tmp_path / "empty")).utterances()


@given(
    session=st.sampled_from("12345"),
    wearer=st.sampled_from("FM"),
    scene=st.sampled_from(["impro", "script"]),
    take=st.integers(0, 99),
    half=st.sampled_from(["", "a", "b"]),
    part=st.sampled_from(["", "_1", "_2", "_1b"]),
    speaker=st.sampled_from("FM"),
    number=st.integers(0, 999),
)
def test_names_can_be_taken_apart_and_put_together(
    session, wearer, scene, take, half, part, speaker, number
):  # fmt: skip
    dialog = f"Ses0{session}{wearer}_{scene}{take:02d}{half}{part if scene == 'script' else ''}"
    name = parse_name(f"{dialog}_{speaker}{number:03d}")
    assert name == (dialog, session, speaker, f"{number:03d}")
    assert parse_name(f"{dialog}_{speaker}XX{number % 10}") is None


@given(st.text())
def test_other_names_are_refused_without_an_error(text):
    assert parse_name(text) is None
