"""Headers that lie: what is in the file is read, or what is missing is named."""

import io
import json
import os
import struct

import numpy as np
import pytest
import soundfile
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.audio import AudioError, duration_of, read, read_speech
from empathy_lightning.data.check import listen
from tests.conftest import SHARED
from tests.corpora import ravdess

RATE = 16_000


def sound(seconds=10.0, rate=RATE, channels=1):
    """Loud in its first tenth only, so that its first frames say nothing of the others."""
    count = round(rate * seconds)
    noise = 0.1 * np.random.default_rng(0).standard_normal((count, channels))
    noise[count // 10 :] *= 0.002
    noise[:, 0] += 0.1 * np.sin(np.arange(count) * 1_000 / rate)
    return noise


def encoded(samples, kind, rate=RATE, **options):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, **options)
    return buffer.getvalue()


def mp3(samples, rate=RATE, mode="VARIABLE"):
    return encoded(samples, "MP3", rate, bitrate_mode=mode, compression_level=0.2)


def without_count(data):
    """An MP3 file without its first frame, which tells the number of the others; that number."""
    at = data.index(b"Xing") if b"Xing" in data else data.index(b"Info")
    (count,) = struct.unpack_from(">I", data, at + 8)
    return data[data.index(data[:2], at) :], count


def picture(size):
    digits = [size >> shift & 127 for shift in (21, 14, 7, 0)]
    return b"ID3\x03\0\0" + bytes(digits) + np.random.default_rng(0).bytes(size)


def store(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("rate", "channels", "mode"),
    [(16_000, 1, "VARIABLE"), (44_100, 2, "VARIABLE"), (8_000, 1, "VARIABLE"), (48_000, 1, "CONSTANT"),
     (22_050, 2, "CONSTANT"), (11_025, 1, "VARIABLE")],
)  # fmt: skip
def test_mp3_that_does_not_tell_its_length_is_read_to_its_end(tmp_path, rate, channels, mode):
    complete = mp3(sound(10.0, rate, channels), rate, mode)
    bare, count = without_count(complete)
    path = store(tmp_path / "a.mp3", bare)
    seconds = count * (1_152 if rate >= 32_000 else 576) / rate
    assert duration_of(path) == pytest.approx(seconds, abs=1e-9)
    heard, whole = read(path), read(store(tmp_path / "b.mp3", complete))
    assert len(heard) == pytest.approx(seconds * RATE, abs=2)
    # The first frame also tells by how much encoder and decoder are late.
    late = round((576 + 529) * RATE / rate)
    if rate == RATE:
        torch.testing.assert_close(heard[late : late + len(whole)], whole, rtol=0, atol=1e-5)
    assert len(heard) >= late + len(whole) - 2


def test_segments_of_mp3_are_parts_of_the_whole(tmp_path):
    bare, _ = without_count(mp3(sound()))
    paths = [store(tmp_path / "bare.mp3", bare), store(tmp_path / "counted.mp3", mp3(sound()))]
    paths += sorted((SHARED / "cases").glob("*.mp3"))
    for path in paths:
        heard = read(path)
        for start, end in ((0.5, 1.5), (1.25, 3.0), (5.0, None)):
            last = None if end is None else round(end * RATE)
            torch.testing.assert_close(read(path, start, end), heard[round(start * RATE) : last], rtol=0, atol=1e-6)


@pytest.mark.parametrize("counted", [False, True])
def test_pictures_and_tags_are_no_sound(tmp_path, counted):
    data = mp3(sound(4.0), mode="CONSTANT")
    data = data if counted else without_count(data)[0]
    plain = store(tmp_path / "plain.mp3", data)
    tagged = store(tmp_path / "tagged.mp3", picture(3_000_000) + picture(200) + data + b"TAG" + b"\xff" * 125)
    assert duration_of(tagged) == duration_of(plain)
    torch.testing.assert_close(read_speech(tagged), read(plain), rtol=0, atol=1e-6)
    assert not listen(str(tagged)).remarks


def test_a_count_that_is_not_true_is_corrected_and_named(tmp_path):
    data = mp3(sound())
    twice, cut = store(tmp_path / "twice.mp3", data + data), store(tmp_path / "cut.mp3", data[: len(data) * 3 // 5])
    whole = read(store(tmp_path / "a.mp3", data))
    assert duration_of(twice) == pytest.approx(20.0, abs=0.2) and len(read(twice)) == duration_of(twice) * RATE
    torch.testing.assert_close(read(twice)[:150_000], whole[:150_000], rtol=0, atol=1e-6)
    heard = read(cut)
    assert len(heard) == duration_of(cut) * RATE and 1 < duration_of(cut) < 9.9
    torch.testing.assert_close(heard, whole[: len(heard)], rtol=0, atol=1e-6)
    for path in (twice, cut):
        assert "frames, " in listen(str(path)).remarks[0]
    bare, _ = without_count(data)
    assert "middle of a frame" in listen(str(store(tmp_path / "bare.mp3", bare[:-7]))).remarks[0]


@pytest.mark.parametrize(
    ("kind", "subtype"), [("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "ALAW"), ("OGG", "VORBIS"), ("OGG", "OPUS")]
)
def test_a_file_that_was_cut_is_read_as_far_as_it_goes_and_named(tmp_path, kind, subtype):
    data = encoded(0.5 * sound(), kind, subtype=subtype)
    whole = read(store(tmp_path / "whole", data))
    assert listen(str(store(tmp_path / "end", data[:-3]))).remarks[0].startswith("cut: ")
    cut = store(tmp_path / "cut", data[: len(data) * 3 // 5 + 1])
    heard = read(cut)
    assert 4 * RATE < len(heard) < 7.5 * RATE and duration_of(cut) == len(heard) / RATE
    torch.testing.assert_close(heard[:-800], whole[: len(heard) - 800], rtol=0, atol=1e-5)
    assert listen(str(cut)).remarks[0].startswith("cut: ")
    assert not listen(str(tmp_path / "whole")).remarks


def test_flac_that_was_cut_and_recordings_in_a_row_are_named(tmp_path):
    flac, ogg = encoded(sound(), "FLAC"), encoded(sound(2.0), "OGG")
    cut = store(tmp_path / "cut.flac", flac[: len(flac) // 2])
    with pytest.raises(AudioError, match=r"cut\.flac: damaged, cut") as error:
        read(cut)
    assert len(str(error.value)) < 300 and "\n" not in str(error.value)
    assert listen(str(cut)).problem.startswith("unreadable: damaged, cut")
    huge = bytearray(flac)
    huge[21:26] = bytes([huge[21] | 15, 255, 255, 255, 255])
    with pytest.raises(AudioError, match=r"huge\.flac: damaged"):
        read(store(tmp_path / "huge.flac", huge))
    chained = store(tmp_path / "chained.ogg", ogg + ogg)
    assert "only the first" in listen(str(chained)).remarks[0]
    wave = encoded(sound(2.0), "WAV")
    at = wave.index(b"data") + 4
    short = store(tmp_path / "short.wav", wave[:at] + struct.pack("<I", 32_000) + wave[at + 4 :])
    assert duration_of(short) == 1.0 and "32000 bytes follow the samples" in listen(str(short)).remarks[0]


def without_total(flac):
    """A FLAC file as it is written to a pipe: its header tells no number of samples, and no checksum of them."""
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(20) + flac[42:]


@pytest.mark.parametrize(
    ("count", "channels", "subtype"),
    [(64_000, 1, "PCM_16"), (64_000, 1, "silence"), (4_096, 1, "PCM_S8"), (130_001, 2, "PCM_24"), (100, 1, "PCM_16")],
)
def test_flac_that_was_streamed_is_read_to_its_end(tmp_path, count, channels, subtype):
    noise = 0.2 * np.random.default_rng(0).standard_normal((count, channels)) * (subtype != "silence")
    flac = encoded(noise, "FLAC", subtype="PCM_16" if subtype == "silence" else subtype)
    path, complete = store(tmp_path / "a.flac", without_total(flac)), store(tmp_path / "b.flac", flac)
    assert duration_of(path) == count / RATE
    assert torch.equal(read(path), read(complete))
    assert torch.equal(read(path, 0.0, count / RATE / 2), read(complete, 0.0, count / RATE / 2))
    assert not listen(str(path)).remarks or subtype == "silence"
    tagged = store(tmp_path / "c.flac", picture(500) + path.read_bytes())
    assert torch.equal(read(tagged), read(complete))
    for lost in (1, 7):
        with pytest.raises(AudioError, match=r"cut\.flac: damaged, cut"):
            duration_of(store(tmp_path / "cut.flac", path.read_bytes()[:-lost]))


def test_streamed_flac_is_checked_like_any_other_and_a_wrong_count_is_named(tmp_path):
    flac = encoded(sound(2.0), "FLAC")
    store(tmp_path / "streamed.flac", without_total(flac))
    assert flac[22:26] == struct.pack(">I", 32_000)
    store(tmp_path / "fewer.flac", flac[:22] + struct.pack(">I", 20_000) + bytes(16) + flac[42:])
    store(tmp_path / "cut.flac", without_total(flac)[:-100])
    rows = [{"id": name, "corpus": "own", "path": f"{name}.flac"} for name in ("streamed", "fewer", "cut")]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "report.json"
    assert main(["corpora", "check", "manifest", str(tmp_path / "m.jsonl"), "--out", str(out)]) == 1
    problems = json.loads(out.read_text())["problems"]
    assert not any("streamed.flac" in line for line in problems)
    assert any("fewer.flac" in line and "promises 20000 samples per channel, 32000" in line for line in problems)
    assert any("cut.flac" in line and "unreadable: damaged, cut" in line for line in problems)


@pytest.mark.parametrize("kind", ["AU", "W64", "RF64", "AIFF", "SVX"])
def test_formats_of_other_recorders_that_were_cut_are_named(tmp_path, kind):
    data = encoded(sound(2.0), kind)
    assert not listen(str(store(tmp_path / "whole", data))).remarks
    cut = store(tmp_path / "cut", data[: len(data) // 2])
    assert 0.9 < duration_of(cut) < 1.01
    (remark,) = listen(str(cut)).remarks
    assert remark == f"cut: the header promises {len(data)} bytes, {len(data) // 2} are there"


def test_au_of_unknown_size_is_whole(tmp_path):
    data = encoded(sound(2.0), "AU")
    path = store(tmp_path / "a.au", data[:8] + b"\xff" * 4 + data[12:])
    assert duration_of(path) == 2.0 and not listen(str(path)).remarks


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF])
@pytest.mark.parametrize("more", [b"", b"\x01"])
def test_wav_that_was_streamed_or_never_finished(tmp_path, size, more):
    wave = encoded(0.5 * sound(2.0), "WAV")
    at = wave.index(b"data") + 4
    broken = wave[:4] + struct.pack("<I", size) + wave[8:at] + struct.pack("<I", size) + wave[at + 4 :] + more
    path = store(tmp_path / "a.wav", broken)
    whole = read(store(tmp_path / "b.wav", wave))
    assert torch.equal(read(path), whole) and duration_of(path) == 2.0
    assert torch.equal(read(path, 0.5, 1.25), whole[8_000:20_000])
    assert not listen(str(path)).remarks


def test_an_empty_recording_with_notes_is_empty(tmp_path):
    wave = encoded(np.zeros(0), "WAV")
    path = store(tmp_path / "a.wav", wave + b"LIST" + struct.pack("<I", 8) + b"INFOISFT")
    assert duration_of(path) == 0
    with pytest.raises(AudioError, match="holds no samples"):
        read(path)
    with pytest.raises(AudioError, match=r"no samples from second 3 on: it has 2\.00 s"):
        read(store(tmp_path / "b.wav", encoded(sound(2.0), "WAV")), 3.0, 4.0)


def test_gsm_is_read_like_any_other(tmp_path):
    samples = 0.3 * np.sin(np.arange(16_000) / 9)
    path = store(tmp_path / "a.wav", encoded(samples, "WAV", 8_000, subtype="GSM610"))
    heard = read(path)
    assert duration_of(path) == pytest.approx(2.0, abs=0.05) and len(heard) == round(duration_of(path) * RATE)
    (plain,) = [read(store(tmp_path / "b.wav", encoded(samples, "WAV", 8_000)))]
    assert torch.nn.functional.cosine_similarity(heard[2_000:30_000], plain[2_000:30_000], dim=0) > 0.9
    # The filter that resamples sees the ends of a segment.
    segment = read(path, 0.5, 1.5)
    torch.testing.assert_close(segment[100:-100], heard[8_100:23_900], rtol=0, atol=1e-3)


def test_lengths_are_known_without_decoding(tmp_path, monkeypatch):
    bare, count = without_count(mp3(sound()))
    files = {"a.wav": encoded(sound(), "WAV"), "a.flac": encoded(sound(), "FLAC"), "a.ogg": encoded(sound(), "OGG")}
    for name, data in {**files, "b.mp3": bare}.items():
        store(tmp_path / name, data)
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("decoded to know the length"))
    for name in files:
        monkeypatch.setattr("empathy_lightning.audio.content", lambda _: pytest.fail("read whole to know the length"))
        assert duration_of(tmp_path / name) == 10.0
    monkeypatch.undo()
    assert duration_of(tmp_path / "b.mp3") == count * 576 / RATE


@pytest.mark.skipif(not (SHARED / "cases").is_dir(), reason="the small cases are not here (../shared/cases)")
def test_files_that_real_use_brought():
    cases = SHARED / "cases"
    lengths = {"vbr_loud_first.mp3": 10.08, "memo.mp3": 6.084, "gsm.wav": 1.52, "unfinished_zero.wav": 1.5}
    for name, seconds in lengths.items():
        heard = read_speech(cases / name)
        assert len(heard) / RATE == pytest.approx(seconds, abs=1e-3) == duration_of(cases / name)
        assert not listen(str(cases / name)).remarks


def test_check_names_what_is_missing(tmp_path):
    root = ravdess.write(tmp_path / "ravdess", actors=1)
    folder = root / "Audio_Speech_Actors_01-24" / "Actor_01"
    first, second = sorted(folder.glob("03-01*.wav"))[:2]
    first.write_bytes(first.read_bytes()[: os.path.getsize(first) // 2])
    second.write_bytes(mp3(sound())[:9_000])
    out = tmp_path / "report.json"
    assert main(["corpora", "check", "ravdess", str(root), "--out", str(out)]) == 1
    problems = json.loads(out.read_text())["problems"]
    assert any(first.name in line and "the header promises" in line for line in problems)
    assert any(second.name in line and "its first frame promises" in line for line in problems)
