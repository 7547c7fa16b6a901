"""Both engines: the same answers from vLLM where it is installed, and what vLLM is given where it is not."""

import itertools
import os
import signal
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from empathy_lightning.errors import InputError
from empathy_lightning.preparation import engines
from empathy_lightning.preparation.engines import Generation
from empathy_lightning.prompts import Prompt
from empathy_lightning.small_world.world import sentences
from empathy_lightning.utterance import EMOTIONS

SHIPPED = "small-world/language_model"


def asked(tokenizer, count=20):
    return [
        Prompt().text_ids(tokenizer, speech=sentence.text, emotion=EMOTIONS[index % 5])
        for index, sentence in enumerate(itertools.islice(sentences("train"), count))
    ]


def test_vllm_answers_as_transformers_does():
    pytest.importorskip("vllm")
    generation = Generation(SHIPPED, Prompt(), 19)
    first, second = generation.answerer(), replace(generation, engine="vllm").answerer()
    prompts = asked(first.tokenizer)
    expected = first.answer(prompts, [0] * 20)
    assert second.answer(prompts, [0] * 20) == expected and second.positions == first.positions == 2048
    assert {answer.cut for answer in expected} == {True, False}


class Engine:
    """Stands for vLLM: its names and forms as of 0.32, around a model of transformers that answers greedily."""

    made: ClassVar[list] = []

    def __init__(self, model, *, dtype, max_model_len, **options):
        self.model, self.options, self.calls = engines.load_language_model(model, dtype), options, []
        self.visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        assert max_model_len == -1
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=1234))
        self.made.append(self)

    def get_tokenizer(self):
        return self.model.tokenizer

    def generate(self, prompts, sampling_params, *, use_tqdm):
        self.calls.append((prompts, sampling_params))
        outputs = []
        for prompt, sampling in zip(prompts, sampling_params, strict=True):
            rows = self.model.embed(prompt["prompt_token_ids"])[None]
            mask = torch.ones(rows.shape[:2], dtype=torch.bool)
            ((ids, _),) = self.model.generate(rows, mask, sampling.max_tokens)
            reason = "stop" if ids[-1] in self.model.stop_ids else "length"
            outputs.append(SimpleNamespace(outputs=[SimpleNamespace(token_ids=ids, finish_reason=reason, text="")]))
        return outputs


@pytest.fixture
def vllm(monkeypatch):
    platform = SimpleNamespace(is_cpu=lambda: True)
    module = SimpleNamespace(
        LLM=Engine, SamplingParams=SimpleNamespace, TokensPrompt=dict,
        platforms=SimpleNamespace(current_platform=platform),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(Engine, "made", [])
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield module
    signal.signal(signal.SIGTERM, before)


def test_vllm_is_given_token_ids_and_a_seed_for_each_prompt(vllm):
    generation = Generation(SHIPPED, Prompt(), 19, batch_size=2)
    first, second = generation.answerer(), replace(generation, engine="vllm").answerer()
    prompts = asked(first.tokenizer, 6)
    assert second.answer(prompts, range(6)) == first.answer(prompts, range(6))
    (engine,) = Engine.made
    ((given, sampling),) = engine.calls
    assert [prompt["prompt_token_ids"] for prompt in given] == prompts and second.at_once >= len(prompts)
    end = first.tokenizer.eos_token_id
    assert [vars(one) for one in sampling] == [
        {"temperature": 0.0, "max_tokens": 19, "seed": seed, "detokenize": False, "stop_token_ids": [end]}
        for seed in range(6)
    ]
    assert second.positions == 1234 and engine.options == {}


def test_prompts_are_not_processed_in_parts_where_vllm_cannot_draw_then(vllm):
    replace(Generation(SHIPPED, Prompt(), 15), engine="vllm", temperature=0.5).answerer()
    vllm.platforms.current_platform.is_cpu = lambda: False
    replace(Generation(SHIPPED, Prompt(), 15), engine="vllm", temperature=0.5).answerer()
    assert [engine.options for engine in Engine.made] == [{"enable_chunked_prefill": False}, {}]


@pytest.mark.parametrize(("before", "device"), [(None, "1"), ("4,6", "6"), ("5", "5")])
def test_each_process_of_torchrun_shows_its_engine_one_gpu(vllm, monkeypatch, before, device):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    bare = engines.LanguageModel.from_pretrained(SHIPPED)
    monkeypatch.setattr(engines, "load_language_model", lambda name, dtype: bare)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    generation = Generation(SHIPPED, Prompt(), engine="vllm")
    generation.answerer()
    monkeypatch.setenv("LOCAL_RANK", "1")
    generation.answerer()
    assert [engine.visible for engine in Engine.made] == [before, device]
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


def test_sigterm_ends_the_process_in_order_so_that_vllm_can_end_its_own(vllm):
    Generation(SHIPPED, Prompt(), engine="vllm").answerer()
    with pytest.raises(SystemExit) as ended:
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 143
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Generation(SHIPPED, Prompt(), engine="vllm").answerer()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_what_vllm_cannot_load_is_one_line(vllm):
    def _fails(*args, **kwargs):
        raise RuntimeError("Engine core initialization failed.\nSee root cause above.")

    vllm.LLM = _fails
    with pytest.raises(InputError, match=r"^vLLM cannot load .*failed\. See root"):
        Generation(SHIPPED, Prompt(), engine="vllm").answerer()
    with pytest.raises(InputError, match="no model folder at /none"):
        Generation("/none", Prompt(), engine="vllm").answerer()


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_no_engine_takes_thinking_for_an_answer(vllm, monkeypatch, engine):
    answerer = Generation(SHIPPED, Prompt(), 19, engine=engine).answerer()
    prompts = asked(answerer.tokenizer, 3)
    plain = answerer.answer(prompts, range(3))
    real = engines.LanguageModel.generate

    def _generate(self, *args, **kwargs):
        lead = self.tokenizer("<thinking>\nShe is sad.\n</thinking>\n\n", add_special_tokens=False).input_ids
        return [(lead + ids, states) for ids, states in real(self, *args, **kwargs)]

    monkeypatch.setattr(engines.LanguageModel, "generate", _generate)
    assert answerer.answer(prompts, range(3)) == plain and all(answer.text for answer in plain)


def test_vllm_is_not_started_with_a_model_that_cannot_chat(vllm, tmp_path):
    answerer = Generation(SHIPPED, Prompt()).answerer()
    answerer.tokenizer.chat_template = None
    answerer.tokenizer.save_pretrained(tmp_path)
    Engine.made.clear()
    with pytest.raises(InputError, match="has no chat template"):
        Generation(str(tmp_path), Prompt(), engine="vllm").answerer()
    assert not Engine.made
