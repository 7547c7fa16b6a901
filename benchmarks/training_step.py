"""One optimiser step around frozen backbones: the reference's way beside ours, each in a process of its own.

    python benchmarks/training_step.py compare     # time, memory and losses of stages 1 and 2; six minutes of one core
    python benchmarks/training_step.py breakdown   # ours with each measure switched off alone, and with checkpointing

Each prints one JSON object. The weights are random, the speech is noise of 1 to 12 s, everything is float32 on one
thread. The reference's training code was never published; its way is written here from what its inference code
does: every utterance padded to 30 s and 300 embeddings, all layers stacked, logits of all positions, random batches.
Where the code leaves it open the cheaper choice is taken: encoder without gradient, layers only in stage 2, and
the loss of the transformers library, which makes fewer copies than the pinned old one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, WhisperConfig

from empathy_lightning.data.batch import SpeechBatch, collate
from empathy_lightning.listener import Listener
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.language_model import IGNORE, LanguageModel, checkpoint_blocks
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_encoder import SpeechEncoder, freeze
from empathy_lightning.prompts import EMPATHY_SYSTEM, SPEECH_AND_EMOTION, SPEECH_ONLY, response_ids
from empathy_lightning.responder import Responder
from empathy_lightning.utterance import EMOTIONS, Utterance

MEASURES = ("own_length", "buckets", "supervised_logits", "shared_prefix", "running_sum", "still")
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def word_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """A token per word or mark, so that prompts are about as long as under a real tokenizer."""
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "\n", ".", ",", "'", "(", ")", "?"]
    words = sorted(set((EMPATHY_SYSTEM + SPEECH_AND_EMOTION).replace("}", " ").replace("{", " ").split()))
    vocabulary = dict.fromkeys([*marks, "system", "user", "assistant", *words])
    vocabulary = dict.fromkeys([*vocabulary, *(f"w{index}" for index in range(size - len(vocabulary)))])
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Punctuation()]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
    )


def build(stage: int, vocabulary: int, padded: bool) -> EmpatheticLM:
    """Whisper of the smallest size and a Qwen2 of 8 layers; the stage's part trains."""
    torch.manual_seed(0)
    whisper = WhisperConfig(
        d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536, num_mel_bins=80
    )
    qwen = Qwen2Config(
        vocab_size=vocabulary, hidden_size=512, intermediate_size=2048, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    encoder = SpeechEncoder(whisper, pad_to_30s=padded)
    language_model = LanguageModel(Qwen2ForCausalLM(qwen), word_tokenizer(vocabulary))
    adapter = SpeechAdapter(384, 512, drop_incomplete=padded)
    nuance = EmotionNuance(384, 512) if stage == 2 else None
    if stage == 2:
        freeze(adapter)
    prompt = SPEECH_ONLY if stage == 1 else SPEECH_AND_EMOTION
    listener = Listener(encoder, adapter, nuance)
    return EmpatheticLM(listener, Responder(language_model, prompt=prompt, system=EMPATHY_SYSTEM))


def batches(count: int, size: int, buckets: bool, vocabulary: int) -> list[SpeechBatch]:
    """Noise of 1 to 12 s with replies of 10 to 60 words; in buckets, neighbours in length share a batch."""
    draw = random.Random(0)
    rows = [(draw.uniform(1, 12), draw.randint(10, 60), index) for index in range(count * size)]
    generator = torch.Generator().manual_seed(0)
    if buckets:
        rows.sort()
    spoken = []
    for seconds, words, index in rows:
        response = " ".join(f"w{draw.randrange(vocabulary - 99)}" for _ in range(words))
        utterance = Utterance(str(index), "noise", "", emotion=EMOTIONS[index % len(EMOTIONS)], response=response)
        spoken.append((0.1 * torch.randn(round(seconds * 16_000), generator=generator), utterance))
    return [collate(spoken[begin : begin + size], EMOTIONS) for begin in range(0, len(spoken), size)]


def total_loss(response: Tensor, logits: Tensor | None, batch: SpeechBatch) -> Tensor:
    """The paper's loss: the response, and in stage 2 the classifier at 0.8."""
    return response if logits is None else response + 0.8 * nn.functional.cross_entropy(logits, batch.emotion)


def ours(model: EmpatheticLM, batch: SpeechBatch) -> Tensor:
    """Loss of a batch through the library."""
    output = model(batch)
    assert output.response_loss is not None
    return total_loss(output.response_loss, None if output.emotion is None else output.emotion.logits, batch)


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
    adapter: Any = model.listener.speech_adapter
    language_model: Any = model.responder.language_model
    nuance: Any = model.listener.emotion_nuance
    heard: Any = model.listener.speech_encoder
    layers: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _module, _inputs, output: layers.append(output))
        for layer in (heard.encoder.layers if nuance is not None else [])
    ]
    with torch.no_grad():
        waveform = nn.functional.pad(batch.waveform, (0, 480_000 - batch.waveform.shape[1]))
        mel, _ = heard.log_mel(waveform, torch.full_like(batch.lengths, 480_000))
        frames = heard.encoder(mel).last_hidden_state
    for hook in hooks:
        hook.remove()
    speech = adapter.linear2(nn.functional.relu(adapter.linear1(frames.reshape(len(batch), 300, -1))))
    slots: dict[str, Tensor] = {"speech": speech}
    logits = None
    if nuance is not None:
        embedding = stacked_embedding(nuance, layers)
        slots["emotion"], logits = embedding[:, None], nuance.categorical_head(embedding)
    rows, labels = [], []
    for index, response in enumerate(batch.responses):
        ids = response_ids(language_model.tokenizer, response or "")
        pieces = [
            slots[s][index] if isinstance(s, str) else language_model.embed(s) for s in model.responder.segments()
        ]
        rows.append(torch.cat([*pieces, language_model.embed(ids)]))
        labels.append(torch.tensor([IGNORE] * (len(rows[-1]) - len(ids)) + ids))
    lengths = torch.tensor([len(row) for row in rows])
    embeddings = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    response_loss: Tensor = language_model.model(
        inputs_embeds=embeddings,
        attention_mask=(torch.arange(embeddings.shape[1]) < lengths[:, None]).long(),
        labels=nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORE),
        use_cache=False,
    ).loss
    return total_loss(response_loss, logits, batch)


def switch_off(model: EmpatheticLM, measure: str) -> None:
    """Put the reference's way in the place of one of ours."""
    language_model: Any = model.responder.language_model
    nuance: Any = model.listener.emotion_nuance
    if measure == "shared_prefix":
        forward = language_model.forward
        language_model.forward = lambda rows, mask, prefix, still=None: forward(rows, mask, (), still)
    elif measure == "still":
        forward = language_model.forward
        language_model.forward = lambda rows, mask, prefix, still=None: forward(rows, mask, prefix)
    elif measure == "supervised_logits":

        def _all_positions(hidden: Tensor, labels: Tensor) -> Tensor:
            logits = language_model.model.lm_head(hidden).float()
            return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())

        language_model.response_loss = _all_positions
    elif measure == "running_sum" and nuance is not None:
        # Without padding frames in the stack only where the batch has none; the cost is the same.
        nuance.extractor.forward = lambda layers, mask: stacked_embedding(nuance, list(layers))


def resident() -> float:
    """Megabytes of this process in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Take the steps in this process and say what they cost."""
    torch.set_num_threads(1)
    padded = options.way in ("reference", "padded", "without_own_length")
    off = options.way.removeprefix("without_")
    model = build(options.stage, options.vocabulary, padded)
    loss_of: Callable[[EmpatheticLM, SpeechBatch], Tensor] = reference if options.way == "reference" else ours
    if options.way.startswith("without_"):
        switch_off(model, off)
    if options.way == "checkpointed" and model.responder.language_model is not None:
        checkpoint_blocks(model.responder.language_model.model)
    buckets = options.way not in ("reference", "padded", "without_buckets")
    work = batches(options.batches, options.batch_size, buckets, options.vocabulary)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    before = resident()
    losses, cpu, wall = [], [], []
    for batch in work:
        started = time.process_time(), time.perf_counter()
        loss = loss_of(model, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        cpu.append(time.process_time() - started[0])
        wall.append(time.perf_counter() - started[1])
        losses.append(loss.item())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {
        "way": options.way,
        "utterances_per_cpu_second": round(options.batch_size * len(work) / sum(cpu), 3),
        "utterances_per_wall_second": round(options.batch_size * len(work) / sum(wall), 3),
        "peak_megabytes": round(peak),
        "peak_megabytes_less_model_and_imports": round(peak - before),
        "losses": [round(value, 6) for value in losses],
    }


def child(way: str, stage: int, options: argparse.Namespace) -> dict[str, Any]:
    """The same in a fresh process, whose peak memory is its own; the best time of the repeats counts."""
    options = argparse.Namespace(**{**vars(options), "way": way, "stage": stage})
    runs: list[dict[str, Any]] = []
    for _ in range(options.repeats):
        # Forked, so that the imports are paid for once; this process itself computes nothing.
        with ProcessPoolExecutor(1, get_context("fork")) as pool:
            runs.append(pool.submit(run, options).result())
    print(json.dumps(runs), file=sys.stderr, flush=True)
    return max(runs, key=lambda figures: float(figures["utterances_per_cpu_second"]))


def against(figures: dict[str, Any], baseline: dict[str, Any]) -> dict[str, float]:
    """Throughput and peak memory as multiples of the baseline's."""
    names = {
        "throughput_cpu": "utterances_per_cpu_second",
        "throughput_wall": "utterances_per_wall_second",
        "peak_memory": "peak_megabytes",
        "peak_memory_less_model_and_imports": "peak_megabytes_less_model_and_imports",
    }
    return {name: round(figures[key] / baseline[key], 3) for name, key in names.items()}


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """The reference, ours, and ours in the reference's numerics, whose losses must be the same."""
    result: dict[str, Any] = {}
    for stage in (1, 2):
        ways = {way: child(way, stage, options) for way in ("reference", "ours", "padded")}
        pairs = zip(ways["padded"]["losses"], ways["reference"]["losses"], strict=True)
        result[f"stage_{stage}"] = {
            **ways,
            "ours_over_reference": against(ways["ours"], ways["reference"]),
            "largest_difference_of_losses_padded": max(abs(a - b) for a, b in pairs),
        }
    return result


def breakdown(options: argparse.Namespace) -> dict[str, Any]:
    """Ours with each measure switched off alone, as multiples of ours with all of them."""
    result: dict[str, Any] = {}
    for stage in (2, 1):
        whole = child("ours", stage, options)
        names = [name for name in MEASURES if stage == 2 or name not in ("running_sum", "still")]
        others = {name: child(f"without_{name}", stage, options) for name in names}
        others["gradient_checkpointing"] = child("checkpointed", stage, options)
        result[f"stage_{stage}"] = {name: against(figures, whole) for name, figures in others.items()}
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["compare", "breakdown", "run"])
    ways = ["reference", "ours", "padded", "checkpointed", *(f"without_{name}" for name in MEASURES)]
    parser.add_argument("--way", choices=ways, default="ours", help="of a single run (default ours)")
    parser.add_argument("--stage", type=int, choices=[1, 2], default=2, help="of a single run (default 2)")
    parser.add_argument("--batches", type=int, default=4, help="steps (default 4)")
    parser.add_argument("--batch_size", type=int, default=8, help="utterances in a step (default 8)")
    parser.add_argument("--vocabulary", type=int, default=32_000, help="of the language model (default 32,000)")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each, of which the fastest counts (default 1)")
    arguments = parser.parse_args()
    print(json.dumps({"compare": compare, "breakdown": breakdown, "run": run}[arguments.what](arguments), indent=1))
