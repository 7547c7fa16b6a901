"""The speech decoder against its targets: steady over a long reply, faster than the released loop, faster in company.

    python benchmarks/speech_decoder.py            # all rows on one thread; ten minutes of a core
    python benchmarks/speech_decoder.py --runs 1   # fewer repetitions

A Qwen2 of 12 layers x 512 (8 and 2 heads, feed-forward 2048, vocabulary 8,228; 50 M parameters), random weights and
texts, float32, CPU time of one thread (of the whole pipeline, wall time). The last line is the
verdict; the exit code is 1 if a target is missed.

The released loop is written here from what FreezeEmpath's code does: with every 3 tokens their rows are put behind
all rows so far, and a fresh call of transformers' ``generate`` reads the whole sequence again and writes 15 units;
their embeddings are put behind it too. That code runs on transformers 4.43.4, whose ``generate`` also computes the
scores of all positions that it reads; the installed version computes those of the last one, so it is the faster one.
Both sides take the likeliest id of the whole vocabulary here, so that their units can be compared.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median

import torch
from step_models import batches, build
from torch import Tensor, nn
from transformers import DynamicCache

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.decoding import Decoding
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.unit_cache import UnitCache
from empathy_lightning.modules.unit_choice import UnitDecoding
from empathy_lightning.modules.unit_language_model import Qwen2Body
from empathy_lightning.streaming import AudioBlock
from empathy_lightning.talker import Talker

READ, WRITE = 3, 15
STATES = 512
LENGTHS = [4, 5, 6, 7, 8, 9, 10, 11]
"""Chunks of text of eight replies that are spoken together, before their last."""


def decoder_of_50m(released_rules: bool) -> SpeechDecoder:
    """The decoder of the targets, with random weights that are always the same."""
    torch.manual_seed(0)
    body = Qwen2Body(512, 12, 8, num_key_value_heads=2, intermediate_size=2048, rope_theta=1e6)
    return SpeechDecoder(STATES, 35, 0, 8192, body, schedule=(READ, WRITE), released_rules=released_rules).eval()


def text_of(tokens: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """States and tokens of a text."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, STATES, generator=source), torch.randint(1, 35, (tokens,), generator=source)


def ours(decoder: SpeechDecoder, chunks: int) -> tuple[float, Tensor]:
    """Seconds of our stream over all chunks, and the ids."""
    states, tokens = text_of(READ * chunks + 1)
    began = time.process_time()
    stream = decoder.begin(1, UnitDecoding(temperature=0.0))
    stream.read([states], [tokens], [False])
    written = torch.cat([ids for (ids,) in stream.write_ids()])
    return time.process_time() - began, written


@torch.no_grad()
def released_loop(decoder: SpeechDecoder, chunks: int) -> tuple[float, Tensor]:
    """Seconds of the released way over all chunks, and the units."""
    states, tokens = text_of(READ * chunks + 1)
    began = time.process_time()
    sequence, units = torch.zeros(1, 0, decoder.body.hidden_size), []
    for chunk in range(chunks):
        new = slice(READ * chunk, READ * (chunk + 1))
        sequence = torch.cat([sequence, decoder.fuse(states[new], tokens[new])[None]], 1)
        written = decoder.model.generate(
            inputs_embeds=sequence,
            attention_mask=torch.ones(sequence.shape[:2], dtype=torch.long),
            max_new_tokens=WRITE,
            do_sample=False,
            eos_token_id=decoder.end_token_id,
            pad_token_id=decoder.end_token_id,
        )
        units.append(written[0])
        sequence = torch.cat([sequence, decoder.embed(written)], 1)
    return time.process_time() - began, torch.cat(units)


def spoken_together(decoder: SpeechDecoder, replies: list[int]) -> tuple[float, int]:
    """Seconds and number of units of whole replies, by their seeds, spoken in one stream."""
    texts = [text_of(READ * LENGTHS[reply], reply) for reply in replies]
    # A random model does not end its replies; the cap does.
    stream = decoder.begin(len(texts), UnitDecoding(max_units=2 * WRITE), replies)
    began = time.process_time()
    stream.read([states for states, _ in texts], [tokens for _, tokens in texts], [True] * len(texts))
    units = sum(len(row) for block in stream.write() for row in block)
    return time.process_time() - began, units


def steady(runs: int) -> tuple[str, float, float, bool]:
    """Chunks 58 to 62 of one reply against 2 to 6 of another, in turns, so that a changing load meets both."""
    decoder = decoder_of_50m(released_rules=False)
    early, late = [], []
    for _ in range(runs):
        old, new = endless(decoder, 62), endless(decoder, 6)
        for _ in range(57):
            next(old)
        next(new)
        for _ in range(5):
            early.append(seconds_of_next(new))
            late.append(seconds_of_next(old))
    ratio = median(late) / median(early)
    print(f"  about chunk 4: {median(early):.3f} s, about chunk 60: {median(late):.3f} s")
    return "chunk 60 against chunk 4, times", ratio, 1.2, ratio <= 1.2


def endless(decoder: SpeechDecoder, chunks: int) -> Iterator[list[Tensor]]:
    """The chunks of a text that goes on."""
    states, tokens = text_of(READ * chunks + 1)
    stream = decoder.begin(1, UnitDecoding())
    stream.read([states], [tokens], [False])
    return stream.write_ids()


def seconds_of_next(chunks: Iterator[list[Tensor]]) -> float:
    """CPU time of the next chunk."""
    began = time.process_time()
    next(chunks)
    return time.process_time() - began


def against_released(runs: int, chunks: int = 64) -> tuple[str, float, float, bool]:
    """Our stream against the released loop: ours before and after it, so that a changing load meets both."""
    decoder = decoder_of_50m(released_rules=True)
    our_seconds, their_seconds = [], []
    for _ in range(runs):
        seconds, units = ours(decoder, chunks)
        theirs, their_units = released_loop(decoder, chunks)
        again, _ = ours(decoder, chunks)
        our_seconds += [seconds, again]
        their_seconds.append(theirs)
        if not torch.equal(units, their_units):
            raise SystemExit("the released loop and ours write different units: the comparison means nothing")
    ratio = median(their_seconds) / median(our_seconds)
    print(f"  {chunks} chunks: {median(our_seconds):.2f} s, released loop {median(their_seconds):.2f} s, same units")
    return "64 chunks, times faster than the released loop", ratio, 4, ratio >= 4


def in_company(runs: int) -> tuple[str, float, float, bool]:
    """Eight replies of different lengths in one stream against one after the other."""
    decoder = decoder_of_50m(released_rules=False)
    replies = list(range(len(LENGTHS)))
    ratios = []
    for _ in range(runs):
        together, units = spoken_together(decoder, replies)
        alone = [spoken_together(decoder, [reply]) for reply in replies]
        if units != sum(count for _, count in alone):
            raise SystemExit("replies in company have other units than alone: the comparison means nothing")
        ratios.append(sum(seconds for seconds, _ in alone) / together)
        print(f"  8 replies, {units} units: {units / together:.0f} units/s together, ratio {ratios[-1]:.2f}")
    return "8 replies together, times the throughput of one by one", median(ratios), 3, median(ratios) >= 3


class BlockVocoder(nn.Module):
    """A small vocoder that can speak as units come: a convolution over each unit and its neighbours."""

    sample_rate, samples_per_unit, context, num_units = 16_000, 320, 1, 8192

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(self.num_units, 256)
        self.convolution = nn.Conv1d(256, 512, 3, padding=1)
        self.samples = nn.Linear(512, self.samples_per_unit)

    def forward(self, units: Tensor) -> Tensor:
        """Waveforms (B, N * samples_per_unit) of units (B, N)."""
        hidden = self.convolution(self.embedding(units).transpose(1, 2)).relu()
        return self.samples(hidden.transpose(1, 2)).tanh().flatten(1)


def talking_model() -> EmpatheticLM:
    """The smallest Whisper and a Qwen2 of 8 x 512 with the decoder of 50 M parameters and a vocoder in blocks."""
    model = build(stage=1, vocabulary=8000, padded=False)
    body = Qwen2Body(512, 12, 8, num_key_value_heads=2, intermediate_size=2048)
    model.talker = Talker(SpeechDecoder(STATES, 8000, 0, 8192, body, schedule=(READ, WRITE)), BlockVocoder())
    return model.eval()


@torch.no_grad()
def raw_forwards(model: EmpatheticLM, batch: SpeechBatch) -> float:
    """Wall time of what a first sound cannot do without, and of nothing else."""
    assert model.responder is not None and model.talker is not None
    responder, decoder = model.responder, model.talker.speech_decoder
    began = time.monotonic()
    heard = model.listener(batch)
    (prompt,) = responder.fill([[turn] for turn in responder.turns(batch, heard)])
    body, kept = responder.language_model.decoder, DynamicCache()
    states = body(inputs_embeds=prompt.embeddings[None], past_key_values=kept).last_hidden_state[:, -1:]
    token = responder.language_model.logits(states[0]).argmax(-1)
    for _ in range(READ):
        states = body(inputs_embeds=responder.language_model.embed(token)[None], past_key_values=kept).last_hidden_state
        token = responder.language_model.logits(states[0]).argmax(-1)
    cache, may_end = UnitCache(decoder.model.model, 1), torch.tensor([False])
    rows = decoder.fuse(states[0].expand(READ, -1), token.expand(READ))[None]
    units = []
    for _ in range(WRITE):
        choice = decoder.scores(cache.read(rows, [rows.shape[1]]), may_end).argmax(-1)
        units.append(choice)
        rows = decoder.embed(decoder.chosen_ids(choice))[:, None]
    model.talker.vocoder(torch.stack(units, 1))
    return time.monotonic() - began


def first_audio(model: EmpatheticLM, batch: SpeechBatch) -> float:
    """Wall time until the whole pipeline gives out its first sound; the rest is cancelled."""
    began = time.monotonic()
    with model.stream(batch, Decoding(max_new_tokens=30)) as stream:
        for event in stream:
            if isinstance(event, AudioBlock):
                return time.monotonic() - began
    raise SystemExit("the pipeline gave out no sound")


def pipeline(runs: int) -> tuple[str, float, float, bool]:
    """First sound against its raw forwards, in turns; the first pair of each warms up."""
    model = talking_model()
    (batch,) = batches(1, 1, False, model.responder.language_model.tokenizer)
    batch = replace(batch, responses=[None])
    raw, whole = [], []
    for _ in range(5 * runs + 1):
        raw.append(raw_forwards(model, batch))
        whole.append(first_audio(model, batch))
    ratio = median(whole[1:]) / median(raw[1:])
    print(f"  first sound after {median(whole[1:]):.2f} s, its raw forwards {median(raw[1:]):.2f} s (wall time)")
    return "first sound against its raw forwards, times", ratio, 1.1, ratio <= 1.1


ROWS: dict[str, Callable[[int], tuple[str, float, float, bool]]] = {
    "steady": steady,
    "released": against_released,
    "company": in_company,
    "pipeline": pipeline,
}


def main() -> None:
    """Measure the rows that are asked for, print their table and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--runs", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = [ROWS[name](options.runs) for name in options.rows]
    print(f"{'measure':60} {'measured':>9} {'target':>7}")
    for name, measured, target, met in results:
        print(f"{name:60} {measured:9.2f} {target:7.2f} {'' if met else '  missed'}")
    missed = [name for name, _, _, met in results if not met]
    print("all targets met" if not missed else f"missed: {', '.join(missed)}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
