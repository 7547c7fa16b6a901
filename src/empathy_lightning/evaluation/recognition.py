"""How well a checkpoint recognises emotion: figures on the screen, as JSON and as an HTML page to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empathy_lightning.audio import LONGEST
from empathy_lightning.checkpoints import load
from empathy_lightning.data.batch import SpeechBatch, SpeechDataset
from empathy_lightning.data.left_out import MOST, refuse_lost
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.devices import own_device
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.made_from import digests_of
from empathy_lightning.evaluation.probe import linear_probe
from empathy_lightning.evaluation.recognised import figures, table
from empathy_lightning.evaluation.recognisers import Recognition, readable_batches, recogniser
from empathy_lightning.files import check_target, write_json
from empathy_lightning.folders import read_config
from empathy_lightning.kept_speech import keep_encoded as keep_encoded_speech
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.progress import progress_bar
from empathy_lightning.prompts import Prompt
from empathy_lightning.utterance import Utterance

Recogniser = Callable[[SpeechBatch, Sequence[Utterance]], list[Recognition]]
"""What recognises the emotions of a batch."""


@dataclass(frozen=True)
class Asking:
    """How a bot is asked for an emotion.

    Attributes:
        question: Takes the place of its prompt.
        by: ``answer`` parses the answer, ``options`` scores the categories' words, ``classifier`` takes the head's.
        parser: ``words`` or ``substring``.
        per_token: See :func:`~empathy_lightning.evaluation.recognisers.score_options`.
        max_new_tokens: Longest answer.
    """

    question: Prompt
    by: str = "answer"
    parser: str = "words"
    per_token: bool = False
    max_new_tokens: int = 32

    def recogniser(self, model: EmpatheticLM) -> Recogniser:
        """What asks a model, which gets the question for its prompt."""
        if model.responder is not None:
            model.responder.prompt, model.responder.system = self.question.user, self.question.system
        return recogniser(model, model.emotions, self.by, self.parser, self.per_token, self.max_new_tokens)


def evaluate_emotion(
    checkpoint: Path,
    manifest: Path,
    asking: Asking,
    out: Path | None = None,
    report: Path | None = None,
    split: str = "test",
    trust: Sequence[str] = (),
    max_left_out: float = MOST,
    keep_encoded: Path | None = None,
    probe: bool = False,
    enrol: bool = False,
) -> dict[str, Any]:
    """Measure how well a checkpoint recognises emotion, print UA, WA and the confusion, and write them.

    Args:
        checkpoint: Folder of the bot or the recogniser.
        manifest: Utterances; those of the split whose emotion is one of the checkpoint's are used.
        asking: How the bot is asked.
        out: JSON file with figures and answers.
        report: HTML page with plots.
        split: Split to use, or ``all``.
        trust: Packages besides this library whose classes the folder may name.
        max_left_out: Share of the utterances that may be left out, unreadable or with a label that is no emotion word.
        keep_encoded: Folder for :func:`.kept_speech.keep_encoded`.
        probe: Measure a linear probe of the encoder's layers too, see :func:`.probe.linear_probe`.
        enrol: Hear all recordings first, without their labels, to know the speakers' voices.

    Raises:
        InputError: If the checkpoint or the manifest cannot be used.
    """
    check_target(out, [manifest])
    check_target(report, [manifest, out])
    emotions = read_config(checkpoint)["model"]["init_args"].get("emotions", [])
    chosen = _chosen(manifest, split, max_left_out, emotions, probe)
    model = load(checkpoint, trust).to(own_device())
    recognise = asking.recogniser(model)
    kept = None if keep_encoded is None else keep_encoded_speech(model.listener, keep_encoded)
    dataset = SpeechDataset(chosen["measured"], LONGEST)
    if enrol:
        _enrol(model, dataset)
    recognitions, unreadable = _recognised(model, recognise, dataset, emotions, max_left_out)
    beside = {"probe": linear_probe(model.listener, chosen, emotions)} if probe else {}
    if kept is not None:
        kept.write()
    if not recognitions:
        raise InputError(f"none of {len(dataset)} utterances can be read, for example {unreadable[0]}")
    asked = {"split": split, **vars(asking), "question": vars(asking.question), "enrol": enrol}
    measured = {
        "made_from": digests_of(checkpoint, manifest, chosen["measured"]) | asked,
        "by": asking.by,
        "question": vars(asking.question),
        "unreadable": unreadable,
        **figures(recognitions, emotions),
        **beside,
    }
    _write(measured, recognitions, checkpoint, out, report)
    return measured


def _chosen(
    manifest: Path, split: str, max_left_out: float, emotions: Sequence[str], probe: bool
) -> dict[str, list[Utterance]]:
    """The utterances that are measured, and for a probe those of the other two splits."""
    if probe and split in ("train", "validation", "all"):
        raise InputError("--probe fits on the training and chooses on the validation split: measure it on another one")
    found = {"measured": read_chosen(manifest, split, max_left_out, emotions=emotions)}
    if not found["measured"]:
        raise InputError(f"{manifest} has no utterance in split {split} with one of {', '.join(emotions)}")
    others = ("train", "validation") if probe else ()
    for name in others:
        found[name] = read_chosen(manifest, name, max_left_out, emotions=emotions)
    return found


def _enrol(model: EmpatheticLM, dataset: SpeechDataset) -> None:
    """Let the bot hear all recordings that can be read, to know their speakers."""
    for batch, _ in readable_batches(dataset, model.emotions, []):
        model.listener.enrol(batch.to(model.device))


def _write(
    measured: dict[str, Any],
    recognitions: Sequence[Recognition],
    checkpoint: Path,
    out: Path | None,
    report: Path | None,
) -> None:
    print(table(measured))
    if out is not None:
        write_json(out, measured | {"answers": [_entry(recognition) for recognition in recognitions]})
    if report is not None:
        from empathy_lightning.evaluation.emotion_report import write_report

        write_report(report, measured, recognitions, checkpoint)
        print(f"report: {report}")


def _recognised(
    model: EmpatheticLM,
    recognise: Recogniser,
    dataset: SpeechDataset,
    emotions: Sequence[str],
    max_left_out: float,
) -> tuple[list[Recognition], list[str]]:
    """What was recognised in each utterance, and why others could not be read."""
    recognitions: list[Recognition] = []
    unreadable: list[str] = []
    count = len(dataset)
    with progress_bar(total=count, what="recognising emotion") as progress:
        for batch, utterances in readable_batches(dataset, emotions, unreadable):
            recognitions += recognise(batch.to(model.device), utterances)
            # As soon as it is too much, and not after the last batch.
            refuse_lost([("unreadable", reason) for reason in unreadable], count, max_left_out)
            progress.update(len(recognitions) + len(unreadable) - progress.n)
    # Those of the end may have filled no batch.
    refuse_lost([("unreadable", reason) for reason in unreadable], count, max_left_out)
    return recognitions, unreadable


def _entry(recognition: Recognition) -> dict[str, Any]:
    utterance = recognition.utterance
    said = {"answer": recognition.answer, "recognised": recognition.emotion}
    confidence = max(recognition.probabilities.values(), default=None)
    sure = {} if confidence is None else {"confidence": round(confidence, 6)}
    return {"id": utterance.id, "emotion": utterance.emotion, **said, **sure, **recognition.ratings}
