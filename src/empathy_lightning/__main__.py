"""The command line: a table of words and the typed functions that they call."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from cyclopts import App, ArgumentCollection, CycloptsError, Group, MissingArgumentError, Parameter

from empathy_lightning import __version__
from empathy_lightning.commands import (
    TRAINER_COMMANDS,
    ablate,
    chat,
    convert,
    corpora,
    demo,
    evaluate,
    evaluate_runs,
    fit,
    hub,
    judges,
    memory,
    prepare,
    prepare_speech,
    recipes,
    serve,
    suites,
)
from empathy_lightning.errors import InputError, concerns_named_file
from empathy_lightning.storage import is_url
from empathy_lightning.threads import share_the_machine

GROUPS = {
    "prepare": "Make what the trainers need from what is there.",
    "corpora": "The corpora that can be read: list, check and export them.",
    "evaluate": "Measure a chatbot, or the replies of any.",
    "recipes": "The YAML files that come with the package: list, show and copy them.",
    "demo": "The small synthetic world: everything on two cores in ten to 25 minutes.",
}
"""Groups of commands and what they are for."""

COMMANDS: dict[str, Callable[..., int | None]] = {
    "fit": fit.fit,
    "validate": fit.validate,
    "test": fit.test,
    "chat": chat.chat,
    "respond": chat.respond,
    "serve": serve.serve,
    "prepare instructions": prepare.instructions,
    "prepare responses": prepare.responses,
    "prepare pseudo_dialogues": prepare.pseudo_dialogues,
    "prepare ratings": prepare.ratings,
    "prepare transcripts": prepare_speech.transcripts,
    "prepare speech": prepare_speech.speech,
    "prepare copies": prepare_speech.copies,
    "prepare quantizer": prepare_speech.quantizer,
    "prepare units": prepare_speech.units,
    "prepare suite": suites.prepare,
    "corpora list": corpora.list_corpora,
    "corpora check": corpora.check,
    "corpora export": corpora.export,
    "evaluate emotion": evaluate.emotion,
    "evaluate prompts": evaluate.prompts,
    "evaluate understanding": evaluate.understanding,
    "evaluate suites": suites.list_suites,
    "evaluate criteria": judges.criteria,
    "evaluate measures": evaluate_runs.list_measures,
    "evaluate run": evaluate_runs.run,
    "evaluate table": evaluate_runs.table,
    "evaluate compare": evaluate_runs.compare,
    "evaluate paper": evaluate_runs.paper,
    "evaluate agreement": judges.agreement,
    "evaluate power": evaluate_runs.power,
    "memory": memory.memory,
    "ablate": ablate.ablate,
    "convert": convert.convert,
    "push": hub.push,
    "recipes list": recipes.list_recipes,
    "recipes show": recipes.show,
    "recipes copy": recipes.copy,
    "demo run": demo.run,
    "demo corpus": demo.corpus,
    "demo evaluate": demo.evaluate,
}
"""A command's words, and what it does."""

_HELP = """Spoken chatbots that hear how something is said, around a language model that stays frozen.

A trainer takes --config FILE.yaml, or recipe:NAME, and any of its values: `fit --help` lists those of trainer and data,
`fit --model.help CLASS` those of a task. EMPATHY_TRACEBACK=1 shows the traceback of an error."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Words after ``empathy-lightning``; None takes those of the process.

    Returns:
        Exit code: 0; 2 for bad input, after one line that says what is wrong; 130 if it was interrupted, 143 if it
        was terminated. An error of the program itself is raised.
    """
    share_the_machine()
    given = sys.argv[1:] if arguments is None else arguments
    words = list(given)
    try:
        code = application()(words)
        if not words or (len(words) == 1 and words[0] in GROUPS):
            # What there is was shown, nothing was done.
            return 2
        return code if isinstance(code, int) else 0
    except MissingArgumentError as error:
        return _refused(InputError(f"{_lacking(error, words)} (see `{_asked(words)} --help`)"))
    except CycloptsError as error:
        if isinstance(error.__cause__, InputError):
            return _refused(error.__cause__)
        return _refused(InputError(f"{error} (see `{_asked(words)} --help`)"))
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


def application() -> App:
    """The commands in their groups."""
    app = App(
        name="empathy-lightning",
        help=_HELP,
        help_format="plaintext",
        version=__version__,
        # Of an option that is given twice the last one counts, as with the trainers.
        default_parameter=Parameter(
            name_transform=_as_it_is, negative=(), show_default=_if_it_tells, allow_repeating=True
        ),
        group_arguments=Group("Arguments", validator=_local_files),
        group_parameters=Group("Parameters", validator=(_whole_numbers, _local_files)),
        print_error=False,
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    groups: dict[tuple[str, ...], App] = {(): app}
    for name, does in GROUPS.items():
        groups[(name,)] = App(name=name, help=does)
        app.command(groups[(name,)])
    for words, function in COMMANDS.items():
        *group, name = words.split()
        # The trainers' own parser has a help of its own.
        flags: dict[str, Any] = {"help_flags": [], "version_flags": []} if name in TRAINER_COMMANDS else {}
        groups[tuple(group)].command(function, name=name, **flags)
    return app


def _as_it_is(name: str) -> str:
    """Options are spelt as the arguments are, and as the trainers' are."""
    return name


def _whole_numbers(arguments: ArgumentCollection) -> None:
    """Refuse 1.7 where a whole number is meant, which would be rounded."""
    for argument in arguments:
        meant = get_args(argument.hint) or (argument.hint,)
        for token in argument.tokens:
            if int in meant and float not in meant and "." in token.value:
                raise CycloptsError(msg=f"{argument.name} {token.value}: give a whole number")


def _local_files(arguments: ArgumentCollection) -> None:
    """Refuse the URL of a file that is read or written on this machine."""
    for argument in arguments:
        kinds = get_args(argument.hint) or (argument.hint,)
        for token in argument.tokens:
            if Path in kinds and argument.parameter.converter is None and is_url(token.value):
                raise CycloptsError(
                    msg=f"{argument.name} {token.value}: give a local path; manifests alone are read by URL"
                )


def _if_it_tells(default: Any) -> str | None:
    if default is None or default is False or default == ():
        return None
    return str(default)


def _lacking(error: MissingArgumentError, words: Sequence[str]) -> str:
    name = "" if error.argument is None else error.argument.name
    given = [word.partition("=")[0] for word in words if word.startswith("--")]
    if name in given:
        return f"{name} needs a value"
    near = get_close_matches(name, given, n=1, cutoff=0.8)
    return f"{name} is missing; did you mean it by {near[0]}?" if near else f"{name} is missing"


def _asked(words: Sequence[str]) -> str:
    """The command line as far as it names a command."""
    for count in (2, 1):
        name = " ".join(words[:count])
        if name in COMMANDS or name in GROUPS:
            return f"empathy-lightning {name}"
    return "empathy-lightning"


def _refused(error: Exception) -> int:
    """Say in one line what cannot be used; with EMPATHY_TRACEBACK=1, show where that was found too."""
    if os.environ.get("EMPATHY_TRACEBACK") == "1":
        raise error
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
