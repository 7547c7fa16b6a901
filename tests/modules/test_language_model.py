import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from empathy_lightning.modules import quantization
from empathy_lightning.modules.gradient_checkpointing import checkpoint_blocks
from empathy_lightning.modules.language_model import IGNORE, LanguageModel, pack
from empathy_lightning.tasks.export import frozen_digest, plain_tensors


def test_pack_pads_at_one_end_only():
    rows = [torch.ones(3, 2), torch.ones(1, 2)]
    right, right_mask = pack(rows)
    left, left_mask = pack(rows, left=True)
    assert right_mask.tolist() == [[True] * 3, [True, False, False]]
    assert left_mask.tolist() == [[True] * 3, [False, False, True]]
    assert (right[~right_mask] == 0).all() and (left[~left_mask] == 0).all()


@pytest.mark.parametrize("chunk_size", [1, 3, 1024])
def test_response_loss_and_gradient_are_the_library_s(language_model, chunk_size):
    ids = torch.randint(0, 100, (2, 9))
    labels = ids.clone()
    labels[0, :4] = IGNORE
    labels[1, :6] = IGNORE
    embeddings = language_model.embed(ids).detach().requires_grad_()
    hidden = language_model(embeddings, torch.ones(2, 9, dtype=torch.bool))
    loss = language_model.response_loss(hidden, labels, chunk_size)
    (gradient,) = torch.autograd.grad(loss, embeddings)
    expected = language_model.model(inputs_embeds=embeddings, labels=labels).loss
    (expected_gradient,) = torch.autograd.grad(expected, embeddings)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-7)


def test_text_through_the_wrapper_is_the_bare_model_s_text(language_model):
    tokenizer = language_model.tokenizer
    ids = [tokenizer(text).input_ids for text in ("hello there", "hm")]
    batched = language_model.generate(*pack([language_model.embed(row) for row in ids], left=True), max_new_tokens=12)
    for row, (reply, _) in zip(ids, batched, strict=True):
        bare = language_model.model.generate(
            torch.tensor([row]), attention_mask=torch.ones(1, len(row)), max_new_tokens=12, do_sample=False
        )[0, len(row) :].tolist()
        assert reply == bare


def test_draws_follow_the_seed_and_leave_the_random_state_alone(language_model):
    prompt = pack([language_model.embed([5, 6, 7])], left=True)
    before = torch.random.get_rng_state()

    def _drawn(seed):
        ((ids, _),) = language_model.generate(*prompt, max_new_tokens=20, temperature=1.0, seed=seed)
        return ids

    first = _drawn(1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert first == _drawn(1) != _drawn(2)


def tiny(kind, tokenizer, **options):
    """A language model of two blocks with random weights."""
    torch.manual_seed(3)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "head_dim": 8} | options
    config = AutoConfig.for_model(
        kind, vocab_size=len(tokenizer), num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        bos_token_id=None, pad_token_id=0, **sizes,
    )  # fmt: skip
    return LanguageModel(AutoModelForCausalLM.from_config(config), tokenizer)


def rows_after(language_model, prefix, lengths=(5, 9, 3)):
    """Rows that begin alike and go on with vectors of their own, and labels at the end of each."""
    start = language_model.embed(prefix)
    own = [torch.randn(length, language_model.hidden_size).requires_grad_() for length in lengths]
    embeddings, mask = pack([torch.cat([start, row]) for row in own])
    labels = torch.full(mask.shape, IGNORE)
    for row, length in enumerate(lengths):
        labels[row, len(prefix) + length - 2 : len(prefix) + length] = torch.tensor([7, 8 + row])
    return own, embeddings, mask, labels


def loss_and_gradients(language_model, own, embeddings, mask, labels, prefix=(), still=None, packed=False):
    language_model.packs_rows = packed
    loss = language_model.response_loss(language_model(embeddings, mask, prefix, still), labels)
    return loss.detach(), torch.autograd.grad(loss, own, retain_graph=True)


def batches_seen(language_model):
    """(rows, positions) of each input of the first block, from now on."""
    seen = []
    block = language_model.model.model.layers[0]
    block.register_forward_pre_hook(lambda _module, inputs: seen.append(tuple(inputs[0].shape[:2])))
    return seen


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("kind", ["qwen2", "llama", "qwen3"])
def test_a_shared_prefix_is_computed_once_and_changes_nothing(kind, checkpointed, packed, language_model):
    prefix = [5, 9, 11, 4]
    model = tiny(kind, language_model.tokenizer)
    rows = rows_after(model, prefix)
    expected, expected_gradients = loss_and_gradients(model, *rows)
    if checkpointed:
        checkpoint_blocks(model.model)
    seen = batches_seen(model)
    loss, gradients = loss_and_gradients(model, *rows, prefix, packed=packed)
    assert seen[:2] == [(1, 4), (1, 5 + 9 + 3) if packed else (3, 9)]
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_positions_without_gradient_change_nothing_for_the_others(kind, checkpointed, packed, language_model):
    prefix, still = [5, 9, 11, 4], [6, 11, 5]
    model = tiny(kind, language_model.tokenizer)
    own, *rest = rows_after(model, prefix)
    expected, expected_gradients = loss_and_gradients(model, own, *rest)
    if checkpointed:
        checkpoint_blocks(model.model)
    seen = batches_seen(model)
    for start in ([], prefix):
        loss, gradients = loss_and_gradients(model, own, *rest, start, still, packed)
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
        for row, count in enumerate(still):
            first = count - len(prefix)
            assert (gradients[row][:first] == 0).all()
            torch.testing.assert_close(gradients[row][first:], expected_gradients[row][first:], rtol=1e-5, atol=1e-6)
    # Whole rows in the first round; in the second a prefix, what stands still, and what has a gradient.
    whole, again = ([(1, 22), (1, 7)], [(1, 10), (1, 7)]) if packed else ([(3, 11), (3, 3)], [(3, 7), (3, 3)])
    assert list(dict.fromkeys(seen)) == list(dict.fromkeys([*whole, (1, 4), *again]))
    with torch.no_grad():
        hidden, plain = model(rest[0], rest[1], prefix, still), model(rest[0], rest[1])
    torch.testing.assert_close(hidden[rest[1]], plain[rest[1]], rtol=1e-5, atol=1e-6)
    hidden = model(rest[0], rest[1], prefix, still)
    torch.testing.assert_close(hidden[rest[1]], plain[rest[1]], rtol=1e-5, atol=1e-6)


def test_where_the_model_trains_all_positions_keep_their_gradient(language_model):
    model = tiny("qwen2", language_model.tokenizer)
    model.model.model.layers[0].mlp.up_proj.weight.requires_grad_(True)
    _, embeddings, mask, labels = rows_after(model, [5, 9])
    weight = model.model.model.layers[0].mlp.up_proj.weight
    (expected,) = torch.autograd.grad(model.response_loss(model(embeddings, mask), labels), weight, retain_graph=True)
    (gradient,) = torch.autograd.grad(model.response_loss(model(embeddings, mask, [5, 9], [3, 3, 3]), labels), weight)
    torch.testing.assert_close(gradient, expected)


def test_hidden_states_of_the_prefix_are_there_too(language_model):
    _, embeddings, mask, _ = rows_after(language_model, [5, 9, 11])
    shared, plain = language_model(embeddings, mask, [5, 9, 11]), language_model(embeddings, mask)
    torch.testing.assert_close(shared[mask], plain[mask], rtol=1e-5, atol=1e-6)


def test_rows_that_begin_otherwise_are_computed_whole(language_model):
    _, embeddings, mask, _ = rows_after(language_model, [5, 9, 11])
    other = embeddings.detach().clone()
    other[1, 0] += 1
    seen = batches_seen(language_model)
    assert torch.equal(language_model(other, mask, [5, 9, 11]), language_model(other, mask))
    assert seen == [(1, 26), (1, 26)]


def test_rows_without_padding_are_not_packed(language_model):
    _, embeddings, mask, _ = rows_after(language_model, [5, 9, 11], (6, 6))
    seen = batches_seen(language_model)
    language_model(embeddings, mask)
    assert seen == [(2, 9)]


@pytest.mark.parametrize("kind", ["gpt2", "opt", "bloom", "gemma2", "granite", "phi3", "olmo2", "mistral"])
def test_rows_of_any_family_have_the_same_states_packed_or_not_and_generate_as_before(kind, language_model):
    torch.manual_seed(3)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "ffn_dim": 48, "num_hidden_layers": 2, "n_layer": 2}
    sizes |= {"num_attention_heads": 4, "n_head": 4, "num_key_value_heads": 2, "head_dim": 8, "n_embd": 32}
    sizes |= {"word_embed_proj_dim": 32, "max_position_embeddings": 64, "bos_token_id": None, "pad_token_id": 0}
    size = len(language_model.tokenizer)
    bare = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=size, **sizes)).eval()
    ids = torch.tensor([[5, 6, 7]])
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 6, "do_sample": False}
    expected = bare.generate(ids, **options)
    model = LanguageModel(bare, language_model.tokenizer)
    _, embeddings, mask, _ = rows_after(model, [5, 9])
    with torch.no_grad():
        packed = model(embeddings, mask, [5, 9])
        model.packs_rows = False
        torch.testing.assert_close(packed[mask], model(embeddings, mask, [5, 9])[mask], rtol=1e-4, atol=1e-5)
    assert torch.equal(bare.generate(ids, **options), expected)


def test_windows_of_attention_do_not_share_a_prefix(language_model):
    options = {"use_sliding_window": True, "sliding_window": 3, "layer_types": ["full_attention", "sliding_attention"]}
    model = tiny("qwen2", language_model.tokenizer, **options)
    assert not model.has_plain_cache
    _, embeddings, mask, _ = rows_after(model, [5, 9, 11])
    assert torch.equal(model(embeddings, mask, [5, 9, 11]), model(embeddings, mask))


@pytest.mark.parametrize("kind", ["qwen2", "gemma2", "granite"])
def test_the_head_runs_once_per_chunk_and_keeps_neither_logits_nor_a_gradient(kind, language_model):
    model = tiny(kind, language_model.tokenizer)
    model.model.lm_head.weight.requires_grad_(True)
    calls = []
    model.model.lm_head.register_forward_hook(
        lambda _module, inputs, _output: calls.append(inputs[0].shape[:-1].numel())
    )
    hidden = torch.randn(2, 9, 32, requires_grad=True)

    loss = model.response_loss(hidden, torch.randint(0, 99, (2, 9)), chunk_size=6)
    graph, kept = [loss.grad_fn], []
    while graph:
        node = graph.pop()
        kept += getattr(node, "saved_tensors", ())
        graph += [parent for parent, _ in node.next_functions if parent is not None]
    loss.backward()
    assert calls == [6, 6, 4] and [tuple(tensor.shape) for tensor in kept] == [(16, 32)]
    assert model.model.lm_head.weight.grad is None and hidden.grad.abs().sum() > 0


def test_loss_without_gradient_and_without_targets(language_model):
    hidden = torch.randn(1, 4, 32)
    labels = torch.tensor([[IGNORE, 3, 4, 5]])
    logits = language_model.model.lm_head(hidden[0, :-1])
    expected = torch.nn.functional.cross_entropy(logits, labels[0, 1:])
    torch.testing.assert_close(language_model.response_loss(hidden, labels), expected)
    nothing = language_model.response_loss(hidden.requires_grad_(), torch.full((1, 4), IGNORE))
    nothing.backward()
    assert nothing == 0 and (hidden.grad == 0).all()


@pytest.mark.parametrize("kind", ["meta", "quantised"])
def test_weights_that_are_not_here_or_are_quantised_are_not_tried(kind, language_model):
    model, calls = tiny("qwen2", language_model.tokenizer).model, []
    if kind == "meta":
        model.to("meta")
    else:
        model.hf_quantizer = object()
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    assert LanguageModel(model, language_model.tokenizer).has_plain_cache and not calls


def kept_bytes(compute):
    """Bytes of distinct storages that the graph of a computation keeps."""
    storages = {}

    def _keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(_keep, lambda tensor: tensor):
        kept = compute()
    return sum(storages.values()), kept


def test_checkpointed_blocks_keep_less_and_give_the_same_gradients(backbones, language_model):
    folder = str(backbones / "language_model")
    checkpointed = LanguageModel.from_pretrained(folder, gradient_checkpointing=True)
    own, embeddings, mask, labels = rows_after(language_model, [])
    expected, expected_gradients = loss_and_gradients(language_model, own, embeddings, mask, labels)
    loss, gradients = loss_and_gradients(checkpointed.train(), own, embeddings, mask, labels)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-5, atol=1e-7)
    whole, _ = kept_bytes(lambda: language_model(embeddings, mask))
    less, _ = kept_bytes(lambda: checkpointed(embeddings, mask))
    assert less < whole / 3
    assert checkpointed.source == language_model.source


@pytest.mark.parametrize("name", ["bitsandbytes-4bit", "torchao-int8"])
def test_a_missing_quantisation_package_is_named(name, backbones, monkeypatch):
    monkeypatch.setattr(quantization, "find_spec", lambda package: None)
    told = rf"needs {name.split('-')[0]}: pip install 'empathy_lightning\[quantization\]'"
    with pytest.raises(ModuleNotFoundError, match=told):
        LanguageModel.from_pretrained(str(backbones / "language_model"), quantization=name)


def test_an_unknown_quantisation_is_an_error(backbones):
    with pytest.raises(ValueError, match="choose"):
        LanguageModel.from_pretrained(str(backbones / "language_model"), quantization="torch-7bit")


@pytest.mark.parametrize("name", ["bitsandbytes-4bit", "torchao-int8"])
def test_quantised_weights_let_gradients_through(name, tmp_path, language_model):
    pytest.importorskip(name.split("-")[0])
    plain = tiny("qwen2", language_model.tokenizer, hidden_size=64, intermediate_size=128, head_dim=16)
    plain.model.save_pretrained(tmp_path)
    plain.tokenizer.save_pretrained(tmp_path)
    quantised = LanguageModel.from_pretrained(str(tmp_path), quantization=name)
    for module in quantised.modules():
        # On some processors bitsandbytes repacks its weights at the first call without gradient, for inference alone.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    weight = quantised.model.model.layers[0].mlp.up_proj.weight
    numbers = next(plain_tensors(weight))
    assert numbers.dtype in (torch.int8, torch.uint8) and numbers.nbytes * 4 <= 64 * 128 * 4
    digest = frozen_digest(quantised)
    own, embeddings, mask, labels = rows_after(plain, [5, 6])
    expected, expected_gradients = loss_and_gradients(plain, own, embeddings, mask, labels)
    loss, gradients = loss_and_gradients(quantised, own, embeddings, mask, labels, [5, 6])
    torch.testing.assert_close(loss, expected, rtol=0.05, atol=0.05)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert torch.cosine_similarity(gradient.flatten(), wanted.flatten(), dim=0) > 0.9
    assert quantised.source["quantization"] == name
    assert not any(parameter.requires_grad for parameter in quantised.parameters())
    numbers.flatten()[0] += 1
    assert frozen_digest(quantised) != digest
