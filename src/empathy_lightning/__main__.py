"""The command line: light commands around the trainers of :mod:`.commands.trainer`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from empathy_lightning import __version__
from empathy_lightning.commands import TRAINER_COMMANDS
from empathy_lightning.errors import InputError, mendable
from empathy_lightning.evaluation.commands import add_responses
from empathy_lightning.preparation.commands import add_answering

if TYPE_CHECKING:
    from empathy_lightning.corpora import Corpus

DEMO_CHECKPOINT = "outputs/demo/speech_decoder"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Words after ``empathy-lightning``; None takes those of the process.

    Returns:
        Exit code: 0; 2 for bad input, after one line that says what is wrong; 130 if it was interrupted, 143 if it
        was terminated.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words and words[0] in TRAINER_COMMANDS:
            from empathy_lightning.commands.trainer import train

            return train(None if arguments is None else words)
        options = _parser().parse_args(words)
        return options.run(options) or 0
    except Exception as error:
        fault = mendable(error)
        if fault is None:
            raise
        print(f"error: {' '.join(str(fault).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="empathy-lightning",
        description="Spoken chatbots that hear how something is said, around a language model that stays frozen.",
        epilog="Trainers: empathy-lightning fit|validate|test --config FILE.yaml (see fit --help).",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _add_chat(commands)

    prepare = commands.add_parser("prepare", help="make what the trainers need from what is there")
    steps = prepare.add_subparsers(required=True, metavar="STEP")
    synthetic = steps.add_parser("synthetic", help="render the small world's questions with eSpeak NG")
    synthetic.add_argument("--out", type=Path, required=True, help="folder of the corpus")
    for split, count in (("train", 3000), ("validation", 300), ("test", 300)):
        synthetic.add_argument(f"--{split}", type=int, default=count, help="utterances (default %(default)s)")
    synthetic.set_defaults(run=_synthetic)
    add_answering(steps)
    ratings = steps.add_parser("ratings", help="fill missing arousal, valence and dominance by a frozen encoder")
    ratings.add_argument("manifest", type=Path)
    ratings.add_argument("--out", type=Path, required=True, help="manifest with the ratings")
    ratings.add_argument("--emotion-encoder", required=True, help="folder or model id of a wav2vec 2.0 emotion model")
    ratings.set_defaults(run=_ratings)
    units = steps.add_parser("units", help="render the replies and turn them into speech units")
    units.add_argument("manifest", type=Path)
    units.add_argument("--out", type=Path, required=True, help="manifest with the units")
    units.add_argument("--vocoder", type=Path, required=True, help="folder of the vocoder; fitted if it is not there")
    units.add_argument("--train", type=int, help="most training replies to use (default: all)")
    units.set_defaults(run=_units)

    _add_corpora(commands)
    _add_ablate(commands)
    _add_convert(commands)

    report = commands.add_parser(
        "evaluate", help="measure a chatbot of the demo's small world and write an HTML report"
    )
    report.add_argument("--checkpoint", type=Path, default=Path(DEMO_CHECKPOINT), help="default: %(default)s")
    report.add_argument(
        "--manifest", type=Path, required=True, help="utterances with responses; its test split is used"
    )
    report.add_argument("--out", type=Path, required=True, help="folder for metrics.json, report.html and replies/")
    report.add_argument("--stages", nargs="*", type=Path, default=[], help="folders of the stages, for their curves")
    report.set_defaults(run=_evaluate)
    _add_evaluate_emotion(commands)
    add_responses(commands, DEMO_CHECKPOINT)
    return parser


def _add_evaluate_emotion(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("evaluate-emotion", help="ask a chatbot for the emotion of speech: UA, WA, confusion")
    command.add_argument("--checkpoint", type=Path, default=Path(DEMO_CHECKPOINT), help="default: %(default)s")
    command.add_argument("--manifest", type=Path, required=True, help="utterances with emotions")
    command.add_argument("--split", default="test", help="which to use, or `all` (default %(default)s)")
    command.add_argument(
        "--by", default="answer", help="answer (default): parse what it says; options: score the words; classifier"
    )
    command.add_argument("--parser", default="words", help="words (default) or substring, see the docs")
    command.add_argument("--per-token", action="store_true", help="divide an option's score by its tokens")
    command.add_argument(
        "--recipe", default="freezeempath", help="question of freezeempath (default), blsp-emo, re-llm"
    )
    command.add_argument("--prompt", help="question with {speech} (and {emotion}) instead of a recipe's")
    command.add_argument("--system", help="system message of that question")
    command.add_argument("--max-new-tokens", type=int, default=32, help="longest answer (default %(default)s)")
    command.add_argument("--out", type=Path, help="write figures and answers as JSON")
    command.add_argument(
        "--report", type=Path, help="write an HTML page: confusion, ratings, classes, speakers, curves"
    )
    command.set_defaults(run=_evaluate_emotion)


def _add_chat(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    chat = commands.add_parser("chat", help="answer recordings with text and speech")
    chat.add_argument("files", nargs="+", type=Path, help="WAV, FLAC, OGG or MP3, mono or stereo, 0.2 s to 5 min")
    chat.add_argument("--out", type=Path, required=True, help="folder for the spoken replies and replies.json")
    chat.add_argument("--checkpoint", type=Path, default=Path(DEMO_CHECKPOINT), help="default: %(default)s")
    chat.add_argument("--conversation", action="store_true", help="the files are the turns of one conversation")
    chat.add_argument("--explain", action="store_true", help="say and plot what each emotion embedding is made of")
    chat.add_argument("--language", help="of the replies: auto (the user's own) or a name; needs a capable model")
    chat.add_argument("--max-new-tokens", type=int, default=128, help="longest reply (default %(default)s)")
    chat.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest words (default)")
    chat.add_argument("--top-p", type=float, default=1.0, help="draw from the likeliest tokens with this probability")
    chat.add_argument("--seed", type=int, default=0, help="seed of the draws above temperature 0")
    chat.add_argument(
        "--unit-temperature", type=float, help="of the speech units' draws (default 0.4; released code: 1)"
    )
    chat.add_argument("--batch-size", type=int, default=8, help="files answered together (default %(default)s)")
    chat.set_defaults(run=_chat)


def _add_corpora(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    corpora = commands.add_parser("corpora", help="the corpora that can be read: list, check and export them")
    actions = corpora.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("list", help="names, licences and where to get them").set_defaults(run=_list_corpora)
    check = actions.add_parser("check", help="count, listen to every file and look for leaks; exit code 1 if wrong")
    export = actions.add_parser("export", help="write a corpus as one manifest")
    for action in (check, export):
        action.add_argument("name", help="as in `corpora list`")
        action.add_argument("root", help="folder of the corpus in its official layout")
        action.add_argument("--protocol", help="splits by a published protocol, see `corpora list`")
    check.add_argument("--out", type=Path, help="report as JSON (default: outputs/corpora/NAME.json)")
    check.set_defaults(run=_check_corpus)
    export.add_argument("--out", type=Path, required=True, help="FILE.jsonl or FILE.parquet, or a folder for shards")
    export.add_argument("--shards", action="store_true", help="write Parquet shards with the audio inside")
    export.set_defaults(run=_export_corpus)


def _add_ablate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    ablate = commands.add_parser("ablate", help="train and test the variants of a list, and print their table")
    ablate.add_argument("list", type=Path, help="YAML list of entries with name, config and overrides")
    ablate.add_argument("--out", type=Path, required=True, help="folder; variants that are finished there are skipped")
    ablate.add_argument(
        "--config", type=Path, action="append", default=[], help="YAML that overrides each variant's, for example paths"
    )
    ablate.add_argument("--only", nargs="+", metavar="NAME", help="run these variants only")
    ablate.set_defaults(run=_ablate)


def _ablate(options: argparse.Namespace) -> int:
    from empathy_lightning.evaluation.ablations import read_ablations, run_ablations, table

    ablations = read_ablations(options.list, options.config)
    unknown = set(options.only or []) - {ablation.name for ablation in ablations}
    if unknown:
        raise InputError(f"{options.list} has no entry named {', '.join(sorted(unknown))}")
    chosen = [a for a in ablations if options.only is None or a.name in options.only]
    figures = run_ablations(chosen, options.out)
    print(f"\n{table(figures)}\ntable: {options.out / 'ablations.md'}")
    return 0 if all(figures.values()) else 1


CONVERSIONS = {
    "freezeempath": "empathy_lightning.conversion.freezeempath",
    "blsp-emo": "empathy_lightning.conversion.blsp_emo",
    "re-llm": "empathy_lightning.conversion.re_llm",
    "audeering": "empathy_lightning.conversion.audeering",
    "epitome": "empathy_lightning.conversion.epitome",
}


def _add_convert(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    convert = commands.add_parser("convert", help="turn a released checkpoint into a folder of this library")
    convert.add_argument("name", choices=CONVERSIONS, help="whose checkpoint it is")
    convert.add_argument("source", type=Path, help="folder of the release")
    convert.add_argument("--out", type=Path, required=True, help="folder to write, which must not exist")
    convert.add_argument("--dry-run", action="store_true", help="only report the keys; exit code 1 if some are missing")
    convert.set_defaults(run=_convert)


def _convert(options: argparse.Namespace) -> int:
    from importlib import import_module

    report = import_module(CONVERSIONS[options.name]).convert(options.source, options.out, options.dry_run)
    print(report.describe())
    print("nothing was written" if options.dry_run else f"written: {options.out}")
    return 1 if options.dry_run and report.missing else 0


def _corpus(name: str, root: str) -> Corpus:
    from empathy_lightning.corpora import CORPORA

    if name not in CORPORA:
        raise InputError(f"no corpus named {name!r}; there are {', '.join(CORPORA)}")
    return CORPORA[name](root)


def _list_corpora(options: argparse.Namespace) -> None:
    from empathy_lightning.corpora import CORPORA, PROTOCOLS

    for name, corpus in CORPORA.items():
        total = sum(corpus.counts.values())
        print(f"{name:<20}{total or '?':>7} utterances  {','.join(corpus.languages):<6}  {corpus.title}")
        print(f"{'':<20}licence: {corpus.licence}\n{'':<20}{corpus.access}")
        if corpus.unconfirmed:
            print(f"{'':<20}not confirmed: {corpus.unconfirmed}")
    print("\nprotocols")
    for name, protocol in PROTOCOLS.items():
        print(f"{name:<24}{protocol.citation}")


def _check_corpus(options: argparse.Namespace) -> int:
    from empathy_lightning.corpora.check import check, describe, write_report
    from empathy_lightning.corpora.protocols import protocol_named

    protocol = protocol_named(options.protocol) if options.protocol else None
    report = check(_corpus(options.name, options.root), protocol)
    out = options.out or Path("outputs/corpora") / f"{options.name}.json"
    write_report(out, report)
    print(f"{describe(report)}\nreport: {out}")
    return 1 if report["problems"] else 0


def _export_corpus(options: argparse.Namespace) -> None:
    from empathy_lightning.corpora.manifest import write_manifest
    from empathy_lightning.corpora.protocols import protocol_named
    from empathy_lightning.corpora.shards import write_shards

    corpus = _corpus(options.name, options.root)
    utterances = corpus.utterances()
    if options.protocol:
        utterances = protocol_named(options.protocol)(utterances)
    if options.shards:
        write_shards(utterances, options.out)
    else:
        write_manifest(options.out, utterances)
    print(f"{len(utterances)} utterances in {options.out}, {len(corpus.skipped)} left out")


def _chat(options: argparse.Namespace) -> None:
    from empathy_lightning.chatbot import chat

    if not options.checkpoint.is_dir():
        raise InputError(
            f"no checkpoint at {options.checkpoint}; make the demo's with `make demo` or give --checkpoint"
        )
    words = {key: value for key, value in vars(options).items() if key != "run"}
    chat(**words)


def _synthetic(options: argparse.Namespace) -> None:
    from empathy_lightning.preparation.synthetic import write_synthetic_corpus

    print(write_synthetic_corpus(options.out, options.train, options.validation, options.test))


def _evaluate_emotion(options: argparse.Namespace) -> None:
    from empathy_lightning.evaluation.recognition import evaluate_emotion
    from empathy_lightning.prompts import Prompt, recipe_named

    recognition = recipe_named(options.recipe).recognition
    question = Prompt(options.prompt, options.system) if options.prompt else recognition
    files = (options.checkpoint, options.manifest, question, options.out, options.report)
    how = (options.by, options.parser, options.per_token, options.max_new_tokens)
    evaluate_emotion(*files, options.split, *how)


def _ratings(options: argparse.Namespace) -> None:
    from empathy_lightning.preparation.ratings import prepare_ratings

    print(prepare_ratings(options.manifest, options.out, options.emotion_encoder))


def _units(options: argparse.Namespace) -> None:
    from empathy_lightning.preparation.units import prepare_units, render_replies

    spoken = render_replies(options.manifest, options.out.parent / "spoken.jsonl", options.train)
    print(prepare_units(spoken, options.out, options.vocoder))


def _evaluate(options: argparse.Namespace) -> None:
    from empathy_lightning.evaluation.evaluate import evaluate

    evaluate(options.checkpoint, options.manifest, options.out, options.stages)


if __name__ == "__main__":
    raise SystemExit(main())
