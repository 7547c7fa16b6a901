"""A model card from what a checkpoint folder knows of itself: nothing in it that the folder does not say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from safetensors import safe_open

from empathy_lightning.checkpoint_backbones import backbones_in
from empathy_lightning.digests import folder_digest
from empathy_lightning.errors import InputError
from empathy_lightning.folders import read_config
from empathy_lightning.parts import entries, is_loaded

UNKNOWN = "not recorded"

_PAPERS = (
    "FreezeEmpath (arXiv 2604.18159), for the adapter, the emotion nuance module and the speech decoder",
    "RE-LLM (arXiv 2602.10716), for the ratings of arousal, valence and dominance",
)


def model_card(
    folder: Path,
    name: str,
    config: dict[str, Any] | None = None,
    figures: Sequence[Path] = (),
    licence: str | None = None,
    licences: Mapping[str, str | None] | None = None,
) -> str:
    """Markdown with the Hub's metadata at its head.

    Args:
        folder: Of the checkpoint.
        name: ``user/name`` under which it is to be found.
        config: Of the folder, as it is to be published; None reads it.
        figures: JSON files of ``evaluate``; those that say of which checkpoint they are have to be of this one.
        licence: The Hub's identifier of the terms of what was trained here.
        licences: Of the backbones, by name.

    Raises:
        InputError: If a file of figures cannot be used, or is of another checkpoint.
    """
    config = config or read_config(folder)
    parts = dict(entries(config["model"]))
    stages = _stages(folder)
    corpora = _corpora(stages)
    sections = [
        f"# {name.rpartition('/')[2]}\n\n{_summary(parts, config)}",
        f"## Use\n\n{_use(name, parts)}",
        f"## What it is made of\n\n{_made_of(folder, parts, config, licences or {})}",
        f"## How it was trained\n\n{_training(stages, corpora)}",
        f"## What was measured\n\n{_measured(folder, stages, figures)}",
        f"## What it is for\n\n{_INTENDED}",
        f"## What it cannot do\n\n{_limits(parts, config, stages, corpora)}",
        f"## Licence\n\n{_licence(licence)}",
        f"## How to cite\n\n{_citations(corpora)}",
    ]
    return f"---\n{_metadata(config, corpora, licence).to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"


_INTENDED = """\
Research on spoken dialogue that hears how something is said, and prototypes of it with people who know that they talk \
to a machine and who agreed to be heard. It is not for judging, hiring, insuring or watching people, nor for medicine \
or crises; recognising emotions at work and in schools is forbidden in some places (in the EU, by Article 5 of the AI \
Act)."""


def _metadata(config: dict[str, Any], corpora: Sequence[dict[str, Any]], licence: str | None) -> ModelCardData:
    named = {arguments["name_or_path"] for _, arguments in backbones_in(config["model"])}
    on_the_hub = [name for name in named if "/" in name and not name.startswith("small-world/")]
    languages: set[str] = set()
    for corpus in corpora:
        languages.update(corpus.get("languages") or ())
    speaks = "talker" in dict(entries(config["model"]))
    return ModelCardData(
        license=licence or "other",
        library_name="empathy_lightning",
        tags=["speech", "emotion-recognition", "spoken-dialogue", "empathy"],
        base_model=sorted(on_the_hub) or None,
        datasets=None,
        pipeline_tag="audio-to-audio" if speaks else "audio-classification",
        language=sorted(languages) or None,
    )


def _summary(parts: Mapping[str, Any], config: dict[str, Any]) -> str:
    does = []
    if "listener.emotion_nuance" in parts:
        named = config["model"]["init_args"].get("emotions") or []
        which = f" ({', '.join(named)})" if named else ""
        does.append(f"hears the emotion of speech{which}")
    if "responder" in parts:
        does.append("answers in words")
    if "talker" in parts:
        does.append("says its answer" if "talker.vocoder" in parts else "writes speech units of its answer")
    kind = parts[""]["class_path"].rpartition(".")[2]
    about = f"A spoken chatbot that {_listed(does)}." if does else f"A {kind}."
    return f"{about} The language model and the speech encoder around which it was trained are frozen and not in here."


def _listed(words: Sequence[str]) -> str:
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _use(name: str, parts: Mapping[str, Any]) -> str:
    if "responder" not in parts:
        code = (
            "from empathy_lightning.recogniser import EmotionRecogniser\n\n"
            f'print(EmotionRecogniser.from_pretrained("{name}").recognise("question.wav"))'
        )
        return f"```python\n{code}\n```"
    code = (
        "from empathy_lightning.chatbot import EmpatheticChatbot\n\n"
        f'(reply,) = EmpatheticChatbot.from_pretrained("{name}").respond("question.wav")\nprint(reply)'
    )
    return f"```python\n{code}\n```\n\n```\nempathy-lightning chat question.wav --checkpoint {name} --out replies\n```"


def _made_of(folder: Path, parts: Mapping[str, Any], config: dict[str, Any], licences: Mapping[str, str | None]) -> str:
    digests = config.get("backbones", {})
    rows = []
    for path, found in backbones_in(config["model"]):
        name, revision = found["name_or_path"], found.get("revision")
        how = [found[key] for key in ("dtype", "quantization") if found.get(key)]
        weights = (digests.get(path) or UNKNOWN)[:12]
        rows.append((path, name, revision or UNKNOWN, licences.get(name) or UNKNOWN, ", ".join(how) or "", weights))
    frozen = _table(("frozen backbone", "model", "revision", "licence", "loaded as", "weights (sha256)"), rows)
    trained = []
    for path, count in _sizes(folder, parts).items():
        trained.append((path or "all", parts[path]["class_path"].rpartition(".")[2], f"{count:,}"))
    return f"{frozen}\n\n{_table(('in this folder', 'class', 'numbers'), trained)}"


def _sizes(folder: Path, parts: Mapping[str, Any]) -> dict[str, int]:
    """How many numbers the folder holds of each part: of the innermost that is meant."""
    sizes: dict[str, int] = {}
    with safe_open(folder / "model.safetensors", "pt") as stored:
        for key in stored.keys():  # noqa: SIM118 - it is no dictionary
            above = [path for path in parts if not path or key.startswith(f"{path}.")]
            home = max(above, key=len)
            count = 1
            for size in stored.get_slice(key).get_shape():
                count *= size
            sizes[home] = sizes.get(home, 0) + count
    return dict(sorted(sizes.items()))


def _stages(folder: Path) -> list[dict[str, Any]]:
    file = folder / "training.json"
    if not file.is_file():
        return []
    found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")).get("stages", [])
    return found


def _corpora(stages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of all stages, each once."""
    found = {}
    for stage in stages:
        for corpus in stage["corpora"]:
            found[corpus["name"]] = corpus
    return [found[name] for name in sorted(found)]


def _training(stages: Sequence[dict[str, Any]], corpora: Sequence[dict[str, Any]]) -> str:
    if not stages:
        return f"By what and on what it was trained is {UNKNOWN}."
    rows = []
    for number, stage in enumerate(stages, 1):
        heard = ", ".join(f"{c['name']} ({c['utterances'].get('train', 0):,})" for c in stage["corpora"])
        trained = ", ".join(stage["trained"])
        rows.append((number, stage["task"], trained, heard or UNKNOWN, stage["epochs"], f"{stage['steps']:,}"))
    table = _table(("stage", "task", "trained", "corpora (training utterances)", "epochs", "steps"), rows)
    terms = []
    for corpus in corpora:
        speakers = corpus["speakers"] or UNKNOWN
        terms.append((corpus["name"], corpus["title"] or UNKNOWN, speakers, corpus["licence"] or UNKNOWN))
    return f"{table}\n\n{_table(('corpus', 'what', 'speakers', 'licence'), terms)}" if terms else table


def _measured(folder: Path, stages: Sequence[dict[str, Any]], files: Sequence[Path]) -> str:
    rows = []
    for file in files:
        for name, value in _figures(folder, file):
            rows.append((name, value, file.stem))
    validation = stages[-1]["validation"] if stages else {}
    for name, value in validation.items():
        if value is not None:
            rows.append((name, f"{value:.4g}", "validation of the last stage"))
    if not rows:
        return f"Nothing that this folder tells. What it is worth is {UNKNOWN}."
    return _table(("figure", "value (95 % interval)", "of"), rows)


def _figures(folder: Path, file: Path) -> list[tuple[str, str]]:
    """Numbers of a file of ``evaluate``, with their intervals where it has them."""
    try:
        measured = json.loads(file.read_text(encoding="utf-8"))
        of_run = (measured.get("bot") or {}).get("checkpoint_digest")
        of = measured.get("made_from", {}).get("checkpoint", of_run)
        named = [*_of_run(measured)] if "suites" in measured else [*measured.items()]
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{file} holds no figures: {error!r:.150}") from None
    if of not in (None, folder_digest(folder)):
        raise InputError(f"{file} was measured on another checkpoint than {folder}: measure this one")
    rows = []
    for name, value in named:
        words = name.replace("_", " ")
        if isinstance(value, dict) and {"value", "low", "high"} <= value.keys():
            rows.append((words, f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            rows.append((words, str(value)))
    if not rows:
        raise InputError(f"{file} holds no figures: give a JSON file that evaluate wrote, such as a run's metrics.json")
    return rows


def _of_run(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Figures of a metrics.json of ``evaluate run``, which orders them by suite and measure."""
    for suite, replies in metrics["suites"].items():
        for measure, said in replies["measures"].items():
            for name, value in said["figures"].items():
                yield f"{suite}, {measure}: {name}", value


def _limits(
    parts: Mapping[str, Any],
    config: dict[str, Any],
    stages: Sequence[dict[str, Any]],
    corpora: Sequence[dict[str, Any]],
) -> str:
    lines = []
    if named := config["model"]["init_args"].get("emotions"):
        lines.append(f"It knows no other emotions than {', '.join(named)}, and takes every voice for one of them.")
    listener = parts.get("listener", {"init_args": {}})["init_args"]
    if untrained := listener.get("untrained_heads"):
        lines.append(f"It does not tell {', '.join(untrained)}: nothing has trained that.")
    if "responder" not in parts:
        lines.append("It does not answer: it has no language model.")
    elif "talker" not in parts:
        lines.append("It does not speak: its answers are text.")
    if stages:
        named_corpora = ", ".join(corpus["name"] for corpus in corpora) or "corpora that are not recorded"
        lines.append(
            f"It has met {named_corpora} alone; other voices, languages, rooms and microphones may mislead it."
        )
    backbones = [found["init_args"].get("name_or_path", "") for found in parts.values() if is_loaded(found)]
    if any(name.startswith("small-world/") for name in backbones):
        lines.append("Its backbones are those of a small synthetic world: do not expect sense of real speech.")
    if "responder" in parts:
        lines.append(
            "What it says comes from a language model, which may be wrong and may hurt; it is no help in a crisis."
        )
    return "\n".join(f"- {line}" for line in lines)


def _licence(licence: str | None) -> str:
    if licence:
        return f"What was trained here: {licence}. The backbones and the corpora above have terms of their own."
    return "Whoever published this has stated no licence. The terms of the backbones and corpora above bind it."


def _citations(corpora: Sequence[dict[str, Any]]) -> str:
    cited = [f"- {corpus['citation']} ({corpus['name']})" for corpus in corpora if corpus["citation"]]
    return "\n".join([*(f"- {paper}" for paper in _PAPERS), *cited])


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for row in rows:
        # A bar in a cell would end it.
        cells = [str(cell).replace("|", "\\|") for cell in row]
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)
