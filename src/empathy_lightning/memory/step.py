"""The memory of one training step: what is kept all the time, what for the backward pass, and the peak."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from empathy_lightning.memory import formulas
from empathy_lightning.memory.formulas import Blocks, Reading

SAMPLES_A_FRAME = 320
"""Of Whisper's encoder, 50 frames a second at 16 kHz."""


@dataclass(frozen=True)
class Batch:
    """What is trained on at a time.

    Attributes:
        utterances: Of one process.
        frames: Of the speech encoder for each, padding included.
        reply: Tokens of each reply.
        units: Of each reply's speech.
    """

    utterances: int
    frames: int
    reply: int
    units: int


@dataclass(frozen=True)
class Weights:
    """Weights of a model.

    Attributes:
        frozen: Bytes of those that stay.
        trained: Numbers that train.
        largest: Numbers of the largest of them.
        size: Bytes of one of them.
        copies: Times that their gradients are held: twice where processes exchange them (DDP's buckets).
    """

    frozen: int
    trained: int
    largest: int
    size: int = 4
    copies: int = 1


@dataclass(frozen=True)
class Language:
    """The frozen language model.

    Attributes:
        blocks: Its sizes.
        stored: Bytes of one of its weights.
        size: Bytes of a number in its arithmetic.
        checkpointed: Whether its blocks are computed twice.
        lora: Whether partial LoRA trains in it.
    """

    blocks: Blocks
    stored: int
    size: int
    checkpointed: bool = False
    lora: bool = False


@dataclass(frozen=True)
class Hearing:
    """The listener's parts between encoder and language model.

    Attributes:
        downsampling: Frames that become one embedding.
        adapter_inputs: Widths of the inputs of the trained adapter's layers, summed; 0 where it is frozen.
        nuance: Whether an emotion nuance module trains on the encoder's layers.
    """

    downsampling: int
    adapter_inputs: int
    nuance: bool


@dataclass(frozen=True)
class Case:
    """A model and how it is trained.

    Attributes:
        weights: What is there and what trains.
        language: The frozen language model.
        size: Bytes of a number in the arithmetic of the rest.
        encoder: Layers, width and inner width of the speech encoder.
        segments: Of the prompt: numbers of tokens, and ``speech`` and ``emotion``.
        hearing: What trains in the listener.
        speaker: The speech decoder, where that trains instead.
    """

    weights: Weights
    language: Language
    size: int
    encoder: tuple[int, int, int]
    segments: tuple[int | str, ...]
    hearing: Hearing
    speaker: Blocks | None = None


@dataclass(frozen=True)
class Memory:
    """Bytes of one step.

    Attributes:
        weights: All of the model's, trained ones among them.
        optimizer: The optimiser's states.
        gradients: Of what trains; those of the step before are held through a forward pass.
        activations: Kept from the forward for the backward pass.
        caches: Keys and values of the prompt's positions without gradient.
        passing: What lives for a moment where the step needs most.
    """

    weights: int
    optimizer: int
    gradients: int
    activations: int
    caches: int
    passing: int

    @property
    def peak(self) -> int:
        """All of it."""
        return self.weights + self.optimizer + self.gradients + self.activations + self.caches + self.passing


def step_memory(case: Case, batch: Batch, on_gpu: bool = True) -> Memory:
    """The memory of one step where it needs most.

    Args:
        case: The training.
        batch: The largest that comes.
        on_gpu: Whether it is a GPU's; the optimiser takes its steps one weight at a time elsewhere.
    """
    phases = _speaking(case, batch) if case.speaker is not None else _listening(case, batch)
    weights = case.weights
    step = formulas.adamw_passing(weights.trained, weights.largest, on_gpu, weights.size)
    kept, cached, passing = max([*phases, (0, 0, step)], key=sum)
    return Memory(
        weights.frozen + weights.size * weights.trained,
        formulas.adamw_states(weights.trained, weights.size),
        weights.copies * weights.size * weights.trained,
        kept,
        cached,
        passing,
    )


Phase = tuple[int, int, int]
"""What is kept, cached and passing at one point of the step."""


def reading_of(case: Case, batch: Batch) -> Reading:
    """Which positions the language model reads with a gradient, and which without."""
    speech = ceil(batch.frames / case.hearing.downsampling)
    lengths = {"speech": speech, "emotion": 1}
    first = "speech" if case.hearing.adapter_inputs or case.language.lora else "emotion"
    if first not in case.segments:
        first = "speech"
    before = own = 0
    for segment in case.segments:
        length = lengths[segment] if isinstance(segment, str) else segment
        if own or segment == first:
            own += length
        else:
            before += length
    return Reading(batch.utterances, before, own + batch.reply)


def _listening(case: Case, batch: Batch) -> list[Phase]:
    """Stages that train before the frozen language model: hearing, the loss, and the way back."""
    read, blocks, size = reading_of(case, batch), case.language.blocks, case.language.size
    frames = batch.utterances * batch.frames
    layers, width, inner = case.encoder
    heard = _kept_by_listener(case, frames)
    block = formulas.frozen_block(blocks, read, size) + _kept_by_lora(case, read)
    # Of a block that is computed twice its input alone is kept.
    kept_of_block = size * read.positions * blocks.width if case.language.checkpointed else block
    of_blocks = blocks.layers * kept_of_block
    # The rows as they are laid out, and what of them goes through the blocks.
    rows = size * blocks.width * (batch.utterances * (read.before + read.own) + read.positions)
    kept = heard + of_blocks + rows + _casts(case)
    # A prompt's beginning that all share is read once, in one row.
    read_before = Reading(1, read.before, 0) if _all_share(case) else read
    cached = formulas.cache(blocks, read_before, size)
    again = block if case.language.checkpointed else 0
    logits = formulas.frozen_logits(blocks, batch.utterances * batch.reply, size)
    back = formulas.passing_gradients(blocks, read.positions, size)
    encoded = max(formulas.log_mel_passing(frames), formulas.encoder_passing(layers, width, inner, frames, case.size))
    held = cached if case.language.checkpointed else 0
    waveforms = 4 * SAMPLES_A_FRAME * frames
    kept += waveforms
    return [(waveforms, 0, encoded), (kept, held, logits), (kept, held, again + back), (kept, cached, 0)]


def _all_share(case: Case) -> bool:
    """Whether what stands before the first position with gradient is words alone."""
    first = case.segments[1] if len(case.segments) > 1 else "speech"
    return first == "speech" and bool(case.hearing.adapter_inputs or case.language.lora)


def _kept_by_listener(case: Case, frames: int) -> int:
    layers, width, _ = case.encoder
    embeddings = ceil(frames / case.hearing.downsampling)
    # A trained linear layer keeps its input, and frames are kept in float32 beside what half precision reads.
    copies = 4 if case.size == 4 else 4 + case.size
    adapter = copies * embeddings * case.hearing.adapter_inputs
    nuance = formulas.nuance_kept(layers, width, frames, case.size) if case.hearing.nuance else 0
    return adapter + nuance


def _kept_by_lora(case: Case, read: Reading) -> int:
    """Of one block: the input of each updated layer after its dropout in float32, and the dropout's mask."""
    if not case.language.lora:
        return 0
    blocks = case.language.blocks
    # Queries, keys, values, gate and up read the hidden states.
    inputs = 5 * blocks.width + blocks.query_width + blocks.feed_forward
    half = case.size if case.size < 4 else 0
    return read.positions * inputs * (4 + 1 + half)


def _casts(case: Case) -> int:
    """Copies in half precision of weights in float32, which autocast keeps through a step."""
    copied = case.size * case.weights.trained if case.size < case.weights.size else 0
    language = case.language
    if language.size < language.stored and case.speaker is None and not language.checkpointed:
        copied += language.size * formulas.linear_weights(language.blocks)
    return copied


def _speaking(case: Case, batch: Batch) -> list[Phase]:
    """The stage that trains the speech decoder: the frozen model reads, the decoder is trained on its states."""
    assert case.speaker is not None
    prompt = 0
    for segment in case.segments:
        # Each slot is taken to be as long as a reply.
        prompt += batch.reply if isinstance(segment, str) else segment
    read = batch.utterances * (prompt + batch.reply)
    language, speaker, size = case.language.blocks, case.speaker, case.size
    # Without gradient: the hidden states in and out of a block, and two of its inner width.
    reading = case.language.size * read * (3 * language.width + 2 * language.feed_forward)
    positions = batch.utterances * (batch.reply + batch.units + 2)
    kept_logits, passing_logits = formulas.trained_logits(speaker, batch.utterances * (batch.units + 1), size)
    rows = batch.utterances * batch.reply * case.language.size * language.width
    rows += 2 * 4 * positions * speaker.width + _kept_by_fusion(case, batch)
    kept = speaker.layers * formulas.trained_block(speaker, positions, size) + kept_logits + rows + _casts(case)
    # Head and embeddings are one weight: the second of its gradients is added to the first.
    tied = 4 * speaker.vocabulary * speaker.width
    back = formulas.passing_gradients(speaker, positions, size)
    return [(0, 0, reading), (kept, 0, passing_logits), (kept - kept_logits, 0, back), (0, 0, tied)]


def _kept_by_fusion(case: Case, batch: Batch) -> int:
    """Inputs of the layers that join states and tokens; the inner width is twice the states'."""
    assert case.speaker is not None
    joined = 3 * case.language.blocks.width + 6 * case.speaker.width
    return case.size * batch.utterances * batch.reply * joined
