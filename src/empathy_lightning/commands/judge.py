"""``evaluate judge``, ``criteria`` and ``agreement``: what language models say of replies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from empathy_lightning.errors import InputError

if TYPE_CHECKING:
    from empathy_lightning.evaluation.judges import Judge

JudgeName = Literal["openai", "gemini", "local"]
"""Kinds of judges, see :mod:`empathy_lightning.evaluation.judges`."""

JudgeModel = Annotated[str, Parameter(help="Name of the judge's model there, or its folder or id where it is local.")]
BaseUrl = Annotated[str | None, Parameter(help="Address of the judge, such as http://127.0.0.1:8000/v1; nothing else.")]
KeyVariable = Annotated[str | None, Parameter(help="Environment variable that holds the key, which is kept nowhere.")]


def judge(
    replies: Path,
    /,
    *,
    criterion: str,
    model: JudgeModel,
    judge: JudgeName = "openai",
    base_url: BaseUrl = None,
    key_variable: KeyVariable = None,
    body: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    at_once: int | None = None,
    timeout: float | None = None,
    attempts: int | None = None,
    user: Literal["transcript", "speech", "both", "nothing"] | None = None,
    reply: Literal["text", "speech", "both"] | None = None,
    cache: Path | None = None,
    split: str = "test",
    out: Path | None = None,
) -> None:
    """Let a judge score replies by a criterion: mean, interval, unparsed and refused shares.

    Args:
        replies: Manifest whose responses are the replies.
        criterion: Name of one (see evaluate criteria), or a YAML file of yours.
        judge: Its interface, or local for a model of transformers on this machine.
        body: JSON object of fields of the request in the place of ours or beside them (openai); null leaves one out.
        at_once: Requests under way at the same time; of a local model, questions of a batch.
        timeout: Seconds that one answer may take.
        attempts: Requests until a question counts as not answered.
        user: What the judge is given of the user (default: the criterion's own choice).
        reply: What it is given of the reply (default: likewise).
        cache: Folder of the answers so far (default: the user's own cache).
        split: Which to score, or all.
        out: JSON file for the figures and each reply's scores and raw answers.

    Raises:
        InputError: If a file or the judge cannot be used; what the judge answered is kept.
    """
    from empathy_lightning.evaluation.judging import evaluate_measure
    from empathy_lightning.evaluation.measures.judged import Judged

    options = {"at_once": at_once, "timeout": timeout, "attempts": attempts, "body": _object(body)}
    built = built_judge(judge, model, base_url, key_variable, options)
    measure = Judged(built, criterion, None if cache is None else str(cache), user, reply)
    evaluate_measure(replies, measure, split, out)


def built_judge(
    kind: JudgeName, model: str, base_url: str | None, key_variable: str | None, options: dict[str, Any]
) -> Judge:
    """The judge that the options describe.

    Args:
        kind: Its interface.
        model: Its model.
        base_url: Its address.
        key_variable: Environment variable of the key.
        options: Further arguments of its constructor; None leaves one out.

    Raises:
        InputError: If an option is missing, or is for another kind.
    """
    from empathy_lightning.evaluation.judges import GeminiJudge, LocalJudge, OpenAIJudge

    given = {name: value for name, value in options.items() if value is not None}
    if kind == "local":
        batch_size = given.pop("at_once", 8)
        others = [*given, *(n for n, v in (("base_url", base_url), ("key_variable", key_variable)) if v is not None)]
        if others:
            raise InputError(f"--{others[0]} is for a judge behind an address: leave it out with --judge local")
        return LocalJudge(model, batch_size)
    if base_url is None:
        raise InputError(f"--judge {kind} needs the address of the judge: give --base_url")
    if kind == "gemini":
        if "body" in given:
            raise InputError("--body is for --judge openai: leave it out")
        return GeminiJudge(base_url, model, key_variable, **given)
    return OpenAIJudge(base_url, model, key_variable, **given)


def _object(text: str | None) -> dict[str, Any] | None:
    import json

    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f'--body {text[:60]} is no JSON object such as {{"temperature": null}}')
    return found


def criteria() -> None:
    """The criteria that come with the package: what they ask, of whom, and whose words they are."""
    from empathy_lightning.evaluation.criterion import criterion_names, load_criterion

    for name in criterion_names():
        found = load_criterion(name)
        given = f"user {found.wording.user}, reply {found.wording.reply}"
        print(
            f"{name} (version {found.version}, wording {found.origin}; {given})\n    {found.title}\n    {found.source}"
        )


def agreement(ours: Path, theirs: Path, /, *, score: str = "score", out: Path | None = None) -> None:
    """Agreement of two judges on the same replies: weighted kappa, Spearman, equal scores.

    Args:
        ours: File of one judge that evaluate judge wrote.
        theirs: File of the other.
        score: Name of the score.
        out: JSON file for the figures.

    Raises:
        InputError: If a file cannot be used, or they have too few replies in common.
    """
    from empathy_lightning.evaluation.agreement import compare_judges
    from empathy_lightning.files import check_target, write_json

    check_target(out, [ours, theirs])
    figures = compare_judges(ours, theirs, score)
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):<20}{'undefined' if value is None else format(value, '.6g'):>10}")
    if out is not None:
        write_json(out, {"of": [str(ours), str(theirs)], "score": score, **figures})
