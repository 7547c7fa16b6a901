"""Whether a causal language model of transformers can be used through embeddings, tried on three tokens."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from empathy_lightning.errors import InputError
from empathy_lightning.modules.context_cache import ContextCache
from empathy_lightning.modules.packed_rows import NAME, PackedRows, run_packed

if TYPE_CHECKING:
    from empathy_lightning.modules.language_model import LanguageModel


@torch.no_grad()
def check(language_model: LanguageModel) -> None:
    """Refuse a model to which embeddings are not what the same tokens are.

    Weights that are not here yet or are quantised are not tried: some packages repack theirs in their first call.

    Raises:
        InputError: If it cannot generate from embeddings, if they give other logits than ids do, if tokens see what
            follows, or if padding on the left changes the logits.
    """
    model = language_model.model
    name = f"{type(model).__name__} cannot be the language model"
    prepare = getattr(model, "prepare_inputs_for_generation", None)
    if prepare is None or "inputs_embeds" not in signature(prepare).parameters:
        raise InputError(f"{name}: transformers cannot generate from embeddings with it; give another one")
    if not _can_run(model):
        return
    try:
        expected, hidden, after = _tried(language_model)
        logits = language_model.logits(hidden[:2])
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise InputError(f"{name}: it does not take embeddings ({reason}); give another one") from error
    if hidden.shape[-1] != language_model.hidden_size:
        raise InputError(f"{name}: its hidden states are wider or narrower than its embeddings; give another one")
    if not alike(logits, expected[:2]):
        raise InputError(f"{name}: its logits are no function of the embeddings so far; give another one")
    if not alike(after, expected[1:]):
        raise InputError(f"{name}: padding on the left changes its logits; give another one")


def _tried(language_model: LanguageModel) -> tuple[Tensor, Tensor, Tensor]:
    """Two tokens and the likeliest third, read as ids, as embeddings before another third, and generated.

    Returns:
        Logits (3, V) of the ids, hidden states (3, D) of the embeddings, and the logits (2, V) of generation.
    """
    model, ids = language_model.model, _three_tokens(language_model.model)
    embeddings = language_model.embed(ids)
    mask = torch.ones(1, 3, dtype=torch.bool, device=ids.device)
    # With gradient, since some models change embeddings in place.
    with torch.enable_grad():
        hidden = language_model(embeddings[None].requires_grad_(), mask)[0].detach()
    rows = torch.stack([embeddings.flip(0), nn.functional.pad(embeddings[:2], (0, 0, 1, 0))])
    padded = torch.tensor([[1, 1, 1], [0, 1, 1]], device=ids.device)
    output = model.generate(
        inputs_embeds=rows.to(model.dtype),
        attention_mask=padded,
        max_new_tokens=2,
        min_new_tokens=2,
        do_sample=False,
        num_beams=1,
        temperature=None,
        top_k=None,
        top_p=None,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    after = torch.stack([step[-1] for step in output.logits])
    likeliest = torch.cat([ids[:2], output.sequences[-1, :1]])
    expected = model(input_ids=likeliest[None], use_cache=False).logits[0]
    return expected, hidden, after


@torch.no_grad()
def takes_positions(language_model: LanguageModel) -> bool:
    """Whether the decoder can be told where embeddings stand, and counts from zero where it is not told."""
    if "position_ids" not in signature(language_model.decoder.forward).parameters:
        return False
    if not _can_run(language_model.model):
        return True
    embeddings = language_model.embed(_three_tokens(language_model.model))[None]
    mask = torch.ones(1, 3, dtype=torch.bool, device=embeddings.device)
    positions = torch.arange(3, device=mask.device)[None]
    told = language_model.decoder(inputs_embeds=embeddings, position_ids=positions, use_cache=False).last_hidden_state
    return alike(told, language_model(embeddings, mask))


def keeps_all_keys(language_model: LanguageModel) -> bool:
    """Whether each layer keeps all keys and values, those that are masked too, and sees no window of them."""
    layers = DynamicCache(config=language_model.model.config).layers
    if "past_key_values" not in signature(language_model.decoder.forward).parameters:
        return False
    # Attention that transformers never gave another kernel may count its window over what is masked too.
    own_kernel = not getattr(language_model.model, "_supports_sdpa", False)
    return not own_kernel and all(type(layer) is DynamicLayer for layer in layers)


@torch.no_grad()
def packs_rows(language_model: LanguageModel) -> bool:
    """Whether rows may be computed behind one another; if so, the decoder's attention is made to do it.

    Tried on rows of two and of three tokens, behind nothing and behind a token that is in the cache.
    """
    config = language_model.decoder.config
    if config._attn_implementation != "sdpa" or not _can_run(language_model.model):
        return False
    embeddings = language_model.embed(_three_tokens(language_model.model))
    expected = torch.cat([_alone(language_model, embeddings[1:]), _alone(language_model, embeddings)])
    config._attn_implementation = NAME
    try:
        if _packs_as(language_model, embeddings, expected):
            return True
    except torch.OutOfMemoryError:
        raise
    except Exception:  # A model may refuse what it does not know by whatever it likes.
        pass
    config._attn_implementation = "sdpa"
    return False


def _alone(language_model: LanguageModel, embeddings: Tensor) -> Tensor:
    mask = torch.ones(1, len(embeddings), dtype=torch.bool, device=embeddings.device)
    return language_model(embeddings[None], mask)[0]


def _packs_as(language_model: LanguageModel, embeddings: Tensor, expected: Tensor) -> bool:
    decoder, device = language_model.decoder, embeddings.device
    both = torch.cat([embeddings[1:], embeddings])
    once = run_packed(decoder, both, PackedRows(0, 2, device), [2, 3], ContextCache(config=decoder.config))
    # The second row alone, its first token and then the others.
    rows, cache = PackedRows(0, 1, device), ContextCache(config=decoder.config)
    split = [run_packed(decoder, part, rows, [len(part)], cache) for part in embeddings.split([1, 2])]
    plain = _alone(language_model, embeddings)
    return alike(once, expected) and alike(torch.cat(split), expected[2:]) and alike(plain, expected[2:])


def alike(found: Tensor, expected: Tensor) -> bool:
    """Whether tensors are the same but for rounding in their precision, or in that of the sums behind them."""
    tolerance = 1e-3 if expected.dtype == torch.float32 else 0.1
    difference = found.float().nan_to_num() - expected.float().nan_to_num()
    return bool(difference.norm() <= tolerance * expected.float().nan_to_num().norm())


def _can_run(model: Any) -> bool:
    return getattr(model, "hf_quantizer", None) is None and not any(p.is_meta for p in model.parameters())


def _three_tokens(model: Any) -> Tensor:
    """Ids of three tokens other than those for padding and the like, which some models number apart."""
    config = model.config.get_text_config()
    special = {getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos")}
    plain = [token for token in range(8) if token not in special][-3:]
    return torch.tensor(plain, device=next(model.parameters()).device)
