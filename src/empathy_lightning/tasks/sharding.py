"""The blocks of the frozen language model in shards, each process with its share, where one device cannot hold them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain

import lightning as L
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers.modeling_layers import GradientCheckpointingLayer

from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.data.packed import each
from empathy_lightning.errors import InputError
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.tasks.speech_decoder import SpeechDecoderTask
from empathy_lightning.utterance import Utterance

_SPLITS: dict[str | None, tuple[str, ...]] = {
    TrainerFn.FITTING: ("train", "validation"),
    TrainerFn.VALIDATING: ("validation",),
    TrainerFn.TESTING: ("test",),
}


class ShardedBackboneStrategy(DDPStrategy):
    """DDP for what trains, and FSDP2's shards for the blocks of the frozen language model.

    A block is gathered from the processes where it is about to compute, forwards and backwards, and let go after it.
    What trains stays whole, so its optimiser, clipping and checkpoints are those of DDP. So do the
    embeddings and the head, which processes use at times of their own, and blocks that train in part.

    Args:
        shards: Processes that hold one copy together; None takes those of a node, so that no block crosses the network.
        process_group_backend: As of DDPStrategy; None takes NCCL on GPUs and gloo on CPUs.
    """

    def __init__(self, shards: int | None = None, process_group_backend: str | None = None) -> None:
        super().__init__(process_group_backend=process_group_backend)
        self.shards = shards

    def setup(self, trainer: L.Trainer) -> None:
        """Refuse data over which the processes would wait for each other for ever."""
        assert self.lightning_module is not None
        datamodule = getattr(trainer, "datamodule", None)
        if isinstance(datamodule, EmpathyDataModule):
            fields = ["response"]
            if isinstance(self.lightning_module, SpeechDecoderTask):
                fields.append("units")
            check_all_alike(datamodule, trainer.state.fn, fields)
        super().setup(trainer)

    def model_to_device(self) -> None:
        """Shard block by block, so that a device holds its share and one block at most, before the rest moves there.

        Raises:
            InputError: If there is nothing to shard, or the processes cannot be divided into such groups.
        """
        module, shards = self.lightning_module, self.shards or self.num_processes
        assert module is not None
        language_model = getattr(getattr(getattr(module, "model", None), "responder", None), "language_model", None)
        if not isinstance(language_model, LanguageModel):
            raise InputError("there is no language_model to shard: use trainer.strategy ddp")
        if shards < 1 or self.world_size % shards:
            raise InputError(f"shards: {self.world_size} processes cannot be divided into groups of {shards}")
        if not isinstance(language_model.decoder, FSDPModule):
            sizes = (self.world_size // shards, shards)
            mesh = init_device_mesh(self.root_device.type, sizes, mesh_dim_names=("copies", "shards"))
            shard_blocks(language_model, mesh["shards"])
            held, total = weight_bytes(language_model)
            rank_zero_info(
                f"language model: {held / 1e9:.2f} of {total / 1e9:.2f} GB on each process, shards of {shards}"
            )
        # The trained parts and all that is whole are DDP's; it must not take a share for a copy.
        inside = [name for name, p in module.named_parameters() if isinstance(p, DTensor)]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, inside)
        super().model_to_device()


def shard_blocks(language_model: LanguageModel, mesh: DeviceMesh) -> None:
    """Leave each process its share of the blocks' frozen weights.

    Args:
        language_model: Its blocks are those of transformers; its weights must not be quantised.
        mesh: Of one dimension: the processes among which to share.

    Raises:
        InputError: If no block can be sharded.
    """
    if (language_model.source or {}).get("quantization"):
        raise InputError("quantised weights cannot be sharded: leave quantization out, or use trainer.strategy ddp")
    decoder = language_model.decoder
    # Weights of an earlier stage go into the folder, which one process writes.
    tuned = {p for name, p in language_model.named_parameters() if name in getattr(language_model, "tuned", ())}
    blocks = [m for m in decoder.modules() if isinstance(m, GradientCheckpointingLayer)]
    frozen = [b for b in blocks if not any(p.requires_grad or p in tuned for p in b.parameters())]
    if not frozen:
        raise InputError("the language model has no frozen block to shard: use trainer.strategy ddp")
    for block in frozen:
        fully_shard(block, mesh=mesh)
    # It owns nothing; with a common root, one block is gathered while the one before it computes.
    inside: set[nn.Parameter] = set()
    for block in frozen:
        inside.update(block.parameters())
    fully_shard(decoder, mesh=mesh, ignored_params=set(decoder.parameters()) - inside)


def weight_bytes(module: nn.Module) -> tuple[int, int]:
    """Bytes of the parameters that this process holds, and of all of them."""
    held = total = 0
    for parameter in module.parameters():
        local = parameter.to_local() if isinstance(parameter, DTensor) else parameter
        held += local.numel() * parameter.element_size()
        total += math.prod(parameter.shape) * parameter.element_size()
    return held, total


def check_all_alike(datamodule: EmpathyDataModule, function: str | None, fields: Sequence[str]) -> None:
    """Check the splits that a trainer's function uses, as :func:`check_alike`, with what is mixed into training."""
    for split in _SPLITS.get(function, ()):
        mixed = datamodule.mixed if split == "train" else []
        check_alike(split, [datamodule.splits[split], *mixed], fields)


def check_alike(split: str, tasks: Sequence[Sequence[Utterance]], fields: Sequence[str]) -> None:
    """All utterances of a split, in all its tasks, or none have what lets a batch reach the language model.

    There the processes meet.

    Raises:
        InputError: If only some have it.
    """
    for field in fields:
        missing, first = 0, ""
        for id, value in chain.from_iterable(each(rows, "id", field) for rows in tasks):
            if not value:
                missing, first = missing + 1, first or id
        if 0 < missing < sum(map(len, tasks)):
            raise InputError(
                f"{missing} {split} utterances ({first} first) have no {field}, others do: a sharded "
                "language model needs it in all; leave those out, or use trainer.strategy ddp"
            )
