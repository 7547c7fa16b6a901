"""RE-LLM and BLSP-Emo as EmpatheticLM wires them, on tiny models of the real classes."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from empathy_lightning.audio import read
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.checkpoints import CheckpointError, load, load_weights, save
from empathy_lightning.data import read_manifest
from empathy_lightning.data.batch import collate
from empathy_lightning.decoding import Decoding
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.recognisers import score_options
from empathy_lightning.losses import CategoricalLoss, ConcordanceLoss, RatingLoss
from empathy_lightning.modules.cformer import CFormer
from empathy_lightning.modules.convolutional_adapter import ConvolutionalAdapter
from empathy_lightning.modules.emotion_encoder import EmotionEncoder
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.partial_lora import PartialLora
from empathy_lightning.modules.pooled_heads import PooledEmotionHeads
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.prompts import response_ids
from empathy_lightning.utterance import EMOTIONS
from tests.modules.test_emotion_encoder import tiny_config, write_checkpoint
from tests.tiny import filled, spoken, text_of, tokens_of, whole

PROMPT = "Continue the following sentence in a coherent style: {speech}"
SYSTEM = "You are a helpful assistant."


@pytest.fixture
def model(backbones, language_model, tmp_path):
    encoder = SpeechEncoder.from_pretrained(str(backbones / "speech_encoder"))
    folder = write_checkpoint(tmp_path / "emotion", EmotionEncoder(tiny_config()).state_dict(), tiny_config())
    adapter = ConvolutionalAdapter(32, 32, hidden_size=8, emotion_size=32)
    lora = PartialLora.for_model(language_model.model, rank=2)
    for name, parameter in lora.named_parameters():
        if name.endswith("lora_B"):
            nn.init.normal_(parameter)
    return whole(
        encoder, adapter, language_model, PooledEmotionHeads(32), prompt=PROMPT, system=SYSTEM,
        emotion_encoder=EmotionEncoder.from_pretrained(str(folder)), partial_lora=lora,
    ).eval()  # fmt: skip


@pytest.fixture
def batch(corpus):
    return collate([(read(u.path), u) for u in read_manifest(corpus)[:4]], EMOTIONS)


def alone(batch_corpus, row):
    utterance = read_manifest(batch_corpus)[row]
    return collate([(read(utterance.path), utterance)], EMOTIONS)


def prompts_of(model, batch):
    return model.responder.prompts(batch, model.listener(batch))


def test_a_batch_is_its_utterances_alone(model, corpus, batch):
    together, losses, counts = model(batch), [], []
    for row in range(4):
        single = model(alone(corpus, row))
        losses.append(single.response_loss)
        counts.append(len(response_ids(model.responder.language_model.tokenizer, batch.responses[row])))
        for name in ("embedding", "logits", "arousal", "valence", "dominance"):
            both = getattr(together.emotion, name)[row], getattr(single.emotion, name)[0]
            torch.testing.assert_close(*both, rtol=1e-4, atol=1e-5)
    expected = sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)
    torch.testing.assert_close(together.response_loss, expected, rtol=1e-4, atol=1e-5)


def test_speech_lies_between_instruction_and_suffix(model, batch):
    tokenizer = model.responder.language_model.tokenizer
    before = tokenizer(
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{PROMPT.removesuffix('{speech}')}"
    ).input_ids
    after = tokenizer("<|im_end|>\n<|im_start|>assistant\n").input_ids
    for row in prompts_of(model, batch):
        heard = row.speech.nonzero()[:, 0].tolist()
        assert heard == list(range(len(before), len(row) - len(after)))
        assert torch.equal(row.embeddings[: len(before)], model.responder.language_model.embed(before))
        assert torch.equal(row.embeddings[-len(after) :], model.responder.language_model.embed(after))


def test_replies_and_their_states_do_not_depend_on_the_batch(model, batch):
    prompts = prompts_of(model, batch)
    replies = tokens_of(model, prompts, max_new_tokens=8)
    assert replies == [tokens_of(model, [prompt], max_new_tokens=8)[0] for prompt in prompts]
    for states, reply in zip(model.responder.states(prompts, replies), replies, strict=True):
        assert model.responder.language_model.model.lm_head(states).argmax(-1).tolist() == reply


def test_partial_lora_changes_speech_but_not_words(model, batch):
    prompts, words = prompts_of(model, batch), filled(model, ["hello"], None)
    heard, read_ = tokens_of(model, prompts, 8), tokens_of(model, words, 8)
    spoken, written = model.responder.loss(prompts, batch.responses), model.responder.loss(words, ["yes"])
    for parameter in model.responder.partial_lora.parameters():
        nn.init.zeros_(parameter)
    assert tokens_of(model, words, 8) == read_ and torch.equal(model.responder.loss(words, ["yes"]), written)
    assert tokens_of(model, prompts, 8) != heard and not torch.isclose(
        model.responder.loss(prompts, batch.responses), spoken
    )


def test_gradients_reach_adapter_heads_and_lora_but_nothing_frozen(model, batch):
    model.train()
    output = model(batch)
    auxiliary = [loss(output, batch) for loss in (CategoricalLoss(), RatingLoss(), ConcordanceLoss())]
    (output.response_loss + torch.stack(auxiliary).sum()).backward()
    trained = {name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {"speech_adapter", "emotion_nuance", "partial_lora"}
    assert all(p.grad is not None for p in model.responder.partial_lora.parameters())
    assert not model.listener.emotion_encoder.training and not model.responder.language_model.training


def test_a_language_model_in_bfloat16_trains_and_replies(model, batch, backbones):
    half = LanguageModel.from_pretrained(str(backbones / "language_model"), dtype="bfloat16")
    lora = PartialLora.for_model(half.model, rank=2)
    lora.load_state_dict(model.responder.partial_lora.state_dict())
    other = whole(
        model.listener.speech_encoder, model.listener.speech_adapter, half, model.listener.emotion_nuance,
        prompt=PROMPT, system=SYSTEM, emotion_encoder=model.listener.emotion_encoder, partial_lora=lora,
    ).eval()  # fmt: skip
    expected = model(batch).response_loss
    with torch.autocast("cpu", torch.bfloat16):
        output = other(batch)
        (output.response_loss + CategoricalLoss()(output, batch)).backward()
    torch.testing.assert_close(output.response_loss, expected, rtol=0.05, atol=0.05)
    for part in (other.listener.speech_adapter, other.listener.emotion_nuance.categorical_head, lora):
        for parameter in part.parameters():
            assert parameter.dtype == torch.float32 and parameter.grad.isfinite().all()
    assert all(len(reply) > 0 for reply in tokens_of(other, prompts_of(other, batch), 4))


def test_options_are_scored_by_the_adapted_model(model, batch):
    responder = model.responder
    prompts = prompts_of(model, batch)
    adapted = score_options(responder, prompts, ["sad", "happy"])
    responder.partial_lora, lora = None, responder.partial_lora
    bare = score_options(responder, prompts, ["sad", "happy"])
    responder.partial_lora = lora
    assert (adapted - bare).abs().max() > 1e-4
    for row, option in ((0, "sad"), (1, "happy")):
        ids = responder.language_model.tokenizer(option, add_special_tokens=False).input_ids
        (states,) = responder.states([prompts[row]], [ids])
        expected = responder.language_model.model.lm_head(states).log_softmax(-1)[range(len(ids)), ids].sum()
        torch.testing.assert_close(adapted[row, ["sad", "happy"].index(option)], expected, rtol=1e-4, atol=1e-4)


def test_pooled_heads_fill_no_emotion_slot(model, batch):
    model.responder.prompt = "{speech} said with {emotion}"
    with pytest.raises(InputError, match="emotion"):
        prompts_of(model, batch)


def test_another_recording_for_the_emotion_needs_a_part_that_hears_it(model, corpus):
    rows = read_manifest(corpus)
    pair = collate([(read(rows[0].path), replace(rows[0], emotion_path=rows[3].path), read(rows[3].path))], EMOTIONS)
    assert not torch.equal(model(pair).emotion.logits, model(alone(corpus, 0)).emotion.logits)
    plain = ConvolutionalAdapter(32, 32, hidden_size=8)
    deaf = whole(
        model.listener.speech_encoder,
        plain,
        model.responder.language_model,
        PooledEmotionHeads(32),
        prompt=PROMPT,
        system=SYSTEM,
    )
    with pytest.raises(InputError, match="no part of this model hears another recording"):
        deaf(pair)


def test_the_teacher_of_distillation_is_the_frozen_model(model, batch):
    def _teacher():
        states = model(batch).responses
        return states.of_transcripts()[0].detach(), states.hidden.detach()

    for scope in ("audio", "text", "global"):
        model.responder.partial_lora.scope = scope
        changed = _teacher()
        with torch.no_grad():
            for name, parameter in model.responder.partial_lora.named_parameters():
                if name.endswith("lora_B"):
                    parameter.mul_(3.0)
        again = _teacher()
        torch.testing.assert_close(changed[0], again[0])
        assert (changed[1] - again[1]).abs().max() > 1e-4


def test_without_responses_the_adapter_still_serves_the_heads(model, batch):
    batch.responses = [None] * len(batch)
    output = model(batch)
    assert output.response_loss is None and output.emotion.logits.shape == (4, 5)
    heard = model.listener(batch, words=False)
    assert heard.said is not None and torch.equal(heard.emotion.logits, output.emotion.logits)


def test_everything_trained_returns_from_a_folder(model, batch, corpus, tmp_path):
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    halves = json.loads((tmp_path / "bot" / "config.json").read_text())["model"]["init_args"]
    classes = {}
    for half in ("listener", "responder"):
        for name, value in halves[half]["init_args"].items():
            if isinstance(value, dict):
                classes[name] = value["class_path"].split(".", 3)[-1]
    assert classes == {
        "speech_encoder": "SpeechEncoder.from_pretrained", "emotion_encoder": "EmotionEncoder.from_pretrained",
        "language_model": "LanguageModel.from_pretrained", "speech_adapter": "ConvolutionalAdapter",
        "emotion_nuance": "PooledEmotionHeads", "partial_lora": "PartialLora",
        "speech_slot": "slots.HeardSpeech".partition(".")[2], "emotion_slot": "HeardEmotion",
    }  # fmt: skip
    loaded = load(tmp_path / "bot")
    assert torch.equal(loaded(batch).response_loss, model(batch).response_loss)
    for ours, theirs in zip(
        loaded.responder.partial_lora.parameters(), model.responder.partial_lora.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)
    bot = EmpatheticChatbot.from_pretrained(tmp_path / "bot", device="cpu")
    (reply,) = bot.respond([corpus.parent / "3.wav"], decoding=Decoding(max_new_tokens=8))
    (expected,) = tokens_of(model, prompts_of(model, alone(corpus, 3))[:1], 8)
    assert reply.text == text_of(model, expected)
    nn.init.zeros_(model.responder.partial_lora.layers[0]["up"].lora_B)
    assert set(load_weights(tmp_path / "bot", model)) == {
        "listener.speech_adapter", "listener.emotion_nuance", "responder.partial_lora"
    }  # fmt: skip
    assert model.responder.partial_lora.layers[0]["up"].lora_B.abs().sum() > 0


def test_re_llm_starts_as_blsp_emo_computes(model, backbones, batch, tmp_path):
    encoder = SpeechEncoder.from_pretrained(str(backbones / "speech_encoder"))
    language_model = LanguageModel.from_pretrained(str(backbones / "language_model"))
    small = ConvolutionalAdapter(32, 32, hidden_size=8)
    stage = whole(encoder, small, language_model, PooledEmotionHeads(32), prompt=PROMPT, system=SYSTEM).eval()
    save(tmp_path / "blsp_emo", spoken(stage, list(EMOTIONS)))
    expected = stage(batch)
    for parameter in model.responder.partial_lora.parameters():
        nn.init.zeros_(parameter)
    assert not torch.allclose(model(batch).emotion.embedding, expected.emotion.embedding, atol=0.1)
    assert set(load_weights(tmp_path / "blsp_emo", model)) == {"listener.speech_adapter", "listener.emotion_nuance"}
    output = model(batch)
    torch.testing.assert_close(output.response_loss, expected.response_loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.emotion.logits, expected.emotion.logits, rtol=1e-4, atol=1e-5)
    model.listener.speech_adapter = ConvolutionalAdapter(32, 32, hidden_size=9, emotion_size=32)
    with pytest.raises(CheckpointError, match="must agree"):
        load_weights(tmp_path / "blsp_emo", model)


def test_a_class_that_is_not_there_is_named_in_one_line(model, tmp_path):
    save(tmp_path, spoken(model, list(EMOTIONS)))
    config = json.loads((tmp_path / "config.json").read_text())
    config["model"]["init_args"]["listener"]["init_args"]["speech_adapter"]["class_path"] = (
        "empathy_lightning.modules.cformer.Perceiver"
    )
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="Perceiver"):
        load(tmp_path)


def test_the_emotion_encoder_and_lora_may_be_left_out_and_cformer_put_in(backbones, language_model, batch, tmp_path):
    encoder = SpeechEncoder.from_pretrained(str(backbones / "speech_encoder"))
    cformer = CFormer(32, 32, 16, 48, num_heads=2, layers_before=1, layers_after=1)
    for adapter in (ConvolutionalAdapter(32, 32, hidden_size=8), cformer):
        model = whole(encoder, adapter, language_model, PooledEmotionHeads(32)).eval()
        assert model.responder.prompt == "{speech}"
        save(tmp_path / type(adapter).__name__, spoken(model, list(EMOTIONS)))
        loaded = load(tmp_path / type(adapter).__name__)
        assert torch.equal(loaded(batch).response_loss, model(batch).response_loss)


def test_parts_that_need_each_other_are_asked_for(model):
    encoder, adapter, language_model = (
        model.listener.speech_encoder,
        model.listener.speech_adapter,
        model.responder.language_model,
    )
    with pytest.raises(InputError, match="emotion_size need each other"):
        whole(encoder, adapter, language_model)
    with pytest.raises(InputError, match="give one"):
        whole(encoder, emotion_nuance=PooledEmotionHeads(32))
    with pytest.raises(InputError, match="hears words for a responder"):
        whole(encoder, SpeechAdapter(32, 32), emotion_nuance=EmotionNuance(32, 32))
