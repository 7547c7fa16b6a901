"""Parts that somebody wrote without this library's classes: trained from YAML, exported, loaded, and heard again."""

import json
import os
import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from empathy_lightning.__main__ import main
from empathy_lightning.audio import read, resample, write
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.checkpoints import CheckpointError, check_savable, load, load_vocoder, load_weights, save
from empathy_lightning.data import read_manifest
from empathy_lightning.decoding import Decoding
from empathy_lightning.errors import InputError
from empathy_lightning.listener import Listener
from empathy_lightning.modules.cached_encoder import CachedSpeechEncoder
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.talker import Talker
from empathy_lightning.utterance import EMOTIONS
from tests.tiny import heard, whole

THEIRS = '''
import torch
from torch import nn

from empathy_lightning.modules.emotion_heads import EmotionEstimate
from empathy_lightning.modules.speech_encoder import EncodedSpeech


class Ears(nn.Module):
    """Speech encoder over windows of the waveform; its layers are narrower than its frames."""

    max_seconds = 2.0

    def __init__(self, hidden_size: int, hop: int = 320) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.hop = hop
        self.lower = nn.Linear(hop, hidden_size // 2)
        self.upper = nn.Linear(hidden_size // 2, hidden_size)

    def forward(self, waveform, lengths):
        windows = nn.functional.pad(waveform, (0, -waveform.shape[1] % self.hop)).unflatten(1, (-1, self.hop))
        mask = torch.arange(windows.shape[1]) < ((lengths + self.hop - 1) // self.hop)[:, None]
        lower = self.lower(windows).tanh() * mask[..., None]
        return EncodedSpeech(self.upper(lower) * mask[..., None], (lower,), mask)


class Bridge(nn.Module):
    """Adapter: every fourth frame."""

    def __init__(self, input_size: int, output_size: int) -> None:
        super().__init__()
        self.input_size = input_size
        self.output_size = output_size
        self.project = nn.Linear(input_size, output_size)

    def forward(self, frames, mask):
        return self.project(frames[:, ::4]), mask[:, ::4]


class Mood(nn.Module):
    """Emotion head that names a category and rates nothing."""

    reads = "layers"

    def __init__(self, input_size: int, output_size: int, num_emotions: int) -> None:
        super().__init__()
        self.input_size = input_size
        self.output_size = output_size
        self.num_emotions = num_emotions
        self.project = nn.Linear(input_size, output_size)
        self.category = nn.Linear(output_size, num_emotions)

    def forward(self, layers, mask):
        mean = (layers[-1] * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        embedding = self.project(mean)
        unknown = torch.full_like(mean[:, 0], torch.nan)
        return EmotionEstimate(embedding, self.category(embedding), unknown, unknown, unknown)


class Voice(nn.Module):
    """Vocoder: a short sound for each unit."""

    def __init__(self, num_units: int, sample_rate: int = 8_000) -> None:
        super().__init__()
        self.num_units = num_units
        self.sample_rate = sample_rate
        self.samples_per_unit, self.context = 100, 0
        self.sounds = nn.Embedding(num_units, 100)

    def forward(self, units):
        return self.sounds(units).tanh().flatten(1)


class Loudness(nn.Module):
    """Quantizer: the loudness of each tenth of a second."""

    def __init__(self, num_units: int, sample_rate: int = 8_000) -> None:
        super().__init__()
        self.num_units = num_units
        self.sample_rate = sample_rate
        self.scale = nn.Parameter(torch.tensor(20.0))

    def encode(self, waveform):
        tenths = waveform[: len(waveform) // 800 * 800].unflatten(0, (-1, 800))
        return (tenths.square().mean(1).sqrt() * self.scale).long().clamp(max=self.num_units - 1)


class Pair(nn.Module):
    """An adapter made of two."""

    def __init__(self, first: nn.Module, second: nn.Module, share: float = 0.5) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.share = share

    def forward(self, frames, mask):
        one, valid = self.first(frames, mask)
        return self.share * one + (1 - self.share) * self.second(frames, mask)[0], valid
'''


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """The package, on the path of this process and of those that it starts."""
    (tmp_path / "code" / "theirs").mkdir(parents=True)
    (tmp_path / "code" / "theirs" / "__init__.py").write_text("")
    (tmp_path / "code" / "theirs" / "parts.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    for name in ("theirs", "theirs.parts"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import theirs.parts

    yield theirs.parts
    for name in ("theirs", "theirs.parts"):
        sys.modules.pop(name, None)


def named(kind, /, **arguments):
    return {"class_path": kind, "init_args": arguments}


def fit(folder, stage, task, manifest, model, **arguments):
    """Train a stage of two steps by the command line, from a YAML that names its parts by class path."""
    trainer = {"max_steps": 2, "limit_val_batches": 1, "accelerator": "cpu", "logger": False}
    trainer |= {"enable_checkpointing": False, "default_root_dir": str(folder)}
    trainer["callbacks"] = [named("empathy_lightning.tasks.Export", folder=str(folder / stage))]
    data = {"corpora": [named("empathy_lightning.data.Manifest", path=str(manifest))], "batch_seconds": 8}
    task = named(f"empathy_lightning.tasks.{task}", model=model, **arguments)
    (folder / f"{stage}.yaml").write_text(yaml.safe_dump({"trainer": trainer, "data": data, "model": task}))
    assert main(["fit", f"--config={folder / stage}.yaml"]) == 0


FRESH = """
import json, sys
import torch
from empathy_lightning.__main__ import main
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.decoding import Decoding

folder, recording, out = sys.argv[1:]
chat = ["chat", recording, "--checkpoint", folder, "--out", out, "--max_new_tokens=12", "--temperature=1"]
refused = main(chat)
imported = "theirs" in sys.modules
answered = main([*chat, "--trust", "theirs"])
(reply,) = EmpatheticChatbot.from_pretrained(folder, "cpu", ["theirs"]).respond(recording, decoding=Decoding(12, 1.0))
torch.save(reply.waveform, f"{out}/waveform.pt")
print(json.dumps([refused, imported, answered, reply.text, reply.emotion, reply.units, reply.sample_rate]))
"""


def test_five_parts_from_elsewhere_go_all_the_way(theirs, backbones, corpus, tmp_path, capsys):
    save(tmp_path / "quantizer", theirs.Loudness(8))
    save(tmp_path / "voice", theirs.Voice(8))
    units = ["prepare", "units", str(corpus), "--out", str(tmp_path / "units.jsonl"), "--quantizer"]
    units += [str(tmp_path / "quantizer")]
    assert main(units) == 2
    assert "--trust theirs" in capsys.readouterr().err.strip().splitlines()[-1]
    assert main([*units, "--trust", "theirs"]) == 0
    rows = read_manifest(tmp_path / "units.jsonl")
    expected = theirs.Loudness(8).encode(resample(read(rows[3].response_path), 16_000, 8_000))
    assert len(rows) == 30 and rows[3].units == expected.tolist() and max(rows[3].units) > 0

    listener = {"speech_encoder": named("theirs.parts.Ears", hidden_size=24)}
    listener["speech_adapter"] = named("theirs.parts.Bridge", input_size=24, output_size=32)
    language_model = "empathy_lightning.modules.language_model.LanguageModel.from_pretrained"
    responder = {"language_model": named(language_model, name_or_path=str(backbones / "language_model"))}
    fit(tmp_path, "one", "SpeechAdapterTask", corpus, {"listener": listener, "responder": responder})
    listener["emotion_nuance"] = named("theirs.parts.Mood", input_size=12, output_size=32, num_emotions=5)
    fit(
        tmp_path, "two", "EmotionNuanceTask", corpus, {"listener": listener, "responder": responder},
        initial_weights=[str(tmp_path / "one")], trainable=["listener.emotion_nuance.*"],
        auxiliary_losses={"categorical": named("empathy_lightning.losses.CategoricalLoss")},
    )  # fmt: skip
    decoder = {"input_size": 32, "text_vocab_size": 300, "end_token_id": 0, "num_units": 8}
    decoder["body"] = {"hidden_size": 16, "num_layers": 1, "num_heads": 2}
    talker = {"speech_decoder": named("empathy_lightning.modules.speech_decoder.SpeechDecoder", **decoder)}
    vocoder = {"folder": str(tmp_path / "voice"), "trust": ["theirs"]}
    talker["vocoder"] = named("empathy_lightning.checkpoints.load_vocoder", **vocoder)
    model = {"listener": listener, "responder": responder, "talker": talker}
    fit(
        tmp_path, "three", "SpeechDecoderTask", tmp_path / "units.jsonl", model,
        initial_weights=[str(tmp_path / "two")],
    )  # fmt: skip

    stages = [load_file(tmp_path / stage / "model.safetensors") for stage in ("one", "two", "three")]
    adapter, mood = "listener.speech_adapter.project.weight", "listener.emotion_nuance.category.weight"
    assert torch.equal(stages[0][adapter], stages[2][adapter]) and torch.equal(stages[1][mood], stages[2][mood])
    voice = load_vocoder(str(tmp_path / "voice"), ["theirs"])
    assert torch.equal(stages[2]["talker.vocoder.sounds.weight"], voice.sounds.weight)

    # Longer than the encoder's two seconds.
    recording, out = tmp_path / "question.wav", tmp_path / "out"
    write(recording, torch.cat([read(row.path) for row in rows[:4]]))
    with pytest.raises(CheckpointError, match="--trust theirs"):
        load(tmp_path / "three")
    bot = EmpatheticChatbot.from_pretrained(tmp_path / "three", "cpu", ["theirs"])
    (reply,) = bot.respond(recording, decoding=Decoding(12, 1.0))
    assert reply.text and reply.emotion in EMOTIONS and reply.arousal is None and len(reply.waveform) > 0
    assert torch.equal(reply.waveform, voice(torch.tensor([reply.units]))[0])
    words = [sys.executable, "-c", FRESH, str(tmp_path / "three"), str(recording), str(out)]
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    fresh = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert fresh.returncode == 0, fresh.stderr
    expected = [2, False, 0, reply.text, reply.emotion, reply.units, 8_000]
    assert json.loads(fresh.stdout.splitlines()[-1]) == expected
    (refusal,) = [line for line in fresh.stderr.splitlines() if "theirs" in line]
    assert "--trust theirs" in refusal and len(refusal) <= 300
    assert torch.equal(torch.load(out / "waveform.pt", weights_only=True), reply.waveform)
    told = json.loads((out / "replies.json").read_text())
    assert json.dumps(reply.text) in json.dumps(told) and (out / "question_reply.wav").is_file()


def test_a_cache_keeps_what_an_encoder_from_elsewhere_hears(theirs, model, tmp_path):
    ears = theirs.Ears(24).requires_grad_(False)
    mood = theirs.Mood(12, 32, 5)
    plain, cached = whole(ears, emotion_nuance=mood), whole(CachedSpeechEncoder(ears), emotion_nuance=mood)
    waveforms = [0.1 * torch.randn(16_000), 0.1 * torch.randn(50_000)]
    expected = heard(plain, waveforms).emotion.logits
    for _ in range(2):
        torch.testing.assert_close(heard(cached, waveforms).emotion.logits, expected, atol=2e-3, rtol=1e-2)
    cached.emotions = list(EMOTIONS)
    check_savable(cached)
    save(tmp_path / "folder", cached)
    loaded = load(tmp_path / "folder", ["theirs"])
    assert type(loaded.listener.speech_encoder) is theirs.Ears
    assert torch.equal(heard(loaded, waveforms).emotion.logits, expected)
    # What the cache has heard is forgotten when an earlier stage's weights come in.
    other = theirs.Ears(24).requires_grad_(False)
    later = whole(CachedSpeechEncoder(other), emotion_nuance=mood)
    heard(later, waveforms)
    assert "listener.speech_encoder" in load_weights(tmp_path / "folder", later)
    torch.testing.assert_close(heard(later, waveforms).emotion.logits, expected, atol=2e-3, rtol=1e-2)


def test_what_a_contract_asks_for_is_asked_at_once(theirs, backbones):
    ears, bridge = theirs.Ears(24), theirs.Bridge(24, 32)
    with pytest.raises(InputError, match="emotion_nuance: Bridge has no attribute 'num_emotions'"):
        Listener(ears, None, bridge)
    with pytest.raises(InputError, match="vocoder: Bridge has no attribute 'sample_rate'"):
        Talker(bridge, bridge)
    mood = theirs.Mood(12, 32, 5)
    mood.reads = "layer"
    with pytest.raises(InputError, match="reads of Mood is 'layers' or 'embeddings'"):
        Listener(ears, None, mood)


def test_a_folder_without_the_wanted_part_says_so(theirs, corpus, tmp_path, capsys):
    save(tmp_path / "voice", theirs.Voice(8))
    save(tmp_path / "loudness", theirs.Loudness(8))
    save(tmp_path / "bridge", theirs.Bridge(24, 32))
    with pytest.raises(CheckpointError, match="holds a Bridge, no vocoder"):
        load_vocoder(str(tmp_path / "bridge"), ["theirs"])
    units = ["prepare", "units", str(corpus), "--out", str(tmp_path / "units.jsonl"), "--trust=theirs"]
    for more, line in [
        ([], "--quantizer is missing"),
        (["--quantizer", str(tmp_path / "voice")], "holds a Voice, no quantizer: it has no encode"),
        (["--quantizer", str(tmp_path / "nowhere")], "no checkpoint folder"),
    ]:
        assert main([*units, *more]) == 2
        assert line in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "units.jsonl").exists()
    assert main([*units, "--quantizer", str(tmp_path / "loudness")]) == 0


class Stacked(nn.Module):
    """Keeps its blocks under the name of their number."""

    def __init__(self, input_size: int, blocks: int = 2) -> None:
        super().__init__()
        self.input_size = input_size
        self.blocks = nn.ModuleList(nn.Linear(input_size, input_size) for _ in range(blocks))


class Typed(nn.Module):
    """Does not keep an argument whose name every module has a method of."""

    def __init__(self, type: str = "a") -> None:
        super().__init__()


class Halved(nn.Module):
    """A part around another that keeps something else than it was given."""

    def __init__(self, inner: nn.Module, share: float = 1.0) -> None:
        super().__init__()
        self.inner = inner
        self.share = share / 2


class Widened(nn.Module):
    """A part around another whose own weights do not follow from its arguments."""

    made = 0

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        Widened.made += 1
        self.inner = inner
        self.more = nn.Linear(1, Widened.made)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Stacked(32), "speech_adapter could not be loaded again: self.blocks of Stacked is torch's ModuleList"),
        (lambda: Typed(), "Typed keeps its argument 'type' nowhere"),
        (lambda: Halved(SpeechAdapter(32, 32, 48)), "speech_adapter: Halved changes an argument"),
        (lambda: Halved(Stacked(32)), "self.blocks of Stacked is torch's ModuleList"),
        (lambda: Widened(SpeechAdapter(32, 32, 48)), "speech_adapter: Widened built again .* has other weights"),
    ],
)
def test_what_could_not_come_back_is_refused_inside_composites_too(model, make, message):
    model.listener.speech_adapter = make()
    with pytest.raises(CheckpointError, match=message) as error:
        check_savable(model)
    assert len(str(error.value)) <= 300


def test_a_part_around_two_from_elsewhere_comes_back(theirs, model, tmp_path):
    pair = theirs.Pair(theirs.Bridge(32, 32), theirs.Bridge(32, 32), 0.25)
    model.listener.speech_adapter = pair
    model.emotions = list(EMOTIONS)
    check_savable(model)
    save(tmp_path, model)
    loaded = load(tmp_path, ["theirs"]).listener.speech_adapter
    frames, mask = torch.randn(2, 9, 32), torch.ones(2, 9, dtype=torch.bool)
    assert torch.equal(loaded(frames, mask)[0], pair(frames, mask)[0]) and loaded.share == 0.25
