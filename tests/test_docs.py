"""The Python examples of the pages run as they stand."""

import re
from importlib.util import module_from_spec, spec_from_file_location
from types import SimpleNamespace

import pytest
import torch

from empathy_lightning.__main__ import COMMANDS, main
from empathy_lightning.audio import write
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.checkpoints import check_savable, load, load_quantizer, save
from empathy_lightning.corpora import CORPORA
from empathy_lightning.decoding import Decoding
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.unit_language_model import Qwen2Body
from empathy_lightning.utterance import EMOTIONS
from tests.conftest import ROOT
from tests.tiny import spoken, whole

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/chat.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=["many", "conversation", "stream", "explanation"])
def test_chat_examples(example, model, tmp_path, monkeypatch, capsys):
    save(tmp_path / "outputs/demo/speech_decoder", spoken(model, list(EMOTIONS)))
    for name in ("question", "other"):
        write(tmp_path / f"{name}.wav", 0.1 * torch.randn(16_000))
    monkeypatch.chdir(tmp_path)
    assert len(example.strip().splitlines()) <= 12
    names = {}
    exec(example, names)
    assert names["reply"].emotion in EMOTIONS and capsys.readouterr().out
    assert "turns" not in names or [len(turn.speech) > 1 for turn in names["turns"]] == [True] * 3
    assert ("explanation" in names) == (tmp_path / "explained.png").is_file()


def test_the_stream_of_the_page():
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/vocoders.md").read_text(), re.DOTALL)
    names = {}
    exec(example, names)
    assert names["vocoder"].context == 21 and sum(map(bool, map(len, names["blocks"]))) > 2


EXTENSIONS = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", (ROOT / "docs/how-to/extend.md").read_text(), re.DOTALL)


def test_the_corpus_of_the_page_trains(tmp_path, monkeypatch):
    """A corpus of one's own, by the command of the page."""
    (tmp_path / "my_corpus.py").write_text(dict(EXTENSIONS)["my_corpus"])
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


def test_the_parts_of_the_page_return(model, tmp_path, monkeypatch):
    """All five in one bot, which answers as it did before it was saved."""
    for name, code in EXTENSIONS:
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    from my_adapter import MyAdapter
    from my_emotion import MyEmotion
    from my_encoder import MyEncoder
    from my_quantizer import MyQuantizer
    from my_vocoder import MyVocoder

    trust = ["my_adapter", "my_emotion", "my_encoder", "my_vocoder"]
    decoder = SpeechDecoder(32, 300, 0, num_units=8, body=Qwen2Body(16, 1, 2))
    heard = {"speech_encoder": MyEncoder(24), "speech_adapter": MyAdapter(24, 32)}
    bot = whole(**heard, language_model=model.responder.language_model, emotion_nuance=MyEmotion(24, 32, 5))
    bot = spoken(bot, EMOTIONS, decoder, MyVocoder(8)).eval()
    check_savable(bot)
    save(tmp_path / "bot", bot)
    waveform = 0.1 * torch.randn(16_000)
    replies = []
    for one in (bot, load(tmp_path / "bot", trust)):
        replies += EmpatheticChatbot(one).respond(waveform, decoding=Decoding(12, 1.0))
    assert replies[0].text == replies[1].text and replies[0].units == replies[1].units
    assert torch.equal(replies[0].waveform, replies[1].waveform) and len(replies[0].waveform) > 0
    quantizer = MyQuantizer(8)
    save(tmp_path / "quantizer", quantizer)
    loaded = load_quantizer(str(tmp_path / "quantizer"), ["my_quantizer"])
    assert torch.equal(loaded.encode(waveform), quantizer.encode(waveform)) and len(loaded.encode(waveform)) == 25


def test_the_tables_of_the_site_hold_all_that_there_is():
    """They are made from the code when the site is built, and a page that is named nowhere gets a place."""
    spec = spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    tables = module_from_spec(spec)
    spec.loader.exec_module(tables)
    shown = tables.on_page_markdown("<!-- table: corpora -->\n\n<!-- table: commands -->\n\n<!-- table: recipes -->")
    names = re.findall(r"^\| `(.*?)` \|", shown, re.MULTILINE)
    assert {*CORPORA, *COMMANDS, "recipe:freezeempath/1_semantic_alignment"} <= set(names)
    assert len({line.count("|") for line in shown.split("\n\n")[0].splitlines()}) == 1
    assert "(how-to/extend.md)" in tables.on_page_markdown("<!-- file: CONTRIBUTING.md -->")
    pages = [SimpleNamespace(src_uri=name) for name in ("index.md", "new.md", "how-to/new.md")]
    nav = [{"Start": "index.md"}, {"How-to": ["how-to/chat.md"]}, {"Evaluate": []}]
    tables.on_files(SimpleNamespace(documentation_pages=lambda: pages), SimpleNamespace(nav=nav))
    assert nav == [{"Start": "index.md"}, {"How-to": ["how-to/chat.md", "how-to/new.md"]}, {"Evaluate": ["new.md"]}]
