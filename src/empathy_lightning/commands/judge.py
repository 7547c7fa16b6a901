"""``evaluate judge``, ``consensus``, ``need``, ``criteria`` and ``agreement``: what language models say of replies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from empathy_lightning.commands.options import Flat, Wording
from empathy_lightning.errors import InputError

if TYPE_CHECKING:
    from empathy_lightning.evaluation.judges import Judge


@dataclass(frozen=True)
class Asked:
    """Who is asked; the answers are kept, and no question is asked twice.

    Attributes:
        model: Name of the judge's model at its address, or folder or model id of a local one.
        judge: Its interface, or local for a chat model of transformers on this machine.
        base_url: Its address, such as http://127.0.0.1:8000/v1; nothing is sent anywhere else.
        key_variable: Environment variable that holds its key, which is kept nowhere.
        body: JSON object of fields of the request in the place of ours or beside them (openai); null leaves one out.
        at_once: Requests under way at the same time; of a local model, questions of a batch.
        timeout: Seconds that one answer may take.
        attempts: Requests until a question counts as not answered.
        cache: Folder of the answers so far (default: the user's own cache).
        allow_unanswered: Share of the questions that may find no answer.
    """

    model: str | None = None
    judge: Literal["openai", "gemini", "local"] = "openai"
    base_url: str | None = None
    key_variable: str | None = None
    body: Wording = None
    at_once: int | None = None
    timeout: float | None = None
    attempts: int | None = None
    cache: Path | None = None
    allow_unanswered: float = 0.0

    @property
    def keeping(self) -> dict[str, Any]:
        """Arguments of a measure that asks: where answers are kept, and how many may be missing."""
        cache = None if self.cache is None else str(self.cache)
        return {"cache": cache, "allow_unanswered": self.allow_unanswered}

    def built(self) -> Judge:
        """The judge.

        Raises:
            InputError: If an option is missing, or is for another kind of judge.
        """
        from empathy_lightning.evaluation.judges import GeminiJudge, LocalJudge, OpenAIJudge

        if self.model is None:
            raise InputError("who is to judge? give --model, and --base_url or --judge local")
        if self.judge == "local":
            self._refuse("base_url", "key_variable", "body", "timeout", "attempts")
            return LocalJudge(self.model, self.at_once or 8)
        if self.base_url is None:
            raise InputError(f"--judge {self.judge} needs the address of the judge: give --base_url")
        options = {name: getattr(self, name) for name in ("at_once", "timeout", "attempts")}
        given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        if self.judge == "gemini":
            self._refuse("body")
            return GeminiJudge(self.base_url, self.model, self.key_variable, **given)
        return OpenAIJudge(self.base_url, self.model, self.key_variable, body=_object(self.body), **given)

    def _refuse(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) is not None:
                raise InputError(f"--{name} is for another kind of judge: leave it out with --judge {self.judge}")


def _object(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f'--body {text[:60]} is no JSON object such as {{"temperature": null}}')
    return found


def judge(
    replies: Path,
    /,
    *,
    criterion: str,
    asked: Annotated[Asked, Flat] = Asked(),
    user: Literal["transcript", "speech", "both", "nothing"] | None = None,
    reply: Literal["text", "speech", "both"] | None = None,
    split: str = "test",
    out: Path | None = None,
) -> None:
    """Let a judge score replies by a criterion: mean, interval, unparsed and refused shares.

    Args:
        replies: Manifest whose responses are the replies.
        criterion: Name of one (see evaluate criteria), or a YAML file of yours.
        user: What the judge is given of the user (default: the criterion's own choice).
        reply: What it is given of the reply (default: likewise).
        split: Which to score, or all.
        out: JSON file for the figures and each reply's scores and raw answers.

    Raises:
        InputError: If a file or the judge cannot be used; what the judge answered is kept.
    """
    from empathy_lightning.evaluation.judging import evaluate_measure
    from empathy_lightning.evaluation.measures.judged import Judged

    measure = Judged(asked.built(), criterion, user=user, reply=reply, **asked.keeping)
    evaluate_measure(replies, measure, split, out)


def consensus(
    replies: Path,
    /,
    *,
    asked: Annotated[Asked, Flat] = Asked(),
    classifier: str | None = None,
    emotions: tuple[str, ...] = ("happy", "angry", "sad", "neutral"),
    expected: str = "emotion",
    split: str = "test",
    out: Path | None = None,
) -> None:
    """Emotion consensus: does a reply, read alone, carry the emotion that it should?

    Args:
        replies: Manifest whose responses are the replies.
        classifier: Folder or model id of a text classifier with emotion words as labels, in the place of a judge.
        emotions: Those that may be named.
        expected: Where the expected emotion stands: emotion, the user's own, or the name of a raw label.
        split: Which to score, or all.
        out: JSON file for the figures and each reply's row.

    Raises:
        InputError: If a file, the judge or the classifier cannot be used; what the judge answered is kept.
    """
    from empathy_lightning.evaluation.judging import evaluate_measure
    from empathy_lightning.evaluation.measures.emotion_consensus import EmotionConsensus

    if classifier is not None and asked != Asked():
        raise InputError("give --classifier, or the options of a judge, one of them")
    who = None if classifier is not None else asked.built()
    measure = EmotionConsensus(who, classifier, emotions, expected, **asked.keeping)
    evaluate_measure(replies, measure, split, out)


def need(
    replies: Path,
    /,
    *,
    asked: Annotated[Asked, Flat] = Asked(),
    label: str | None = None,
    split: str = "test",
    out: Path | None = None,
) -> None:
    """When to be empathetic: kindness where none is asked for is an error, as its lack is where it is.

    Args:
        replies: Manifest whose responses are the replies.
        label: Raw label that states what the user's turn does (seeking, providing, none), in the place of the judge.
        split: Which to score, or all.
        out: JSON file for the figures and each reply's row.

    Raises:
        InputError: If a file or the judge cannot be used; what the judge answered is kept.
    """
    from empathy_lightning.evaluation.judging import evaluate_measure
    from empathy_lightning.evaluation.measures.empathy_need import EmpathyNeed

    evaluate_measure(replies, EmpathyNeed(asked.built(), label, **asked.keeping), split, out)


def criteria() -> None:
    """The criteria that come with the package: what they ask, of whom, and whose words they are."""
    from empathy_lightning.evaluation.criterion_files import criterion_names, load_criterion

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
