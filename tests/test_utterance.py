import pytest
from hypothesis import given
from hypothesis import strategies as st

from empathy_lightning.utterance import scale_rating


@given(st.floats(1, 7))
def test_ratings_keep_their_order_and_stay_in_range(value):
    scaled = scale_rating(value, 1, 7)
    assert 0 <= scaled <= 1
    assert scaled * 6 + 1 == pytest.approx(value)


def test_a_rating_outside_its_scale_is_refused():
    with pytest.raises(ValueError, match="outside"):
        scale_rating(5.5, 1, 5)
