import re
import time

import pytest

from empathy_lightning import progress as module
from empathy_lightning.progress import progress_bar


@pytest.fixture
def impatient(monkeypatch):
    """Lines every tenth of a second, from the first on."""
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.1)
    monkeypatch.setattr(module, "_FIRST_LINE_AFTER", 0.1)


def test_a_log_gets_a_line_now_and_then(capsys, impatient):
    for _ in progress_bar(range(40), "listening"):
        time.sleep(0.02)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 12
    assert all(re.match(r"listening: \d+ of 40 \[\d\d:\d\d, .* left, .*/s\]$", line) for line in lines)
    assert lines[-1].startswith("listening: 40 of 40")


def test_work_of_a_moment_says_nothing(capsys):
    for _ in progress_bar(range(40), "listening"):
        pass
    assert capsys.readouterr().err == ""


def test_work_that_was_begun_before_goes_on_counting(capsys, impatient):
    with progress_bar(what="answers", total=10, done=6) as bar:
        for _ in range(4):
            time.sleep(0.1)
            bar.update()
    assert "answers: 10 of 10" in capsys.readouterr().err.splitlines()[-1]
