"""``evaluate suites`` and ``prepare suite``; what they need is imported when they run."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from empathy_lightning.commands.options import Again, AllowLeftOut, Wording
from empathy_lightning.errors import InputError, meant

if TYPE_CHECKING:
    from empathy_lightning.evaluation.suites import Suite

_SPEECH = "{speech}"


def list_suites() -> None:
    """Names of the suites, licences, where to get them, and how they are scored."""
    from empathy_lightning.evaluation.suites import SUITES

    for name, suite in SUITES.items():
        total = sum(suite.counts.values())
        print(f"{name:<20}{total or '?':>7} questions  {','.join(suite.languages):<6}  {suite.title}")
        lines = [f"licence: {suite.licence}", suite.access, f"its authors score: {suite.scoring}"]
        if suite.measures:
            lines.append(f"measures here: {', '.join(suite.measures)}")
        if suite.criteria:
            lines.append(f"criteria for a judge: {', '.join(suite.criteria)}")
        if suite.unconfirmed:
            lines.append(f"not confirmed: {suite.unconfirmed}")
        print("\n".join(f"{'':<20}{line}" for line in lines))


def prepare(
    name: str,
    root: str,
    /,
    *,
    out: Path,
    speech: Wording = None,
    again: Again = False,
    allow_left_out: AllowLeftOut = 0.01,
) -> None:
    """Write the questions of a suite as a manifest, for evaluate run.

    Args:
        name: As in evaluate suites, or the class path of your own.
        root: Folder with what its authors give out.
        out: Manifest to write, .jsonl or .parquet.
        speech: How the recording stands in questions that are asked beside it, for a bot whose prompt has more than
            {speech}, such as "{speech}(with a {emotion} emotional tone)."

    Raises:
        InputError: If the suite cannot be used, or the place holds something else.
    """
    from empathy_lightning.data.left_out import Tally
    from empathy_lightning.data.manifest import write_manifest
    from empathy_lightning.data.reading import read_split
    from empathy_lightning.digests import utterances_digest
    from empathy_lightning.files import check_target
    from empathy_lightning.jobs import Claim

    check_target(out, [Path(root)])
    if out.suffix not in (".jsonl", ".parquet"):
        raise InputError(f"--out {out}: give FILE.jsonl or FILE.parquet")
    if speech is not None and _SPEECH not in speech:
        raise InputError(f"--speech {speech!r} has no {_SPEECH} in it")
    suite = _suite(name, root)
    tally = Tally()
    _, read = read_split([suite], None, tally)
    questions = list(read)
    print(tally.describe(), file=sys.stderr)
    tally.refuse_above(allow_left_out, "--allow_left_out")
    for question in questions:
        if speech is not None and question.prompt is not None:
            question.prompt = question.prompt.replace(_SPEECH, speech)
    claim = Claim(out, {"suite": name, "questions": utterances_digest(questions, out.parent)})
    if not claim.is_done(again):
        claim.write()
        write_manifest(out, questions)
    print(f"{len(questions)} questions in {out}")


def _suite(name: str, root: str) -> Suite:
    from empathy_lightning.evaluation.suites import SUITES, Suite

    if "." in name:
        module, _, word = name.rpartition(".")
        try:
            kind = getattr(import_module(module), word, None)
        except ModuleNotFoundError as error:
            raise InputError(f"{name}: {error}; put the folder that holds it on PYTHONPATH") from None
        if not (isinstance(kind, type) and issubclass(kind, Suite)):
            raise InputError(f"{name} is no class of a Suite")
        return kind(root)
    if name not in SUITES:
        raise InputError(f"no suite named {name!r}; there are {', '.join(SUITES)}{meant(name, SUITES)}")
    return SUITES[name](root)
