"""Models and batches for the benchmarks of a training step: a small pair of backbones, and a real one."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any, Literal

import soundfile
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    WhisperConfig,
)

from empathy_lightning.data import Manifest, write_manifest
from empathy_lightning.data.batch import SpeechBatch, collate
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.listener import Listener
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.speech_encoder import SpeechEncoder, freeze
from empathy_lightning.modules.unit_language_model import Qwen2Body
from empathy_lightning.prompts import EMPATHY_SYSTEM, SPEECH_AND_EMOTION, SPEECH_ONLY
from empathy_lightning.responder import Responder
from empathy_lightning.talker import Talker
from empathy_lightning.utterance import EMOTIONS, Utterance

Sizes = Literal["small", "real"]
NUM_UNITS = 6561
UNITS_PER_TOKEN = 7.5
"""Of speech with three and a third tokens and 25 units a second."""
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def word_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """A token per word or mark, so that prompts are about as long as under a real tokenizer."""
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "\n", ".", ",", "'", "(", ")", "?"]
    words = sorted(set((EMPATHY_SYSTEM + SPEECH_AND_EMOTION).replace("}", " ").replace("{", " ").split()))
    vocabulary = dict.fromkeys([*marks, "system", "user", "assistant", *words])
    vocabulary = dict.fromkeys([*vocabulary, *(f"w{index}" for index in range(size - len(vocabulary)))])
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Punctuation()]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
    )


def build(stage: int, vocabulary: int = 32_000, padded: bool = False, sizes: Sizes = "small") -> EmpatheticLM:
    """A model whose stage's part trains.

    Args:
        stage: 1 (adapter), 2 (emotion nuance) or 3 (speech decoder).
        vocabulary: Of the small language model.
        padded: Hear 30 s of every utterance, and leave an incomplete group of frames out, as the reference does.
        sizes: ``small`` is Whisper of the smallest size and a Qwen2 of 8 layers; ``real`` is Whisper base and
            SmolLM2-135M-Instruct.
    """
    torch.manual_seed(0)
    encoder, language_model = small(vocabulary, padded) if sizes == "small" else real(padded)
    width, frame = language_model.hidden_size, encoder.hidden_size
    adapter = SpeechAdapter(frame, width, drop_incomplete=padded)
    nuance = EmotionNuance(frame, width) if stage == 2 else None
    talker = None
    if stage > 1:
        freeze(adapter)
    if stage == 3:
        talker = Talker(speech_decoder(language_model, sizes))
    prompt = SPEECH_ONLY if stage == 1 else SPEECH_AND_EMOTION
    responder = Responder(language_model, prompt=prompt, system=EMPATHY_SYSTEM)
    model = EmpatheticLM(Listener(encoder, adapter, nuance), responder, talker)
    if stage == 3:
        # The replies are to transcripts.
        model.listener.speech_adapter = None
    return model


def small(vocabulary: int, padded: bool) -> tuple[SpeechEncoder, LanguageModel]:
    """Random weights of 4 x 384 and 8 x 512."""
    whisper = WhisperConfig(
        d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536, num_mel_bins=80
    )
    qwen = Qwen2Config(
        vocab_size=vocabulary, hidden_size=512, intermediate_size=2048, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    return SpeechEncoder(whisper, padded), LanguageModel(Qwen2ForCausalLM(qwen), word_tokenizer(vocabulary))


def real(padded: bool) -> tuple[SpeechEncoder, LanguageModel]:
    """Whisper base and SmolLM2-135M-Instruct from EMPATHY_BACKBONES, or random weights of the same sizes."""
    if "EMPATHY_BACKBONES" in os.environ:
        folder = Path(os.environ["EMPATHY_BACKBONES"])
        encoder = SpeechEncoder.from_pretrained(str(folder / "whisper-base"), pad_to_30s=padded)
        return encoder, LanguageModel.from_pretrained(str(folder / "smollm2-135m-instruct"))
    whisper = WhisperConfig(
        d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048, num_mel_bins=80
    )
    llama = LlamaConfig(
        vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, max_position_embeddings=8192,
    )  # fmt: skip
    return SpeechEncoder(whisper, padded), LanguageModel(LlamaForCausalLM(llama), word_tokenizer(49_152))


def speech_decoder(language_model: LanguageModel, sizes: Sizes) -> SpeechDecoder:
    """Of 4 x 256, or of 12 x 512 as in the benchmark of the speech decoder."""
    body = Qwen2Body() if sizes == "small" else Qwen2Body(512, 12, 8, num_key_value_heads=2, intermediate_size=2048)
    rows = language_model.model.get_input_embeddings().weight.shape[0]
    return SpeechDecoder(language_model.hidden_size, rows, 0, NUM_UNITS, body)


def words_of(tokenizer: Any) -> list[str]:
    """Words of one token each, so that a text of n words has n tokens."""
    decoded = [tokenizer.decode([token]).strip() for token in range(600, 4600)]
    return [
        word
        for word in decoded
        if word.isalnum() and len(tokenizer.encode(" " + word, add_special_tokens=False)) == 1
    ]  # fmt: skip


def spoken(count: int, buckets: bool, tokenizer: Any) -> list[tuple[Tensor, Utterance]]:
    """Noise of 1 to 12 s, by length where it is for buckets, with replies of 10 to 60 words and their units."""
    draw = random.Random(0)
    rows = [(draw.uniform(1, 12), draw.randint(10, 60), index) for index in range(count)]
    generator = torch.Generator().manual_seed(0)
    if buckets:
        rows.sort()
    vocabulary = words_of(tokenizer)
    found = []
    for seconds, words, index in rows:
        utterance = Utterance(str(index), "noise", f"{index}.flac", emotion=EMOTIONS[index % len(EMOTIONS)])
        utterance.response = " ".join(draw.choices(vocabulary, k=words))
        utterance.transcript = " ".join(draw.choices(vocabulary, k=max(1, round(2.5 * seconds))))
        utterance.units = [draw.randrange(NUM_UNITS) for _ in range(round(UNITS_PER_TOKEN * words))]
        found.append((0.1 * torch.randn(round(seconds * 16_000), generator=generator), utterance))
    return found


def batches(count: int, size: int, buckets: bool, tokenizer: Any) -> list[SpeechBatch]:
    """Batches of :func:`spoken`; in buckets, neighbours in length share one."""
    rows = spoken(count * size, buckets, tokenizer)
    return [collate(rows[begin : begin + size], EMOTIONS) for begin in range(0, len(rows), size)]


def from_disk(folder: Path, count: int, size: int, tokenizer: Any, read_audio: bool) -> Any:
    """A data loader over the same as FLAC files, as a trainer makes it."""
    utterances = []
    # One more batch, since an utterance validates.
    for waveform, utterance in spoken((count + 1) * size, True, tokenizer):
        utterance.path, utterance.split = str(folder / utterance.path), "train"
        soundfile.write(utterance.path, waveform.numpy(), 16_000)
        utterances.append(utterance)
    utterances[0].split = "validation"
    write_manifest(folder / "noise.jsonl", utterances)
    corpus = Manifest(str(folder / "noise.jsonl"))
    data = EmpathyDataModule([corpus], batch_seconds=12.0 * size, batch_size=size, read_audio=read_audio)
    data.setup()
    return data.train_dataloader()
