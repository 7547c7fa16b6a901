"""The loss of a training step around frozen backbones: the reference's way, ours, and ours with one measure off."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.filled_prompt import Turn
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.language_model import IGNORE
from empathy_lightning.prompts import response_ids
from empathy_lightning.tasks.speech_decoder import SpeechDecoderTask

MEASURES = ("own_length", "buckets", "supervised_logits", "shared_prefix", "running_sum", "still", "packed_rows")


def total_loss(response: Tensor, logits: Tensor | None, batch: SpeechBatch) -> Tensor:
    """The paper's loss: the response, and in stage 2 the classifier at 0.8."""
    return response if logits is None else response + 0.8 * nn.functional.cross_entropy(logits, batch.emotion)


def ours(model: EmpatheticLM, batch: SpeechBatch) -> Tensor:
    """Loss of a batch through the library."""
    if model.talker is not None:
        return stage_three(model).output(batch).unit_loss
    output = model(batch)
    assert output.response_loss is not None
    return total_loss(output.response_loss, None if output.emotion is None else output.emotion.logits, batch)


@lru_cache(maxsize=1)
def stage_three(model: EmpatheticLM) -> SpeechDecoderTask:
    """The task that trains the model's speech decoder."""
    return SpeechDecoderTask(model)


def stacked_embedding(nuance: EmotionNuance, layers: list[Tensor]) -> Tensor:
    """The reference's emotion extractor: a stack of all layers, means and attention over the padding too."""
    extractor = nuance.extractor
    stack = torch.stack(layers, 1)
    scores = extractor.gate_fc2(nn.functional.relu(extractor.gate_fc1(stack.mean(2))))
    mixed = extractor.layernorm((stack * scores.softmax(1)[..., None]).sum(1))
    attention = extractor.attn_pool.multihead_attn
    query = extractor.attn_pool.latent_queries.expand(len(mixed), 1, -1)
    pooled = attention(query, mixed, mixed, need_weights=False)[0][:, 0]
    return extractor.linear2(nn.functional.relu(extractor.linear1(pooled)))


def reference(model: EmpatheticLM, batch: SpeechBatch) -> Tensor:
    """Loss of a batch in the reference's way, with the same weights."""
    if model.talker is not None:
        return reference_units(model, batch)
    adapter: Any = model.listener.speech_adapter
    nuance: Any = model.listener.emotion_nuance
    frames, layers = encoded(model, batch)
    speech = adapter.linear2(nn.functional.relu(adapter.linear1(frames.reshape(len(batch), 300, -1))))
    slots: dict[str, Tensor] = {"speech": speech}
    logits = None
    if nuance is not None:
        embedding = stacked_embedding(nuance, layers)
        slots["emotion"], logits = embedding[:, None], nuance.categorical_head(embedding)
    return total_loss(reference_response(model, batch, slots), logits, batch)


@torch.no_grad()
def encoded(model: EmpatheticLM, batch: SpeechBatch) -> tuple[Tensor, list[Tensor]]:
    """Frames and layers of utterances padded to 30 s; layers where an emotion nuance module reads them."""
    heard: Any = model.listener.speech_encoder
    layers: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _module, _inputs, output: layers.append(output))
        for layer in (heard.encoder.layers if model.listener.emotion_nuance is not None else [])
    ]
    waveform = nn.functional.pad(batch.waveform, (0, 480_000 - batch.waveform.shape[1]))
    mel, _ = heard.log_mel(waveform, torch.full_like(batch.lengths, 480_000))
    frames = heard.encoder(mel).last_hidden_state
    for hook in hooks:
        hook.remove()
    return frames, layers


def reference_response(model: EmpatheticLM, batch: SpeechBatch, slots: dict[str, Tensor]) -> Tensor:
    """Mean cross-entropy of the responses, prompts and responses read whole, with logits of all positions."""
    assert model.responder is not None
    language_model: Any = model.responder.language_model
    rows, labels = [], []
    for index, response in enumerate(batch.responses):
        ids = response_ids(language_model.tokenizer, response or "")
        pieces = [
            slots[s][index] if isinstance(s, str) else language_model.embed(s) for s in model.responder.segments()
        ]
        rows.append(torch.cat([*pieces, language_model.embed(ids)]))
        labels.append(torch.tensor([IGNORE] * (len(rows[-1]) - len(ids)) + ids))
    embeddings, mask = padded(rows)
    targets = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORE)
    loss: Tensor = language_model.model(
        inputs_embeds=embeddings, attention_mask=mask, labels=targets, use_cache=False
    ).loss
    return loss


def padded(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows (T_i, D) padded on the right, and a mask of 0 and 1."""
    embeddings = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return embeddings, (torch.arange(embeddings.shape[1]) < lengths[:, None]).long()


def reference_units(model: EmpatheticLM, batch: SpeechBatch) -> Tensor:
    """Mean cross-entropy of the units: everything padded to the longest, scores of all ids at all positions."""
    responder, talker = model.responder, model.talker
    assert responder is not None and talker is not None
    language_model: Any = responder.language_model
    decoder: Any = talker.speech_decoder
    prompts = responder.fill([[Turn(*turn)] for turn in zip(batch.transcripts, batch.emotions, strict=True)])
    replies = [response_ids(language_model.tokenizer, response or "") for response in batch.responses]
    rows = [torch.cat([p.embeddings, language_model.embed(ids)]) for p, ids in zip(prompts, replies, strict=True)]
    embeddings, mask = padded(rows)
    with torch.no_grad():
        read = language_model.model(
            inputs_embeds=embeddings, attention_mask=mask, use_cache=False, output_hidden_states=True
        )
    found, labels = [], []
    for index, (prompt, ids, units) in enumerate(zip(prompts, replies, batch.units, strict=True)):
        assert units is not None
        states = read.hidden_states[-1][index, len(prompt) - 1 : len(prompt) - 1 + len(ids)]
        sequence, targets = decoder.sequence(states, torch.tensor(ids), units)
        found.append(sequence)
        labels.append(targets)
    embeddings, mask = padded(found)
    targets = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORE)
    loss: Tensor = decoder.model(inputs_embeds=embeddings, attention_mask=mask, labels=targets, use_cache=False).loss
    return loss


def switch_off(model: EmpatheticLM, measure: str) -> None:
    """Put the reference's way in the place of one of ours."""
    assert model.responder is not None
    language_model: Any = model.responder.language_model
    nuance: Any = model.listener.emotion_nuance
    forward = language_model.forward
    if measure == "shared_prefix":
        language_model.forward = lambda rows, mask, prefix, still=None: forward(rows, mask, (), still)
    elif measure == "still":
        language_model.forward = lambda rows, mask, prefix, still=None: forward(rows, mask, prefix)
    elif measure == "packed_rows":
        language_model.packs_rows = False
    elif measure == "supervised_logits":

        def _all_positions(hidden: Tensor, labels: Tensor) -> Tensor:
            logits = language_model.model.lm_head(hidden).float()
            return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())

        language_model.response_loss = _all_positions
    elif measure == "running_sum" and nuance is not None:
        # Without padding frames in the stack only where the batch has none; the cost is the same.
        nuance.extractor.forward = lambda layers, mask: stacked_embedding(nuance, list(layers))
