"""Every full-size recipe under examples/ trains at tiny size: other models and fewer steps, the rest as it stands."""

import json
from dataclasses import replace
from importlib import import_module

import pytest
import torch
import yaml
from transformers import Qwen2Config, WhisperConfig

from empathy_lightning.__main__ import main
from empathy_lightning.checkpoints import load, save
from empathy_lightning.configurations import merged
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.modules.convolutional_adapter import ConvolutionalAdapter
from empathy_lightning.modules.emotion_encoder import EmotionEncoder
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.partial_lora import PartialLora
from empathy_lightning.modules.pooled_heads import PooledEmotionHeads
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.papers import PAPERS
from empathy_lightning.prompts import Prompt
from empathy_lightning.tasks import EmotionNuanceTask
from empathy_lightning.utterance import EMOTIONS
from tests.conftest import ROOT
from tests.modules.test_emotion_encoder import tiny_config, write_checkpoint
from tests.tiny import spoken, whole

EXAMPLES = ROOT / "examples"
FREEZEEMPATH = (
    "1_semantic_alignment", "2a_ser_pretraining", "2b_empathetic_instruction_tuning", "3a_speech_decoder_pretraining",
    "3b_query_to_response",
)  # fmt: skip
RE_LLM = ("re_llm/iemocap", "re_llm/esd", "re_llm/msp_podcast")
BLSP_EMO = ("blsp_emo/stage1", "blsp_emo/stage2", "blsp_emo/cformer")
REAL = ("real/1_words", "real/2_replies")
HEARD = ["--model.model.listener.speech_adapter.init_args.num_tokens=259"]
TEN = ("iemocap", "meld", "mead", "asvp_esd", "cremad", "subesco", "m3ed", "emozionalmente", "esd", "mafw")


@pytest.fixture
def place(backbones, corpus, tmp_path, monkeypatch):
    """A working folder with tiny models and, under the recipes' own names, tiny data."""
    monkeypatch.chdir(tmp_path)
    for folder, names in (
        ("freezeempath", ("instructions", "pseudo_dialogues", "emotional", "texts_with_units", "dialogues_with_units")),
        ("blsp_emo", ("continuations", "emotional")), ("re_llm", ("iemocap", "esd", "msp_podcast")),
    ):  # fmt: skip
        for name in names:
            utterances = read_manifest(corpus)
            if name == "pseudo_dialogues":
                for utterance, other in zip(utterances, reversed(read_manifest(corpus)), strict=True):
                    utterance.emotion_path, utterance.emotion = other.path, other.emotion
            write_manifest(tmp_path / "data" / folder / f"{name}.jsonl", utterances)
    for name in ("templates", "written", "answered"):
        rows = [replace(u, corpus=name) for u in read_manifest(corpus)]
        write_manifest(tmp_path / "outputs/real" / f"{name}.jsonl", rows)
    emotion_encoder = write_checkpoint(tmp_path / "emotion", EmotionEncoder(tiny_config()).state_dict(), tiny_config())
    tiny(
        tmp_path / "tiny.yaml",
        backbones={
            "speech_encoder": str(backbones / "speech_encoder"), "language_model": str(backbones / "language_model"),
            "emotion_encoder": str(emotion_encoder), "end_token_id": 0,
        },
        trainer={
            "devices": 1, "strategy": "auto", "precision": "32-true", "max_epochs": 1, "limit_train_batches": 4,
            "limit_val_batches": 1, "accumulate_grad_batches": 2, "enable_progress_bar": False,
            "enable_model_summary": False,
        },
        data={"num_workers": 0, "max_left_out": 1.0},  # the fakers write odd cases on purpose
    )  # fmt: skip
    return tmp_path


def whole_recipe(name):
    """The content of a recipe with what it stands on."""
    return merged([EXAMPLES / f"{name}.yaml"])


def tiny(path, **content):
    path.write_text(yaml.safe_dump(content))


def fit(recipe, *words):
    configs = ["--config", str(EXAMPLES / f"{recipe}.yaml"), "--config", "tiny.yaml"]
    assert main(["fit", *configs, *words]) == 0


def training(folder):
    return json.loads((folder / "training.json").read_text())


def changed(before, after):
    return {name for name, value in after.state_dict().items() if not torch.equal(value, before.state_dict()[name])}


UNITS = [
    f"--model.model.talker.speech_decoder.init_args.{name}={value}"
    for name, value in (
        ("num_units", 8), ("body.hidden_size", 32), ("body.num_layers", 2), ("body.num_heads", 4),
        ("body.num_key_value_heads", 2), ("body.intermediate_size", 64), ("body.rope_theta", 10000),
    )
]  # fmt: skip


def seen_in_training(monkeypatch):
    """The batches of the trainings that follow."""
    batches, step = [], EmotionNuanceTask.training_step

    def _step(task, batch, batch_idx):
        batches.append(batch)
        return step(task, batch, batch_idx)

    monkeypatch.setattr(EmotionNuanceTask, "training_step", _step)
    return batches


def test_recognition_is_left_out_of_2b_by_one_override(place, monkeypatch):
    fit("freezeempath/1_semantic_alignment")
    (place / "data/freezeempath/emotional.jsonl").unlink()
    batches = seen_in_training(monkeypatch)
    weights = "--model.initial_weights=[outputs/freezeempath/1_semantic_alignment]"
    fit("freezeempath/2b_empathetic_instruction_tuning", "--data.mixed_in=[]", weights)
    assert len(batches) == 3 and not any(batch.prompts for batch in batches)


def test_freezeempath_from_stage_to_stage(place, backbones, monkeypatch):
    out = place / "outputs/freezeempath"
    fit("freezeempath/1_semantic_alignment")
    for name in TEN:
        import_module(f"tests.corpora.{name}").write(place / "data" / name)
    fit("freezeempath/2a_ser_pretraining")
    batches = seen_in_training(monkeypatch)
    fit("freezeempath/2b_empathetic_instruction_tuning")
    question = whole_recipe("freezeempath/2a_ser_pretraining")
    asked = Prompt(question["model"]["init_args"]["model"]["responder"]["prompt"])
    assert any({None, asked} == set(batch.prompts) for batch in batches)
    for batch in batches:
        for prompt, response, emotion in zip(
            batch.prompts, batch.responses, batch.emotions, strict=bool(batch.prompts)
        ):
            assert prompt in (None, asked) and (prompt == asked) == (response == emotion)
    begin = f"--model.model.talker.speech_decoder.init_args.name_or_path={backbones / 'language_model'}"
    fit(
        "freezeempath/3a_speech_decoder_pretraining", "--model.model.talker.speech_decoder.init_args.num_units=8", begin
    )
    fit("freezeempath/3b_query_to_response", *UNITS)
    stages = [load(out / stage) for stage in FREEZEEMPATH]
    assert all(training(out / stage)["frozen_unchanged"] for stage in FREEZEEMPATH)
    one, recognition, tuned, pretrained, whole = stages
    assert not changed(one.listener.speech_adapter, whole.listener.speech_adapter)
    assert changed(recognition.listener.emotion_nuance.extractor, tuned.listener.emotion_nuance.extractor)
    assert not changed(
        recognition.listener.emotion_nuance.categorical_head, tuned.listener.emotion_nuance.categorical_head
    )
    assert not changed(tuned.listener.emotion_nuance, whole.listener.emotion_nuance)
    # A rate of 1e-5 over two steps: the decoder is still the pretrained one, and not quite.
    assert changed(pretrained.talker.speech_decoder, whole.talker.speech_decoder)
    for ours, theirs in zip(
        whole.talker.speech_decoder.parameters(), pretrained.talker.speech_decoder.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    assert "validation/categorical_loss" in training(out / FREEZEEMPATH[1])["history"][-1]


LORA = [
    f"--model.model.responder.partial_lora.init_args.{name}={value}"
    for name, value in (("intermediate_size", 64), ("num_layers", 2), ("attention_sizes", "[32, 16]"))
]


def test_blsp_emo_from_stage_to_stage(place):
    fit("blsp_emo/stage1")
    one = place / "outputs/blsp_emo/stage1"
    assert training(one)["history"][-1]["validation/distillation_loss"] >= 0
    fit("blsp_emo/stage2", *LORA)
    two = place / "outputs/blsp_emo/stage2"
    before, after = load(one), load(two)
    assert changed(before.listener.speech_adapter, after.listener.speech_adapter)
    assert any(
        value.abs().sum() > 0 for name, value in after.responder.partial_lora.state_dict().items() if "lora_B" in name
    )
    assert training(one)["frozen_unchanged"] and training(two)["frozen_unchanged"]


def test_an_adapter_that_fires_learns_by_its_own_losses(place):
    fit("blsp_emo/cformer", "--model.model.listener.speech_adapter.init_args.intermediate_size=48")
    out = place / "outputs/blsp_emo/cformer"
    figures = training(out)["history"][-1]
    assert figures["train/quantity_loss"] > 0 and figures["train/input_kl_loss"] > 0
    assert figures["validation/quantity_loss"] > 0 and figures["validation/distillation_loss"] > 0
    assert training(out)["frozen_unchanged"]
    adapter = load(out).listener.speech_adapter
    assert adapter.counts_tokens and adapter.cif_proj.weight.isfinite().all()


@pytest.fixture
def released(place, backbones):
    """A tiny BLSP-Emo in the place where the conversion puts the released one."""
    encoder = SpeechEncoder.from_pretrained(str(backbones / "speech_encoder"))
    language_model = LanguageModel.from_pretrained(str(backbones / "language_model"))
    lora = PartialLora.for_model(language_model.model)
    model = whole(encoder, ConvolutionalAdapter(32, 32), language_model, PooledEmotionHeads(32), partial_lora=lora)
    save(place / "models/blsp-emo", spoken(model, list(EMOTIONS)))
    return model


@pytest.mark.parametrize("recipe", RE_LLM)
def test_re_llm(place, released, recipe):
    fit(recipe, *LORA)
    corpus = recipe.removeprefix("re_llm/")
    out = place / "outputs/re_llm" / corpus
    model = load(out)
    assert changed(released.listener.emotion_nuance, model.listener.emotion_nuance) and changed(
        released.responder.partial_lora, model.responder.partial_lora
    )
    # Two steps from BLSP-Emo's adapter: its channels are still near, and the emotion's are read a little.
    first, start = (
        model.listener.speech_adapter.convolutions[0].weight,
        released.listener.speech_adapter.convolutions[0].weight,
    )
    torch.testing.assert_close(first[:32, :32], start[:32], rtol=0, atol=1e-3)
    facts = training(out)
    assert facts["frozen_unchanged"] and {"validation/response_loss", "validation/categorical_loss",
                                          "validation/rating_loss"} <= set(facts["history"][-1])  # fmt: skip


def test_one_override_trains_on_the_raters_votes(place, released):
    """As the first lines of the recipe say; only training utterances have votes here, all have labels."""
    path = place / "data/re_llm/msp_podcast.jsonl"
    utterances = read_manifest(path)
    for utterance in utterances:
        utterance.emotion_votes = {"sad": 0.75, "contempt": 0.25} if utterance.split == "train" else {}
    write_manifest(path, utterances)
    lines = (EXAMPLES / "re_llm/msp_podcast.yaml").read_text().splitlines()
    (override,) = [line.strip("# ").split() for line in lines if "SoftLabelLoss" in line]
    fit("re_llm/msp_podcast", *override, *LORA)
    figures = training(place / "outputs/re_llm/msp_podcast")["history"][-1]
    assert figures["train/categorical_loss"] > 0 == figures["validation/categorical_loss"]


def test_a_yaml_brings_a_loss_from_outside_the_package(place, released, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    fit("re_llm/iemocap", "--config", str(EXAMPLES / "custom_loss.yaml"), "--data.batch_size=8", *LORA)
    figures = training(place / "outputs/re_llm/iemocap")["history"][-1]
    names = ("response", "categorical", "rating", "contrast")
    response, categorical, rating, contrast = (figures[f"train/{name}_loss"] for name in names)
    expected = response + 0.8 * categorical + 4.0 * rating + 0.1 * contrast
    assert contrast > 0 and figures["train/loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("preset", sorted(path.stem for path in (EXAMPLES / "presets").glob("*whisper*.yaml")))
def test_a_preset_reaches_every_part(preset, capsys, monkeypatch, tmp_path):
    """The parsed configuration, as it would be run, has the preset's models and their widths wherever they belong."""
    monkeypatch.chdir(tmp_path)
    named = yaml.safe_load((EXAMPLES / "presets" / f"{preset}.yaml").read_text())["backbones"]
    WhisperConfig(d_model=24).save_pretrained(tmp_path / named["speech_encoder"])
    Qwen2Config(hidden_size=40, vocab_size=70).save_pretrained(tmp_path / named["language_model"])
    configs = ["--config", str(EXAMPLES / "freezeempath/3b_query_to_response.yaml")]
    with pytest.raises(SystemExit):
        main(["fit", *configs, "--config", str(EXAMPLES / f"presets/{preset}.yaml"), "--print_config"])
    arguments = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    parts = {}
    for half in ("listener", "responder", "talker"):
        for name, part in arguments["model"]["init_args"][half]["init_args"].items():
            if isinstance(part, dict):
                parts[name] = part["init_args"]
    assert parts["language_model"]["name_or_path"] == named["language_model"]
    assert parts["speech_encoder"]["name_or_path"] == named["speech_encoder"]
    for name in ("speech_adapter", "emotion_nuance"):
        assert (parts[name]["input_size"], parts[name]["output_size"]) == (24, 40)
    decoder = parts["speech_decoder"]
    assert (decoder["input_size"], decoder["text_vocab_size"]) == (40, 70)
    assert decoder["end_token_id"] == named["end_token_id"]


def test_the_presets_of_machines(place):
    tiny_ = yaml.safe_load((place / "tiny.yaml").read_text())
    del tiny_["trainer"]["devices"], tiny_["trainer"]["strategy"], tiny_["trainer"]["accumulate_grad_batches"]
    tiny(place / "tiny.yaml", **tiny_)
    recipe, preset = EXAMPLES / "freezeempath/1_semantic_alignment.yaml", EXAMPLES / "presets/one_gpu.yaml"
    assert main(["fit", "--config", str(recipe), "--config", str(preset), "--config", "tiny.yaml"]) == 0
    assert training(place / "outputs/freezeempath/1_semantic_alignment")["frozen_unchanged"]


PER_STEP = dict.fromkeys((f"freezeempath/{stage}" for stage in FREEZEEMPATH[:3]), 128)
PER_STEP |= dict.fromkeys((f"freezeempath/{stage}" for stage in FREEZEEMPATH[3:]), 32)
PER_STEP |= {"blsp_emo/stage1": 768, "blsp_emo/cformer": 768, "blsp_emo/stage2": 128} | dict.fromkeys(RE_LLM, 16)
PRESETS = {
    "one_gpu": (*(f"freezeempath/{stage}" for stage in FREEZEEMPATH[:3]), "blsp_emo/stage2"),
    "one_gpu_stage3": tuple(f"freezeempath/{stage}" for stage in FREEZEEMPATH[3:]),
    "one_gpu_blsp_emo_stage1": ("blsp_emo/stage1", "blsp_emo/cformer"),
}
PAIRS = [(recipe, None) for recipe in PER_STEP]
PAIRS += [(recipe, preset) for preset, recipes in PRESETS.items() for recipe in recipes]


@pytest.mark.parametrize(("recipe", "preset"), PAIRS)
def test_effective_batches_are_the_papers(recipe, preset):
    content = whole_recipe(recipe)
    if preset is not None:
        machine = yaml.safe_load((EXAMPLES / f"presets/{preset}.yaml").read_text())
        assert machine["trainer"]["devices"] == 1
        content["trainer"] |= machine["trainer"]
        content["data"] |= machine["data"]
    trainer, data = content["trainer"], content["data"]
    assert data["batch_size"] * trainer["devices"] * trainer["accumulate_grad_batches"] == PER_STEP[recipe]


def test_each_recipe_of_many_gpus_has_a_preset_for_one():
    several = {recipe for recipe in PER_STEP if whole_recipe(recipe)["trainer"]["devices"] > 1}
    assert several == {recipe for recipes in PRESETS.values() for recipe in recipes}
    assert set(PRESETS) == {path.stem for path in (EXAMPLES / "presets").glob("one_gpu*.yaml")}


def test_the_questions_of_training_and_evaluation_are_the_same():
    def _asked(name):
        responder = whole_recipe(name)["model"]["init_args"]["model"]["responder"]
        return Prompt(responder["prompt"], responder.get("system"))

    freezeempath = PAPERS["freezeempath"]
    assert _asked("freezeempath/1_semantic_alignment") == freezeempath.unlabelled
    assert _asked("freezeempath/2a_ser_pretraining") == freezeempath.recognition
    (mixed_in,) = whole_recipe("freezeempath/2b_empathetic_instruction_tuning")["data"]["mixed_in"]
    assert Prompt(mixed_in["prompt"], mixed_in.get("system")) == freezeempath.recognition
    assert all(name in freezeempath.recognition.user for name in EMOTIONS)
    for stage in ("2b_empathetic_instruction_tuning", "3b_query_to_response"):
        assert _asked(f"freezeempath/{stage}") == freezeempath.spoken
    for stage in ("stage1", "cformer"):
        assert _asked(f"blsp_emo/{stage}") == PAPERS["blsp_emo"].unlabelled
    assert _asked("blsp_emo/stage2") == PAPERS["blsp_emo"].spoken
    for name in RE_LLM:
        assert _asked(f"{name}") == PAPERS["re_llm"].spoken
