import json
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import WhisperModel

from empathy_lightning.__main__ import main
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.checkpoints import load, load_weights
from empathy_lightning.conversion import freezeempath
from empathy_lightning.conversion.freezeempath import convert
from empathy_lightning.data.batch import batch_of
from empathy_lightning.decoding import Decoding
from empathy_lightning.errors import InputError
from empathy_lightning.modules.fusion import GatedFusion, SummedFusion
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from tests.conftest import golden, golden_seeds
from tests.conversion.freezeempath_release import (
    CONFIG,
    UNITS,
    WHISPER,
    WORDS,
    edit,
    encoder_names,
    released_state,
    rewritten,
    without,
    write_release,
)
from tests.tiny import arguments_in, filled, tokens_of


@pytest.fixture
def release(tmp_path):
    write_release(tmp_path / "release", released_state(), CONFIG, UNITS)
    return tmp_path / "release"


def same_bytes(one, other):
    return one.dtype == other.dtype and torch.equal(one.view(torch.uint8), other.view(torch.uint8))


@pytest.mark.parametrize("folder", golden_seeds("freezeempath"), ids=str)
def test_golden_converted_release_answers_with_the_reference_s_tokens_and_units(folder, tmp_path, capsys):
    tensors, state = golden(folder, "f_full_generate")
    facts = json.loads((folder / "f_full_generate.json").read_text())
    slots = {32: "<|endoftext|>", 33: "<|im_start|>", 34: "<|im_end|>", -200: "{speech}", -300: "{emotion}"}
    template = "".join(slots.get(i) or WORDS[i] for i in tensors["input.input_ids"][0].tolist())
    before, content, after = re.split(r"({speech}.*{emotion})", template)
    template = f"{before}{{{{ messages[0].content }}}}{after}"
    write_release(tmp_path / "release", state, facts["config"], UNITS, template)
    assert main(["convert", "freezeempath", str(tmp_path / "release"), "--out", str(tmp_path / "out")]) == 0
    totals = capsys.readouterr().out.splitlines()[-2].split()
    assert totals == ["total", str(len(state)), "0", "0"]

    # A folder that was moved still finds its backbones.
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    bot = EmpatheticChatbot.from_pretrained(tmp_path / "elsewhere")
    bot.model.responder.prompt, bot.model.responder.system = content, None
    assert bot.emotions == ["angry", "surprised", "happy", "sad", "neutral"]
    assert bot.model.listener.speech_encoder.pad_to_30s and bot.model.listener.speech_adapter.drop_incomplete
    mel = tensors["input.mel"].transpose(1, 2)
    bot.model.listener.speech_encoder.log_mel.forward = lambda waveform, lengths: (mel, torch.tensor([mel.shape[2]]))
    (reply,) = bot.respond([torch.randn(16_000)], decoding=Decoding(unit_temperature=0.0))
    ids = tensors["output.text_ids"].tolist()
    assert reply.text == bot.model.responder.language_model.tokenizer.decode(ids, skip_special_tokens=True).strip()
    units = tensors["output.units"].tolist()
    assert reply.units[: len(units)] == units
    ended = facts["generated_ids_per_chunk"][-1][-1] == facts["token_ids"]["eos"]
    assert len(reply.units) == len(units) or not ended
    assert reply.waveform is None and reply.arousal is None
    heard = bot.model.listener(batch_of([torch.randn(16_000)]))
    assert tokens_of(bot.model, filled(bot.model, heard.said, heard.emotion_embedding)) == [ids]


FRESH = """
import sys, torch
from dataclasses import replace
from empathy_lightning.data.batch import batch_of
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.decoding import Decoding
torch.manual_seed(0)
torch.set_num_threads(1)
bot = EmpatheticChatbot.from_pretrained(sys.argv[1])
decoder = bot.model.talker.speech_decoder
begin = decoder.begin
decoder.begin = lambda count, decoding, *rest: begin(count, replace(decoding, max_units=20), *rest)
reply, = bot.respond([torch.randn(16_000)], decoding=Decoding(max_new_tokens=4))
assert len(reply.units) > 0, reply
print(reply)
"""


def test_a_waveform_is_answered_in_a_fresh_process_without_alarms(release, tmp_path):
    convert(release, tmp_path / "bot")
    command = [sys.executable, "-c", FRESH, str(tmp_path / "bot")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "heard" in result.stdout and "arousal" not in result.stdout
    assert "MISSING" not in result.stderr and "UNEXPECTED" not in result.stderr


def test_every_tensor_arrives_bit_by_bit(tmp_path):
    state = {key: value.to(torch.bfloat16) for key, value in released_state().items()}
    write_release(tmp_path / "release", state, CONFIG, UNITS)
    report = convert(tmp_path / "release", tmp_path / "out")
    assert sorted(report.used) == sorted(state) and not report.missing and not report.left_over
    assert json.loads((tmp_path / "out" / "conversion.json").read_text())["used"] == report.used
    arguments = arguments_in(tmp_path / "out")
    assert arguments["language_model"] == {"name_or_path": "language_model", "dtype": "bfloat16"}

    language_model = load_file(tmp_path / "out" / "language_model" / "model.safetensors")
    assert language_model.keys() == {key for key in state if key.startswith(("model.layers", "model.norm"))} | {
        "model.embed_tokens.weight", "lm_head.weight",
    }  # fmt: skip
    assert all(same_bytes(value, state[key]) for key, value in language_model.items())
    encoder = load_file(tmp_path / "out" / "speech_encoder" / "model.safetensors")
    for old, new in encoder_names().items():
        assert same_bytes(encoder[f"encoder.{new}"], state[f"model.speech_encoder.{old}"])
    trained = load_file(tmp_path / "out" / "model.safetensors")
    assert len(language_model) + len(encoder_names()) + len(trained) == len(state)
    adapter = trained["listener.speech_adapter.linear1.weight"]
    assert same_bytes(adapter, state["model.speech_projector.linear1.weight"])
    # The tiny release has its marker and units in our order already.
    decoder = {key.removeprefix("talker.speech_decoder."): v for key, v in trained.items() if key.startswith("talker")}
    for key, value in decoder.items():
        assert same_bytes(value, state[f"speech_generator.{key.removeprefix('fused.')}"])

    checkpoint = load(tmp_path / "out")
    assert checkpoint.responder.language_model.model.dtype == torch.bfloat16
    bare = checkpoint.responder.language_model.model.state_dict()
    assert all(torch.equal(bare[key], state[key]) for key in bare)
    encoder = checkpoint.listener.speech_encoder.encoder.state_dict()
    for old, new in WHISPER.items():
        assert torch.equal(encoder[new], state[f"model.speech_encoder.{old}"].float())
    nuance = checkpoint.listener.emotion_nuance
    assert torch.equal(nuance.categorical_head.weight, state["hidden2emotion.weight"].float())
    query = state["model.emotion_extractor.attn_pool.latent_queries"]
    assert torch.equal(nuance.extractor.attn_pool.latent_queries, query.float())
    torch.nn.init.zeros_(checkpoint.listener.speech_adapter.linear1.weight)
    assert load_weights(tmp_path / "out", checkpoint) == [
        "listener.speech_adapter", "listener.emotion_nuance", "talker.speech_decoder"
    ]  # fmt: skip
    assert checkpoint.listener.speech_adapter.linear1.weight.any()


@pytest.mark.parametrize(("linear", "gate"), [(False, True), (True, True), (True, False)])
def test_units_and_marker_are_found_by_their_names_and_the_projection_by_its_keys(tmp_path, linear, gate):
    # The marker after the units, and two units in each other's place: every id differs from the usual one.
    units = {f"<{unit}>": 35 + unit for unit in range(64)} | {"<7>": 43, "<8>": 42, "<sep>": 99}
    state = released_state(linear, gate)
    write_release(tmp_path / "release", state, CONFIG, units)
    convert(tmp_path / "release", tmp_path / "out")
    decoder = load(tmp_path / "out").talker.speech_decoder
    rows = state["speech_generator.model.model.embed_tokens.weight"]
    assert (decoder.text_vocab_size, decoder.num_units, decoder.schedule) == (35, 64, (3, 5))
    assert torch.equal(decoder.embed(torch.tensor(decoder.separator_id)), rows[99])
    for unit in (0, 7, 8, 63):
        embedded = decoder.embed(torch.tensor(decoder.separator_id + 1 + unit))
        assert torch.equal(embedded, rows[units[f"<{unit}>"]])
    assert torch.equal(decoder.embed(torch.arange(35)), rows[:35])
    assert decoder.fusion == (GatedFusion if gate else SummedFusion)(0 if linear else 70)
    last = "input_proj" if linear else "input_proj.2"
    assert torch.equal(decoder.get_parameter(f"fused.{last}.bias"), state[f"speech_generator.{last}.bias"])


def test_a_stored_head_of_the_units_may_only_be_the_embedding(tmp_path):
    state = released_state()
    head, embedding = "speech_generator.model.lm_head.weight", "speech_generator.model.model.embed_tokens.weight"
    state[head] = state[embedding].clone()
    write_release(tmp_path / "tied", state, CONFIG, UNITS)
    assert head in convert(tmp_path / "tied", tmp_path / "out").used
    state[head][5, 5] += 1
    write_release(tmp_path / "untied", state, CONFIG, UNITS)
    with pytest.raises(InputError, match="head of its own"):
        convert(tmp_path / "untied", tmp_path / "other")


def test_a_tied_language_model_needs_no_head(tmp_path):
    state, tied = released_state(), CONFIG | {"tie_word_embeddings": True}
    write_release(tmp_path / "with", state, tied, UNITS)
    with pytest.raises(InputError, match=r"lm_head.weight is not model.embed_tokens.weight: a head of its own"):
        convert(tmp_path / "with", tmp_path / "out")
    del state["lm_head.weight"]
    write_release(tmp_path / "release", state, tied, UNITS)
    assert not convert(tmp_path / "release", tmp_path / "out").missing
    bare = load(tmp_path / "out").responder.language_model.model
    assert torch.equal(bare.lm_head.weight, state["model.embed_tokens.weight"])


def test_shards_without_the_encoder_name_the_one_that_was_frozen(tmp_path):
    state = {key: value for key, value in released_state().items() if not key.startswith("model.speech_encoder.")}
    write_release(tmp_path / "release", state, CONFIG, UNITS)
    assert convert(tmp_path / "release", tmp_path / "out").missing == ["speech_encoder.*"]
    arguments = arguments_in(tmp_path / "out")
    assert arguments["speech_encoder"] == {"name_or_path": "openai/whisper-large-v3", "pad_to_30s": True}
    assert arguments["speech_adapter"]["input_size"] == 64 and not (tmp_path / "out" / "speech_encoder").exists()


def test_a_dry_run_reports_and_writes_nothing(tmp_path, capsys):
    state = released_state()
    del state["lm_head.weight"], state["speech_generator.input_proj.2.bias"]
    state["model.speech_encoder.extra"] = torch.zeros(2)
    write_release(tmp_path / "release", state, CONFIG, UNITS)
    before = sorted(tmp_path.rglob("*"))
    words = ["convert", "freezeempath", str(tmp_path / "release"), "--out", str(tmp_path / "out")]
    assert main([*words, "--dry_run"]) == 1
    printed = capsys.readouterr().out
    assert "missing: language_model.lm_head.weight" in printed
    assert "missing: speech_decoder.fused.input_proj.2.bias" in printed
    assert "left over: model.speech_encoder.extra" in printed
    assert main(words) == 2
    assert "lacks 2 weights" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interrupted_conversion_leaves_nothing_and_the_next_one_works(release, tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(freezeempath, "write_model", interrupt)
        with pytest.raises(KeyboardInterrupt):
            convert(release, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["release"]
    # What a killed process left is cleared away, and what is finished is never written over.
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "half").write_text("")
    convert(release, tmp_path / "out")
    assert not list(tmp_path.rglob("half"))
    with pytest.raises(InputError, match="there already"):
        convert(release, tmp_path / "out")


def cut(file):
    file.write_bytes(file.read_bytes()[:-10])


SPOILED = {
    "is missing": lambda r: (r / "model-00003-of-00004.safetensors").unlink(),
    "model-00002.* is damaged": lambda r: cut(r / "model-00002-of-00004.safetensors"),
    "model-00001.* is damaged": lambda r: (r / "model-00001-of-00004.safetensors").write_bytes(b"x" * 100),
    "promises .*, which no shard holds": lambda r: save_file(
        {"other": torch.zeros(1)}, r / "model-00004-of-00004.safetensors"
    ),
    "index.json is damaged": lambda r: (r / "model.safetensors.index.json").write_text("{}"),
    "holds none of": lambda r: (r / "model.safetensors.index.json").unlink(),
    "config.json is missing": lambda r: (r / "config.json").unlink(),
    "config.json is damaged": lambda r: (r / "config.json").write_text("{"),
    "no speech_generator": lambda r: edit(r / "config.json", speech_generator=None),
    "no number for num_hidden_layers": lambda r: edit(r / "config.json", num_hidden_layers=None),
    "not two numbers": lambda r: edit(r / "config.json", stream_params="__import__('pathlib').Path('evil').touch()"),
    "has no <sep>": lambda r: [file.unlink() for file in (r / "tts_tokenizer").glob("*token*")],
    "has no <speech>": lambda r: [(r / name).unlink() for name in ("added_tokens.json", "tokenizer_config.json")],
    "hidden2emotion.weight, from which sizes": lambda r: without(r, "hidden2emotion.weight"),
    "is torch.int8, but only": lambda r: rewritten(r, lambda key, value: value.to(torch.int8)),
    "has ids up to 200": lambda r: edit(r / "tts_tokenizer" / "added_tokens.json", **{"<sep>": 200}),
}  # fmt: skip


@pytest.mark.parametrize("reason", SPOILED)
def test_what_is_wrong_with_a_release_is_said_in_one_line(release, tmp_path, reason, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SPOILED[reason](release)
    with pytest.raises(InputError, match=reason) as error:
        convert(release, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


def test_the_converted_encoder_hears_what_transformers_hears(release, tmp_path):
    convert(release, tmp_path / "out")
    encoder = SpeechEncoder.from_pretrained(str(tmp_path / "out" / "speech_encoder"), pad_to_30s=True)
    assert encoder.encoder.config.encoder_attention_heads == 1
    waveform = 0.1 * torch.randn(1, 16_000)
    expected = WhisperModel.from_pretrained(tmp_path / "out" / "speech_encoder").eval().encoder
    mel, _ = encoder.log_mel(torch.nn.functional.pad(waveform, (0, 464_000)), torch.tensor([480_000]))
    with torch.no_grad():
        frames = expected(mel).last_hidden_state
    torch.testing.assert_close(encoder(waveform, torch.tensor([16_000])).frames, frames, rtol=1e-4, atol=1e-5)
