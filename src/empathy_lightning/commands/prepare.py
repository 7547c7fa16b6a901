"""The commands `prepare ...`; what they need is imported when they run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from empathy_lightning.choices import DTYPES, ENGINES, RECIPES, REFUSALS, TRUST
from empathy_lightning.errors import InputError
from empathy_lightning.options import add_again, add_left_out

if TYPE_CHECKING:
    from empathy_lightning.preparation.engines import Generation
    from empathy_lightning.preparation.response_selection import ResponseSelection


def add_preparation(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add all steps."""
    prepare = commands.add_parser("prepare", help="make what the trainers need from what is there")
    steps = prepare.add_subparsers(required=True, metavar="STEP")
    _add_synthetic(steps)
    _add_answering(steps)
    ratings = steps.add_parser("ratings", help="fill missing arousal, valence and dominance by a frozen encoder")
    ratings.add_argument("manifest", type=Path)
    ratings.add_argument("--out", type=Path, required=True, help="manifest with the ratings")
    ratings.add_argument("--emotion-encoder", required=True, help="folder or model id of a wav2vec 2.0 emotion model")
    add_again(ratings)
    add_left_out(ratings)
    ratings.set_defaults(run=_ratings)
    _add_units(steps)


def _add_synthetic(steps: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    synthetic = steps.add_parser("synthetic", help="render the small world's questions with eSpeak NG")
    synthetic.add_argument("--out", type=Path, required=True, help="folder of the corpus")
    for split, count in (("train", 3000), ("validation", 300), ("test", 300)):
        synthetic.add_argument(f"--{split}", type=int, default=count, help="utterances (default %(default)s)")
    add_again(synthetic)
    synthetic.set_defaults(run=_synthetic)


def _add_units(steps: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    units = steps.add_parser("units", help="turn the speech of the replies into speech units")
    units.add_argument("manifest", type=Path)
    units.add_argument("--out", type=Path, required=True, help="manifest with the units")
    units.add_argument(
        "--vocoder", type=Path, help="folder of the vocoder that is also the quantiser; fitted if it is not there"
    )
    units.add_argument("--quantizer", type=Path, help="folder of a quantiser instead, a part with encode(waveform)")
    units.add_argument("--trust", metavar="PACKAGE", action="append", default=[], help=TRUST)
    units.add_argument("--train", type=int, help="most training replies to use (default: all)")
    units.add_argument(
        "--render",
        action="store_true",
        help="say every reply with eSpeak NG (default: only where no reply has a recording, response_path)",
    )
    add_again(units)
    add_left_out(units)
    units.set_defaults(run=_units)


def _add_answering(steps: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Both steps in which the frozen language model answers."""
    responses = steps.add_parser("responses", help="let the frozen language model answer each transcript")
    responses.add_argument("manifest", type=Path)
    add_left_out(responses)
    responses.add_argument("--without-emotion", action="store_true", help="answer the transcript alone (stage 1)")
    responses.set_defaults(run=_responses)
    pairs = steps.add_parser("pseudo-dialogues", help="pair spoken instructions with emotional speech (FreezeEmpath)")
    pairs.add_argument("manifest", type=Path, help="spoken instructions with transcripts")
    pairs.add_argument("--recordings", type=Path, required=True, help="manifest of emotional speech with labels")
    pairs.add_argument("--distribution", help="neutral=0.3,happy=0.2,... (default: that of the recordings)")
    pairs.add_argument("--per-recording", type=int, default=1, help="dialogues for each recording (default 1)")
    add_left_out(pairs)
    pairs.set_defaults(run=_pseudo_dialogues, without_emotion=False)
    for step in (responses, pairs):
        step.add_argument("--out", type=Path, required=True, help="manifest to write, .jsonl or .parquet")
        step.add_argument("--language-model", required=True, help="folder or model id")
        step.add_argument("--recipe", choices=RECIPES, help="prompts of a paper")
        step.add_argument("--prompt", help="user's turn with {speech} and {emotion} instead of a recipe's")
        step.add_argument("--system", help="system message")
        add_again(step)
        _add_generation(step)
        _add_selection(step)


def _add_generation(step: argparse.ArgumentParser) -> None:
    group = step.add_argument_group("generation (under torchrun the shards are divided among the processes)")
    group.add_argument("--max-new-tokens", type=int, help="longest reply (default: the recipe's, or 64)")
    group.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest words (default)")
    group.add_argument("--seed", type=int, default=0, help="seed of all draws")
    group.add_argument("--batch-size", type=int, default=64, help="prompts at a time (default %(default)s)")
    group.add_argument("--per-shard", type=int, default=1024, help="utterances in a shard (default %(default)s)")
    group.add_argument(
        "--dtype", choices=DTYPES, default=DTYPES[0], help="precision of the weights (default %(default)s)"
    )
    group.add_argument(
        "--engine", choices=ENGINES, default=ENGINES[0], help="what runs the model (default %(default)s)"
    )


def _add_selection(step: argparse.ArgumentParser) -> None:
    group = step.add_argument_group("what is kept (changing it asks the model nothing again)")
    group.add_argument("--refusals", choices=REFUSALS, default=REFUSALS[0], help="filter (default %(default)s)")
    group.add_argument("--drop-cut", action="store_true", help="drop replies cut at the longest length")
    group.add_argument("--min-words", type=int, help="fewest words of a reply")
    group.add_argument("--max-words", type=int, help="most words of a reply")
    group.add_argument("--script", help="language whose script the replies must have, or `own` for each utterance's")
    group.add_argument("--max-repeats", type=int, help="how often the same words may come")
    group.add_argument("--max-overlap", type=float, help="3-gram overlap (0..1) from which a reply is a duplicate")
    group.add_argument("--max-similarity", type=float, help="cosine of mean embeddings above which replies are alike")
    group.add_argument("--keep", type=int, help="keep this many replies that lie farthest apart")


def _synthetic(options: argparse.Namespace) -> None:
    from empathy_lightning.small_world.corpus import write_synthetic_corpus

    sizes = (options.train, options.validation, options.test)
    print(write_synthetic_corpus(options.out, *sizes, again=options.again))


def _ratings(options: argparse.Namespace) -> None:
    from empathy_lightning.preparation.ratings import prepare_ratings

    kept = {"again": options.again, "max_left_out": options.allow_left_out}
    print(prepare_ratings(options.manifest, options.out, options.emotion_encoder, **kept))


def _units(options: argparse.Namespace) -> None:
    from empathy_lightning.preparation.units import prepare_units

    files = (options.manifest, options.out, options.vocoder)
    kept = {"max_left_out": options.allow_left_out, "quantizer_folder": options.quantizer, "trust": options.trust}
    print(prepare_units(*files, options.train, options.render, options.again, **kept))


def _responses(options: argparse.Namespace) -> None:
    from empathy_lightning.preparation.responses import prepare_responses

    asked = vars(_generation(options))
    kept = {"selection": _selection(options), "per_shard": options.per_shard, "again": options.again}
    kept["max_left_out"] = options.allow_left_out
    print(prepare_responses(options.manifest, options.out, **kept, **asked))


def _pseudo_dialogues(options: argparse.Namespace) -> None:
    from empathy_lightning.preparation.pseudo_dialogues import parse_distribution, prepare_pseudo_dialogues

    shares = parse_distribution(options.distribution) if options.distribution else None
    files = (options.manifest, options.recordings, options.out)
    how = (shares, options.per_recording, options.per_shard)
    kept = {"again": options.again, "max_left_out": options.allow_left_out}
    print(prepare_pseudo_dialogues(*files, _generation(options), _selection(options), *how, **kept))


def _generation(options: argparse.Namespace) -> Generation:
    from empathy_lightning.preparation.engines import Generation
    from empathy_lightning.prompts import SPEECH_AND_EMOTION, SPEECH_ONLY, Prompt
    from empathy_lightning.recipes import recipe_named

    prompt, longest = Prompt(SPEECH_ONLY if options.without_emotion else SPEECH_AND_EMOTION), 64
    if options.recipe:
        if options.prompt:
            raise InputError("give --recipe or --prompt, not both")
        recipe = recipe_named(options.recipe)
        prompt, longest = recipe.unlabelled if options.without_emotion else recipe.labelled, recipe.max_new_tokens
    prompt = Prompt(options.prompt or prompt.user, prompt.system if options.system is None else options.system)
    for name in ("max_new_tokens", "batch_size", "per_shard"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} must be 1 or more")
    return Generation(
        options.language_model,
        prompt,
        options.max_new_tokens or longest,
        options.temperature,
        options.seed,
        options.batch_size,
        options.dtype,
        options.engine,
    )


def _selection(options: argparse.Namespace) -> ResponseSelection:
    from empathy_lightning.preparation import response_selection
    from empathy_lightning.text import Rule, cut, empty, in_script, length_within

    refusal = response_selection.REFUSALS[options.refusals]
    rules: list[Rule] = [empty]
    rules += (
        [length_within(options.min_words or 0, options.max_words)] if options.min_words or options.max_words else []
    )
    rules += [refusal] if refusal else []
    rules += [cut] if options.drop_cut else []
    rules += [in_script(None if options.script == "own" else options.script)] if options.script else []
    return response_selection.ResponseSelection(
        tuple(rules), options.max_repeats, options.max_overlap, options.max_similarity, options.keep
    )
