"""The command line: light commands around the trainers of :mod:`.commands.trainer`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from empathy_lightning import __version__
from empathy_lightning.choices import PARSERS, RECIPES, RECOGNISERS, TRUST
from empathy_lightning.commands import TRAINER_COMMANDS
from empathy_lightning.commands.corpora import add_corpora
from empathy_lightning.commands.evaluate import add_responses
from empathy_lightning.commands.prepare import add_preparation
from empathy_lightning.errors import InputError, concerns_named_file, meant
from empathy_lightning.options import add_left_out
from empathy_lightning.threads import share_the_machine

DEMO_CHECKPOINT = "outputs/demo/speech_decoder"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Words after ``empathy-lightning``; None takes those of the process.

    Returns:
        Exit code: 0; 2 for bad input, after one line that says what is wrong; 130 if it was interrupted, 143 if it
        was terminated. An error of the program itself is raised.
    """
    share_the_machine()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words and words[0] in TRAINER_COMMANDS:
            from empathy_lightning.commands.trainer import train

            return train(None if arguments is None else words)
        options = _parser().parse_args(words)
        return options.run(options) or 0
    except InputError as error:
        return _refused(error)
    except OSError as error:
        # A fault of the program's own is shown as one, with its traceback.
        if not concerns_named_file(error, words):
            raise
        return _refused(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _refused(error: Exception) -> int:
    """Say in one line what cannot be used; with EMPATHY_TRACEBACK=1, show where that was found too."""
    if os.environ.get("EMPATHY_TRACEBACK") == "1":
        raise error
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


class _Parser(argparse.ArgumentParser):
    """A parser that asks whether another word was meant."""

    def error(self, message: str) -> NoReturn:
        """The message in one line, and where to read on."""
        wrong = re.search(r"invalid choice: '(.+?)' \(choose from (.+)\)", message)
        if wrong:
            message += meant(wrong[1], re.findall(r"[\w-]+", wrong[2]))
        raise InputError(f"{message} (see `{self.prog} --help`)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="empathy-lightning",
        description="Spoken chatbots that hear how something is said, around a language model that stays frozen.",
        epilog="A trainer takes --config FILE.yaml and any of its values; `fit --help` lists those of trainer and "
        "data, `fit --model.help CLASS` those of a task. EMPATHY_TRACEBACK=1 shows the traceback of an error.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands: Any = parser.add_subparsers(required=True, metavar="COMMAND")

    # These are only listed here: the words go to the trainer's own parser.
    trainers = {"fit": "train", "validate": "measure on the validation split", "test": "measure on the test split"}
    for name, does in trainers.items():
        commands.add_parser(name, help=f"{does} (--config FILE.yaml, see {name} --help)", add_help=False)
    _add_chat(commands)
    add_preparation(commands)
    add_corpora(commands)
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
    report.add_argument("--trust", metavar="PACKAGE", action="append", default=[], help=TRUST)
    report.add_argument("--stages", nargs="*", type=Path, default=[], help="folders of the stages, for their curves")
    add_left_out(report)
    report.set_defaults(run=_evaluate)
    _add_evaluate_emotion(commands)
    add_responses(commands, DEMO_CHECKPOINT)
    return parser


def _add_evaluate_emotion(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("evaluate-emotion", help="ask a chatbot for the emotion of speech: UA, WA, confusion")
    command.add_argument("--checkpoint", type=Path, default=Path(DEMO_CHECKPOINT), help="default: %(default)s")
    command.add_argument("--manifest", type=Path, required=True, help="utterances with emotions")
    command.add_argument("--split", default="test", help="which to use, or `all` (default %(default)s)")
    command.add_argument("--trust", metavar="PACKAGE", action="append", default=[], help=TRUST)
    command.add_argument(
        "--by",
        choices=RECOGNISERS,
        default=RECOGNISERS[0],
        help="answer (default): parse what it says; options: score the words; classifier: its own head",
    )
    command.add_argument("--parser", choices=PARSERS, default=PARSERS[0], help="of answers (default %(default)s)")
    command.add_argument("--per-token", action="store_true", help="divide an option's score by its tokens")
    command.add_argument(
        "--recipe", choices=RECIPES, default=RECIPES[0], help="question of a paper (default %(default)s)"
    )
    command.add_argument("--prompt", help="question with {speech} (and {emotion}) instead of a recipe's")
    command.add_argument("--system", help="system message of that question")
    command.add_argument("--max-new-tokens", type=int, default=32, help="longest answer (default %(default)s)")
    command.add_argument("--out", type=Path, help="write figures and answers as JSON")
    command.add_argument(
        "--report", type=Path, help="write an HTML page: confusion, ratings, classes, speakers, curves"
    )
    add_left_out(command)
    command.set_defaults(run=_evaluate_emotion)


def _add_chat(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    chat = commands.add_parser("chat", help="answer recordings with text and speech")
    chat.add_argument("files", nargs="+", type=Path, help="WAV, FLAC, OGG or MP3, mono or stereo, 0.2 s to 5 min")
    chat.add_argument("--out", type=Path, required=True, help="folder for the spoken replies and replies.json")
    chat.add_argument("--checkpoint", type=Path, default=Path(DEMO_CHECKPOINT), help="default: %(default)s")
    chat.add_argument("--trust", metavar="PACKAGE", action="append", default=[], help=TRUST)
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
    from empathy_lightning.files import check_folder

    check_folder(options.out)
    ablations = read_ablations(options.list, options.config)
    names = [ablation.name for ablation in ablations]
    unknown = sorted(set(options.only or []) - set(names))
    if unknown:
        raise InputError(f"{options.list} has no entry named {', '.join(unknown)}{meant(unknown[0], names)}")
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


def _chat(options: argparse.Namespace) -> None:
    from empathy_lightning.commands.chat import chat
    from empathy_lightning.decoding import Decoding

    if not options.checkpoint.is_dir():
        raise InputError(
            f"no checkpoint at {options.checkpoint}; make the demo's with `make demo` or give --checkpoint"
        )
    words = {key: value for key, value in vars(options).items() if key != "run"}
    chosen = {name: words.pop(name) for name in Decoding.__dataclass_fields__}
    chat(**words, decoding=Decoding(**chosen))


def _evaluate_emotion(options: argparse.Namespace) -> None:
    from empathy_lightning.evaluation.recognition import evaluate_emotion
    from empathy_lightning.prompts import Prompt
    from empathy_lightning.recipes import recipe_named

    recognition = recipe_named(options.recipe).recognition
    question = Prompt(options.prompt, options.system) if options.prompt else recognition
    files = (options.checkpoint, options.manifest, question, options.out, options.report)
    how = (options.by, options.parser, options.per_token, options.max_new_tokens, options.trust)
    evaluate_emotion(*files, options.split, *how, max_left_out=options.allow_left_out)


def _evaluate(options: argparse.Namespace) -> None:
    from empathy_lightning.small_world.evaluation import evaluate

    shares = {"trust": options.trust, "max_left_out": options.allow_left_out}
    evaluate(options.checkpoint, options.manifest, options.out, options.stages, **shares)


if __name__ == "__main__":
    raise SystemExit(main())
