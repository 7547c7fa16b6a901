import pytest
import soundfile
import torch

from empathy_lightning.audio import AudioError, check_speech, duration_of, read, resample, write
from empathy_lightning.errors import InputError
from empathy_lightning.sources import InMemory


@pytest.fixture
def sine():
    return 0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(44_100) / 44_100)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_format_becomes_mono_at_16_khz(tmp_path, sine, suffix, channels):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, sine[:, None].expand(-1, channels).numpy(), 44_100)
    waveform = read(path)
    assert torch.equal(read(InMemory(path.read_bytes())), waveform)
    assert abs(len(waveform) - 16_000) < 1_200
    spectrum = torch.fft.rfft(waveform[2_000:10_000]).abs()
    assert abs(int(spectrum.argmax()) * 2 - 440) <= 2
    assert abs(duration_of(path) - 1.0) < 0.08


def test_a_segment_is_the_part_of_the_whole(tmp_path, sine):
    path = tmp_path / "a.wav"
    write(path, resample(sine, 44_100))
    whole, part = read(path), read(path, 0.25, 0.5)
    assert torch.equal(part, whole[4_000:8_000])
    assert duration_of(path, 0.25, 0.5) == 0.25


def test_what_cannot_be_read_is_said_in_one_line(tmp_path):
    (tmp_path / "text.wav").write_text("this is not audio")
    soundfile.write(tmp_path / "empty.wav", torch.zeros(0).numpy(), 16_000)
    soundfile.write(tmp_path / "nan.wav", torch.full((9_000,), torch.nan).numpy(), 16_000, subtype="FLOAT")
    for name, reason in [
        ("none.wav", "no such file"),
        ("text.wav", "not audio"),
        ("empty.wav", "no samples"),
        ("nan.wav", "not numbers"),
    ]:
        with pytest.raises(AudioError, match=reason) as error:
            read(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("waveform", "reason"),
    [(torch.ones(100), "too short"), (torch.zeros(16_000), "silent"), (torch.ones(16_000 * 301), "too long")],
)
def test_what_cannot_be_answered_is_refused(waveform, reason):
    with pytest.raises(AudioError, match=reason):
        check_speech(waveform, "a.wav")


def test_original_stereo_recordings_with_odd_chunks_are_read(speech_folder):
    for path in sorted((speech_folder / "ravdess_original_wav").rglob("*.wav")):
        info = soundfile.info(path)
        assert abs(len(read(path)) / 16_000 - info.frames / info.samplerate) < 0.01


def test_what_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    for name in ("x" * 300, "file/y"):
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="cannot be written"):
            write(tmp_path / f"{name}.wav", torch.zeros(16))

    def _full(file, *_, **__):
        file.write_bytes(b"RIFF")
        raise soundfile.LibsndfileError(2, "No space left on device: ")

    monkeypatch.setattr(soundfile, "write", _full)
    with pytest.raises(InputError, match="No space left"):
        write(tmp_path / "a.wav", torch.zeros(16))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
