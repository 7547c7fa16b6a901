"""Whether a causal language model of transformers can be used through embeddings, tried on three tokens."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from empathy_lightning.modules.language_model import LanguageModel


@torch.no_grad()
def check(language_model: LanguageModel) -> None:
    """Refuse a model to which embeddings are not what the same tokens are.

    Weights that are not here yet or are quantised are not tried: some packages repack theirs in their first call.

    Raises:
        ValueError: If it cannot generate from embeddings, if they give other logits than ids do, if tokens see what
            follows, or if padding on the left changes the logits.
    """
    model = language_model.model
    name = f"{type(model).__name__} cannot be the language model"
    prepare = getattr(model, "prepare_inputs_for_generation", None)
    if prepare is None or "inputs_embeds" not in signature(prepare).parameters:
        raise ValueError(f"{name}: transformers cannot generate from embeddings with it; give another one")
    if not _can_run(model):
        return
    first, second, third = ids = _three_tokens(model)
    try:
        expected = model(input_ids=ids[None, :2], use_cache=False).logits[0]
        mask = torch.ones(1, 3, dtype=torch.bool, device=ids.device)
        hidden = language_model(language_model.embed(ids)[None], mask)
        logits = language_model.logits(hidden[0, :2])
        after = _logits_after_padding(language_model, [[third, first, second], [first, second]])
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise ValueError(f"{name}: it does not take embeddings ({reason}); give another one") from error
    if hidden.shape[-1] != language_model.hidden_size:
        raise ValueError(f"{name}: its hidden states are wider or narrower than its embeddings; give another one")
    if not alike(logits, expected):
        raise ValueError(f"{name}: its logits are no function of the embeddings so far; give another one")
    if not alike(after, expected[-1]):
        raise ValueError(f"{name}: padding on the left changes its logits; give another one")


@torch.no_grad()
def has_plain_positions(language_model: LanguageModel) -> bool:
    """Whether the decoder can be told where embeddings stand, and counts from zero where it is not told."""
    takes = signature(language_model.decoder.forward).parameters
    if "position_ids" not in takes or "past_key_values" not in takes:
        return False
    if not _can_run(language_model.model):
        return True
    embeddings = language_model.embed(_three_tokens(language_model.model))[None]
    mask = torch.ones(1, 3, dtype=torch.bool, device=embeddings.device)
    told = language_model(embeddings, mask, positions=torch.arange(3, device=mask.device)[None])
    return alike(told, language_model(embeddings, mask))


def alike(found: Tensor, expected: Tensor) -> bool:
    """Whether tensors are the same but for rounding in their precision, or in that of the sums behind them."""
    tolerance = 1e-3 if expected.dtype == torch.float32 else 0.1
    difference = found.float().nan_to_num() - expected.float().nan_to_num()
    return bool(difference.norm() <= tolerance * expected.float().nan_to_num().norm())


def _can_run(model: Any) -> bool:
    return not getattr(model, "is_quantized", False) and not any(p.is_meta for p in model.parameters())


def _three_tokens(model: Any) -> Tensor:
    """Ids of three tokens other than those for padding and the like, which some models number apart."""
    config = model.config.get_text_config()
    special = {getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos")}
    plain = [token for token in range(8) if token not in special][-3:]
    return torch.tensor(plain, device=next(model.parameters()).device)


def _logits_after_padding(language_model: LanguageModel, rows: list[list[Tensor]]) -> Tensor:
    """Logits (V,) after the last of rows of ids that are padded on the left, as generation sees them."""
    from empathy_lightning.modules.language_model import pack

    embeddings, mask = pack([language_model.embed(torch.stack(row)) for row in rows], left=True)
    output = language_model.model.generate(
        inputs_embeds=embeddings.to(language_model.model.dtype),
        attention_mask=mask.long(),
        max_new_tokens=1,
        do_sample=False,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    logits: Tensor = output.logits[0][-1]
    return logits
