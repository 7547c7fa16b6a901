"""Headers of audio files against what is in them: files that were cut, streamed or never finished.

Works on the bytes of a file; decoding is soundfile's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from empathy_lightning.flac import counted_flac, flac_fault

UNKNOWN_SIZE = 0x7FFFF000
"""From here on, a WAV header's size stands for "not known": the file was streamed."""

UNKNOWN_FRAMES = 1 << 40
"""From here on, a decoder's number of frames stands for "not known"."""

_FILE_SIZE = {"AIFF": (">I", 4, 8), "SVX": (">I", 4, 8), "RF64": ("<Q", 20, 8), "W64": ("<Q", 16, 0)}
"""How and where a header tells the bytes of its file, and how many it does not count."""


def with_true_length(data: bytes, kind: str, frames: int) -> bytes | None:
    """Bytes whose header tells the length that is there.

    Args:
        data: Of the whole file.
        kind: Format as soundfile names it.
        frames: How many samples per channel the decoder believes in.

    Returns:
        Bytes to decode instead, or None where the decoder is right.
    """
    if kind in ("WAV", "WAVEX"):
        return _finished_wave(data) if frames == 0 else None
    if kind == "MP3":
        return _counted_mp3(data, frames)
    if kind == "FLAC":
        return counted_flac(data[_after_tags(data) :]) if frames >= UNKNOWN_FRAMES else None
    return None


def missing_part(data: bytes, kind: str) -> str:
    """What a file lacks of what it promises, in a few words; "" if nothing."""
    if kind in ("WAV", "WAVEX"):
        return _wave_fault(data)
    if kind == "MP3":
        return _mp3_fault(data)
    if kind == "OGG":
        return _ogg_fault(data)
    if kind == "FLAC":
        return flac_fault(data[_after_tags(data) :])
    return _size_fault(data, kind)


def _wave_data(data: bytes) -> tuple[int, int] | None:
    """Where the samples begin, and how many bytes the header promises."""
    position = 12  # after "RIFF", the size of the file and "WAVE"
    while position + 8 <= len(data):
        (size,) = struct.unpack_from("<I", data, position + 4)
        if data[position : position + 4] == b"data":
            return position + 8, size
        # A byte that no size counts makes each chunk's length even.
        position += 8 + size + size % 2
    return None


def _is_chunk(data: bytes, position: int) -> bool:
    """Whether another part of a WAV file begins here."""
    name = data[position : position + 4]
    if len(data) < position + 8 or not (name.isascii() and name.decode("ascii").isprintable()):
        return False
    (size,) = struct.unpack_from("<I", data, position + 4)
    return bool(position + 8 + size <= len(data))


def _finished_wave(data: bytes) -> bytes | None:
    """A recorder that was stopped hard leaves 0 as the size of the samples that it wrote."""
    found = _wave_data(data)
    if found is None or found[1] != 0 or found[0] == len(data) or _is_chunk(data, found[0]):
        return None
    begin = found[0]
    return b"".join((data[: begin - 4], struct.pack("<I", len(data) - begin), data[begin:]))


def _wave_fault(data: bytes) -> str:
    found = _wave_data(data)
    if found is None or found[1] >= UNKNOWN_SIZE:
        return ""
    begin, size = found
    here = len(data) - begin
    if size > here:
        return f"cut: the header promises {size} bytes of samples, {here} are there"
    end = begin + size
    even_end = end + size % 2
    rest = data[even_end:]
    if size == 0 or _is_chunk(data, end) or _is_chunk(data, even_end) or not any(rest):
        return ""
    return f"{len(rest)} bytes follow the samples that its header tells of; they are not heard"


def _size_fault(data: bytes, kind: str) -> str:
    """Of files whose header tells how long they are; 0 and sizes that no file has stand for "not known"."""
    promised = 0
    if kind == "AU":
        form = ">II" if data[:4] == b".snd" else "<II"
        begin, size = struct.unpack_from(form, data, 4)
        promised = begin + size if size < UNKNOWN_SIZE else 0
    elif kind in _FILE_SIZE:
        form, at, uncounted = _FILE_SIZE[kind]
        (size,) = struct.unpack_from(form, data, at)
        unknown = UNKNOWN_SIZE if form == ">I" else 1 << 60
        promised = size + uncounted if size < unknown else 0
    # Some writers count a byte that makes the length even, and leave it out.
    if promised <= len(data) + 1:
        return ""
    return f"cut: the header promises {promised} bytes, {len(data)} are there"


_DECODER_DELAY = 529
"""Samples by which every decoder of MPEG layer III is late."""


@dataclass(frozen=True, slots=True)
class _MP3:
    """Audio frames of an MP3 file.

    Attributes:
        sound: The frames without tags and pictures around them.
        count: How many they are, that with the count not among them.
        samples: Per frame and channel.
        promised: Count that the first frame tells, None if it tells none.
        count_at: Where in the sound it tells the count.
        cut: Whether the last frame ends too early.
    """

    sound: bytes
    count: int
    samples: int
    promised: int | None
    count_at: int
    cut: bool


def _frame_lengths() -> dict[bytes, int]:
    """Bytes of a frame of MPEG layer III, by the first three bytes of its header."""
    first = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    later = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    lengths = {}
    # The two bits of MPEG 1, 2 and 2.5, and by what the sampling rates of each are divided.
    for version, scale in ((3, 1), (2, 2), (0, 4)):
        rates, size = (first, 144) if version == 3 else (later, 72)
        for low in range(256):
            rate_index, sampling = low >> 4, low >> 2 & 3
            if not 0 < rate_index < 15 or sampling == 3:
                continue
            sampling_rate = (44_100, 48_000, 32_000)[sampling] // scale
            padding = low >> 1 & 1
            length = size * 1000 * rates[rate_index] // sampling_rate + padding
            for unprotected in (0, 1):
                lengths[bytes((0xFF, 0xE2 | version << 3 | unprotected, low))] = length
    return lengths


_LENGTHS = _frame_lengths()


def _next_frame(data: bytes, position: int, lengths: dict[bytes, int]) -> int:
    """Where the next frame begins that another one, or the end, follows; -1 if there is none."""
    while (position := data.find(b"\xff", position)) >= 0:
        length = lengths.get(data[position : position + 3])
        if length is not None:
            after = position + length
            if after >= len(data) or data[after : after + 3] in lengths:
                return position
        position += 1
    return -1


def _after_tags(data: bytes) -> int:
    """Where ID3 tags at the beginning end; they hold pictures of any size."""
    position = 0
    while data[position : position + 3] == b"ID3" and len(data) >= position + 10:
        size = 0
        for byte in data[position + 6 : position + 10]:
            # Seven bits a byte, so that no size looks like the beginning of a frame.
            size = size << 7 | byte & 127
        position += 10 + size
    return position


def _parse_mp3(data: bytes) -> _MP3 | None:
    """The frames of an MP3 file; None if it is of another layer or a kind that is not known."""
    position = _next_frame(data, _after_tags(data), _LENGTHS)
    if position < 0:
        return None
    # Version and sampling rate are the same in all frames of a file: what has others is no frame of it.
    kind = data[position + 1] & 0xFE, data[position + 2] & 0x0C
    lengths = {head: n for head, n in _LENGTHS.items() if (head[1] & 0xFE, head[2] & 0x0C) == kind}
    header = data[position : position + 4]
    pieces = []
    begin = position
    count = 0
    cut = False
    while position >= 0:
        length = lengths.get(data[position : position + 3])
        cut = length is not None and position + length > len(data)
        if length is not None and not cut:
            count += 1
            position += length
            continue
        pieces.append(data[begin:position])
        position = begin = -1 if cut else _next_frame(data, position, lengths)
    sound = b"".join(pieces)
    mpeg1 = kind[0] & 0x18 == 0x18
    mono = header[3] >> 6 == 3
    tag = _side_information(mpeg1, mono)
    promised = None
    # The lowest of its flags says that the number of frames follows, the next one that of bytes.
    if sound[tag : tag + 4] in (b"Xing", b"Info") and sound[tag + 7] & 1:
        (promised,) = struct.unpack_from(">I", sound, tag + 8)
        count -= 1
    return _MP3(sound, count, 1152 if mpeg1 else 576, promised, tag + 8, cut)


def _side_information(mpeg1: bool, mono: bool) -> int:
    """Bytes of a frame before its main data, where the count of a first frame stands."""
    if mpeg1:
        return 4 + (17 if mono else 32)
    return 4 + (9 if mono else 17)


def _counted_mp3(data: bytes, frames: int) -> bytes | None:
    """The frames after one that tells their number, where the decoder would have to guess it from the first ones."""
    found = _parse_mp3(data)
    if found is None or not found.count:
        return None
    if found.promised is None:
        guessed_right = frames == found.count * found.samples
        return None if guessed_right else _count_frame(found) + found.sound
    # Some writers count the frame that holds the number, too.
    if abs(found.promised - found.count) <= 1:
        return None
    sound, at = bytearray(found.sound), found.count_at
    struct.pack_into(">I", sound, at, found.count)
    if sound[at - 1] & 2:
        struct.pack_into(">I", sound, at + 4, len(sound))
    return bytes(sound)


def _count_frame(found: _MP3) -> bytes:
    """A frame that tells how many follow, and a silent one."""
    # Bit rate 8 of the table leaves room at every sampling rate; no checksum, no padding.
    head = bytes((0xFF, found.sound[1] | 1, 0x80 | found.sound[2] & 0x0C, found.sound[3]))
    silent = head.ljust(_LENGTHS[head[:3]], b"\0")
    frame, at = bytearray(silent), found.count_at - 8
    struct.pack_into(">4sII", frame, at, b"Xing", 1, found.count + 1)
    # A decoder that is told the number leaves out its own delay; with this it leaves out the silent frame, no more.
    delay = found.samples - _DECODER_DELAY
    struct.pack_into(">9s12xI", frame, at + 12, b"LAME3.100", delay << 20)
    return bytes(frame) + silent


def _mp3_fault(data: bytes) -> str:
    found = _parse_mp3(data)
    if found is None:
        return ""
    if found.promised is not None and abs(found.promised - found.count) > 1:
        return f"its first frame promises {found.promised} frames, {found.count} are there"
    return "cut in the middle of a frame" if found.cut else ""


def _ogg_fault(data: bytes) -> str:
    # Flag 2 of a page says that a stream begins with it, flag 4 that one ends.
    if data.count(b"OggS\0\2") > 1:
        return "several recordings one after another, of which only the first is heard"
    header = data[data.rfind(b"OggS") :]
    segments = header[26] if len(header) > 26 else 255
    length = 27 + segments + sum(header[27 : 27 + segments])
    ends = len(header) >= length and header[5] & 4
    return "" if ends else "cut: its last page is missing"
