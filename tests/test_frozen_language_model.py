"""The frozen language model stays itself: its answers and its files, before and after training."""

import hashlib
from pathlib import Path

import lightning as L
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from empathy_lightning.checkpoints import save
from empathy_lightning.data import Manifest
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.losses import CategoricalLoss
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.pretrained import locate
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.prompts import EMPATHY_SYSTEM, SPEECH_AND_EMOTION, SPEECH_ONLY, Prompt
from empathy_lightning.tasks import EmotionNuanceTask, SpeechAdapterTask
from empathy_lightning.utterance import EMOTIONS
from tests.conftest import SENTENCE, byte_tokenizer
from tests.tiny import adamw, filled, spoken, tokens_of, whole

RANDOM = {
    "Qwen2": (Qwen2Config, Qwen2ForCausalLM, {"tie_word_embeddings": True}),
    "Qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 16}),
    "Llama": (LlamaConfig, LlamaForCausalLM, {}),
}
FORMS = ["small-world", *RANDOM]
QUESTIONS = [SENTENCE.text, "hm", "what a day it was, i lost my keys and found a friend"]


@pytest.fixture(params=FORMS)
def folder(request, tmp_path):
    """A language model's folder: the shipped one, or a random one of a class that users bring."""
    if request.param == "small-world":
        return Path(locate("small-world/language_model"))
    config_class, model_class, extra = RANDOM[request.param]
    tokenizer = byte_tokenizer()
    torch.manual_seed(5)
    config = config_class(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None, initializer_range=0.2, **extra,
    )  # fmt: skip
    model_class(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def digests(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir() if file.is_file()}


def chat_ids(folder, system):
    """Each question as a user's message, by the tokenizer's own chat template."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    systems = [] if system is None else [{"role": "system", "content": system}]
    messages = [[*systems, {"role": "user", "content": question}] for question in QUESTIONS]
    return [tokenizer.apply_chat_template(m, add_generation_prompt=True, return_dict=True).input_ids for m in messages]


def bare_answers(folder, prompts):
    """Greedy answers of the model alone, by transformers' own loading and generate, one by one."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return [
        model.generate(torch.tensor([ids]), max_new_tokens=24, do_sample=False, **ends)[0, len(ids) :].tolist()
        for ids in prompts
    ]


def our_answers(model, user, system, emotion=None):
    """Answers to the same words through our prompt and our wrapper, all in one batch."""
    model.responder.prompt, model.responder.system = user, system
    prompts = filled(model, QUESTIONS, None if emotion is None else [emotion] * len(QUESTIONS))
    return tokens_of(model, prompts, max_new_tokens=24)


def wire(folder):
    language_model = LanguageModel.from_pretrained(str(folder))
    encoder = SpeechEncoder.from_pretrained("small-world/speech_encoder")
    width = language_model.hidden_size
    nuance = EmotionNuance(192, width, hidden_size=16, gate_size=8)
    return whole(encoder, SpeechAdapter(192, width, 16), language_model, nuance)


@pytest.mark.parametrize("system", [None, EMPATHY_SYSTEM])
def test_text_chat_is_the_bare_model_s_token_by_token(folder, system):
    model = wire(folder)
    expected = bare_answers(folder, chat_ids(folder, system))
    assert our_answers(model, SPEECH_ONLY, system) == expected
    assert len({tuple(answer) for answer in expected}) > 1
    # What fills a slot is cut into tokens on its own, as speech would stand there: the same ids for the bare model.
    prompt = Prompt(SPEECH_AND_EMOTION, system)
    ids = [prompt.text_ids(model.responder.language_model.tokenizer, speech=q, emotion="sad") for q in QUESTIONS]
    assert our_answers(model, SPEECH_AND_EMOTION, system, "sad") == bare_answers(folder, ids)


@pytest.mark.parametrize("stage", [SpeechAdapterTask, EmotionNuanceTask])
def test_training_changes_no_byte_of_the_backbone_and_none_of_its_answers(folder, stage, corpus, tmp_path):
    before, model = digests(folder), wire(folder)
    answers = our_answers(model, SPEECH_ONLY, None)
    save(tmp_path / "stage", spoken(model, list(EMOTIONS)))
    if stage is SpeechAdapterTask:
        model.listener.emotion_nuance, trained = None, model.listener.speech_adapter
        task = SpeechAdapterTask(model, optimizer=adamw(1e-2))
    else:
        model.responder.prompt, trained = SPEECH_AND_EMOTION, model.listener.emotion_nuance
        task = EmotionNuanceTask(model, {"c": CategoricalLoss()}, {"c": 0.8}, [str(tmp_path / "stage")])
    start = {key: value.clone() for key, value in trained.state_dict().items()}
    trainer = L.Trainer(
        max_steps=3, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, use_distributed_sampler=False, default_root_dir=tmp_path, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(task, datamodule=EmpathyDataModule([Manifest(str(corpus))], batch_seconds=5))
    assert trainer.global_step == 3
    assert any(not torch.equal(value, start[key]) for key, value in trained.state_dict().items())

    assert digests(folder) == before
    stored = load_file(folder / "model.safetensors")
    held = model.responder.language_model.model.state_dict()
    assert stored.keys() <= held.keys() and all(torch.equal(held[key], value) for key, value in stored.items())
    model.listener.emotion_nuance = None
    assert our_answers(model, SPEECH_ONLY, None) == answers == bare_answers(folder, chat_ids(folder, None))
