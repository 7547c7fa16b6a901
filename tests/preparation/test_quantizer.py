"""A quantizer that is fitted to a layer of a frozen encoder, by the command."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model, WavLMConfig, WavLMModel

from empathy_lightning.__main__ import main
from empathy_lightning.audio import read, write
from empathy_lightning.checkpoints import load_quantizer, save
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.data.shard_export import write_shards
from empathy_lightning.data.shards import Shards
from empathy_lightning.modules.convolutional_encoder import ConvolutionalEncoder
from empathy_lightning.modules.kmeans_quantizer import KMeans, nearest
from empathy_lightning.modules.self_supervised_encoder import SelfSupervisedEncoder
from empathy_lightning.utterance import Utterance
from tests.modules.test_mel_quantizer import harmonic

SIZES = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16, "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "vocab_size": 8,
}  # fmt: skip
KINDS = {
    "hubert": (HubertModel, HubertConfig),
    "wav2vec2": (Wav2Vec2Model, Wav2Vec2Config),
    "wavlm": (WavLMModel, WavLMConfig),
}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Folders of tiny encoders, in both ways of norming."""
    folder = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    for name, (model, config) in KINDS.items():
        for norm in ("layer", "group"):
            how = {"feat_extract_norm": norm, "do_stable_layer_norm": norm == "layer", "conv_bias": norm == "layer"}
            model(config(**SIZES, **how)).save_pretrained(folder / f"{name}-{norm}")
    return folder


@pytest.mark.parametrize("name", [f"{kind}-{norm}" for kind in KINDS for norm in ("layer", "group")])
@torch.no_grad()
def test_an_encoder_hears_as_transformers_does_alone_and_in_a_batch(encoders, name):
    encoder = SelfSupervisedEncoder.from_pretrained(str(encoders / name))
    theirs = KINDS[name.partition("-")[0]][0].from_pretrained(encoders / name).eval()
    assert encoder.normalize == name.endswith("layer")
    waveform, lengths = torch.randn(3, 8_000), torch.tensor([8_000, 300, 5_000])
    heard = encoder(waveform, lengths)
    for row, length in enumerate(lengths.tolist()):
        own = waveform[row, :length]
        if encoder.normalize:
            own = (own - own.mean()) / (own.var(unbiased=False) + 1e-7).sqrt()
        expected = theirs(nn.functional.pad(own, (0, max(0, 400 - length)))[None], output_hidden_states=True)
        for layer, wanted in zip(heard.layers, expected.hidden_states[1:], strict=True):
            assert torch.allclose(layer[row, heard.mask[row]], wanted[0], atol=1e-4)
        assert torch.allclose(heard.frames[row, heard.mask[row]], expected.last_hidden_state[0], atol=1e-4)


def words(corpus, out, encoder, *more):
    return ["prepare", "quantizer", str(corpus), "--out", str(out), "--encoder", str(encoder), *more]


@pytest.mark.parametrize("name", ["hubert-layer", "whisper"])
def test_the_command_fits_a_quantizer_that_prepare_units_uses(encoders, backbones, corpus, tmp_path, capsys, name):
    encoder = backbones / "speech_encoder" if name == "whisper" else encoders / name
    fit = words(corpus, tmp_path / "quantizer", encoder, "--layer=2", "--units=12")
    assert main(fit) == 0
    quantizer = load_quantizer(str(tmp_path / "quantizer"))
    waveforms = [read(u.response_path) for u in read_manifest(corpus)]
    together = nn.utils.rnn.pad_sequence(waveforms, batch_first=True), torch.tensor([len(w) for w in waveforms])
    alone = [quantizer.encode(waveform).tolist() for waveform in waveforms]
    # Sums in another order may move a frame that lies between two centres.
    pairs = zip(alone, quantizer.encode_many(*together), strict=True)
    assert sum(one == many.tolist() for one, many in pairs) >= 28
    frames = torch.cat(quantizer.features(*together))
    units = nearest(frames, quantizer.centres)
    spread = (frames - frames.mean(0)).square().sum()
    assert (frames - quantizer.centres[units]).square().sum() < 0.5 * spread and len(units.unique()) > 8
    made = ["prepare", "units", str(corpus), "--out", str(tmp_path / "units.jsonl"), "--quantizer"]
    assert main([*made, str(tmp_path / "quantizer")]) == 0
    rows = read_manifest(tmp_path / "units.jsonl")
    assert sum(u.units == own for u, own in zip(rows, alone, strict=True)) >= 28
    weights = (tmp_path / "quantizer/model.safetensors").read_bytes()
    capsys.readouterr()
    assert main(fit) == 0 and "made from the same" in capsys.readouterr().out
    assert main([*fit[:-1], "--units=13"]) == 2 and "(num_units changed)" in capsys.readouterr().err
    assert main([*fit, "--again"]) == 0
    assert (tmp_path / "quantizer/model.safetensors").read_bytes() == weights


def test_an_encoder_of_ones_own_hears_as_long_as_it_may(corpus, tmp_path):
    save(tmp_path / "encoder", ConvolutionalEncoder(8, channels=[4, 4], trim=False))
    fit = words(corpus, tmp_path / "q", tmp_path / "encoder", "--layer=1", "--units=6", "--hours=0.002")
    assert main(fit) == 0
    quantizer = load_quantizer(str(tmp_path / "q"))
    assert quantizer.centres.shape == (6, 8)
    # What is longer than an encoder takes at once is cut into pieces.
    quantizer.encoder.max_seconds = 0.5
    waveform = 0.1 * torch.randn(20_000)
    pieces = [quantizer.encode(piece) for piece in waveform.split(8_000)]
    assert torch.equal(quantizer.encode(waveform), torch.cat(pieces)) and not len(quantizer.encode(waveform[:0]))


def test_what_cannot_be_used_is_told(encoders, corpus, tmp_path, capsys):
    for more, said in [
        (["--layer=4", "--units=5"], "layer 4 is none of the encoder's 3: give 1 to 3"),
        (["--layer=2", "--units=0"], "--units must be above 0"),
        (["--layer=2", "--units=100000"], "frames of speech are fewer than 100000 units: give more speech, or fewer"),
    ]:
        assert main(words(corpus, tmp_path / "q", encoders / "hubert-layer", *more)) == 2
        assert said in capsys.readouterr().err.strip().splitlines()[-1]
    assert main(words(corpus, tmp_path / "q", tmp_path / "nothing", "--layer=1")) == 2
    assert not (tmp_path / "q/config.json").exists()


@pytest.mark.parametrize("start", [50, 4000])
def test_k_means_finds_clusters_whatever_the_blocks(start):
    """Eight clouds far apart; with few frames to start from, the others come in blocks that are not kept."""
    places = torch.randn(8, 3) * 20
    frames = places[torch.randint(8, (4000,))] + torch.randn(4000, 3)
    for size in (37, 1000):
        means = KMeans(8, start, seed=1)
        for block in frames.split(size):
            means.add(block)
        distances = torch.cdist(places, means.centres())
        assert distances.min(1).values.max() < 0.5 and sorted(distances.argmin(1).tolist()) == list(range(8))


@pytest.fixture
def replies(tmp_path):
    """A manifest of users' recordings beside replies of other sounds, of which those of split test are others still."""
    rows = []
    for number, split in enumerate(["train"] * 6 + ["test"] * 6):
        for kind, tone in (("user", 200), ("reply", 900 if split == "train" else 3_000)):
            write(tmp_path / f"{kind}{number}.wav", harmonic(tone + number, 0.6))
        paths = {"path": str(tmp_path / f"user{number}.wav"), "response_path": str(tmp_path / f"reply{number}.wav")}
        rows.append(Utterance(str(number), "c", split=split, response="yes", **paths))
    write_manifest(tmp_path / "replies.jsonl", rows)
    return tmp_path / "replies.jsonl"


def own_of(folder):
    """A quantizer's weights."""
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("kind", ["codebook", "k-means"])
def test_a_quantizer_hears_the_replies_of_the_training_alone(replies, backbones, tmp_path, kind):
    def _fitted(rows, name):
        write_manifest(tmp_path / f"{name}.jsonl", rows)
        how = ["--encoder", str(backbones / "speech_encoder"), "--layer=2"] if kind == "k-means" else []
        command = ["prepare", "quantizer", str(tmp_path / f"{name}.jsonl"), "--out", str(tmp_path / name), "--units=12"]
        assert main([*command, *how]) == 0
        return own_of(tmp_path / name)

    rows = read_manifest(replies)
    found = _fitted(rows, "found")
    training = [u for u in rows if u.split == "train"]
    alone = _fitted([replace(u, path=u.response_path, response_path=None) for u in training], "alone")
    assert found.keys() == alone.keys() and all(torch.equal(found[name], alone[name]) for name in found)


def test_rows_of_shards_are_recordings_of_a_codebook_too(replies, tmp_path):
    rows = [replace(u, response_path=None) for u in read_manifest(replies) if u.split == "train"]
    write_manifest(tmp_path / "files.jsonl", rows)
    write_shards(rows, tmp_path / "shards", per_shard=4)
    write_manifest(tmp_path / "rows.jsonl", Shards(str(tmp_path / "shards")).utterances())
    for name in ("files", "rows"):
        command = ["prepare", "quantizer", str(tmp_path / f"{name}.jsonl"), "--out", str(tmp_path / name)]
        assert main([*command, "--units=12"]) == 0
    assert torch.equal(own_of(tmp_path / "files")["codebook"], own_of(tmp_path / "rows")["codebook"])
