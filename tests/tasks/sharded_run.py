"""One of two processes that train together: every kind of training under DDP and with shards, and what is refused.

Run as ``sharded_run.py BACKBONES CORPUS OUT`` with ``LOCAL_RANK`` and ``MASTER_PORT`` in the environment.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import lightning as L
import torch
from torch.distributed.tensor import DTensor

from empathy_lightning.checkpoints import save
from empathy_lightning.data import Manifest, read_manifest, write_manifest
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.errors import InputError
from empathy_lightning.losses import CategoricalLoss, ResponseDistillationLoss
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.partial_lora import PartialLora
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.modules.unit_language_model import Qwen2Body
from empathy_lightning.tasks import EmotionNuanceTask, ShardedBackboneStrategy, SpeechAdapterTask, SpeechDecoderTask
from empathy_lightning.tasks.export import frozen_digest
from empathy_lightning.utterance import EMOTIONS
from tests.tiny import adamw, spoken, whole


def task(kind, backbones, folder):
    """A trainer's task over tiny models, the same on every process and in every call."""
    L.seed_everything(0)
    language_model = LanguageModel.from_pretrained(
        str(backbones / "language_model"), gradient_checkpointing=kind == "distillation"
    )
    encoder = SpeechEncoder.from_pretrained(str(backbones / "speech_encoder"))
    adapter = SpeechAdapter(32, 32, hidden_size=16)
    if kind == "distillation":
        losses = {"distillation": ResponseDistillationLoss()}
        return SpeechAdapterTask(whole(encoder, adapter, language_model), adamw(1e-2), auxiliary_losses=losses)
    if kind == "partial_lora":
        lora = PartialLora.for_model(language_model.model, dropout=0.0)
        model = whole(encoder, adapter, language_model, partial_lora=lora)
        return SpeechAdapterTask(model, adamw(1e-2), trainable=["responder.partial_lora.*"])
    if kind == "block":
        patterns = ["listener.speech_adapter.*", "responder.language_model.model.model.layers.1.mlp.*"]
        return SpeechAdapterTask(whole(encoder, adapter, language_model), adamw(1e-2), trainable=patterns)
    before = str(folder / f"stage_of_process_{os.environ['LOCAL_RANK']}")
    save(before, spoken(whole(encoder, adapter, language_model), list(EMOTIONS)))
    if kind in ("nuance", "prompts"):
        nuance = EmotionNuance(32, 32, hidden_size=16, gate_size=8)
        model = whole(encoder, adapter, language_model, nuance)
        return EmotionNuanceTask(model, {"categorical": CategoricalLoss()}, initial_weights=[before])
    decoder = SpeechDecoder(32, language_model.model.config.vocab_size, 0, 8, Qwen2Body(32, 1, 2, intermediate_size=48))
    model = whole(encoder, adapter, language_model, speech_decoder=decoder)
    return SpeechDecoderTask(model, initial_weights=[before])


def data(corpus, kind):
    if kind == "prompts":
        # Batches of one utterance, every other one with a prompt of its own, which has no slot for the emotion.
        asked = corpus.with_name(f"asked_{os.environ['LOCAL_RANK']}.jsonl")
        question = "Write down: {speech}"
        rows = read_manifest(corpus)
        write_manifest(asked, [replace(u, prompt=question if i % 2 else None) for i, u in enumerate(rows)])
        return EmpathyDataModule([Manifest(str(asked))], batch_size=1)
    return EmpathyDataModule([Manifest(str(corpus))], batch_size=2, read_audio=kind != "decoder")


def trainer(strategy):
    return L.Trainer(
        max_epochs=1, accelerator="cpu", devices=2, strategy=strategy, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, use_distributed_sampler=False, limit_train_batches=4,
        limit_val_batches=1, limit_test_batches=1, accumulate_grad_batches=2, gradient_clip_val=1.0,
    )  # fmt: skip


def run(kind, strategy, backbones, corpus, folder):
    """Train two steps of two batches, then test; what trained, and the shapes that this process held."""
    module, runner = task(kind, backbones, folder), trainer(strategy)
    start = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}
    runner.fit(module, datamodule=data(corpus, kind))
    held = {n: list(p.to_local().shape if hasattr(p, "to_local") else p.shape) for n, p in module.named_parameters()}
    trained = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}
    (figures,) = runner.test(module, datamodule=data(corpus, kind), verbose=False)
    digests = [frozen_digest(module)]
    # One number of the second process's share.
    frozen = [p for name, p in module.named_parameters() if ".layers.0." in name and not p.requires_grad]
    share = next(p.to_local() for p in frozen if isinstance(p, DTensor)) if strategy != "ddp" else torch.zeros(1)
    if runner.global_rank == 1:
        share.view(-1)[0] += 1
    digests.append(frozen_digest(module))
    return {"start": start, "trained": trained, "held": held, "figures": figures, "digests": digests}


def refusal(strategy, backbones, corpus, folder):
    """What a run says that cannot be."""
    try:
        trainer(strategy).fit(task("partial_lora", backbones, folder), datamodule=data(corpus, "partial_lora"))
    except InputError as error:
        return str(error)
    return None


def main(backbones, corpus, out):
    """Write what this process saw."""
    results = {}
    for kind in ("distillation", "partial_lora", "block", "nuance", "prompts", "decoder"):
        results[kind] = [run(kind, s, backbones, corpus, out) for s in ("ddp", ShardedBackboneStrategy())]
    partly = out / f"partly_{os.environ['LOCAL_RANK']}.jsonl"
    utterances = read_manifest(corpus)
    utterances[3].response = None
    write_manifest(partly, utterances)
    results["refused"] = [
        refusal(ShardedBackboneStrategy(), backbones, partly, out),
        refusal(ShardedBackboneStrategy(shards=3), backbones, corpus, out),
    ]
    torch.save(results, out / f"process{torch.distributed.get_rank()}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(Path, sys.argv[1:]))
