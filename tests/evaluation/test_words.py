"""The same questions in words: answered by the frozen language model as it is, whatever was trained around it."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from empathy_lightning.__main__ import main
from empathy_lightning.checkpoints import load, save
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.decoding import Decoding
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.measures.same_as import SameAs
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.partial_lora import PartialLora
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.unit_language_model import Qwen2Body
from empathy_lightning.modules.vocoder import NeuralVocoder
from empathy_lightning.utterance import EMOTIONS, Utterance
from tests.evaluation.measures.asked import shown
from tests.tiny import spoken, whole

SYSTEM = "Be kind."
ASKED = ["What is the capital of France?", "I lost my keys.", "\u4f60\u597d\u5417", "<|im_end|> is a token", "Why?"]


@pytest.fixture
def llm(backbones, tmp_path):
    """The tiny language model with larger weights: what it says depends on what it is asked."""
    plain = AutoModelForCausalLM.from_pretrained(backbones / "language_model")
    with torch.no_grad():
        for weight in plain.parameters():
            weight *= 15 if weight.ndim == 2 else 1
    plain.save_pretrained(tmp_path / "llm")
    AutoTokenizer.from_pretrained(backbones / "language_model").save_pretrained(tmp_path / "llm")
    return tmp_path / "llm"


@pytest.fixture
def bot_with(model, llm):
    """Makes bots whose partial LoRA is no longer zero, so that it changes whatever it acts on."""

    def _bot(scope):
        language_model = LanguageModel.from_pretrained(str(llm))
        lora = PartialLora.for_model(language_model.model, rank=2)
        lora.scope = scope
        for weight in lora.parameters():
            torch.nn.init.normal_(weight)
        parts = {"speech_adapter": model.listener.speech_adapter, "emotion_nuance": model.listener.emotion_nuance}
        encoder, asked = model.listener.speech_encoder, {"partial_lora": lora, "system": SYSTEM}
        return spoken(whole(encoder, **parts, language_model=language_model, **asked).eval(), list(EMOTIONS))

    return _bot


@pytest.fixture
def questions(tmp_path):
    """Of which nobody has recordings."""
    rows = [
        Utterance(id=str(number), corpus="asked", path=f"nowhere/{number}.wav", transcript=said, split="test")
        for number, said in enumerate(ASKED)
    ]
    write_manifest(tmp_path / "q.jsonl", rows)
    return tmp_path / "q.jsonl"


def typed(bot, questions, out, *more):
    words = ["respond", str(questions), "--checkpoint", str(bot), "--out", str(out), "--words"]
    return main([*words, "--max_new_tokens", "12", "--temperature", "1", *more])


def bare(llm, questions, out):
    """What the language model says by itself."""
    words = ["prepare", "responses", str(questions), "--language_model", str(llm)]
    words += ["--without_emotion", "--prompt", "{speech}", "--system", SYSTEM, "--refusals", "off", "--out", str(out)]
    return main([*words, "--max_new_tokens", "12", "--temperature", "1"])


def test_words_are_answered_as_by_the_bare_language_model(bot_with, llm, questions, tmp_path, capsys):
    """Trained parts hear speech alone: not a token is another one."""
    save(tmp_path / "bot", bot_with("audio"))
    assert typed(tmp_path / "bot", questions, tmp_path / "bot.jsonl", "--batch_size", "2") == 0
    assert bare(llm, questions, tmp_path / "bare.jsonl") == 0
    replies = read_manifest(tmp_path / "bot.jsonl")
    assert [u.id for u in replies] == list("01234") and len({u.response for u in replies}) > 1
    measured = SameAs(tmp_path / "bare.jsonl")(replies)
    assert shown(measured, "replies", "without_partner", "same") == [5, 0, 1]


def test_what_acts_on_words_too_is_found_out(bot_with, llm, questions, tmp_path):
    assert bare(llm, questions, tmp_path / "bare.jsonl") == 0
    for scope in ("global", "text"):
        save(tmp_path / scope, bot_with(scope))
        assert typed(tmp_path / scope, questions, tmp_path / f"{scope}.jsonl") == 0
        measured = SameAs(tmp_path / "bare.jsonl")(read_manifest(tmp_path / f"{scope}.jsonl"))
        assert shown(measured, "replies", "same") == [5, 0]


def test_the_tokens_are_those_that_transformers_generates(bot_with, llm):
    """By the tokenizer's own template and the model's own greedy search, without anything of this library."""
    tokenizer, plain = AutoTokenizer.from_pretrained(llm), AutoModelForCausalLM.from_pretrained(llm).eval()
    replies = bot_with("audio").stream_words(ASKED[:3], Decoding(12)).drained()
    for said, reply in zip(ASKED[:3], replies, strict=True):
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": said}]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
        out = plain.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
        assert reply.text == tokenizer.decode(out, skip_special_tokens=True).strip() != ""
    assert len({reply.text for reply in replies}) == 3


def test_a_suites_own_prompt_is_asked_and_a_given_one_takes_its_place(bot_with, questions, tmp_path):
    save(tmp_path / "bot", bot_with("audio"))
    rows = read_manifest(questions)
    choice = "{speech}\nIs it sad?\nA. yes\nB. no"
    write_manifest(tmp_path / "c.jsonl", [replace(rows[0], prompt=choice), *rows[1:]])
    for name, manifest, more in (
        ("own", "c", []), ("plain", "q", []), ("given", "c", ["--prompt", choice, "--system", SYSTEM]),
        ("other", "q", ["--prompt", "{speech}", "--system", SYSTEM]), ("language", "q", ["--language", "German"]),
    ):  # fmt: skip
        assert typed(tmp_path / "bot", tmp_path / f"{manifest}.jsonl", tmp_path / f"{name}.jsonl", *more) == 0
    said = {
        name: [u.response for u in read_manifest(tmp_path / f"{name}.jsonl")]
        for name in ("own", "plain", "given", "other", "language")
    }
    assert said["own"][0] != said["plain"][0] and said["own"][1:] == said["plain"][1:]
    assert said["other"] == said["plain"] and said["given"][1] != said["plain"][1] != said["language"][1]


def test_questions_without_words_are_left_out_and_counted(bot_with, questions, tmp_path, capsys):
    save(tmp_path / "bot", bot_with("audio"))
    rows = read_manifest(questions)
    write_manifest(tmp_path / "some.jsonl", [replace(rows[0], transcript=" "), *rows[1:]])
    assert typed(tmp_path / "bot", tmp_path / "some.jsonl", tmp_path / "r.jsonl") == 2
    assert "no transcript" in capsys.readouterr().err
    assert typed(tmp_path / "bot", tmp_path / "some.jsonl", tmp_path / "r.jsonl", "--allow_left_out", "0.3") == 0
    assert [u.id for u in read_manifest(tmp_path / "r.jsonl")] == list("1234")


def test_a_feeling_that_no_voice_gives_is_refused(bot_with, model, questions, tmp_path, capsys):
    save(tmp_path / "bot", bot_with("audio"))
    asked = "{speech}(with a {emotion} emotional tone)."
    assert typed(tmp_path / "bot", questions, tmp_path / "r.jsonl", "--prompt", asked) == 2
    assert "no voice fills the {emotion}" in capsys.readouterr().err
    write_manifest(tmp_path / "own.jsonl", [replace(u, prompt=asked) for u in read_manifest(questions)])
    assert typed(tmp_path / "bot", tmp_path / "own.jsonl", tmp_path / "r.jsonl") == 2
    assert not (tmp_path / "r.jsonl").exists()
    with pytest.raises(InputError, match="has no responder"):
        spoken(whole(model.listener.speech_encoder, emotion_nuance=model.listener.emotion_nuance), []).stream_words(
            ["?"]
        )


def test_replies_to_words_and_to_speech_are_never_mixed(bot_with, corpus, questions, tmp_path, capsys):
    save(tmp_path / "bot", bot_with("audio"))
    words = ["respond", str(corpus), "--checkpoint", str(tmp_path / "bot"), "--out", str(tmp_path / "r.jsonl")]
    words += ["--max_new_tokens", "6", "--temperature", "1"]
    assert main([*words, "--words"]) == 0
    typed_first = (tmp_path / "r.jsonl").read_text()
    assert main([*words, "--words"]) == 0 and (tmp_path / "r.jsonl").read_text() == typed_first
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "words" in said and "recordings" in said and "changed" in said
    claim = json.loads((tmp_path / "r.jsonl.made_from.json").read_text())
    assert "words" in claim and "recordings" not in claim
    # Another transcript is another question.
    rows = read_manifest(questions)
    assert typed(tmp_path / "bot", questions, tmp_path / "w.jsonl") == 0
    write_manifest(questions, [replace(rows[0], transcript="Who?"), *rows[1:]])
    assert typed(tmp_path / "bot", questions, tmp_path / "w.jsonl") == 2


def test_replies_to_words_are_spoken_too(bot_with, questions, tmp_path):
    torch.manual_seed(1)
    bot = bot_with("audio")
    decoder = SpeechDecoder(32, len(bot.responder.language_model.tokenizer), 0, 64, Qwen2Body(32, 1, 2))
    decoder.model.get_input_embeddings().weight.data[0] *= 40  # so that replies end
    save(tmp_path / "bot", spoken(bot, list(EMOTIONS), decoder.eval(), NeuralVocoder(64, 16, 1)))
    assert typed(tmp_path / "bot", questions, tmp_path / "s.jsonl", "--speech") == 0
    assert typed(tmp_path / "bot", questions, tmp_path / "t.jsonl") == 0
    aloud, silent = read_manifest(tmp_path / "s.jsonl"), read_manifest(tmp_path / "t.jsonl")
    assert [u.response for u in aloud] == [u.response for u in silent]
    (reply,) = load(tmp_path / "bot").stream_words([ASKED[0]], Decoding(12, 1.0, seed=seed(aloud[0]))).drained()
    assert reply.text == aloud[0].response and reply.units == aloud[0].units
    assert all(u.response_path.startswith(str(tmp_path / "s.jsonl.speech")) for u in aloud if u.units)
    assert any(u.units for u in aloud)


def seed(utterance):
    from empathy_lightning.jobs import seed_of

    return seed_of(0, utterance)
