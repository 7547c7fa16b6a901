"""The lines of docs/how-to/deploy.md, as they stand."""

import re

import pytest

from empathy_lightning.audio import SAMPLE_RATE, write
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.checkpoints import save
from empathy_lightning.modules.vocoder import NeuralVocoder
from empathy_lightning.utterance import EMOTIONS
from tests.conftest import ROOT
from tests.serving.conftest import question
from tests.test_streaming import decoder_of
from tests.tiny import spoken


def test_the_bot_in_a_gradio_demo(model, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    pytest.importorskip("gradio", reason="gradio is not installed")
    from gradio_client import Client, handle_file

    page = (ROOT / "docs/how-to/deploy.md").read_text()
    (example,) = re.findall(r"```python\n(import gradio.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    save("outputs/demo/speech_decoder", spoken(model, list(EMOTIONS), decoder_of(model), NeuralVocoder(8, 16, 1)))
    write("question.wav", question(1), SAMPLE_RATE)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    names = {}
    code, launch = example.rsplit("demo.launch()", 1)
    assert not launch.strip() and len([line for line in example.splitlines() if line]) <= 12
    exec(code, names)
    names["demo"].launch(prevent_thread_lock=True, quiet=True)
    try:
        text, label, sound = Client(names["demo"].local_url, verbose=False).predict(handle_file("question.wav"))
    finally:
        names["demo"].close()
    (alone,) = EmpatheticChatbot.from_pretrained("outputs/demo/speech_decoder", "cpu").respond("question.wav")
    assert text == alone.text and label["label"] == alone.emotion
    assert (sound is None) is (alone.waveform is None)
