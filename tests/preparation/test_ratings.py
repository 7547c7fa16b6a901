import shutil

import numpy as np
import pytest
import soundfile
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.audio import read
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.errors import InputError
from empathy_lightning.modules.emotion_encoder import EmotionEncoder
from empathy_lightning.preparation.ratings import prepare_ratings, rate
from empathy_lightning.utterance import RATINGS, Utterance
from tests.modules.test_emotion_encoder import tiny_config, write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    encoder = EmotionEncoder(tiny_config())
    with torch.no_grad():
        # Arousal well inside 0..1, dominance below it and valence above it.
        encoder.classifier.out_proj.bias.copy_(torch.tensor([0.5, -4.0, 4.0]))
    return str(write_checkpoint(tmp_path_factory.mktemp("emotion_encoder"), encoder.state_dict(), tiny_config()))


@pytest.fixture
def manifest(tmp_path):
    """Six readable utterances without ratings, one rated, one rated in part, and three that cannot be heard."""
    generator = np.random.default_rng(0)
    utterances = []
    for index in range(8):
        path = tmp_path / f"{index}.wav"
        soundfile.write(path, 0.1 * generator.standard_normal(round(16_000 * (0.4 + 0.2 * index))), 16_000)
        utterances.append(Utterance(id=str(index), corpus="noise", path=str(path), raw_labels={"label": "x"}))
    utterances[1].start, utterances[1].end = 0.1, 0.5
    rated = {"arousal": 0.1, "valence": 0.2, "dominance": 0.3}
    for name, value in rated.items():
        setattr(utterances[6], name, value)
    utterances[7].arousal = 0.9
    (tmp_path / "text.wav").write_text("hello")
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    for name in ("text", "none", "silent"):
        utterances.insert(3, Utterance(id=name, corpus="noise", path=str(tmp_path / f"{name}.wav")))
    write_manifest(tmp_path / "manifest.jsonl", utterances)
    return tmp_path / "manifest.jsonl"


def ratings_of(utterance):
    return {name: getattr(utterance, name) for name in RATINGS}


@pytest.mark.filterwarnings("ignore:without ratings", "ignore:3 of 10")
def test_unrated_utterances_are_filled_and_marked(manifest, checkpoint, tmp_path):
    before = {u.id: u for u in read_manifest(manifest)}
    out = prepare_ratings(manifest, tmp_path / "rated.jsonl", checkpoint, batch_seconds=2.0, max_left_out=0.5)
    after = {u.id: u for u in read_manifest(out)}
    assert list(after) == list(before)
    assert after["6"] == before["6"]
    encoder = EmotionEncoder.from_pretrained(checkpoint)
    for name in "012345":
        utterance = after[name]
        expected = rate(encoder, [read(utterance.path, utterance.start, utterance.end)])[0]
        assert ratings_of(utterance) == pytest.approx(expected, abs=2e-4)
        assert 0.0 < utterance.arousal < 1.0 and utterance.dominance == 0.0 and utterance.valence == 1.0
        assert utterance.raw_labels == {"label": "x", "ratings": f"pseudo: {checkpoint}"}
    assert ratings_of(after["7"]) == {"arousal": 0.9, "valence": 1.0, "dominance": 0.0}
    assert after["7"].raw_labels["ratings"] == f"pseudo: {checkpoint} (valence, dominance)"


def test_what_cannot_be_heard_costs_its_own_ratings_only(manifest, checkpoint, tmp_path):
    with pytest.warns(UserWarning) as caught:
        out = prepare_ratings(manifest, tmp_path / "rated.jsonl", checkpoint, max_left_out=0.5)
    messages = [str(warning.message) for warning in caught]
    for name in ("text.wav", "none.wav", "silent.wav"):
        assert sum(message.startswith("without ratings") and name in message for message in messages) == 1
    assert "3 of 10 unrated utterance(s) stay without ratings" in messages
    for utterance in read_manifest(out):
        if utterance.id in ("text", "none", "silent"):
            assert set(ratings_of(utterance).values()) == {None} and not utterance.raw_labels
        else:
            assert None not in ratings_of(utterance).values()


@pytest.mark.filterwarnings("ignore:without ratings", "ignore:3 of 10")
def test_an_existing_output_is_kept_and_a_failed_one_leaves_nothing(manifest, checkpoint, tmp_path, monkeypatch):
    out = tmp_path / "rated.jsonl"
    with monkeypatch.context() as broken:
        broken.setattr("empathy_lightning.preparation.ratings.rate", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare_ratings(manifest, out, checkpoint, max_left_out=0.5)
    assert not out.exists()
    prepare_ratings(manifest, out, checkpoint, max_left_out=0.5)
    changed = out.stat().st_mtime_ns
    monkeypatch.setattr("empathy_lightning.preparation.ratings.rate", lambda *_: pytest.fail("rated again"))
    assert prepare_ratings(manifest, out, checkpoint, max_left_out=0.5) == out and out.stat().st_mtime_ns == changed


def test_a_manifest_with_all_ratings_stays_as_it_is(corpus, checkpoint, tmp_path):
    out = prepare_ratings(corpus, tmp_path / "rated.jsonl", checkpoint)
    assert read_manifest(out) == read_manifest(corpus)


def test_speech_is_rated_by_its_first_30_seconds(checkpoint, tmp_path):
    noise = 0.1 * np.random.default_rng(0).standard_normal(16_000 * 31)
    rows = []
    for name, samples in {"long": noise, "first": noise[: 16_000 * 30]}.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, 16_000)
        rows.append(Utterance(id=name, corpus="noise", path=str(tmp_path / f"{name}.wav")))
    write_manifest(tmp_path / "m.jsonl", rows)
    long, first = read_manifest(prepare_ratings(tmp_path / "m.jsonl", tmp_path / "rated.jsonl", checkpoint))
    assert ratings_of(long) == pytest.approx(ratings_of(first), abs=2e-4)


def test_another_kind_of_model_is_refused_in_one_line(corpus, tmp_path):
    encoder = EmotionEncoder(tiny_config())
    state = {key: value for key, value in encoder.state_dict().items() if "classifier" not in key}
    folder = write_checkpoint(tmp_path / "headless", state, tiny_config())
    with pytest.raises(InputError, match="lack classifier"):
        prepare_ratings(corpus, tmp_path / "rated.jsonl", str(folder))


@pytest.mark.filterwarnings("ignore:without ratings", "ignore:3 of 10")
def test_the_command(manifest, checkpoint, tmp_path, capsys):
    out = tmp_path / "rated.jsonl"
    words = ["prepare", "ratings", "--allow_left_out=0.5", str(manifest), "--out", str(out), "--emotion_encoder"]
    assert main([*words, str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"error: no model folder at {tmp_path / 'nowhere'}"
    assert not out.exists()
    assert main([*words, checkpoint]) == 0
    assert capsys.readouterr().out.strip() == str(out) and out.is_file()


@pytest.mark.filterwarnings("ignore:without ratings", "ignore:3 of 10", "ignore:2 of 10")
def test_ratings_of_something_else_are_not_kept(manifest, checkpoint, tmp_path, capsys):
    out, other = tmp_path / "rated.jsonl", tmp_path / "other.jsonl"
    words = ["prepare", "ratings", "--allow_left_out=0.5", "--out", str(out), "--emotion_encoder"]
    assert main([*words, checkpoint, str(manifest)]) == 0
    first = out.read_bytes()
    assert main([*words, checkpoint, str(manifest)]) == 0
    assert "made from the same" in capsys.readouterr().out
    write_manifest(other, read_manifest(manifest)[:2])
    another = tmp_path / "encoder"
    encoder = EmotionEncoder(tiny_config())
    write_checkpoint(another, encoder.state_dict(), tiny_config())
    for encoder_, source, reason in (
        (checkpoint, other, "manifest, recordings changed"), (another, manifest, "emotion_encoder changed"),
    ):  # fmt: skip
        assert main([*words, str(encoder_), str(source)]) == 2
        assert reason in capsys.readouterr().err.strip().splitlines()[-1] and out.read_bytes() == first
    # The same encoder elsewhere is the same; a recording that was mended is another.
    shutil.copytree(checkpoint, tmp_path / "copy")
    assert main([*words, str(tmp_path / "copy"), str(manifest)]) == 0
    soundfile.write(tmp_path / "silent.wav", 0.1 * np.sin(np.arange(16_000)), 16_000)
    assert main([*words, checkpoint, str(manifest)]) == 2
    assert "(recordings changed)" in capsys.readouterr().err
    assert main([*words, checkpoint, str(manifest), "--again"]) == 0
    assert next(u for u in read_manifest(out) if u.id == "silent").arousal is not None
    assert main([*words, checkpoint, str(other), "--again"]) == 0
    assert [u.id for u in read_manifest(out)] == [u.id for u in read_manifest(other)]
    # What nothing is known of is nobody's to replace.
    (tmp_path / "rated.jsonl.made_from.json").unlink()
    assert main([*words, checkpoint, str(other)]) == 2
    assert "no rated.jsonl.made_from.json says" in capsys.readouterr().err
