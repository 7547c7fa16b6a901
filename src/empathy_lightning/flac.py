"""The length of a FLAC stream from its last frame: what was written to a pipe does not tell it at its beginning."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_TOTAL_AT = 21
"""Byte of the stream in whose lower half the 36 bits begin that tell the number of samples per channel."""

_FRAME = b"\xff\xf8", b"\xff\xf9"
"""First bytes of a frame in a stream whose frames are all of one length, and of one whose lengths differ."""


@dataclass(frozen=True, slots=True)
class _Stream:
    """What the beginning tells.

    Attributes:
        total: Samples per channel; 0 if it is not told.
        block: Samples per channel and frame, where all frames but the last one are of one length.
        most: More bytes than a frame can have.
    """

    total: int
    block: int
    most: int


def counted_flac(data: bytes) -> bytes | None:
    """The stream with the number of samples that its last frame ends at; None where that frame is cut or not found.

    Args:
        data: From "fLaC" on.
    """
    total = _last_sample(data)
    if total is None:
        return None
    whole = bytearray(data)
    whole[_TOTAL_AT] = whole[_TOTAL_AT] & 0xF0 | total >> 32
    struct.pack_into(">I", whole, _TOTAL_AT + 1, total & 0xFFFFFFFF)
    return bytes(whole)


def flac_fault(data: bytes) -> str:
    """What a stream lacks of what it promises, in a few words; "" if nothing."""
    stream, total = _parse_stream(data), _last_sample(data)
    if stream is None or total is None or stream.total in (0, total):
        return ""
    return f"its header promises {stream.total} samples per channel, {total} are there"


def _parse_stream(data: bytes) -> _Stream | None:
    if data[:4] != b"fLaC" or len(data) < 42:
        return None
    block, longest = struct.unpack_from(">HH", data, 8)
    # 20 bits of sampling rate, 3 of channels, 5 of bits per sample, 36 of samples per channel.
    packed = int.from_bytes(data[18:26], "big")
    channels, bits = (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1
    # No encoder writes more than the samples as they are, and one bit more for the difference of two channels.
    return _Stream(packed & (1 << 36) - 1, block, longest * channels * (bits + 1) // 8 + 1_024)


def _last_sample(data: bytes) -> int | None:
    """Samples per channel up to the end of the frame with which the data ends."""
    stream = _parse_stream(data)
    if stream is None:
        return None
    first, position = len(data) - stream.most, len(data)
    while True:
        position = max(data.rfind(start, max(0, first), position + 1) for start in _FRAME)
        if position < 0:
            return None
        end = _frame_end(data, position, stream.block)
        # Those two bytes may stand in the middle of a frame; its last ones are the checksum of all others.
        if end is not None and _checksum(data[position:], 16, 0x8005) == 0:
            return end


def _frame_end(data: bytes, position: int, block: int) -> int | None:
    """Samples per channel up to the end of the frame that begins here; None if none begins."""
    head = data[position : position + 16].ljust(16, b"\0")
    number, at = _number(head)
    code, rate = head[2] >> 4, head[2] & 15
    size, more = _block_size(code, head[at : at + 2])
    at += more
    # An unusual sampling rate stands behind it, in one byte or two.
    if rate >= 13:
        at += 2
    elif rate == 12:
        at += 1
    if not size or _checksum(head[: at + 1], 8, 0x07) != 0:
        return None
    first_sample = number if head[1] & 1 else number * block
    return first_sample + size


def _number(head: bytes) -> tuple[int, int]:
    """Number of a frame, or of its first sample, written as in UTF-8; where the header goes on."""
    first, more = head[4], 0
    while first & 0x80 >> more:
        more += 1
    value = first & 0x7F >> more
    for byte in head[5 : 4 + more]:
        value = value << 6 | byte & 63
    return value, 4 + max(1, more)


def _block_size(code: int, rest: bytes) -> tuple[int, int]:
    """Samples per channel of a frame, 0 for a code that is none; how many bytes tell it after the number."""
    if code == 6:
        return rest[0] + 1, 1
    if code == 7:
        return int.from_bytes(rest, "big") + 1, 2
    if code >= 8:
        return 256 << code - 8, 0
    return (0, 192, 576, 1_152, 2_304, 4_608)[code], 0


def _checksum(data: bytes, bits: int, polynomial: int) -> int:
    """Remainder of a division, as FLAC has it: 0 over data and the checksum that follows them."""
    top, mask, value = 1 << bits - 1, (1 << bits) - 1, 0
    for byte in data:
        value ^= byte << bits - 8
        for _ in range(8):
            divides = value & top
            value = value << 1 & mask
            if divides:
                value ^= polynomial
    return value
