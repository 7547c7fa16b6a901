import threading
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache

from empathy_lightning.modules.language_model import pack
from empathy_lightning.modules.partial_lora import PartialLora
from tests.conftest import golden, golden_seeds
from tests.modules.families import tiny


class GateAlone(nn.Module):
    """A decoder of one layer that only passes its gate, in the names of the real ones."""

    def __init__(self, hidden, intermediate):
        super().__init__()
        layer = nn.Module()
        layer.self_attn, layer.mlp = nn.Module(), nn.Module()
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(layer.self_attn, name, nn.Linear(hidden, hidden))
        layer.mlp.gate_proj, layer.mlp.up_proj = nn.Linear(hidden, intermediate), nn.Linear(hidden, intermediate)
        layer.mlp.down_proj = nn.Linear(intermediate, hidden)
        layer.self_attn.forward = lambda x: x
        layer.mlp.forward = lambda x: layer.mlp.gate_proj(x)
        layer.forward = lambda x, **values: layer.mlp(layer.self_attn(x, **values))
        self.layers = nn.ModuleList([layer])

    def forward(self, inputs_embeds, past_key_values=None, **others):
        return self.layers[0](inputs_embeds, **others)


class Cache:
    def __init__(self, length):
        self.length = length

    def get_seq_length(self):
        return self.length


@pytest.mark.parametrize("folder", golden_seeds("rellm"), ids=str)
def test_golden_partial_lora_in_its_scopes(folder):
    tensors, _ = golden(folder, "plora_linear.io")
    state, _ = golden(folder, "plora_linear.state_dict")
    rank, hidden = state["lora_A.default.weight"].shape
    speech = tensors["in.mask"].bool()

    def run(scope, inputs, mask, past=0):
        model = nn.Module()
        model.model = GateAlone(hidden, len(state["weight"]))
        lora = PartialLora(hidden, len(state["weight"]), 1, rank=rank, alpha=2.0 * rank, scope=scope).eval()
        lora.attach(model)
        gate = model.model.layers[0].mlp.gate_proj
        gate.load_state_dict({"weight": state["weight"], "bias": state["bias"]})
        update = lora.layers[0]["gate"]
        update.lora_A.data, update.lora_B.data = state["lora_A.default.weight"], state["lora_B.default.weight"]
        with lora.at(mask):
            return model.model(inputs_embeds=inputs, past_key_values=Cache(past))

    x = tensors["in.x"]
    cases = {
        "out.masked": run("audio", x, speech), "out.text_scope": run("text", x, speech),
        "out.mask_zero": run("audio", x, torch.zeros_like(speech)), "out.infer_prompt": run("audio", x, speech),
        "out.global": run("global", x, speech),
        "out.infer_step": run("audio", tensors["in.step_x"], speech, past=x.shape[1]),
    }  # fmt: skip
    for name, ours in cases.items():
        torch.testing.assert_close(ours, tensors[name], rtol=2e-5, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.fixture
def lora(language_model):
    """An update that changes what is said, attached to the tiny language model."""
    lora = PartialLora.for_model(language_model.model, rank=4, alpha=8.0)
    for name, parameter in lora.named_parameters():
        if name.endswith("lora_B"):
            nn.init.normal_(parameter, std=0.5)
    lora.attach(language_model.model)
    return lora.eval()


def rows(language_model, lengths=(9, 5, 7)):
    embeddings = [language_model.embed(torch.randint(3, 200, (length,))) for length in lengths]
    spans = [torch.arange(length).sub(2).ge(0) & torch.arange(length).lt(length - 1) for length in lengths]
    return embeddings, spans


def left(masks):
    return nn.utils.rnn.pad_sequence(masks, batch_first=True, padding_side="left")


def forward(language_model, lora, embeddings, spans):
    packed, mask = pack(embeddings)
    with lora.at(nn.utils.rnn.pad_sequence(spans, batch_first=True)):
        return language_model(packed, mask)


def merged(language_model, lora, embeddings):
    """The same model with the updates added to its weights, by hand."""
    model, scale = language_model.model, lora.alpha / lora.rank
    places = {"gate": ["mlp.gate_proj"], "up": ["mlp.up_proj"], "down": ["mlp.down_proj"]}
    places |= {"attention_out": ["self_attn.o_proj"], "attention_in": [f"self_attn.{n}_proj" for n in "qkv"]}
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    for layer, updates in zip(model.model.layers, lora.layers, strict=True):
        for group, names in places.items():
            change, start = scale * updates[group].lora_B @ updates[group].lora_A, 0
            for name in names:
                weight = layer.get_submodule(name).weight
                weight.data += change[start : start + len(weight)].detach()
                start += len(weight)
            assert start == len(change)
    hidden = language_model(embeddings[None], torch.ones(1, len(embeddings), dtype=torch.bool))
    model.load_state_dict(kept)
    return hidden[0]


def test_everywhere_speech_is_the_merged_model_and_nowhere_the_frozen_one(language_model, lora):
    (embeddings,), _ = rows(language_model, (8,))
    base = language_model(embeddings[None], torch.ones(1, 8, dtype=torch.bool))[0]
    everywhere = forward(language_model, lora, [embeddings], [torch.ones(8, dtype=torch.bool)])[0]
    nowhere = forward(language_model, lora, [embeddings], [torch.zeros(8, dtype=torch.bool)])[0]
    torch.testing.assert_close(everywhere, merged(language_model, lora, embeddings), rtol=1e-4, atol=1e-4)
    assert torch.equal(nowhere, base) and not torch.allclose(everywhere, base, atol=0.1)


def test_text_before_the_speech_is_untouched_and_a_fresh_update_does_nothing(language_model, lora):
    embeddings, spans = rows(language_model)
    base = language_model(*pack(embeddings))
    adapted = forward(language_model, lora, embeddings, spans)
    assert torch.equal(adapted[:, :2], base[:, :2]) and not torch.allclose(adapted[:, 2], base[:, 2], atol=1e-3)
    for name, parameter in lora.named_parameters():
        if name.endswith("lora_B"):
            nn.init.zeros_(parameter)
    assert torch.equal(forward(language_model, lora, embeddings, spans), base)


def test_a_batch_is_its_rows_alone(language_model, lora):
    embeddings, spans = rows(language_model)
    together = forward(language_model, lora, embeddings, spans)
    for row, (embedding, span) in enumerate(zip(embeddings, spans, strict=True)):
        alone = forward(language_model, lora, [embedding], [span])[0]
        torch.testing.assert_close(together[row, : len(embedding)], alone, rtol=1e-4, atol=1e-5)


def test_interleaved_calls_do_not_hear_each_other(language_model, lora):
    embeddings, spans = rows(language_model)
    expected = [forward(language_model, lora, [e], [s]) for e, s in zip(embeddings, spans, strict=True)]
    outer = nn.utils.rnn.pad_sequence([spans[0]], batch_first=True)
    with lora.at(outer):
        inner = forward(language_model, lora, [embeddings[1]], [spans[1]])
        again = language_model(embeddings[0][None], torch.ones(1, 9, dtype=torch.bool))
    assert torch.equal(inner, expected[1]) and torch.equal(again, expected[0])

    together, failures = threading.Barrier(3), []

    def call(row):
        with lora.at(spans[row][None]):
            for _ in range(10):
                together.wait()
                hidden = language_model(embeddings[row][None], torch.ones(1, len(embeddings[row]), dtype=torch.bool))
                if not torch.allclose(hidden, expected[row], atol=1e-5):
                    failures.append(row)

    threads = [threading.Thread(target=call, args=(row,)) for row in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_replies_of_a_batch_are_those_of_each_alone(language_model, lora, options):
    embeddings, spans = rows(language_model)

    def generate(chosen, speech):
        packed, mask = pack(chosen, left=True)
        with lora.at(left(speech)) if speech else nullcontext():
            return language_model.model.generate(
                inputs_embeds=packed, attention_mask=mask.long(), max_new_tokens=8, do_sample=False,
                eos_token_id=None, pad_token_id=0, **options,
            ).tolist()  # fmt: skip

    together = generate(embeddings, spans)
    assert together == [generate([e], [s])[0] for e, s in zip(embeddings, spans, strict=True)]
    assert together != generate(embeddings, None)


def test_generated_tokens_see_the_frozen_weights(language_model, lora):
    embeddings, spans = rows(language_model)
    packed, mask = pack(embeddings[:1], left=True)
    with lora.at(spans[0][None]):
        tokens, _ = language_model.generate(packed, mask, max_new_tokens=6)[0]
        whole = torch.cat([embeddings[0], language_model.embed(tokens)])
        hidden = language_model(whole[None], torch.ones(1, len(whole), dtype=torch.bool))
    chosen = language_model.model.lm_head(hidden[0, len(embeddings[0]) - 1 : -1]).argmax(-1).tolist()
    assert chosen == tokens


class Checkpointed(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, hidden, **values):
        return checkpoint(lambda h: self.layer(h, **values), hidden, use_reentrant=False)


def around_the_layers(decoder):
    """Checkpointing from outside: a layer's hooks run again too."""
    decoder.layers = nn.ModuleList(Checkpointed(layer) for layer in decoder.layers)


def inside_the_layers(decoder):
    """Checkpointing of each layer's forward alone: its own hooks do not run again."""
    for layer in decoder.layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


@pytest.mark.parametrize("checkpointed", [around_the_layers, inside_the_layers])
@pytest.mark.parametrize("scope", ["audio", "global"])
def test_layers_that_run_again_for_the_backward_pass_know_their_positions(language_model, lora, checkpointed, scope):
    lora.scope = scope
    embeddings, spans = rows(language_model, (9,))
    before = forward(language_model, lora, embeddings, spans)
    before.square().sum().backward()
    expected = {name: parameter.grad.clone() for name, parameter in lora.named_parameters()}
    lora.zero_grad()
    checkpointed(language_model.model.model)
    hidden = forward(language_model, lora, [e.requires_grad_() for e in embeddings], spans)
    assert torch.equal(hidden, before)
    hidden.square().sum().backward()  # outside of `at`, as a trainer does it
    for name, parameter in lora.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-6)
    base = language_model(*pack(embeddings))
    assert not torch.allclose(base, hidden, atol=0.1), "what is left of the backward pass must not act here"


def test_a_call_that_fails_leaves_nothing_behind(language_model, lora, monkeypatch):
    embeddings, spans = rows(language_model, (9,))
    base = language_model(*pack(embeddings))
    norm = language_model.model.model.layers[0].post_attention_layernorm

    def fail(hidden):
        raise MemoryError("between attention and feed-forward")

    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(norm, "forward", fail)
        forward(language_model, lora, embeddings, spans)
    assert torch.equal(language_model(*pack(embeddings)), base)


def test_a_prefix_without_speech_may_be_computed_once_for_all_rows(language_model, lora):
    prefix, decoder = language_model.embed([5, 6, 7, 8]), language_model.model.model
    embeddings, spans = rows(language_model)
    embeddings = [torch.cat([prefix, e]) for e in embeddings]
    spans = [torch.cat([torch.zeros(4, dtype=torch.bool), s]) for s in spans]
    expected = forward(language_model, lora, embeddings, spans)
    packed, mask = pack(embeddings)
    cache = DynamicCache(config=language_model.model.config)
    with lora.at(nn.utils.rnn.pad_sequence(spans, batch_first=True)):
        decoder(inputs_embeds=prefix[None], past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(3)
        after = decoder(inputs_embeds=packed[:, 4:], attention_mask=mask.long(), past_key_values=cache)
    valid = mask[:, 4:]
    torch.testing.assert_close(after.last_hidden_state[valid], expected[:, 4:][valid], rtol=1e-4, atol=1e-5)


def test_two_updates_on_one_model_and_taking_one_off(language_model, lora):
    embeddings, spans = rows(language_model, (9,))
    alone = forward(language_model, lora, embeddings, spans)
    other = PartialLora.for_model(language_model.model, rank=2).eval()
    nn.init.normal_(other.layers[0]["up"].lora_B)
    handles = other.attach(language_model.model)
    assert torch.equal(forward(language_model, lora, embeddings, spans), alone)
    assert not torch.allclose(forward(language_model, other, embeddings, spans), alone, atol=1e-3)
    for handle in handles:
        handle.remove()
    assert torch.equal(forward(language_model, other, embeddings, spans), language_model(*pack(embeddings)))


def test_at_full_size_it_has_the_released_number_of_parameters():
    with torch.device("meta"):
        lora = PartialLora(4096, 11008, 32)
    assert sum(parameter.numel() for parameter in lora.parameters()) == 35_782_656


def test_what_does_not_fit_is_said(language_model, lora):
    with pytest.raises(ValueError, match="layers"):
        PartialLora(32, 64, 3).attach(language_model.model)
    with pytest.raises(ValueError, match="does not fit"):
        PartialLora(32, 64, 2).attach(language_model.model)
    with pytest.raises(ValueError, match="scope"):
        PartialLora(32, 64, 2, scope="speech")
    embeddings, _ = rows(language_model)
    with pytest.raises(ValueError, match="speech of 2 rows"), lora.at(torch.ones(2, 4, dtype=torch.bool)):
        language_model(*pack(embeddings))


def test_layers_of_another_kind_are_refused_in_one_line():
    for family in ("gpt2", "phi3"):
        with pytest.raises(ValueError, match="partial LoRA needs layers like Llama's or Qwen2's"):
            PartialLora.for_model(tiny(family))
