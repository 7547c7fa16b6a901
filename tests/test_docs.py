"""The Python examples of the pages run as they stand."""

import re

import pytest
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.audio import write
from empathy_lightning.checkpoints import check_savable, load, save
from empathy_lightning.utterance import EMOTIONS
from tests.conftest import ROOT
from tests.tiny import spoken

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/chat.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=["many", "conversation", "explanation"])
def test_chat_examples(example, model, tmp_path, monkeypatch, capsys):
    save(tmp_path / "outputs/demo/speech_decoder", spoken(model, list(EMOTIONS)))
    for name in ("question", "other"):
        write(tmp_path / f"{name}.wav", 0.1 * torch.randn(16_000))
    monkeypatch.chdir(tmp_path)
    assert len(example.strip().splitlines()) <= 10
    names = {}
    exec(example, names)
    assert names["reply"].emotion in EMOTIONS and capsys.readouterr().out
    assert "turns" not in names or [len(turn.speech) > 1 for turn in names["turns"]] == [True] * 3
    assert ("explanation" in names) == (tmp_path / "explained.png").is_file()


EXTENSIONS = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", (ROOT / "docs/how-to/extend.md").read_text(), re.DOTALL)


def test_the_extensions_of_the_page_train_and_return(tmp_path, monkeypatch):
    """Both together: a corpus and a part of one's own, by the commands of the page."""
    assert [name for name, _ in EXTENSIONS] == ["my_corpus", "my_adapter"]
    for name, code in EXTENSIONS:
        (tmp_path / f"{name}.py").write_text(code)
    (tmp_path / "recordings").mkdir()
    for speaker in ("anna", "ben", "cem", "dora"):
        for number, code in enumerate("HSHSX"):
            write(tmp_path / "recordings" / f"{speaker}_{number:03d}_{code}.wav", 0.1 * torch.randn(8_000))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["fit", f"--config={ROOT / 'examples/demo/emotion_recognition.yaml'}", "--trainer.max_epochs=1"]
    words += ["--data.corpora=[{class_path: my_corpus.Answers, init_args: {root: recordings}}]"]
    words += [
        "--data.emotions=[happy, sad]",
        "--model.model.listener.emotion_nuance.num_emotions=2",
        "--data.max_left_out=0.5",
        "--model.loss_weights.rating=0",
    ]
    assert main([*words, "--trainer.accelerator=cpu"]) == 0
    assert (tmp_path / "outputs/demo/emotion_recognition/model.safetensors").is_file()


def test_the_part_of_the_page_returns(model, tmp_path, monkeypatch):
    (tmp_path / "my_adapter.py").write_text(dict(EXTENSIONS)["my_adapter"])
    monkeypatch.syspath_prepend(str(tmp_path))
    from my_adapter import ScaledAdapter

    model.listener.speech_adapter = ScaledAdapter(2.0, input_size=32, output_size=32, hidden_size=48)
    check_savable(spoken(model, list(EMOTIONS)))
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    loaded = load(tmp_path / "bot", trust=["my_adapter"]).listener.speech_adapter
    assert isinstance(loaded, ScaledAdapter) and loaded.factor == 2.0
