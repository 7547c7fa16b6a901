"""A recording in another scale, with an offset or with strange channels is heard as the ordinary one."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.audio import AudioError, duration_of, from_samples, read, write
from empathy_lightning.data import Manifest, read_manifest, write_manifest
from empathy_lightning.data.check import listen
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.data.shard_export import write_shards
from empathy_lightning.data.shards import Shards
from empathy_lightning.levels import faults
from empathy_lightning.utterance import Utterance
from tests.corpora import ravdess

RATE = 16_000


def voice(seconds=1.5, seed=0, loudness=0.2):
    """Noise that swells and fades, to the grid of 16 bits and with no offset to speak of."""
    time = np.arange(round(RATE * seconds)) / RATE
    noise = np.random.default_rng(seed).standard_normal(len(time)) * (0.05 + np.sin(3 * time) ** 2)
    noise -= noise.mean()
    return np.round(loudness * noise / abs(noise).max() * 32_768) / 32_768


def both(first, second):
    return np.stack([first, second], 1)


HISS = 1e-3 * np.random.default_rng(9).standard_normal(RATE * 2)
STRANGE = {
    "integers": (lambda x: 32_768 * x, "FLOAT"),
    "integers of a filter": (lambda x: 32_768 * x + 0.3, "DOUBLE"),
    "integers, stereo": (lambda x: both(32_768 * x, 32_768 * x), "FLOAT"),
    "opposite": (lambda x: both(x, -x), "PCM_16"),
    "second silent": (lambda x: both(x, 0 * x), "PCM_16"),
    "first silent": (lambda x: both(0 * x, x), "PCM_24"),
    "second hisses": (lambda x: both(x, HISS[: len(x)]), "FLOAT"),
    "second constant": (lambda x: both(x, 0 * x + 0.5), "PCM_16"),
    "offset": (lambda x: x + 0.3, "PCM_24"),
    "everything": (lambda x: both(x, -x) * 32_768 + 5_000, "FLOAT"),
    "six channels": (lambda x: np.stack([0 * x, 0 * x, x, 0 * x, 0 * x, 0 * x], 1), "PCM_16"),
}
ORDINARY = {
    "twice the same": (lambda x: both(x, x), "PCM_16"),
    "24 bits": (lambda x: x, "PCM_24"),
    "float": (lambda x: x, "FLOAT"),
}


@pytest.mark.parametrize("name", [*STRANGE, *ORDINARY])
def test_the_sound_of_the_ordinary_file_is_heard(tmp_path, name):
    change, subtype = {**STRANGE, **ORDINARY}[name]
    soundfile.write(tmp_path / "clean.wav", voice(), RATE, subtype="PCM_16")
    soundfile.write(tmp_path / "strange.wav", change(voice()), RATE, subtype=subtype)
    clean, heard = read(tmp_path / "clean.wav"), read(tmp_path / "strange.wav")
    exact = 0.0 if name in ORDINARY or "silent" in name or "six" in name else 1e-4
    torch.testing.assert_close(heard, clean, rtol=0, atol=exact)
    torch.testing.assert_close(read(tmp_path / "strange.wav", 0.25, 0.75), heard[4_000:12_000], rtol=0, atol=0)


def test_what_is_ordinary_stays_as_it_is(tmp_path):
    left, right = voice(seed=1), 0.3 * voice(seed=2) + 0.2 * voice(seed=1)
    quiet, small_offset, loud = 0.01 * voice(), voice() + 0.1 * voice().std(), 8 * voice()
    files = {"stereo": both(left, right), "quiet": quiet, "offset": small_offset, "loud": loud, "short": voice()[:300]}
    for name, samples in files.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE, subtype="FLOAT")
        expected = torch.from_numpy(samples.astype(np.float32)).reshape(len(samples), -1).mean(1)
        assert torch.equal(read(tmp_path / f"{name}.wav"), expected), name


def test_segments_are_mended_like_their_file(tmp_path):
    """Nearly silent and one-sided stretches would be judged otherwise by themselves."""
    soft, loud = 1e-5 * voice(seed=1), voice(seed=2)
    whole = 32_768 * np.concatenate([soft, loud])
    first_only = np.concatenate([both(loud, -loud), both(loud, loud * 1e-3), both(-loud, loud)])
    for name, samples in {"soft": whole, "sides": first_only}.items():
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, samples, RATE, subtype="FLOAT")
        heard = read(path)
        for start, end in ((0.0, 1.0), (0.5, 1.5), (1.0, 2.0), (1.75, None)):
            segment = heard[round(start * RATE) : None if end is None else round(end * RATE)]
            assert torch.equal(read(path, start, end), segment), (name, start)
    # A segment is judged anew where another file took the name.
    soundfile.write(tmp_path / "soft.wav", np.concatenate([loud, soft, loud]), RATE, subtype="FLOAT")
    torch.testing.assert_close(read(tmp_path / "soft.wav", 0.0, 1.0), torch.from_numpy(loud[:RATE]).float())


LOW = 1_000
"""Rate of files that are long, in Hz."""


def long_file(seconds, first, second):
    """Two channels that are silent but for one stretch each, given as second of its beginning and samples."""
    samples = np.zeros((seconds * LOW, 2))
    for channel, (begin, sound) in enumerate((first, second)):
        samples[round(begin * LOW) :][: len(sound), channel] = sound
    return samples


def part_of(tmp_path, samples, start, end):
    """What one hears of a mono file that is no more than this part."""
    soundfile.write(tmp_path / "part.wav", samples[round(start * LOW) : round(end * LOW)], LOW, subtype="FLOAT")
    return read(tmp_path / "part.wav")


CHATTER, LATE, WORD = voice(500, seed=1)[: 500 * LOW], voice(2, seed=2), voice(0.02, seed=3)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3"])
def test_who_speaks_late_in_a_long_file_is_heard(tmp_path, kind):
    rate = 8_000 if kind == "MP3" else LOW
    samples = np.repeat(long_file(640, (0, CHATTER), (606, LATE)), rate // LOW, 0)
    soundfile.write(tmp_path / "a", samples, rate, format=kind)
    heard, whole = read(tmp_path / "a", 607, 630), read(tmp_path / "a")
    expected = 0.5 * float(np.sqrt(np.square(samples[607 * rate : 630 * rate, 1]).mean()))
    assert float(heard.square().mean().sqrt()) == pytest.approx(expected, rel=0.1)
    torch.testing.assert_close(heard[99:-99], whole[607 * RATE : 630 * RATE][99:-99], rtol=0, atol=1e-4)
    assert not any("dead and left" in remark for remark in listen(str(tmp_path / "a")).remarks)


def test_a_word_between_the_seconds_that_are_listened_to_is_heard(tmp_path):
    samples = long_file(3_600, (0, CHATTER), (3_598.3, WORD))
    soundfile.write(tmp_path / "a.wav", samples, LOW, subtype="FLOAT")
    expected = part_of(tmp_path, samples.mean(1), 3_597, 3_600)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(read(tmp_path / "a.wav", 3_597, 3_600), expected, rtol=0, atol=1e-6)
    soundfile.write(tmp_path / "b.wav", samples * [1, 0], LOW, subtype="FLOAT")
    assert any("channel 2 of 2 is dead" in remark for remark in listen(str(tmp_path / "b.wav")).remarks)
    torch.testing.assert_close(
        read(tmp_path / "b.wav", 1, 3), part_of(tmp_path, samples[:, 0], 1, 3), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(("seconds", "begin"), [(640, 605), (3_600, 3_598.3)])
def test_opposite_channels_that_begin_late_are_no_silence(tmp_path, seconds, begin):
    sound = LATE if seconds == 640 else WORD
    samples = long_file(seconds, (begin, sound), (begin, -sound))
    soundfile.write(tmp_path / "a.wav", samples, LOW, subtype="FLOAT")
    expected = part_of(tmp_path, samples[:, 0], seconds - 35, seconds)
    heard = read(tmp_path / "a.wav", seconds - 35, seconds)
    torch.testing.assert_close(heard, expected, rtol=0, atol=1e-4)
    assert heard.abs().max() > 0.01


def test_integers_of_24_bits_are_not_taken_for_16(tmp_path):
    quiet = np.round(voice() / abs(voice()).max() * 33_900)
    soundfile.write(tmp_path / "a.wav", quiet, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"reach 33900 in a scale that cannot be told; scale them to -1\.\.1"):
        read(tmp_path / "a.wav")
    # What a filter made of 16 bits goes beyond them.
    soundfile.write(tmp_path / "b.wav", quiet + 0.3, RATE, subtype="FLOAT")
    assert read(tmp_path / "b.wav").abs().max() == pytest.approx(33_900 / 32_768, abs=1e-3)


@pytest.mark.parametrize("first", [0, 1])
def test_channels_in_different_scales_are_refused_and_not_called_dead(tmp_path, first):
    samples = both(32_768 * voice(seed=1), voice(seed=2))
    soundfile.write(tmp_path / "a.wav", samples[:, [first, 1 - first]], RATE, subtype="FLOAT")
    for end in (None, 1.0):
        with pytest.raises(AudioError, match=r"a\.wav: channels in different scales.*scale them all to -1\.\.1"):
            read(tmp_path / "a.wav", 0.0, end)
    assert listen(str(tmp_path / "a.wav")).problem.startswith("unreadable: channels in different scales")


def test_who_says_a_word_only_is_no_dead_channel(tmp_path):
    caller, called = voice(30.0, seed=1), np.zeros(30 * RATE)
    called[40_000:44_000] = voice(0.25, seed=2)
    soundfile.write(tmp_path / "a.wav", both(caller, called), RATE, subtype="FLOAT")
    expected = torch.from_numpy(both(caller, called).astype(np.float32)).mean(1)
    assert torch.equal(read(tmp_path / "a.wav"), expected)


@pytest.mark.parametrize("scale", [50, 300, 2**23, 2**31])
def test_a_scale_that_cannot_be_told_is_one_line(tmp_path, scale):
    samples = voice() / abs(voice()).max() * scale
    if scale == 300:
        samples = np.where(np.arange(len(samples)) == 700, 5_000, voice())
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    for start, end in ((0.0, None), (0.5, 1.0)):
        with pytest.raises(AudioError, match=r"scale them to -1\.\.1") as error:
            read(tmp_path / "a.wav", start, end)
        assert "a.wav" in str(error.value) and "\n" not in str(error.value)


def test_waveforms_from_memory_are_mended_like_files():
    waveform = torch.from_numpy(voice()).float()
    assert torch.equal(from_samples(waveform, "a"), waveform)
    torch.testing.assert_close(from_samples(32_768 * waveform, "a"), waveform)
    torch.testing.assert_close(from_samples(waveform + 0.4, "a"), waveform, rtol=0, atol=1e-4)
    for refused in (waveform * 2**23, waveform[:99], torch.full((RATE,), 0.5)):
        with pytest.raises(AudioError):
            from_samples(refused, "a")


@pytest.fixture
def clean_and_strange(tmp_path):
    """Two manifests of the same utterances: ordinary files, and files of every strange kind."""
    manifests = []
    for folder in (tmp_path / "clean", tmp_path / "strange"):
        folder.mkdir()
        utterances = []
        for index, (change, subtype) in enumerate(STRANGE.values()):
            samples = voice(1 + index / 20, seed=index)
            if folder.name == "strange":
                samples = change(samples)
            else:
                subtype = "PCM_16"
            soundfile.write(folder / f"{index}.wav", samples, RATE, subtype=subtype)
            utterances.append(
                Utterance(str(index), "own", str(folder / f"{index}.wav"), split="train", emotion="sad", speaker="a")
            )
        # In shards a segment is cut out after its file was judged.
        utterances[0].start, utterances[0].end = 0.25, 0.75
        write_manifest(folder / "m.jsonl", utterances)
        manifests.append(folder / "m.jsonl")
    return manifests


@pytest.mark.parametrize("cache", [False, True])
def test_batches_of_strange_files_are_those_of_clean_ones(clean_and_strange, cache):
    batches = []
    for manifest in clean_and_strange:
        data = EmpathyDataModule([Manifest(str(manifest))], batch_seconds=6, cache=cache)
        data.setup("fit")
        batches.append(list(data.train_dataloader()))
    assert len(batches[0]) == len(batches[1]) > 1
    for clean, strange in zip(*batches, strict=True):
        assert clean.ids == strange.ids and not strange.unreadable
        torch.testing.assert_close(strange.waveform, clean.waveform, rtol=0, atol=2e-4)


def test_shards_hold_what_is_heard_and_never_clip(clean_and_strange, tmp_path):
    over = voice(seed=5, loudness=1.4)
    soundfile.write(tmp_path / "over.wav", over, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "full.wav", np.clip(over, -1, 1 - 2**-15), RATE, subtype="PCM_16")
    own = [Utterance(name, "own", str(tmp_path / f"{name}.wav")) for name in ("over", "full")]
    utterances = [*read_manifest(clean_and_strange[1]), *own]
    stored = Shards(str(write_shards(utterances, tmp_path / "shards"))).utterances()
    for before, after in zip(utterances, stored, strict=True):
        heard = read(before.path, before.start, before.end)
        torch.testing.assert_close(read(after.path), heard, rtol=0, atol=0.51 / 32_768)
        assert duration_of(after.path) == len(heard) / RATE
    for utterance in stored[-2:]:
        assert torch.equal(read(utterance.path), read(tmp_path / f"{utterance.id}.wav"))


def test_a_cache_never_clips(tmp_path):
    soundfile.write(tmp_path / "0.wav", voice(loudness=1.4), RATE, subtype="FLOAT")
    splits = ("train", "validation")
    write_manifest(tmp_path / "m.jsonl", [Utterance(s, "own", str(tmp_path / "0.wav"), split=s) for s in splits])
    data = EmpathyDataModule([Manifest(str(tmp_path / "m.jsonl"))], cache=True)
    data.setup("fit")
    loader = data.train_dataloader()
    for _ in range(2):
        (batch,) = loader
        assert torch.equal(batch.waveform[0], read(tmp_path / "0.wav"))


def test_what_is_written_is_made_softer_before_it_would_clip(tmp_path):
    loud = torch.from_numpy(voice(loudness=1.7)).float()
    write(tmp_path / "a.wav", loud)
    write(tmp_path / "b.wav", loud / 1.7)
    torch.testing.assert_close(read(tmp_path / "a.wav"), loud / loud.abs().max(), rtol=0, atol=1e-4)
    torch.testing.assert_close(read(tmp_path / "b.wav"), loud / 1.7, rtol=0, atol=1e-4)


def test_what_nothing_can_mend_is_told():
    clean = torch.from_numpy(voice(4.0)).float()
    dead = clean.clone()
    dead[20_000:50_000] = dead[20_000]
    assert faults(clean, RATE) == faults(0.1 * clean, RATE) == []
    assert faults(clean[:50], RATE) == faults(clean[:0], RATE) == []
    for waveform, words in ((clean.clamp(-0.05, 0.05), "clipped"), (dead, "dead"), (1e-3 * clean, "nearly silent")):
        (fault,) = faults(waveform, RATE)
        assert words in fault


def test_check_names_files_that_are_mended_and_those_that_cannot_be(tmp_path, capsys):
    root = ravdess.write(tmp_path / "ravdess", actors=1)
    folder = root / "Audio_Speech_Actors_01-24" / "Actor_01"
    files = sorted(folder.glob("03-01*.wav"))
    sound = voice(2.0)
    broken = {
        "scale of 16-bit integers": 32_768 * sound,
        "channel 2 of 2 is dead": both(sound, 0 * sound),
        "opposite sign": both(sound, -sound),
        "constant offset of 0.3": sound + 0.3,
        "clipped": np.clip(20 * sound, -1, 1),
        "dead microphone": np.concatenate([sound, np.zeros(RATE * 3)]),
        "scale that cannot be told": sound * 2**23,
    }
    for path, samples in zip(files, broken.values(), strict=False):
        soundfile.write(path, samples, RATE, subtype="FLOAT")
    out = tmp_path / "report.json"
    assert main(["corpora", "check", "ravdess", str(root), "--out", str(out)]) == 1
    problems = json.loads(out.read_text())["problems"]
    for path, words in zip(files, broken, strict=False):
        assert any(path.name in line and words in line for line in problems), words
    assert not any(path.name in line for path in files[len(broken) :] for line in problems)
    assert "problem(s)" in capsys.readouterr().out


def test_check_holds_lengths_against_the_records(tmp_path):
    from empathy_lightning.data.check import check

    write(tmp_path / "a.wav", torch.from_numpy(voice(8.0)).float())
    path = str(tmp_path / "a.wav")
    shutil.copy(path, tmp_path / "b.wav")
    rows = {
        "right": {"duration": 8.0}, "segment": {"start": 1.0, "end": 3.0, "duration": 2.0}, "long": {"duration": 2.0},
        "beyond": {"start": 9.0, "end": 10.0}, "late": {"start": 7.0, "end": 9.0},
    }  # fmt: skip
    write_manifest(tmp_path / "m.jsonl", [Utterance(name, "own", path, **row) for name, row in rows.items()])
    problems = check(Manifest(str(tmp_path / "m.jsonl")))["problems"]
    assert sorted(line.split()[0] for line in problems) == ["beyond", "late", "long"]
    assert any("8.00 s long, 2.00 s by its record" in line for line in problems)


def test_a_clip_far_longer_than_its_record_is_left_out_and_named(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.wav", torch.from_numpy(voice(8.0)).float())
    rows = [Utterance(n, "own", str(tmp_path / f"{n}.wav"), duration=d, split="train") for n, d in (("a", 8), ("b", 2))]
    held_out = Utterance("c", "own", str(tmp_path / "a.wav"), split="validation")
    write_manifest(tmp_path / "m.jsonl", [*rows, held_out])
    data = EmpathyDataModule([Manifest(str(tmp_path / "m.jsonl"))], batch_seconds=60)
    data.setup("fit")
    (batch,) = data.train_dataloader()
    assert batch.ids == ["a"]
    assert len(batch.unreadable) == 1 and "b.wav: 8.0 s" in batch.unreadable[0] and "2.0 s" in batch.unreadable[0]
