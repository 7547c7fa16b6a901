"""The Python examples of the chat page run as they stand, on a tiny checkpoint."""

import re

import pytest
import torch

from empathy_lightning.audio import write
from empathy_lightning.checkpoints import Checkpoint, save
from empathy_lightning.utterance import EMOTIONS
from tests.conftest import ROOT

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/chat.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=["many", "conversation", "explanation"])
def test_chat_examples(example, model, tmp_path, monkeypatch, capsys):
    save(tmp_path / "outputs/demo/speech_decoder", Checkpoint(model, list(EMOTIONS)))
    for name in ("question", "other"):
        write(tmp_path / f"{name}.wav", 0.1 * torch.randn(16_000))
    monkeypatch.chdir(tmp_path)
    assert len(example.strip().splitlines()) <= 10
    names = {}
    exec(example, names)
    assert names["reply"].emotion in EMOTIONS and capsys.readouterr().out
    assert "turns" not in names or [len(turn.speech) > 1 for turn in names["turns"]] == [True] * 3
    assert ("explanation" in names) == (tmp_path / "explained.png").is_file()
