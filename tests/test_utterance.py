import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empathy_lightning.utterance import Utterance, scale_rating


def test_it_survives_json():
    utterance = Utterance("1", "c", "a.wav", emotion="sad", arousal=0.25, units=[1, 2], raw_labels={"x": "y"})
    utterance.emotion_votes = {"sad": 0.75, "happy": 0.25}
    assert Utterance.from_dict(json.loads(json.dumps(utterance.to_dict()))) == utterance


@pytest.mark.parametrize(
    "values",
    [
        {"arousal": 1.2}, {"valence": -0.1}, {"dominance": float("nan")}, {"start": 2.0, "end": 1.0}, {"id": ""},
        {"colour": "red"}, {"emotion_votes": {"sad": 0.5}}, {"emotion_votes": {"sad": 1.5, "happy": -0.5}},
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(values):
    with pytest.raises(ValueError, match="utterance"):
        Utterance.from_dict({"id": "1", "corpus": "c", "path": "a.wav"} | values)


def test_a_missing_field_is_named():
    with pytest.raises(ValueError, match="corpus"):
        Utterance.from_dict({"id": "1", "path": "a.wav"})


@given(st.floats(1, 7))
def test_ratings_keep_their_order_and_stay_in_range(value):
    scaled = scale_rating(value, 1, 7)
    assert 0 <= scaled <= 1
    assert scaled * 6 + 1 == pytest.approx(value)


def test_a_rating_outside_its_scale_is_refused():
    with pytest.raises(ValueError, match="outside"):
        scale_rating(5.5, 1, 5)
