import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from empathy_lightning.__main__ import main
from empathy_lightning.checkpoints import load
from empathy_lightning.conversion import blsp_emo, re_llm
from empathy_lightning.errors import InputError
from empathy_lightning.modules.cformer import CFormer
from empathy_lightning.modules.language_model import pack
from tests.conftest import golden, golden_seeds
from tests.conversion.released_blsp import grown, write_release, write_shards
from tests.modules.test_convolutional_adapter import close
from tests.tiny import arguments_in

FOLDER = golden_seeds("rellm")[0]
CONVERT = {"full_blspemo": blsp_emo.convert, "full_rellm": re_llm.convert}
UNUSED = ("adapter.", "w2v2_hidden2emotion.")


def golden_release(case):
    state, _ = golden(FOLDER, f"{case}.state_dict")
    config = json.loads((FOLDER / f"{case}.json").read_text())["config"]
    return state, config


@pytest.fixture
def release(request, tmp_path):
    case = getattr(request, "param", "full_blspemo")
    state, config = golden_release(case)
    folder = write_release(tmp_path / "release", state, config)
    if case == "full_rellm":
        (folder / "emotion_encoder").mkdir()
        values = {k: v for k, v in config["w2v2"].items() if k != "num_labels"}
        values["id2label"] = {0: "arousal", 1: "dominance", 2: "valence"}
        (folder / "emotion_encoder" / "config.json").write_text(json.dumps(values))
    return case, folder, state


both = pytest.mark.parametrize("release", ["full_blspemo", "full_rellm"], indirect=True)


@both
def test_every_key_is_used_or_told(release, tmp_path):
    case, folder, state = release
    report = CONVERT[case](folder, tmp_path / "out")
    assert sorted(report.used + report.left_over) == sorted(state)
    expected = [key for key in state if case == "full_rellm" and key.startswith(UNUSED)]
    assert sorted(report.left_over) == sorted(expected)
    ratings = [f"emotion_nuance.{name}_head.weight" for name in ("arousal", "valence", "dominance")]
    assert sorted(report.missing) == (sorted(ratings) if case == "full_blspemo" else [])
    assert json.loads((tmp_path / "out" / "conversion.json").read_text())["left_over"] == report.left_over


@both
def test_golden_logits_through_the_converted_folder(release, tmp_path):
    case, folder, _ = release
    CONVERT[case](folder, tmp_path / "out")
    model = load(tmp_path / "out")
    tensors, _ = golden(FOLDER, f"{case}.io")
    valid = tensors["out.adapter_mask"][0].bool()
    embed = model.responder.language_model.embed
    # The first utterance is the longest, so that the original pads nothing in it.
    before = [embed(tensors[f"in.{name}_ids"][0]) for name in ("start", "audio_instruction")]
    rows = [*before, tensors["out.adapter_hidden"][0, valid], embed(tensors["in.suffix_ids"][0])]
    speech = torch.cat([torch.full((len(row),), index == 2) for index, row in enumerate(rows)])
    with model.responder.partial_lora.at(speech[None]):
        hidden = model.responder.language_model(*pack([torch.cat(rows)]))
    logits = model.responder.language_model.model.lm_head(hidden)[0, :, :61]
    close(logits, tensors["out.speech_logits"][0, : len(logits)], 1e-4)
    states = model.listener.speech_encoder.encoder(tensors["in.speech_values"][:1]).last_hidden_state
    close(states, tensors["mid.whisper_states"][:1])
    emotion = None
    if case == "full_rellm":
        wave = tensors["in.raw_speech0"]
        emotion = model.listener.emotion_encoder(wave[None], torch.tensor([len(wave)])).embedding
        close(emotion, tensors["mid.emotion_embedding"][:1])
    embeddings, mask = model.listener.speech_adapter(states, torch.ones(1, states.shape[1], dtype=torch.bool), emotion)
    close(embeddings[0], tensors["out.adapter_hidden"][0, valid])
    estimate = model.listener.emotion_nuance(embeddings, mask)
    close(estimate.logits, tensors["out.emotion_logits"][:1])
    expected = tensors["out.avd_logits"][0] if case == "full_rellm" else torch.zeros(3)
    close(torch.stack([estimate.arousal, estimate.valence, estimate.dominance])[:, 0], expected)


FRESH = """
import socket, sys
class Blocked(socket.socket):
    def __init__(self, *args, **kwargs):
        raise AssertionError("a socket was opened")
socket.socket = Blocked
import torch
torch.set_num_threads(1)
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.decoding import Decoding
wave = 0.1 * torch.sin(torch.arange(6000) / 9.0)
bot = EmpatheticChatbot.from_pretrained(sys.argv[1], device="cpu")
reply, = bot.respond([wave], decoding=Decoding(max_new_tokens=6))
print(repr((reply.text, reply.emotion, round(reply.probabilities[reply.emotion], 3))))
"""


@both
def test_a_fresh_process_without_network_chats_with_it(release, tmp_path):
    case, folder, _ = release
    assert main(["convert", case.replace("full_", "").replace("blspemo", "blsp_emo").replace("rellm", "re_llm"),
                 str(folder), "--out", str(tmp_path / "out")]) == 0  # fmt: skip
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()  # nothing of the release is needed any more
    (tmp_path / "out").rename(tmp_path / "moved")
    command = [sys.executable, "-c", FRESH, str(tmp_path / "moved")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "'" in result.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("layout", ["single", "safetensors"])
def test_other_layouts_give_the_same_bytes(release, tmp_path, layout):
    _, folder, state = release
    blsp_emo.convert(folder, tmp_path / "shards")
    for path in folder.glob("pytorch_model*"):
        path.unlink()
    write_shards(folder, grown(state), layout)
    blsp_emo.convert(folder, tmp_path / "other")
    for name in ("", "language_model", "speech_encoder"):
        ours, theirs = (load_file(tmp_path / f / name / "model.safetensors") for f in ("shards", "other"))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_bfloat16_stays_in_the_backbone_and_trained_parts_are_float32(release, tmp_path):
    _, folder, state = release
    for path in folder.glob("pytorch_model*"):
        path.unlink()
    half = {k: v if "lora" in k else v.bfloat16() for k, v in grown(state).items()}
    write_shards(folder, half, "safetensors")
    blsp_emo.convert(folder, tmp_path / "out")
    assert arguments_in(tmp_path / "out")["language_model"]["dtype"] == "bfloat16"
    model = load(tmp_path / "out")
    assert model.responder.language_model.model.dtype == torch.bfloat16
    assert {p.dtype for p in model.listener.speech_adapter.parameters()} == {torch.float32}


def test_stage_one_without_lora_and_with_a_cformer(tmp_path):
    state, config = golden_release("full_blspemo")
    state = {
        k.replace("qwen_model.model.", "qwen_model."): v
        for k, v in state.items()
        if "lora_" not in k and not k.startswith("adapter.")
    }
    config["blsp"] |= {"lora_config": {}, "adapter_type": "cformer", "num_pre_cif_layers": 1, "num_post_cif_layers": 1}
    torch.manual_seed(0)
    cformer = CFormer(16, 32, 520, 24, 8, 1, 1)
    state |= {f"adapter.{key}": value for key, value in cformer.state_dict().items() if key != "lm_head.weight"}
    state["adapter.lm_head.weight"] = cformer.lm_head.weight.data
    folder = write_release(tmp_path / "release", state, config)
    report = blsp_emo.convert(folder, tmp_path / "out")
    assert not report.left_over
    model = load(tmp_path / "out")
    assert model.responder.partial_lora is None and isinstance(model.listener.speech_adapter, CFormer)
    for key, value in cformer.state_dict().items():
        assert torch.equal(model.listener.speech_adapter.state_dict()[key], value)


def without(folder, key):
    index = json.loads((folder / "pytorch_model.bin.index.json").read_text())
    place = folder / index["weight_map"].pop(key)
    torch.save({k: v for k, v in torch.load(place, weights_only=True).items() if k != key}, place)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def test_a_dry_run_tells_and_writes_nothing(release, tmp_path, capsys):
    _, folder, _ = release
    without(folder, "adapter.fc1.weight")
    assert main(["convert", "blsp_emo", str(folder), "--out", str(tmp_path / "out"), "--dry_run"]) == 1
    assert "missing: speech_adapter.linear1.weight" in capsys.readouterr().out
    assert main(["convert", "blsp_emo", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert "lacks 1 weights, for instance speech_adapter.linear1.weight" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


class Harm:
    def __reduce__(self):
        return (open, ("harm.txt", "w"))


def spoil_config(folder):
    config = json.loads((folder / "config.json").read_text())
    config["adapter_inner_dim"] = 9
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: (f / "config.json").unlink(), r"config\.json is missing"),
        (lambda f: (f / "config.json").write_text("{}"), "no configuration of BLSP-Emo"),
        (lambda f: (f / "qwen.tiktoken").unlink(), "qwen.tiktoken is missing"),
        (lambda f: (f / "pytorch_model-00002-of-00002.bin").unlink(), "is missing"),
        (lambda f: (f / "pytorch_model-00002-of-00002.bin").write_bytes(b"PK nothing"), "is damaged"),
        (lambda f: torch.save({"a": Harm()}, f / "pytorch_model-00002-of-00002.bin"), "could run code"),
        (spoil_config, "but the configuration says"),
    ],
)  # fmt: skip
def test_faults_are_told_in_one_line_and_leave_nothing(release, tmp_path, spoil, reason, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, folder, _ = release
    spoil(folder)
    with pytest.raises(InputError, match=reason) as error:
        blsp_emo.convert(folder, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists() and not (tmp_path / "harm.txt").exists()


def test_a_folder_that_is_there_is_left_alone(release, tmp_path):
    _, folder, _ = release
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(InputError, match="there already"):
        blsp_emo.convert(folder, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_large_weights_are_written_in_shards_that_transformers_reads(tmp_path):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from empathy_lightning.conversion.released import write_model

    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                                         num_attention_heads=2, num_key_value_heads=2))  # fmt: skip
    write_model(tmp_path, model.config, model.state_dict(), shard_bytes=5_000)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    loaded = Qwen2ForCausalLM.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in model.state_dict().items())
