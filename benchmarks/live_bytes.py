"""How many bytes of tensors live at once: every storage counts from the operation that makes it until it is freed."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that operations inside make; what was there before counts as nothing.

    Attributes:
        now: Bytes that live.
        peak: Most bytes that have lived at once since the last :meth:`restart`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def restart(self) -> None:
        """Begin a new peak."""
        self.peak = self.now

    def leave_out(self, tensors: Any) -> None:
        """Take what is there already as known, such as weights."""
        for tensor in tensors:
            self._watch(tensor.untyped_storage(), 0)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what is new in its result."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._watch(leaf.untyped_storage(), leaf.untyped_storage().nbytes())
        return result

    def _watch(self, storage: Any, size: int) -> None:
        key = storage._cdata
        if key in self._known:
            return

        def _freed(_: Any) -> None:
            self.now -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, _freed)
        self.now += size
        self.peak = max(self.peak, self.now)


class CountedSteps(Callback):
    """Writes the most bytes of a training step from the second one on, when the optimiser has its states.

    Args:
        path: JSON file with ``weights`` and ``peak``, which holds the weights.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.live = LiveBytes()
        self.weights = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to count."""
        tensors = {id(tensor): tensor for tensor in (*pl_module.model.parameters(), *pl_module.model.buffers())}
        self.weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        self.live.leave_out(tensors.values())
        self.live.__enter__()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Begin a new peak."""
        if batch_idx == 1:
            self.live.restart()

    def on_train_batch_end(self, *_: Any) -> None:
        """Write what was counted so far."""
        self.path.write_text(json.dumps({"weights": self.weights, "peak": self.weights + self.live.peak}))

    def on_train_end(self, *_: Any) -> None:
        """Count no more."""
        self.live.__exit__(None, None, None)
