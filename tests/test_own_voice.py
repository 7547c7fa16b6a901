"""docs/how-to/your-own-voice.md: every command as it stands, with small sizes."""

import re
import shlex

import pytest
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.audio import read, write
from empathy_lightning.checkpoints import load, load_vocoder, save
from empathy_lightning.data import read_manifest
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.utterance import EMOTIONS
from tests.conftest import ROOT
from tests.modules.test_mel_quantizer import harmonic
from tests.tiny import spoken, whole

PAGE = (ROOT / "docs/how-to/your-own-voice.md").read_text()
VOCODER = [
    "--trainer.max_epochs=2", "--data.batch_size=4", "--model.stretch=3", "--model.vocoder.num_units=16",
    "--model.vocoder.hidden_size=8", "--model.vocoder.num_layers=1",
]  # fmt: skip
DECODER = "--model.model.talker.speech_decoder.init_args"
SMALL = {
    "prepare quantizer": ["--units=16"],
    "fit vocoder": [*VOCODER, "--trainer.accelerator=cpu"],
    "fit decoder": [
        "--trainer.max_epochs=1", "--trainer.accelerator=cpu", f"{DECODER}.num_units=16",
        f"{DECODER}.body.hidden_size=32", f"{DECODER}.body.num_layers=1",
    ],
}  # fmt: skip


def small_world():
    """The demo's bot before it speaks, with parts of random weights."""
    model = whole(
        SpeechEncoder.from_pretrained("small-world/speech_encoder"),
        SpeechAdapter(192, 192, 512, 4),
        LanguageModel.from_pretrained("small-world/language_model"),
        EmotionNuance(192, 192, 5, hidden_size=256, gate_size=64),
    )
    return spoken(model, list(EMOTIONS))


def commands():
    found = re.findall(r"```\nempathy-lightning (.*?)\n```", PAGE, re.DOTALL)
    return [shlex.split(line) for line in found]


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """A voice of few tones, in a folder that the page's commands find."""
    torch.manual_seed(0)
    for number in range(30):
        path = tmp_path / f"recordings/part{number % 2}/{number:02d}.wav"
        write(path, harmonic(100.0 + 5 * number, 0.6))
        path.with_suffix(".txt").write_text(f"How was the lamp with your uncle {number} times?")
    write(tmp_path / "question.wav", 0.1 * torch.randn(16_000))
    save(tmp_path / "outputs/demo/emotion_nuance", small_world())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_a_folder_of_recordings_to_a_talking_bot(recordings):
    export, codebook, vocoder, units, decoder, chat = commands()
    assert main(export) == 0
    assert main([*codebook, *SMALL["prepare quantizer"]]) == 0
    assert main([*vocoder, *SMALL["fit vocoder"]]) == 0
    assert main(units) == 0
    rows = read_manifest(recordings / "voice/units.jsonl")
    voice = load_vocoder("outputs/voice/vocoder")
    for row in rows:
        said = voice(torch.tensor([row.units]))
        assert 0 <= said.shape[1] - len(read(row.response_path)) < voice.samples_per_unit
    assert main([*decoder, *SMALL["fit decoder"]]) == 0
    bot = load("outputs/voice/bot")
    assert bot.talker.vocoder.num_units == 16 and bot.listener.emotion_nuance is not None
    assert main(chat) == 0
    assert read(next((recordings / "answers").glob("*.wav"))).isfinite().all()


def test_the_demo_s_voice_is_made_by_its_two_recipes_one_after_the_other(recordings):
    export, codebook, *_ = commands()
    assert main(export) == main([*codebook, *SMALL["prepare quantizer"]]) == 0
    for part in ("vocoder", "vocoder_adversarial"):
        assert main(["fit", "--config", f"recipe:demo/{part}", *SMALL["fit vocoder"]]) == 0
    first, second = load_vocoder("outputs/demo_voice/vocoder_spectral"), load_vocoder("outputs/demo_voice/vocoder")
    assert not torch.equal(first.head.weight, second.head.weight)
    # The discriminators stay behind.
    assert first.state_dict().keys() == second.state_dict().keys()
