"""Fixtures: golden vectors, real recordings, tiny backbones of the real classes, and a tiny corpus."""

import os

# Before torch: several workers, and what they start, share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import random
from pathlib import Path

import pytest
import soundfile
import torch
from hypothesis import settings
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, WhisperConfig, WhisperModel

from empathy_lightning.data import write_manifest
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.small_world.world import Sentence, reply
from empathy_lightning.utterance import EMOTIONS, Utterance
from tests.tiny import whole

# How long an example takes is the machine's affair.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
GOLDEN = Path(os.environ.get("EMPATHY_GOLDEN", SHARED / "golden"))
SPEECH = SHARED / "speech"

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    torch.set_num_threads(1)


def golden_seeds(family):
    """One folder per seed, or a single None where there are no golden vectors."""
    return sorted((GOLDEN / family).glob("seed*")) or [None]


def golden(folder, name):
    """Tensors of one golden file, and its state under the original names."""
    if folder is None:
        pytest.skip(f"no golden vectors at {GOLDEN}; set EMPATHY_GOLDEN")
    tensors = load_file(folder / f"{name}.safetensors")
    state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
    return tensors, state


@pytest.fixture(scope="session")
def speech_folder():
    if not SPEECH.is_dir():
        pytest.skip("the real recordings are not here (../shared/speech)")
    return SPEECH


def byte_tokenizer():
    """A byte-level tokenizer without merges, in the chat format of Qwen."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: index for index, token in enumerate([*specials, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
    )


def whisper_config():
    return WhisperConfig(
        vocab_size=16, d_model=32, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=48, decoder_layers=0,
        decoder_attention_heads=2, decoder_ffn_dim=16, max_source_positions=1500, max_target_positions=8,
        pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=0,
    )  # fmt: skip


@pytest.fixture(scope="session")
def backbones(tmp_path_factory):
    """A folder with tiny checkpoints of the real classes, loaded by the code that loads real ones."""
    folder = tmp_path_factory.mktemp("backbones")
    torch.manual_seed(0)
    WhisperModel(whisper_config()).save_pretrained(folder / "speech_encoder")
    tokenizer = byte_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None, tie_word_embeddings=True,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder / "language_model")
    tokenizer.save_pretrained(folder / "language_model")
    return folder


@pytest.fixture
def language_model(backbones):
    return LanguageModel.from_pretrained(str(backbones / "language_model"))


@pytest.fixture
def model(backbones, language_model):
    """A whole tiny model: encoder, adapter, language model and emotion nuance."""
    encoder = SpeechEncoder.from_pretrained(str(backbones / "speech_encoder"))
    torch.manual_seed(0)
    adapter = SpeechAdapter(32, 32, hidden_size=48)
    nuance = EmotionNuance(32, 32, hidden_size=48, gate_size=8)
    return whole(encoder, adapter, language_model, nuance).eval()


SENTENCE = Sentence("fence", "sister", "market")


def tone(emotion, seconds, generator):
    """A tone whose pitch depends on the emotion, with noise: enough for a tiny model to learn from."""
    frequency = 200 * (1 + EMOTIONS.index(emotion)) * generator.uniform(0.95, 1.05)
    time = torch.arange(round(seconds * 16_000)) / 16_000
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(generator.randrange(2**31)))
    return 0.3 * torch.sin(2 * torch.pi * frequency * time) + 0.01 * noise


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A manifest of 30 synthetic tones with labels, responses and units."""
    folder = tmp_path_factory.mktemp("corpus")
    generator = random.Random(0)
    utterances = []
    for index in range(30):
        emotion = EMOTIONS[index % len(EMOTIONS)]
        seconds = generator.uniform(0.4, 1.2)
        path = folder / f"{index}.wav"
        soundfile.write(path, tone(emotion, seconds, generator).numpy(), 16_000)
        rating = EMOTIONS.index(emotion) / 4
        utterances.append(
            Utterance(
                id=str(index),
                corpus="tones",
                path=str(path),
                transcript=SENTENCE.text,
                speaker=str(index % 6),
                split="train" if index < 20 else "validation" if index < 25 else "test",
                emotion=emotion,
                arousal=rating,
                valence=1 - rating,
                dominance=0.5,
                response=reply(SENTENCE, emotion, generator),
                response_path=str(path),
                units=[(3 * EMOTIONS.index(emotion) + step) % 8 for step in range(10)],
            )
        )
    write_manifest(folder / "manifest.jsonl", utterances)
    return folder / "manifest.jsonl"
