"""What a training step costs: floating-point operations, the machine's peak, and where the time goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.tasks.one_pass import in_one_pass

MARK = "part: "
KINDS = {"mm": "products", "addmm": "products", "bmm": "products", "mkldnn_convolution": "products"}
"""Kinds of operations by their names; attention is told by its name, all else is elementwise."""


def peak_of_products(size: int = 1024) -> float:
    """FLOP a second of CPU time in the best of eight products of square matrices in float32."""
    first, second = torch.randn(size, size), torch.randn(size, size)
    times = []
    for _ in range(8):
        began = time.process_time()
        first @ second
        times.append(time.process_time() - began)
    return 2 * size**3 / min(times)


def attention_flop(query: Tensor, key: Tensor, products: int) -> int:
    """FLOP of products of the size of queries (B, H, T, D) with keys (B, H, S, D)."""
    return 2 * products * query.numel() * key.shape[2]


class Flop(TorchDispatchMode):
    """Counts products, convolutions and attention, the causal one whole.

    torch's own ``FlopCounterMode`` keeps track of modules besides, and fails where some run without gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count it."""
        found = func(*args, **(kwargs or {}))
        name = func._overloadpacket
        # The kernel for CPUs is not among those that torch knows.
        if name == torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:
            self.total += attention_flop(args[0], args[1], 2)
        elif name == torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward:
            self.total += attention_flop(args[1], args[2], 5)
        elif name in flop_registry:
            self.total += flop_registry[name](*args, **(kwargs or {}), out_val=found)
        return found


def counted(work: Callable[[], Any]) -> int:
    """FLOP in some work."""
    with Flop() as flop:
        work()
    return flop.total


def shares(
    model: EmpatheticLM,
    work: Sequence[SpeechBatch],
    loss_of: Callable[[EmpatheticLM, SpeechBatch], Tensor],
    loader: Iterable[SpeechBatch],
) -> dict[str, Any]:
    """CPU milliseconds an utterance by part of a step and kind of operation, after a step that is not counted.

    Args:
        model: Of which some parameters train.
        work: Batches.
        loss_of: A batch's loss.
        loader: Gives as many batches from the disk; only the time until they are there counts.
    """
    optimizer = in_one_pass(torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3))
    mark_parts(model)
    waiting = iter(loader)
    loss_of(model, work[-1]).backward()
    peak, began = peak_of_products(), time.process_time()
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as found:
        for batch in work:
            with record_function(MARK + "loader"):
                next(waiting)
            with record_function(MARK + "rest of forward"):
                loss = loss_of(model, batch)
            with record_function(MARK + "backward"):
                loss.backward()
            with record_function(MARK + "optimiser"):
                optimizer.step()
                optimizer.zero_grad()
    seconds = time.process_time() - began
    table = by_part(found.events())
    # The profiler's clock is the wall's; what the step took is shared out as it says.
    scale = 1e3 * seconds / sum(map(len, work)) / sum(sum(kinds.values()) for kinds in table.values())
    return {
        "ms_per_utterance": round(1e3 * seconds / sum(map(len, work)), 1),
        "peak_gflop_per_second": round(peak / 1e9, 1),
        "parts": {part: {kind: round(scale * t, 1) for kind, t in kinds.items()} for part, kinds in table.items()},
    }


def mark_parts(model: EmpatheticLM) -> None:
    """Let the profiler see where each part begins and ends."""
    listener, responder, talker = model.listener, model.responder, model.talker
    assert responder is not None
    language_model: Any = responder.language_model
    parts: list[tuple[str, Any, str]] = [
        ("encoder", listener.speech_encoder, "forward"),
        ("language model", language_model, "forward"),
        ("logits and loss", language_model, "response_loss"),
    ]
    if listener.speech_adapter is not None:
        parts.append(("adapter", listener.speech_adapter, "forward"))
    if listener.emotion_nuance is not None:
        parts.append(("emotion nuance", listener.emotion_nuance, "forward"))
    if talker is not None:
        parts.append(("speech decoder", talker.speech_decoder, "forward"))
        parts.append(("logits and loss", talker.speech_decoder.model.lm_head, "forward"))
    for name, owner, method in parts:
        setattr(owner, method, marked(name, getattr(owner, method)))


def marked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that the profiler sees as a part."""

    @wraps(function)
    def _marked(*args: Any, **kwargs: Any) -> Any:
        with record_function(MARK + name):
            return function(*args, **kwargs)

    return _marked


def by_part(events: Iterable[Any]) -> dict[str, dict[str, float]]:
    """Time by part and kind; an operation belongs to the innermost part around it."""
    table: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for event in events:
        around = event
        while around is not None and not around.name.startswith(MARK):
            around = around.cpu_parent
        if around is not None:
            table[around.name.removeprefix(MARK)][kind_of(event.name)] += event.self_cpu_time_total
    return {part: dict(kinds) for part, kinds in table.items()}


def kind_of(name: str) -> str:
    """What kind of operation one of a name is."""
    if "scaled_dot_product" in name:
        return "attention"
    return KINDS.get(name.removeprefix("aten::"), "elementwise and rest")
