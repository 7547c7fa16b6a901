"""The whole original models at tiny size, from mel spectrogram and waveform to logits and tokens."""

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from transformers import Qwen2ForCausalLM, Wav2Vec2Config, WhisperConfig

from empathy_lightning.conversion.qwen import partial_lora_name, qwen2_config, qwen2_weights, without_wrapper
from empathy_lightning.conversion.reference_layout import (
    hidden_by_physical_positions,
    inner_padded,
    reply_by_physical_positions,
)
from empathy_lightning.losses import CategoricalLoss, RatingLoss
from empathy_lightning.models import EmpatheticOutput
from empathy_lightning.modules.convolutional_adapter import ConvolutionalAdapter
from empathy_lightning.modules.emotion_encoder import EmotionEncoder
from empathy_lightning.modules.language_model import IGNORE, LanguageModel, pack
from empathy_lightning.modules.partial_lora import PartialLora
from empathy_lightning.modules.speech_encoder import SpeechEncoder, length_mask
from tests.conftest import golden, golden_seeds
from tests.modules.test_convolutional_adapter import close, renamed
from tests.modules.test_pooled_heads import golden_heads

SEEDS = golden_seeds("rellm")
CASES = ["full_blspemo", "full_rellm"]


def under(state, prefix):
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def load_parts(folder, case):
    """Our modules with the original's weights."""
    state, _ = golden(folder, f"{case}.state_dict")
    config = json.loads((folder / f"{case}.json").read_text())["config"]
    keys = without_wrapper(state, "qwen_model.")
    bare = {name: state[key] for key, name in keys.items()}
    model = Qwen2ForCausalLM(qwen2_config(config["qwen"])).eval()
    missing, unexpected = model.load_state_dict(qwen2_weights(bare), strict=False)
    assert not missing and not unexpected
    lora_config = config["blsp"]["lora_config"]
    lora = PartialLora.for_model(model, lora_config["r"], lora_config["lora_alpha"]).eval()
    lora.load_state_dict({name: v for k, v in bare.items() if (name := partial_lora_name(k))})
    lora.attach(model)
    speech_encoder = SpeechEncoder(WhisperConfig(**config["whisper"]))
    speech_encoder.encoder.load_state_dict(under(state, "whisper_model."))
    emotion_encoder = None
    if case == "full_rellm":
        emotion_encoder = EmotionEncoder(
            Wav2Vec2Config(
                **{k: v for k, v in config["w2v2"].items() if k != "num_labels"},
                id2label={0: "arousal", 1: "dominance", 2: "valence"},
            )
        )
        old = under(state, "w2v2.")
        for index, letter in enumerate("gv"):
            name = f"wav2vec2.encoder.pos_conv_embed.conv.weight_{letter}"
            old[f"wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original{index}"] = old.pop(name)
        emotion_encoder.load_state_dict(old)
    adapter = ConvolutionalAdapter(
        config["whisper"]["d_model"], config["qwen"]["hidden_size"], config["blsp"]["adapter_inner_dim"],
        emotion_size=emotion_encoder.hidden_size if emotion_encoder else 0, reference_compat=True,
    ).eval()  # fmt: skip
    adapter.load_state_dict(renamed(under(state, "w2v2cat_adapter." if emotion_encoder else "adapter.")))
    zeros = torch.zeros(3, adapter.output_size)
    heads = golden_heads({"hidden2w2v2.weight": zeros} | {k: v for k, v in state.items() if k.startswith("hidden2")})
    tokenizer = SimpleNamespace(pad_token_id=1, eos_token_id=2)
    return SimpleNamespace(
        language_model=LanguageModel(model, tokenizer), lora=lora, speech_encoder=speech_encoder,
        emotion_encoder=emotion_encoder, adapter=adapter, heads=heads,
    )  # fmt: skip


def hear(parts, tensors):
    """Adapter's embeddings and mask, from the padded spectrogram and the raw waveforms."""
    mel = tensors["in.speech_values"]
    states = parts.speech_encoder.encoder(mel).last_hidden_state
    close(states, tensors["mid.whisper_states"])
    lengths = (tensors["in.speech_mask"].sum(1) - 1) // 2 + 1
    assert torch.equal(lengths, tensors["mid.whisper_lengths"])
    width = int(lengths.max())
    emotion = None
    if parts.emotion_encoder is not None:
        waves = [tensors[f"in.raw_speech{i}"] for i in range(3)]
        waveform = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
        heard = parts.emotion_encoder(waveform, torch.tensor([len(w) for w in waves]))
        emotion = heard.embedding
        close(emotion, tensors["mid.emotion_embedding"])
        for name in ("arousal", "valence", "dominance"):
            close(getattr(heard, name), tensors[f"mid.{name}"])
    return parts.adapter(states[:, :width], length_mask(lengths, width), emotion)


def segment(parts, tensors, name, key="in."):
    ids = tensors[f"{key}{name}_ids"]
    mask = tensors.get(f"{key}{name}_mask", torch.ones_like(ids)).bool()
    return [parts.language_model.embed(row[valid]) for row, valid in zip(ids, mask, strict=True)]


def logits_of(parts, segments, speech=None):
    """Logits, the mask and the LoRA mask of a prompt in the original's layout."""
    embeddings, mask, places = inner_padded(segments)
    acts = torch.zeros_like(mask)
    if speech is not None:
        acts[:, places[speech]] = True
    with parts.lora.at(acts) if speech is not None else nullcontext():
        hidden = hidden_by_physical_positions(parts.language_model, embeddings, mask)
    return parts.language_model.model.lm_head(hidden), mask, acts, embeddings


@pytest.mark.parametrize("folder", SEEDS, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_golden_logits_losses_and_tokens(folder, case):
    tensors, _ = golden(folder, f"{case}.io")
    parts = load_parts(folder, case)
    embeddings, valid = hear(parts, tensors)
    close(embeddings, tensors["out.adapter_hidden"])
    assert torch.equal(valid.long(), tensors["out.adapter_mask"])
    said = [row[mask] for row, mask in zip(embeddings, valid, strict=True)]
    before = [segment(parts, tensors, name) for name in ("start", "audio_instruction")]

    logits, mask, acts, inputs = logits_of(parts, [*before, said, segment(parts, tensors, "suffix")], speech=2)
    assert torch.equal(mask.long(), tensors["mid.speech_attention_mask"])
    assert torch.equal(acts.float(), tensors["mid.lora_mask"])
    close(inputs[mask], tensors["mid.speech_embeds"][mask])
    close(logits[mask], tensors["out.speech_logits"][mask], 1e-4)

    labels = torch.full(mask.shape, IGNORE)
    labels[:, -tensors["in.suffix_labels"].shape[1] :] = tensors["in.suffix_labels"]
    with parts.lora.at(acts):
        hidden = hidden_by_physical_positions(parts.language_model, inputs, mask)
    loss = parts.language_model.response_loss(hidden, labels)
    close(loss, tensors["out.loss.response_ce"], 1e-4)

    text = [segment(parts, tensors, name) for name in ("start", "instruction", "input", "suffix")]
    teacher, text_mask, _, _ = logits_of(parts, text)
    close(teacher[text_mask], tensors["out.text_logits"][text_mask], 1e-4)

    estimate = parts.heads(embeddings, valid)
    close(estimate.embedding, tensors["mid.pooled"])
    close(estimate.logits, tensors["out.emotion_logits"])
    names = {"emotion": "emotion_labels"} | {n: f"{n}_ans" for n in ("arousal", "valence", "dominance")}
    batch = SimpleNamespace(**{ours: tensors.get(f"in.{theirs}") for ours, theirs in names.items()})
    close(CategoricalLoss()(EmpatheticOutput(None, estimate), batch), tensors["out.loss.input_er"])
    if case == "full_rellm":
        close(RatingLoss()(EmpatheticOutput(None, estimate), batch), tensors["out.loss.input_er_avd"])

    prompt, mask, places = inner_padded([*before, said, segment(parts, tensors, "suffix", key="gen.in.")])
    acts = torch.zeros_like(mask)
    acts[:, places[2]] = True
    expected = [row[1:] for row in tensors["gen.out.tokens_incl_dummy_bos"].tolist()]
    with parts.lora.at(acts):
        assert reply_by_physical_positions(parts.language_model, prompt, mask, len(expected[0])) == expected


@pytest.mark.parametrize("folder", SEEDS, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_golden_utterance_alone_needs_no_compatibility(folder, case):
    """Where nothing is padded, our own layout gives the original's logits; only batches differ."""
    tensors, _ = golden(folder, f"{case}.io")
    parts = load_parts(folder, case)
    said, valid = hear(parts, tensors)
    rows = [segment(parts, tensors, name)[0] for name in ("start", "audio_instruction")]
    rows += [said[0][valid[0]], segment(parts, tensors, "suffix")[0]]
    speech = torch.cat([torch.full((len(row),), index == 2) for index, row in enumerate(rows)])
    packed, mask = pack([torch.cat(rows)])
    with parts.lora.at(speech[None]):
        logits = parts.language_model.model.lm_head(parts.language_model(packed, mask))[0]
    close(logits, tensors["out.speech_logits"][0][: len(logits)], 1e-4)
