"""The whole original models at tiny size, from mel spectrogram and waveform to logits and tokens."""

import json
from contextlib import nullcontext
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from transformers import Qwen2ForCausalLM, Wav2Vec2Config, WhisperConfig

from empathy_lightning.conversion.qwen import partial_lora_name, qwen2_config, qwen2_weights, without_wrapper
from empathy_lightning.losses import CategoricalLoss, RatingLoss, ResponseDistillationLoss
from empathy_lightning.modules.convolutional_adapter import ConvolutionalAdapter
from empathy_lightning.modules.emotion_encoder import EmotionEncoder
from empathy_lightning.modules.language_model import LanguageModel, pack
from empathy_lightning.modules.partial_lora import PartialLora
from empathy_lightning.modules.speech_encoder import SpeechEncoder, length_mask
from empathy_lightning.outputs import EmpatheticOutput, ResponseStates
from tests.conftest import golden, golden_seeds
from tests.modules.test_convolutional_adapter import close, renamed
from tests.modules.test_pooled_heads import golden_heads
from tests.tiny import whole

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
    return whole(
        speech_encoder, adapter, LanguageModel(model, Tokens()), heads, emotion_encoder=emotion_encoder,
        partial_lora=lora,
    )  # fmt: skip


class Tokens:
    """A tokenizer of texts that are written as token ids."""

    pad_token_id, eos_token_id, chat_template = 1, 2, "the user's words alone"
    added_tokens_decoder: ClassVar[dict] = {}

    def __len__(self):
        return 0

    def apply_chat_template(self, messages, **_):
        return messages[0]["content"]

    def __call__(self, text, **_):
        return SimpleNamespace(input_ids=[int(word) for word in text.split()])


def hear(parts, tensors):
    """Adapter's embeddings and mask, from the padded spectrogram and the raw waveforms."""
    mel = tensors["in.speech_values"]
    states = parts.listener.speech_encoder.encoder(mel).last_hidden_state
    close(states, tensors["mid.whisper_states"])
    lengths = (tensors["in.speech_mask"].sum(1) - 1) // 2 + 1
    assert torch.equal(lengths, tensors["mid.whisper_lengths"])
    width = int(lengths.max())
    emotion = None
    if parts.listener.emotion_encoder is not None:
        waves = [tensors[f"in.raw_speech{i}"] for i in range(3)]
        waveform = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
        heard = parts.listener.emotion_encoder(waveform, torch.tensor([len(w) for w in waves]))
        emotion = heard.embedding
        close(emotion, tensors["mid.emotion_embedding"])
        for name in ("arousal", "valence", "dominance"):
            close(getattr(heard, name), tensors[f"mid.{name}"])
    return parts.listener.speech_adapter(states[:, :width], length_mask(lengths, width), emotion)


def segment(parts, tensors, name, key="in."):
    ids = tensors[f"{key}{name}_ids"]
    mask = tensors.get(f"{key}{name}_mask", torch.ones_like(ids)).bool()
    return [parts.responder.language_model.embed(row[valid]) for row, valid in zip(ids, mask, strict=True)]


def laid_out(segments, speech=None):
    """Segments as the original lays them out, each padded on its own; with the mask and where partial LoRA acts."""
    padded, masks, acts = [], [], []
    for index, rows in enumerate(segments):
        padded.append(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True))
        masks.append(length_mask(torch.tensor([len(row) for row in rows]), padded[-1].shape[1]))
        acts.append(torch.full_like(masks[-1], index == speech))
    return torch.cat(padded, 1), torch.cat(masks, 1), torch.cat(acts, 1)


def read(parts, segments, speech=None):
    """Last hidden states of the original's layout, and its mask."""
    embeddings, mask, acts = laid_out(segments, speech)
    lora = parts.responder.partial_lora
    with nullcontext() if speech is None else lora.at(acts):
        output = parts.responder.language_model.model.model(inputs_embeds=embeddings, attention_mask=mask.long())
    return output.last_hidden_state, mask


@pytest.mark.parametrize("folder", SEEDS, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_golden_logits_losses_and_tokens(folder, case):
    tensors, _ = golden(folder, f"{case}.io")
    parts = load_parts(folder, case)
    head = parts.responder.language_model.model.lm_head
    embeddings, valid = hear(parts, tensors)
    close(embeddings, tensors["out.adapter_hidden"])
    assert torch.equal(valid.long(), tensors["out.adapter_mask"])
    said = [row[mask] for row, mask in zip(embeddings, valid, strict=True)]
    before = [segment(parts, tensors, name) for name in ("start", "audio_instruction")]
    suffix = segment(parts, tensors, "suffix")

    segments = [*before, said, suffix]
    packed, mask, _ = laid_out(segments)
    assert torch.equal(mask, tensors["mid.speech_attention_mask"].bool())
    close(packed[mask], tensors["mid.speech_embeds"][mask])
    hidden, _ = read(parts, segments, speech=2)
    close(head(hidden)[mask], tensors["out.speech_logits"][mask], 1e-4)
    labels = labels_of(tensors, hidden.shape[1])
    close(parts.responder.language_model.response_loss(hidden, labels), tensors["out.loss.response_ce"], 1e-4)

    text = [*(segment(parts, tensors, name) for name in ("start", "instruction", "input")), suffix]
    text_hidden, text_mask = read(parts, text)
    close(head(text_hidden)[text_mask], tensors["out.text_logits"][text_mask], 1e-4)
    states = ResponseStates(hidden, labels, head, lambda: (text_hidden, labels_of(tensors, text_hidden.shape[1])))
    distillation = ResponseDistillationLoss(square_temperature=False, shifted=False)
    close(distillation(EmpatheticOutput(None, None, states), None), tensors["out.loss.response_kl"], 1e-4)

    estimate = parts.listener.emotion_nuance(embeddings, valid)
    close(estimate.embedding, tensors["mid.pooled"])
    close(estimate.logits, tensors["out.emotion_logits"])
    names = {"emotion": "emotion_labels"} | {n: f"{n}_ans" for n in ("arousal", "valence", "dominance")}
    batch = SimpleNamespace(**{ours: tensors.get(f"in.{theirs}") for ours, theirs in names.items()})
    close(CategoricalLoss()(EmpatheticOutput(None, estimate), batch), tensors["out.loss.input_er"])
    if case == "full_rellm":
        close(RatingLoss()(EmpatheticOutput(None, estimate), batch), tensors["out.loss.input_er_avd"])

    packed, mask, acts = laid_out([*before, said, segment(parts, tensors, "suffix", key="gen.in.")], speech=2)
    expected = [row[1:] for row in tensors["gen.out.tokens_incl_dummy_bos"].tolist()]
    options = {"max_new_tokens": len(expected[0]), "do_sample": False, "eos_token_id": 2, "pad_token_id": 1}
    positions = torch.arange(packed.shape[1]).expand(len(packed), -1)
    with torch.no_grad(), parts.responder.partial_lora.at(acts):
        found = parts.responder.language_model.model.generate(
            inputs_embeds=packed, attention_mask=mask.long(), position_ids=positions, **options
        )
    for row, reply in zip(expected, found.tolist(), strict=True):
        end = row.index(2) + 1 if 2 in row else len(row)
        assert reply[:end] == row[:end]


def labels_of(tensors, width):
    """The original's labels of the suffix, at the end of what is ``width`` wide; -100 elsewhere."""
    own = tensors["in.suffix_labels"]
    labels = torch.full((len(own), width), -100)
    labels[:, width - own.shape[1] :] = torch.where(own >= 0, own, -100)
    return labels


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
    with parts.responder.partial_lora.at(speech[None]):
        logits = parts.responder.language_model.model.lm_head(parts.responder.language_model(packed, mask))[0]
    close(logits, tensors["out.speech_logits"][0][: len(logits)], 1e-4)
