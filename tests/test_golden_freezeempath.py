"""The whole model against vectors computed with the reference's own modules, under its own key names."""

import json
import re

import pytest
import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM, WhisperConfig

from empathy_lightning.losses import CategoricalLoss
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.language_model import LanguageModel, pack
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_encoder import SpeechEncoder, length_mask
from empathy_lightning.modules.unit_choice import UnitDecoding
from empathy_lightning.outputs import EmpatheticOutput
from tests.conftest import golden, golden_seeds, whisper_config
from tests.modules.test_speech_decoder import golden_decoder
from tests.tiny import filled, ids_of_turns, tokens_of, units_of_turns, whole

every_seed = pytest.mark.parametrize("folder", golden_seeds("freezeempath"), ids=str)


def under(prefix, state):
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def golden_model(folder, name):
    """The reference's tiny model as ours, its facts and its tensors."""
    tensors, state = golden(folder, name)
    facts = json.loads((folder / f"{name}.json").read_text())
    config = facts["config"]
    mel_bins, positions, width, heads, layers = config["tiny_whisper_dims"]
    encoder = SpeechEncoder(
        WhisperConfig(
            **whisper_config().to_dict()
            | {"num_mel_bins": mel_bins, "max_source_positions": positions, "d_model": width, "encoder_layers": layers}
            | {"encoder_attention_heads": heads, "encoder_ffn_dim": 4 * width}
        )
    )
    names = json.loads((folder / "c_whisper.json").read_text())["key_map_openai_to_hf_WhisperEncoder"]
    own = under("model.speech_encoder.", state)
    encoder.encoder.load_state_dict({names[key]: value for key, value in own.items()})
    mel = tensors["input.mel"].transpose(1, 2)
    encoder.log_mel.forward = lambda waveform, lengths: (mel, torch.full((len(mel),), mel.shape[2]))

    adapter = SpeechAdapter(width, config["hidden_size"], drop_incomplete=True)
    adapter.load_state_dict(under("model.speech_projector.", state))
    nuance = EmotionNuance(width, config["hidden_size"], rate_dimensions=False)
    nuance.extractor.load_state_dict(under("model.emotion_extractor.", state))
    nuance.categorical_head.load_state_dict({"weight": state["hidden2emotion.weight"]})

    sizes = {key: value for key, value in config.items() if hasattr(Qwen2Config(), key)}
    rope = {"rope_type": "default", "rope_theta": config["rope_theta"]}
    bare = Qwen2ForCausalLM(Qwen2Config(**sizes, rope_parameters=rope))
    bare.load_state_dict({key: state[key] for key in bare.state_dict() if key in state}, strict=False)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tts_tokenizer")
    tokenizer.eos_token = "<|im_end|>"
    model = whole(encoder, adapter, LanguageModel(bare, tokenizer), nuance).eval()
    return model, facts, tensors


def prompts_of(model, tensors):
    """Each row's prompt through the chat template, tokenizer and slots, and its response as words."""
    tokenizer = model.responder.language_model.tokenizer
    heard = model.listener.speech_encoder(torch.zeros(1, 1), torch.ones(1, dtype=torch.long))
    # The reference pads the speech, hears emotion in all of it, and takes words from its own length alone.
    spoken = length_mask((tensors["input.mel_lengths"] + 1) // 2, heard.frames.shape[1])
    speech, valid = model.listener.speech_adapter(heard.frames, spoken)
    speech = [row[mask] for row, mask in zip(speech, valid, strict=True)]
    emotion = model.listener.emotion_nuance(heard.layers, heard.mask)
    prompts, responses = [], []
    slots = {-200: "{speech}", -300: "{emotion}"}
    for row, ids in enumerate(tensors["input.input_ids"]):
        labels = tensors["input.labels"][row] if "input.labels" in tensors else torch.full_like(ids, -100)
        written = ids[labels == -100]
        if "input.attention_mask" in tensors:
            written = ids[(labels == -100) & tensors["input.attention_mask"][row].bool()]
        words = [slots.get(i) or tokenizer.convert_ids_to_tokens(i) for i in written.tolist()]
        before, content, after = re.split(r"({speech}.*{emotion})", " ".join(words))
        tokenizer.chat_template, model.responder.prompt = f"{before}{{{{ messages[0].content }}}}{after}", content
        prompts += filled(model, speech[row : row + 1], emotion.embedding[row : row + 1])
        responses.append(tokenizer.decode(labels[labels != -100][:-1]))
    return prompts, responses, speech, emotion


@every_seed
def test_golden_prompt_assembly(folder):
    model, _, tensors = golden_model(folder, "e_assembly")
    prompts, responses, speech, emotion = prompts_of(model, tensors)
    for row, embeddings in enumerate(speech):
        torch.testing.assert_close(embeddings, tensors[f"mid.speech_features.{row}"], rtol=2e-5, atol=2e-5)
        expected = tensors[f"mid.emotion_features.{row}"][0]
        torch.testing.assert_close(emotion.embedding[row], expected, rtol=2e-5, atol=2e-5)
    longest = tensors["output.trunc.labels"].shape[1]
    for form, length in (("right", None), ("left", None), ("trunc", longest)):
        model.responder.max_length = length
        rows, labels = model.responder.supervised_rows(prompts, responses)
        embeddings, mask = pack(rows, left=form == "left")
        side = "left" if form == "left" else "right"
        labels = torch.nn.utils.rnn.pad_sequence(labels, True, -100, side)
        torch.testing.assert_close(embeddings, tensors[f"output.{form}.inputs_embeds"], rtol=2e-5, atol=2e-5)
        assert torch.equal(mask.long(), tensors[f"output.{form}.attention_mask"])
        assert torch.equal(labels, tensors[f"output.{form}.labels"])


@every_seed
def test_golden_whole_model_losses(folder):
    model, facts, tensors = golden_model(folder, "f_full_train")
    prompts, responses, _, emotion = prompts_of(model, tensors)
    loss = model.responder.loss(prompts, responses)
    torch.testing.assert_close(loss, tensors["output.lm_loss"][0], rtol=1e-4, atol=0)
    rows, labels = model.responder.supervised_rows(prompts, responses)
    hidden = model.responder.language_model(*pack(rows))
    logits = model.responder.language_model.model.lm_head(hidden)
    for row, label in enumerate(labels):
        expected = tensors["output.last_hidden"][row, : len(label)]
        torch.testing.assert_close(hidden[row, : len(label)], expected, rtol=1e-4, atol=2e-5)
        expected = tensors["output.lm_logits"][row, : len(label)]
        torch.testing.assert_close(logits[row, : len(label)], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(emotion.logits, tensors["output.ser_logits"], rtol=2e-5, atol=2e-5)

    class Labelled:
        emotion = tensors["input.emotion_labels"]

    loss = CategoricalLoss()(EmpatheticOutput(None, emotion), Labelled())
    torch.testing.assert_close(loss, tensors["output.ser_loss"][0], rtol=2e-5, atol=0)

    decoder = decoder_of(folder, "f_full_train", facts)
    # The reference's labels end one token late: the end of the turn itself has no row.
    replies = [label[label != -100][:-1] for label in labels]
    states = model.responder.states(prompts, [reply.tolist() for reply in replies])
    units = [row[row >= 0] for row in tensors["input.units"]]
    loss = decoder(states, replies, units)
    torch.testing.assert_close(loss, tensors["output.speech_loss"][0], rtol=2e-5, atol=0)


def decoder_of(folder, name, facts):
    _, state = golden(folder, name)
    own = under("speech_generator.", state)
    own["model.lm_head.weight"] = own["model.model.embed_tokens.weight"]
    schedule = [int(number) for number in facts["config"]["stream_params"].strip("()").split(",")]
    config = {**facts["config"], "stream_params": schedule}
    ids = {**facts["token_ids"], "n_units": facts["config"]["unit_vocab_size"]}
    return golden_decoder({"config": config, "token_ids": ids}, own)


@every_seed
def test_golden_greedy_text_and_units_end_to_end(folder):
    model, facts, tensors = golden_model(folder, "f_full_generate")
    prompts, *_ = prompts_of(model, tensors)
    (reply,) = tokens_of(model, prompts)
    assert reply == tensors["output.text_ids"].tolist()
    (states,) = model.responder.states(prompts, [reply])
    torch.testing.assert_close(states, tensors["output.text_hidden"], rtol=1e-4, atol=2e-5)
    decoder = decoder_of(folder, "f_full_generate", facts)
    text = [(states[i : i + 1], torch.tensor(reply[i : i + 1])) for i in range(len(reply))]
    turns = [turn.tolist() for turn in ids_of_turns(decoder, text, UnitDecoding(0.0, max_units=1024))]
    assert turns == facts["generated_ids_per_chunk"]
    assert (
        torch.cat(units_of_turns(decoder, text, UnitDecoding(0.0, max_units=1024))).tolist()
        == tensors["output.units"].tolist()
    )
