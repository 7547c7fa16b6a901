"""The whole original models at tiny size, from mel spectrogram and waveform to logits and tokens."""

import json
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
from empathy_lightning.slots import pad_inside, prompt_row
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
        partial_lora=lora, reference_compat=True,
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


def prompts_of(segments, speech=None):
    """Prompts of segments, each a list of rows, in the original's layout."""
    contents = list(zip(*segments, strict=True))
    rows = [prompt_row(["speech"], pieces, [index == speech for index in range(len(segments))]) for pieces in contents]
    pad_inside(rows, [["speech"] * len(segments)] * len(rows), contents)
    return rows


def answers(tensors):
    """The suffix cut where the labels begin: what belongs to the prompt, and the responses."""
    labels, mask = tensors["in.suffix_labels"], tensors["in.suffix_mask"].bool()
    first = int((labels[0] >= 0).nonzero()[0])
    assert (labels[:, :first] < 0).all() and (labels[:, first:][mask[:, first:]] >= 0).all()
    responses = [" ".join(map(str, row[row >= 0].tolist())) for row in labels]
    return list(tensors["in.suffix_ids"][:, :first]), responses


@pytest.mark.parametrize("folder", SEEDS, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_golden_logits_losses_and_tokens(folder, case):
    tensors, _ = golden(folder, f"{case}.io")
    parts = load_parts(folder, case)
    head, embed = parts.responder.language_model.model.lm_head, parts.responder.language_model.embed
    embeddings, valid = hear(parts, tensors)
    close(embeddings, tensors["out.adapter_hidden"])
    assert torch.equal(valid.long(), tensors["out.adapter_mask"])
    said = [row[mask] for row, mask in zip(embeddings, valid, strict=True)]
    before = [segment(parts, tensors, name) for name in ("start", "audio_instruction")]
    suffix, responses = answers(tensors)
    suffix, cut = [embed(ids) for ids in suffix], [True] * len(responses)

    # Our rows have no padding inside: they are the valid positions of the original's, in their order.
    prompts = prompts_of([*before, said, suffix], speech=2)
    mask = tensors["mid.speech_attention_mask"].bool()
    rows, _ = parts.responder.supervised_rows(prompts, responses, cut)
    close(torch.cat(rows), tensors["mid.speech_embeds"][mask])
    hidden, labels = parts.responder(prompts, responses, cut)
    ours = length_mask(torch.tensor([len(row) for row in rows]), hidden.shape[1])
    close(head(hidden)[ours], tensors["out.speech_logits"][mask], 1e-4)
    close(parts.responder.language_model.response_loss(hidden, labels), tensors["out.loss.response_ce"], 1e-4)

    text = prompts_of([*(segment(parts, tensors, name) for name in ("start", "instruction", "input")), suffix])
    text_hidden, text_labels = parts.responder(text, responses, cut, plain=True)
    rows, _ = parts.responder.supervised_rows(text, responses, cut)
    ours = length_mask(torch.tensor([len(row) for row in rows]), text_hidden.shape[1])
    text_mask = tensors["mid.text_attention_mask"].bool()
    close(head(text_hidden)[ours], tensors["out.text_logits"][text_mask], 1e-4)

    states = ResponseStates(hidden, labels, head, lambda: (text_hidden, text_labels))
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

    prompts = prompts_of([*before, said, segment(parts, tensors, "suffix", key="gen.in.")], speech=2)
    expected = [row[1:] for row in tensors["gen.out.tokens_incl_dummy_bos"].tolist()]
    replies = parts.respond(prompts, len(expected[0]))
    assert replies == [row[: row.index(2) + 1] if 2 in row else row for row in expected]


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
