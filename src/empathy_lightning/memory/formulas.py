"""Bytes that a training step keeps and passes through; each term says where it comes from.

Counted as Korthikanti et al. 2022 (arXiv 2205.05198) count, for what PyTorch's autograd really saves: a frozen linear
layer saves nothing of its input, since only the weight is needed for the gradient of the input; a trained one saves
it. A product with a frozen factor likewise saves the factor alone. Numbers are of bytes; ``size`` is that of one number
in the arithmetic (4, or 2 in half precision), 4 that of float32.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Blocks:
    """Sizes of a decoder of Llama's kind: RMS norms, rotary positions, grouped heads, gated feed-forward layers.

    Attributes:
        layers: Blocks.
        width: Of the hidden states.
        heads: Of the attention.
        query_width: Heads times their size.
        key_width: The same of keys, or of values.
        feed_forward: Width inside the feed-forward layers.
        vocabulary: Rows of the head.
        normed_heads: Whether queries and keys are normed, as in Qwen3.
    """

    layers: int
    width: int
    heads: int
    query_width: int
    key_width: int
    feed_forward: int
    vocabulary: int
    normed_heads: bool = False


@dataclass(frozen=True)
class Reading:
    """Positions that a decoder reads.

    Attributes:
        rows: Of the batch.
        before: Positions of each row that are read without gradient: the prompt up to what was heard.
        own: Those after them, with gradient.
    """

    rows: int
    before: int
    own: int

    @property
    def positions(self) -> int:
        """With gradient, in all rows."""
        return self.rows * self.own


def linear_weights(blocks: Blocks) -> int:
    """Numbers in the linear layers of all blocks."""
    attention = 2 * blocks.width * (blocks.query_width + blocks.key_width)
    return blocks.layers * (attention + 3 * blocks.width * blocks.feed_forward)


def frozen_block(blocks: Blocks, read: Reading, size: int) -> int:
    """What one frozen block keeps for the gradient of its input (`modules/language_model.py`)."""
    # Each norm reads in float32 and keeps that, and one reciprocal root a position.
    norms = 2 * read.positions * (4 * blocks.width + 4)
    if blocks.normed_heads:
        norms += 4 * read.positions * (blocks.query_width + blocks.key_width)
    # Fused attention (Dao et al. 2022, arXiv 2205.14135) keeps queries, result and a log-sum a head, no scores ...
    queries = read.positions * (2 * size * blocks.query_width + 4 * blocks.heads)
    # ... and keys and values of all that is seen, which transformers repeats to as many heads as queries have.
    seen = read.before + read.own
    keys = 2 * read.rows * seen * blocks.query_width * size
    # Where there are positions before, a mask says what is seen; the kernel wants it as numbers.
    mask = read.positions * seen * size if read.before else 0
    # Gate, its activation, and what that is multiplied with.
    return norms + queries + keys + mask + feed_forward(blocks, read.positions, size)


def feed_forward(blocks: Blocks, positions: int, size: int) -> int:
    """What the frozen feed-forward layers of one block keep: three of their width."""
    return 3 * size * positions * blocks.feed_forward


def passing_gradients(blocks: Blocks, positions: int, size: int) -> int:
    """Most of what a block's backward pass holds beside what was kept: gradients of two inner widths and one outer."""
    return size * positions * (2 * blocks.feed_forward + blocks.width)


def trained_block(blocks: Blocks, positions: int, size: int) -> int:
    """What one trained block keeps: the inputs of its linear layers too (`modules/packed_replies.py`)."""
    # Each norm keeps its input and what its weight multiplies; what it gives is the input of the linear layers, of
    # which each of the five makes a copy in half precision.
    read = 5 * size if size < 4 else 2 * size
    norms = positions * (2 * (4 + 4) * blocks.width + read * blocks.width + 2 * 4)
    # Queries, keys and values laid out by replies, as many heads of each, the result so and back in one row.
    attention = positions * (5 * size * blocks.query_width + 4 * blocks.heads)
    return norms + attention + 4 * size * positions * blocks.feed_forward


def cache(blocks: Blocks, read: Reading, size: int) -> int:
    """Keys and values of the positions before (`modules/context_cache.py`)."""
    return 2 * blocks.layers * read.rows * read.before * blocks.key_width * size


def frozen_logits(blocks: Blocks, supervised: int, size: int, chunk: int = 256) -> int:
    """Logits of one chunk of supervised positions, which live for a moment (`modules/frozen_head.py`).

    Args:
        blocks: Of the language model.
        supervised: Tokens of all replies.
        size: Of a number in the arithmetic.
        chunk: Positions at a time, as in ``LanguageModel.response_loss``.
    """
    # The logits, their log-probabilities in float32, the error that these become, and the gradient of the slice.
    a_number = 2 * size + 4
    if size < 4:
        # The error goes back in the precision of the logits.
        a_number += size
    return a_number * min(chunk, supervised) * blocks.vocabulary


def trained_logits(blocks: Blocks, supervised: int, size: int) -> tuple[int, int]:
    """Logits of a trained head over all supervised positions: what is kept, and what passes."""
    # Log-probabilities in float32 are kept; on the way back their gradient and that of the logits live beside them.
    kept = supervised * (size * blocks.width + 4 * blocks.vocabulary)
    return kept, 2 * 4 * supervised * blocks.vocabulary


def encoder_passing(layers: int, width: int, inner: int, frames: int, size: int) -> int:
    """What a frozen Whisper encoder holds at its last block; nothing of it is kept (`modules/speech_encoder.py`).

    Args:
        layers: Blocks, whose outputs are all given out.
        width: Of the frames.
        inner: Width of the feed-forward layers.
        frames: Of all utterances, padding included.
        size: Of a number in the arithmetic.
    """
    # The outputs so far, the sum inside the block and its norm in float32; two of the feed-forward's width.
    return frames * (4 * width * (layers + 2) + 2 * size * inner)


def log_mel_passing(frames: int) -> int:
    """What the spectrogram before the encoder holds: 201 bins of two windows a frame, and a copy of the waveform."""
    # Complex, the squares of both parts and their sum.
    return frames * (2 * 201 * (8 + 3 * 4) + 4 * 320)


def nuance_kept(layers: int, width: int, frames: int, size: int) -> int:
    """What the emotion nuance module keeps of the encoder: all layers, their mixture and norm, keys and values."""
    return frames * width * (4 * layers + 4 + 4 + 2 * size)


def adamw_states(trained: int, size: int = 4) -> int:
    """Two moments a trained number (Loshchilov and Hutter 2019, arXiv 1711.05101)."""
    return 2 * size * trained


def adamw_passing(trained: int, largest: int, on_gpu: bool, size: int = 4) -> int:
    """What a step of AdamW makes for a moment: roots of all second moments at once on a GPU, else of one weight."""
    return size * trained if on_gpu else 2 * size * largest
