"""Measure the replies of a manifest: figures on the screen and, with each reply's scores, as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from empathy_lightning.audio import AudioError, duration_of
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.other_recognisers import speech_recogniser
from empathy_lightning.evaluation.reply_scores import (
    LEVELS,
    bert_scorer,
    compare,
    empathy,
    load_classifiers,
    named_emotions,
    overlap,
    rounded,
    variety,
)
from empathy_lightning.evaluation.reply_speech import SpeechRecogniser, speech_figures
from empathy_lightning.faults import first_of
from empathy_lightning.files import check_target, write_json
from empathy_lightning.jobs import digest, recordings_digest
from empathy_lightning.modules.empathy_classifier import EmpathyClassifier
from empathy_lightning.preparation.identity import model_identity
from empathy_lightning.utterance import Utterance


def evaluate_responses(
    replies: Path,
    out: Path | None = None,
    split: str = "test",
    *,
    empathy_classifier: Path | None = None,
    against: Path | None = None,
    references: Path | None = None,
    bert_score: Path | None = None,
    bert_layer: int | None = None,
    asr: str | None = None,
    asr_language: str | None = None,
) -> dict[str, Any]:
    """Score a manifest of replies, print the figures and write them.

    Args:
        replies: Utterances whose responses are the replies, from ``respond`` or ``prepare responses``.
        out: JSON file with the figures, what they were made of and each reply's scores.
        split: Split to use, or ``all``.
        empathy_classifier: Folder of EPITOME's classifiers; None measures no empathy.
        against: Another system's replies to the same utterances, for the test of the difference in empathy and words.
        references: Manifest whose responses are the expected ones; None measures no overlap.
        bert_score: Folder of an encoder for BERTScore; None leaves that out.
        bert_layer: See :func:`bert_scorer`.
        asr: Recogniser that writes down the spoken replies, a model id or a folder; None listens to none.
        asr_language: See :class:`SpeechRecogniser`.

    Raises:
        InputError: If a file cannot be used, or an option needs another one.
    """
    _check_options(against, references, empathy_classifier, bert_score, asr, asr_language)
    files = {"replies": replies, "references": references, "against": against}
    check_target(out, files.values())
    utterances = _answered(replies, split)
    texts = [u.response or "" for u in utterances]
    others, expected = _partners(utterances, against), _partners(utterances, references)
    if against is not None and empathy_classifier and not any(map(_can_be_compared, utterances, others)):
        raise InputError("no reply of the two systems can be compared: their utterances have no transcripts")
    if asr is not None:
        _check_speech(replies, utterances, against, others)
    # All that may be refused comes before the measuring.
    classifiers = load_classifiers(empathy_classifier) if empathy_classifier else {}
    likeness = bert_scorer(bert_score, bert_layer) if bert_score else None
    recogniser = speech_recogniser(asr, asr_language) if asr else None
    rows: list[dict[str, Any]] = [{"corpus": u.corpus, "id": u.id, "reply": u.response} for u in utterances]
    partners = {name: of for name, of in (("against", others), ("references", expected)) if files[name] is not None}
    figures: dict[str, Any] = {
        "replies": len(utterances),
        "without_words": sum(not text.strip() for text in texts),
        "cut": sum(u.response_cut for u in utterances),
        **{f"without_partner_in_{name}": of.count(None) for name, of in partners.items()},
        "variety": rounded(variety(texts)),
        "named_emotions": named_emotions(utterances),
    }
    if references is not None:
        figures["overlap"] = _measured_overlap(texts, expected, likeness, rows)
    if classifiers:
        figures |= _measured_empathy(utterances, others, classifiers, rows)
    if recogniser is not None:
        _measure_speech(utterances, others, recogniser, rows, figures)
    print(table(figures))
    if out is not None:
        models = {"empathy_classifier": empathy_classifier, "bert_score": bert_score, "asr": asr}
        options = {"split": split, "bert_layer": bert_layer, "asr_language": asr_language}
        named = {name: value and str(value) for name, value in (files | models).items()} | options
        read = _digests(files, models) | options
        if asr is not None:
            heard = [u.response_path for u in (*utterances, *others) if u is not None and u.response_path is not None]
            read["recordings"] = recordings_digest(heard, replies.parent)
        write_json(out, {"of": named, "made_from": read} | figures | {"scores": rows})
    return figures


def _check_options(
    against: Path | None,
    references: Path | None,
    empathy_classifier: Path | None,
    bert_score: Path | None,
    asr: str | None,
    asr_language: str | None,
) -> None:
    """Refuse an option that needs another one."""
    if against is not None and empathy_classifier is None and asr is None:
        raise InputError("--against compares empathy or errors of speech: give --empathy_classifier too, or --asr")
    if asr_language is not None and asr is None:
        raise InputError("--asr_language is for the recogniser: give --asr too")
    if bert_score is not None and references is None:
        raise InputError("BERTScore compares with expected responses: give --references too")


def _digests(files: dict[str, Path | None], models: dict[str, Any]) -> dict[str, Any]:
    """What the figures were made from, by its content."""
    read: dict[str, Any] = {name: digest(file) for name, file in files.items() if file is not None}
    return read | {name: model_identity(str(model)) for name, model in models.items() if model is not None}


def _answered(manifest: Path, split: str) -> list[Utterance]:
    utterances = [u for u in read_chosen(manifest, split, audio=False) if u.response is not None]
    if not utterances:
        raise InputError(f"{manifest} has no responses in split {split}; --split all takes every one")
    return utterances


def _partners(utterances: Sequence[Utterance], manifest: Path | None) -> list[Utterance | None]:
    """The utterance of the same corpus and id in another manifest, for each; None where there is none."""
    if manifest is None:
        return [None] * len(utterances)
    named: dict[tuple[str, str], Utterance] = {}
    for other in _answered(manifest, "all"):
        if named.setdefault((other.corpus, other.id), other) is not other:
            raise InputError(f"{manifest} has several responses to {other.corpus}/{other.id}: leave one")
    partners = [named.get((u.corpus, u.id)) for u in utterances]
    if not any(partners):
        raise InputError(f"{manifest} has no response to any of these utterances: corpora and ids have to agree")
    return partners


def _can_be_compared(utterance: Utterance, other: Utterance | None) -> bool:
    return other is not None and all((u.transcript or "").strip() for u in (utterance, other))


def _measured_empathy(
    utterances: Sequence[Utterance],
    others: Sequence[Utterance | None],
    classifiers: dict[str, EmpathyClassifier],
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    """Figures by mechanism and of the comparison; the levels are added to the rows."""
    pairs = [(i, other) for i, other in enumerate(others) if other is not None]
    figures: dict[str, Any] = {"empathy": {}, **({"against": {}} if pairs else {})}
    for name, classifier in classifiers.items():
        what = name.replace("_", " ")
        measured = empathy(classifier, utterances, what=what)
        figures["empathy"][name] = measured.figures()
        for row, level, cut in zip(rows, measured.levels, measured.truncated, strict=True):
            row[name], row["truncated"] = level, cut or row.get("truncated", False)
        if pairs:
            theirs = empathy(classifier, [other for _, other in pairs], what=f"{what}, the other system").levels
            figures["against"][name] = compare([measured.levels[i] for i, _ in pairs], theirs)
    return figures


def _check_speech(
    replies: Path, utterances: Sequence[Utterance], against: Path | None, others: Sequence[Utterance | None]
) -> None:
    """Refuse replies of which none is spoken or none can be read."""
    spoken = [u.response_path for u in utterances if u.response_path is not None]
    if not spoken:
        raise InputError(f"{replies} names no speech (response_path): answer with `respond --speech`")
    theirs = [None if other is None else other.response_path for other in others]
    if against is not None and not any(a.response_path and b for a, b in zip(utterances, theirs, strict=True)):
        raise InputError(f"no spoken reply has a partner in {against} that is spoken: answer with `respond --speech`")
    if not any(map(_can_be_read, spoken)):
        raise InputError(f"none of {len(spoken)} spoken replies in {replies} can be read, for example {spoken[0]}")


def _can_be_read(path: str) -> bool:
    try:
        return duration_of(path) > 0
    except AudioError:
        return False


def _measure_speech(
    utterances: Sequence[Utterance],
    others: Sequence[Utterance | None],
    recogniser: SpeechRecogniser,
    rows: list[dict[str, Any]],
    figures: dict[str, Any],
) -> None:
    """Add figures of the speech and of the comparison; what was heard and the errors are added to the rows."""
    spoken = sum(u.response_path is not None for u in utterances)
    unreadable: list[str] = []
    found = recogniser.measure(utterances, unreadable, "listening")
    for row, heard in zip(rows, found, strict=True):
        row["speech"] = heard and {**vars(heard), "word_error_rate": heard.word_error_rate}
    figures["speech"] = speech_figures(found, spoken)
    pairs = [(heard, other) for heard, other in zip(found, others, strict=True) if heard and other]
    theirs = recogniser.measure([other for _, other in pairs], unreadable, "the other system") if pairs else []
    both = [(a.word_error_rate, b.word_error_rate) for (a, _), b in zip(pairs, theirs, strict=True) if b]
    if any(None not in rates for rates in both):
        figures.setdefault("against", {})["word_error_rate"] = compare(*zip(*both, strict=True))
    if unreadable:
        print("\n".join([f"unreadable speech: {len(unreadable)} replies", *first_of(unreadable)]))


def _measured_overlap(
    replies: Sequence[str],
    expected: Sequence[Utterance | None],
    likeness: Callable[[Sequence[str], Sequence[str]], list[float]] | None,
    rows: list[dict[str, Any]],
) -> dict[str, float]:
    """Figures over the replies that have an expected response; BERTScores are added to the rows."""
    shared = [i for i, other in enumerate(expected) if other is not None]
    said = [replies[i] for i in shared]
    references = [other.response or "" for other in expected if other is not None]
    figures = overlap(said, references)
    if likeness is not None:
        scores = likeness(said, references)
        figures["bert_score"] = sum(scores) / len(scores)
        for i, score in zip(shared, scores, strict=True):
            rows[i]["bert_score"] = round(score, 6)
    return {"references": len(shared), **rounded(figures)}


def table(figures: dict[str, Any]) -> str:
    """The figures for the screen."""
    lines: list[str] = []
    for name, measured in figures.get("empathy", {}).items():
        if not lines:
            lines.append(
                f"{'empathy (EPITOME)':<26}{'mean (sd)':>14}" + "".join(f"{n:>10}" for n in (*LEVELS, "truncated"))
            )
        if not measured["replies"]:
            lines.append(f"{name.replace('_', ' '):<26}{'no transcripts':>14}")
            continue
        shares = "".join(f"{measured[key]:>10.3f}" for key in (*LEVELS, "truncated"))
        spread = f"{measured['mean']:.3f} ({measured['standard_deviation']:.3f})"
        lines.append(f"{name.replace('_', ' '):<26}{spread:>14}{shares}")
    for name, compared in figures.get("against", {}).items():
        what = f"{name.replace('_', ' ')}, difference"
        pairs = f"{compared['pairs']} pairs{'; lower is better' * name.endswith('rate')}"
        lines.append(f"{what:<34}{compared['difference']:>+6.3f}  p = {compared['p']:.3g} ({pairs})")
    for group, values in figures.items():
        if group in ("empathy", "against") or values is None:
            continue
        for name, value in values.items() if isinstance(values, dict) else [("", values)]:
            what = f"{group} {name}".replace("_", " ").strip()
            lines.append(f"{what:<34}{value:>8.3f}" if isinstance(value, float) else f"{what:<34}{value:>8}")
    return "\n".join(lines)
