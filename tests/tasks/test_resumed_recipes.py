"""Every recipe under examples/, stopped in the middle of its first epoch, ends as one that was not."""

import json
import shutil
from importlib import import_module

import pytest

from empathy_lightning.checkpoints import save
from empathy_lightning.configurations import located, read_yaml, recipe_names
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.modules.cached_encoder import CachedSpeechEncoder
from tests.corpora import epitome_reddit, nemo, ravdess
from tests.preparation.test_units import quantizer
from tests.tasks.test_empathy_classifier_task import write_roberta
from tests.tasks.test_resume import WATCH, exported, heard
from tests.test_examples import STAGES
from tests.test_recipes import (
    BLSP_EMO,
    FREEZEEMPATH,
    HEARD,
    LORA,
    RE_LLM,
    REAL,
    TEN,
    UNITS,
    fit,
    place,  # noqa: F401 - a fixture
    released,  # noqa: F401 - a fixture
    whole_recipe,
)

# Each in the order of its stages, which begin with the weights of those before them.
FAMILIES = {
    "freezeempath": [f"freezeempath/{stage}" for stage in FREEZEEMPATH],
    "blsp_emo": BLSP_EMO,
    "re_llm": RE_LLM,
    "ravdess": ["ravdess", "ravdess_whisper"],
    "real": list(REAL),
    "demo": [f"demo/{stage}" for stage in STAGES],
    "feelings": ["real/feelings"],
    "epitome": ["epitome"],
    "voice": ["demo/vocoder", "demo/vocoder_adversarial", "vocoder"],
}
TALKER = "--model.model.talker.speech_decoder.init_args"
VOICE = [
    "--trainer.max_epochs=2",
    "--data.batch_size=4",
    "--model.stretch=3",
    "--model.vocoder.num_units=16",
    "--model.vocoder.hidden_size=8",
    "--model.vocoder.num_layers=1",
]
WORDS = {
    "freezeempath/3a_speech_decoder_pretraining": [
        f"{TALKER}.num_units=8", f"{TALKER}.name_or_path=${{backbones.language_model}}",
    ],
    "freezeempath/3b_query_to_response": UNITS,
    "blsp_emo/stage2": LORA,
    "blsp_emo/cformer": ["--model.model.listener.speech_adapter.init_args.intermediate_size=48"],
    **dict.fromkeys(RE_LLM, LORA),
    **dict.fromkeys(REAL, HEARD),
    # Its averaged weights, its precision, and a validation at the end.
    "ravdess": ["--data.batch_size=8", "--trainer.precision=bf16-mixed", "--trainer.check_val_every_n_epoch=1"],
    "ravdess_whisper": ["--data.batch_size=8"],
    "real/feelings": ["--data.batch_size=8", "--data.allow_empty_classes=true", "--data.max_left_out=1"],
    "epitome": ["--data.batch_size=8", "--model.classifier.name_or_path=roberta"],
    **{recipe: ["--data.batch_seconds=4"] for recipe in FAMILIES["demo"]},
    **dict.fromkeys(FAMILIES["voice"], VOICE),
}  # fmt: skip
"""What makes a recipe's own parts and batches tiny too."""


@pytest.fixture
def everything(place, released, corpus):  # noqa: F811
    """What the recipes read, each in its place."""
    for name in TEN:
        import_module(f"tests.corpora.{name}").write(place / "data" / name)
    ravdess.write(place / "data/ravdess")
    nemo.write(place / "data/nemo")
    epitome_reddit.write(place / "Empathy-Mental-Health")
    write_roberta(place / "roberta")
    for name in ("labelled", "units"):
        write_manifest(place / "outputs/demo/corpus" / f"{name}.jsonl", read_manifest(corpus))
    write_manifest(place / "voice/manifest.jsonl", read_manifest(corpus))
    save(place / "voice/quantizer", quantizer(0))
    return place


def export_of(recipe):
    """The folder that a recipe leaves behind."""
    return whole_recipe(recipe)["out"]


def fit_watched(recipe, place, name, *words, keep=False):  # noqa: F811
    """Fit a recipe; the batches that were heard, what was exported and the checkpoints of all moments."""
    folder = place / "watched" / recipe / name
    arguments = {"folder": str(folder / "moments") if keep else None, "heard": str(folder)}
    watch = json.dumps({"class_path": WATCH, "init_args": arguments})
    if recipe.startswith("demo/"):
        # A process that goes on has encoded nothing yet.
        CachedSpeechEncoder.shared("small-world/speech_encoder").forget()
    fit(recipe, *WORDS.get(recipe, []), f"--trainer.callbacks+={watch}", *words)
    end = exported(place / export_of(recipe))
    return heard(folder), end, sorted(folder.glob("moments/*.ckpt"))


def test_every_recipe_that_trains_is_resumed_here():
    trained = {name for name in recipe_names() if "out" in read_yaml(located(f"recipe:{name}"))}
    assert {recipe for family in FAMILIES.values() for recipe in family} == trained


@pytest.mark.parametrize("family", FAMILIES)
def test_from_the_middle_of_an_epoch_to_the_same_end(family, everything):
    for recipe in FAMILIES[family]:
        whole, end, moments = fit_watched(recipe, everything, "first", keep=True)
        middle = moments[1]
        assert middle.stem == "001_batch"
        shutil.rmtree(everything / export_of(recipe))
        rest, resumed_end, _ = fit_watched(recipe, everything, "second", f"--ckpt_path={middle}", "--again=true")
        assert len(rest) > 1 and rest == whole[2:], recipe
        assert resumed_end == end, recipe
