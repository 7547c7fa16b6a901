"""RE-LLM and BLSP-Emo as EmpatheticLM wires them, on tiny models of the real classes."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from empathy_lightning.audio import read
from empathy_lightning.batch import collate
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.checkpoints import CheckpointError, load, load_weights, save
from empathy_lightning.corpora import read_manifest
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.prompting import ask, score_options
from empathy_lightning.losses import CategoricalLoss, ConcordanceLoss, RatingLoss
from empathy_lightning.modules.cformer import CFormer
from empathy_lightning.modules.convolutional_adapter import ConvolutionalAdapter
from empathy_lightning.modules.emotion_encoder import EmotionEncoder
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.partial_lora import PartialLora
from empathy_lightning.modules.pooled_heads import PooledEmotionHeads
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.prompts import response_ids
from empathy_lightning.slots import pad_inside, prompt_row
from empathy_lightning.utterance import EMOTIONS
from tests.modules.test_emotion_encoder import tiny_config, write_checkpoint
from tests.tiny import filled, spoken, whole

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
        encoder, adapter, language_model, PooledEmotionHeads(32), PROMPT, SYSTEM,
        EmotionEncoder.from_pretrained(str(folder)), lora,
    ).eval()  # fmt: skip


@pytest.fixture
def batch(corpus):
    return collate([(read(u.path), u) for u in read_manifest(corpus)[:4]], EMOTIONS)


def alone(batch_corpus, row):
    utterance = read_manifest(batch_corpus)[row]
    return collate([(read(utterance.path), utterance)], EMOTIONS)


def prompts_of(model, batch):
    encoded = model.listener.speech_encoder(batch.waveform, batch.lengths)
    adapted = model.adapt(encoded, batch.waveform, batch.lengths)
    return filled(model, [row[valid] for row, valid in zip(*adapted, strict=True)], None)


def test_a_batch_is_its_utterances_alone(model, corpus, batch):
    together, losses, counts = model(batch), [], []
    for row in range(4):
        single = model(alone(corpus, row))
        losses.append(single.response_loss)
        counts.append(len(response_ids(model.responder.language_model.tokenizer, batch.responses[row])))
        for name, value in vars(single.emotion).items():
            torch.testing.assert_close(getattr(together.emotion, name)[row], value[0], rtol=1e-4, atol=1e-5)
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
        assert torch.equal(row[: len(before)], model.responder.language_model.embed(before))
        assert torch.equal(row[-len(after) :], model.responder.language_model.embed(after))


def test_replies_and_their_states_do_not_depend_on_the_batch(model, batch):
    prompts = prompts_of(model, batch)
    replies = model.respond(prompts, max_new_tokens=8)
    assert replies == [model.respond([prompt], max_new_tokens=8)[0] for prompt in prompts]
    for states, reply in zip(model.responder.states(prompts, replies), replies, strict=True):
        assert model.responder.language_model.model.lm_head(states).argmax(-1).tolist() == reply


def test_partial_lora_changes_speech_but_not_words(model, batch):
    prompts, words = prompts_of(model, batch), filled(model, ["hello"], None)
    heard, read_ = model.respond(prompts, 8), model.respond(words, 8)
    spoken, written = model.responder.loss(prompts, batch.responses), model.responder.loss(words, ["yes"])
    for parameter in model.responder.partial_lora.parameters():
        nn.init.zeros_(parameter)
    assert model.respond(words, 8) == read_ and torch.equal(model.responder.loss(words, ["yes"]), written)
    assert model.respond(prompts, 8) != heard and not torch.isclose(
        model.responder.loss(prompts, batch.responses), spoken
    )
    with pytest.raises(InputError, match="prompt_rows"):
        model.respond([prompt + 0.0 for prompt in prompts], 8)


def test_gradients_reach_adapter_heads_and_lora_but_nothing_frozen(model, batch):
    model.train()
    output = model(batch)
    auxiliary = [loss(output, batch) for loss in (CategoricalLoss(), RatingLoss(), ConcordanceLoss())]
    (output.response_loss + torch.stack(auxiliary).sum()).backward()
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {"speech_adapter", "emotion_nuance", "partial_lora"}
    assert all(p.grad is not None for p in model.responder.partial_lora.parameters())
    assert not model.listener.emotion_encoder.training and not model.responder.language_model.training


def test_a_language_model_in_bfloat16_trains_and_replies(model, batch, backbones):
    half = LanguageModel.from_pretrained(str(backbones / "language_model"), dtype="bfloat16")
    lora = PartialLora.for_model(half.model, rank=2)
    lora.load_state_dict(model.responder.partial_lora.state_dict())
    other = whole(
        model.listener.speech_encoder, model.listener.speech_adapter, half, model.listener.emotion_nuance, PROMPT, SYSTEM, model.listener.emotion_encoder,
        lora,
    ).eval()  # fmt: skip
    expected = model(batch).response_loss
    with torch.autocast("cpu", torch.bfloat16):
        output = other(batch)
        (output.response_loss + CategoricalLoss()(output, batch)).backward()
    torch.testing.assert_close(output.response_loss, expected, rtol=0.05, atol=0.05)
    for part in (other.speech_adapter, other.emotion_nuance.categorical_head, lora):
        for parameter in part.parameters():
            assert parameter.dtype == torch.float32 and parameter.grad.isfinite().all()
    assert all(len(reply) > 0 for reply in other.respond(prompts_of(other, batch), 4))


def padded_inside(model, prompts, ends):
    """Prompts and ends as the original lays them out: the speech padded on its own; with the mask and LoRA's place."""
    heard = [row.speech.nonzero()[:, 0] for row in prompts]
    width, first = max(map(len, heard)), int(heard[0][0])
    rows, masks = [], []
    for row, at, end in zip(prompts, heard, ends, strict=True):
        assert int(at[0]) == first
        hole, after = torch.zeros(width - len(at), row.shape[1]), row[int(at[-1]) + 1 :]
        rows.append(torch.cat([row[: int(at[-1]) + 1], hole, after, model.responder.language_model.embed(end)]))
        masks.append(
            torch.cat([torch.ones(first + len(at)), torch.zeros(len(hole)), torch.ones(len(after) + len(end))])
        )
    embeddings, mask = (nn.utils.rnn.pad_sequence(x, batch_first=True) for x in (rows, masks))
    acts = torch.zeros(mask.shape, dtype=torch.bool)
    acts[:, first : first + width] = True
    return embeddings, mask, acts


def test_reference_compat_is_padding_inside_the_prompt(model, batch):
    ours = model(batch).response_loss.detach()
    model.reference_compat = True
    prompts, qwen = prompts_of(model, batch), model.responder.language_model.model
    assert len({len(row) for row in prompts}) > 1
    ends = [response_ids(model.responder.language_model.tokenizer, response) for response in batch.responses]
    embeddings, mask, acts = padded_inside(model, prompts, ends)
    with torch.no_grad(), model.responder.partial_lora.at(acts):
        logits = qwen(inputs_embeds=embeddings, attention_mask=mask).logits
    losses = []
    for row, valid, end in zip(logits, mask, ends, strict=True):
        scores = row[valid.bool()].log_softmax(-1)[-len(end) - 1 : -1]
        losses += [-scores[step, token] for step, token in enumerate(end)]
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(model(batch).response_loss, expected, rtol=1e-5, atol=1e-5)
    assert (expected - ours).abs() > 1e-4
    assert not torch.isclose(model(batch).response_loss, ours, rtol=0, atol=1e-4)

    embeddings, mask, acts = padded_inside(model, prompts, [[]] * len(prompts))
    positions = torch.arange(mask.shape[1]).expand(len(mask), -1)
    options = {"max_new_tokens": 8, "do_sample": False, "position_ids": positions, "pad_token_id": 0}
    with torch.no_grad(), model.responder.partial_lora.at(acts):
        tokens = qwen.generate(inputs_embeds=embeddings, attention_mask=mask, **options)
    replies = model.respond(prompts, 8)
    assert replies == [row[: len(reply)].tolist() for row, reply in zip(tokens, replies, strict=True)]
    for states, reply in zip(model.responder.states(prompts, replies), replies, strict=True):
        assert qwen.lm_head(states).argmax(-1).tolist() == reply
    scores = score_options(model.responder.language_model, prompts, ["sad"], adapted_at=model.responder.adapted_at)
    ids = model.responder.language_model.tokenizer("sad", add_special_tokens=False).input_ids
    states = model.responder.states(prompts, [ids] * len(prompts))
    for score, row in zip(scores[:, 0], states, strict=True):
        said = qwen.lm_head(row).log_softmax(-1)[range(len(ids)), ids].sum()
        torch.testing.assert_close(score, said, rtol=1e-4, atol=1e-4)


def test_reference_compat_needs_the_same_slots():
    pieces = [[torch.zeros(2, 3), torch.zeros(1, 3)], [torch.zeros(4, 3), torch.zeros(1, 3)]]
    cuts = [["speech", "emotion"], ["emotion", "speech"]]
    rows = [prompt_row(cut, row, [False] * len(row)) for cut, row in zip(cuts, pieces, strict=True)]
    with pytest.raises(InputError, match="same slots"):
        pad_inside(rows, cuts, pieces)


def test_reference_compat_changes_nothing_alone_and_returns_from_a_folder(model, batch, corpus, tmp_path):
    single = alone(corpus, 1)
    expected = model(single).response_loss
    model.reference_compat = True
    torch.testing.assert_close(model(single).response_loss, expected, rtol=1e-5, atol=1e-5)
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    loaded = load(tmp_path / "bot")
    assert loaded.reference_compat and torch.equal(loaded(batch).response_loss, model(batch).response_loss)
    model.responder.max_length = len(prompts_of(model, batch)[0]) + 2
    assert model(batch).response_loss.isfinite()
    config = json.loads((tmp_path / "bot/config.json").read_text())
    del config["slots"]["reference_compat"]
    (tmp_path / "bot/config.json").write_text(json.dumps(config))
    assert not load(tmp_path / "bot").reference_compat


def test_options_are_scored_by_the_adapted_model(model, batch):
    prompts, _ = ask(model, batch)
    adapted = score_options(
        model.responder.language_model, prompts, ["sad", "happy"], adapted_at=model.responder.adapted_at
    )
    bare = score_options(model.responder.language_model, prompts, ["sad", "happy"])
    assert (adapted - bare).abs().max() > 1e-4
    for row, option in ((0, "sad"), (1, "happy")):
        ids = model.responder.language_model.tokenizer(option, add_special_tokens=False).input_ids
        (states,) = model.responder.states([prompts[row]], [ids])
        expected = model.responder.language_model.model.lm_head(states).log_softmax(-1)[range(len(ids)), ids].sum()
        torch.testing.assert_close(adapted[row, ["sad", "happy"].index(option)], expected, rtol=1e-4, atol=1e-4)


def test_pooled_heads_fill_no_emotion_slot(model, batch):
    model.responder.prompt = "{speech} said with {emotion}"
    with pytest.raises(InputError, match="emotion"):
        ask(model, batch)


def test_another_recording_for_the_emotion_needs_a_part_that_hears_it(model, corpus):
    rows = read_manifest(corpus)
    pair = collate([(read(rows[0].path), replace(rows[0], emotion_path=rows[3].path), read(rows[3].path))], EMOTIONS)
    assert not torch.equal(model(pair).emotion.logits, model(alone(corpus, 0)).emotion.logits)
    plain = ConvolutionalAdapter(32, 32, hidden_size=8)
    deaf = whole(
        model.listener.speech_encoder, plain, model.responder.language_model, PooledEmotionHeads(32), PROMPT, SYSTEM
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
    _, emotion = model.hear(batch)
    assert torch.equal(emotion.logits, output.emotion.logits)


def test_everything_trained_returns_from_a_folder(model, batch, corpus, tmp_path):
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    config = json.loads((tmp_path / "bot" / "config.json").read_text())
    classes = {name: part["class_path"].rpartition(".")[2] for name, part in config["parts"].items()}
    assert (classes["speech_adapter"], classes["emotion_nuance"]) == ("ConvolutionalAdapter", "PooledEmotionHeads")
    assert set(config["parts"]) == {"speech_adapter", "emotion_nuance", "partial_lora"}
    assert set(config["backbones"]) == {"speech_encoder", "language_model", "emotion_encoder"}
    loaded = load(tmp_path / "bot")
    assert torch.equal(loaded(batch).response_loss, model(batch).response_loss)
    for ours, theirs in zip(
        loaded.responder.partial_lora.parameters(), model.responder.partial_lora.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)
    bot = EmpatheticChatbot.from_pretrained(tmp_path / "bot", device="cpu")
    (reply,) = bot.respond([corpus.parent / "3.wav"], max_new_tokens=8)
    (expected,) = model.respond(prompts_of(model, alone(corpus, 3))[:1], 8)
    assert reply.text == model.text(expected)
    nn.init.zeros_(model.responder.partial_lora.layers[0]["up"].lora_B)
    assert set(load_weights(tmp_path / "bot", model)) == {"speech_adapter", "emotion_nuance", "partial_lora"}
    assert model.responder.partial_lora.layers[0]["up"].lora_B.abs().sum() > 0


def test_re_llm_starts_as_blsp_emo_computes(model, backbones, batch, tmp_path):
    encoder = SpeechEncoder.from_pretrained(str(backbones / "speech_encoder"))
    language_model = LanguageModel.from_pretrained(str(backbones / "language_model"))
    small = ConvolutionalAdapter(32, 32, hidden_size=8)
    stage = whole(encoder, small, language_model, PooledEmotionHeads(32), PROMPT, SYSTEM).eval()
    save(tmp_path / "blsp_emo", spoken(stage, list(EMOTIONS)))
    expected = stage(batch)
    for parameter in model.responder.partial_lora.parameters():
        nn.init.zeros_(parameter)
    assert not torch.allclose(model(batch).emotion.embedding, expected.emotion.embedding, atol=0.1)
    assert set(load_weights(tmp_path / "blsp_emo", model)) == {"speech_adapter", "emotion_nuance"}
    output = model(batch)
    torch.testing.assert_close(output.response_loss, expected.response_loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.emotion.logits, expected.emotion.logits, rtol=1e-4, atol=1e-5)
    model.listener.speech_adapter = ConvolutionalAdapter(32, 32, hidden_size=9, emotion_size=32)
    with pytest.raises(CheckpointError, match="must agree"):
        load_weights(tmp_path / "blsp_emo", model)


def test_a_class_that_is_not_there_is_named_in_one_line(model, tmp_path):
    save(tmp_path, spoken(model, list(EMOTIONS)))
    config = json.loads((tmp_path / "config.json").read_text())
    config["parts"]["speech_adapter"]["class_path"] = "empathy_lightning.modules.cformer.Perceiver"
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
    with pytest.raises(InputError, match="language_model"):
        whole(encoder, emotion_nuance=EmotionNuance(32, 32), partial_lora=PartialLora(32, 64, 2))
