"""``evaluate emotion|prompts|understanding``: what a bot hears; what they need is imported when they run."""

from __future__ import annotations

from pathlib import Path

from empathy_lightning.commands.options import (
    AllowLeftOut,
    KeepEncoded,
    ManifestFile,
    PaperName,
    ParserName,
    RecogniserName,
    Trust,
    Wording,
)


def emotion(
    *,
    checkpoint: Path,
    manifest: ManifestFile,
    split: str = "test",
    by: RecogniserName = "answer",
    parser: ParserName = "words",
    per_token: bool = False,
    paper: PaperName = "freezeempath",
    prompt: Wording = None,
    system: Wording = None,
    max_new_tokens: int = 32,
    out: Path | None = None,
    report: Path | None = None,
    probe: bool = False,
    enrol: bool = False,
    keep_encoded: KeepEncoded = None,
    trust: Trust = (),
    allow_left_out: AllowLeftOut = 0.01,
) -> None:
    """Ask a chatbot for the emotion of speech: UA, WA, confusion.

    Args:
        checkpoint: Folder of the bot or the recogniser.
        manifest: Utterances with emotions.
        split: Which to use, or all.
        by: answer parses what it says, options scores the words, classifier takes its own head's.
        parser: Of answers.
        per_token: Divide an option's score by its tokens.
        paper: Question of a paper.
        prompt: Question with {speech} (and {emotion}) instead of a paper's.
        system: System message of that question.
        max_new_tokens: Longest answer.
        out: JSON file for figures and answers.
        report: HTML page: confusion, ratings, classes, speakers, layers, curves.
        probe: Also measure a logistic regression on means and deviations of the speech encoder's layers, fitted to
            the manifest's training split.
        enrol: Hear all recordings of the split first, without their labels, to know the speakers' voices (for a
            LayerStatistics that was trained with SpeakerEnrolment); with --keep_encoded each is encoded once.

    Raises:
        InputError: If the checkpoint or the manifest cannot be used.
    """
    from empathy_lightning.evaluation.recognition import Asking, evaluate_emotion
    from empathy_lightning.papers import paper_named
    from empathy_lightning.prompts import Prompt

    question = Prompt(prompt, system) if prompt else paper_named(paper).recognition
    evaluate_emotion(
        checkpoint,
        manifest,
        Asking(question, by, parser, per_token, max_new_tokens),
        out=out,
        report=report,
        split=split,
        trust=trust,
        max_left_out=allow_left_out,
        keep_encoded=keep_encoded,
        probe=probe,
        enrol=enrol,
    )


def prompts(
    *,
    checkpoint: Path,
    manifest: ManifestFile,
    split: str = "validation",
    max_new_tokens: int = 64,
    batch_size: int = 8,
    seed: int = 0,
    out: Path | None = None,
    report: Path | None = None,
    trust: Trust = (),
    allow_left_out: AllowLeftOut = 0.01,
) -> None:
    """What the emotion embedding is worth: how near it brings the reply to that to the true label, no judge asked.

    Args:
        checkpoint: Folder of a bot with an emotion embedding.
        manifest: Utterances with transcripts and emotions.
        split: Which to use, or all.
        max_new_tokens: Longest reply.
        batch_size: Utterances that are read together.
        seed: Of the random labels.
        out: JSON file for the figures and each utterance's.
        report: HTML page of the table.

    Raises:
        InputError: If the checkpoint or the manifest cannot be used.
    """
    from empathy_lightning.evaluation.prompt_worth import evaluate_prompts

    files = (checkpoint, manifest, split, max_new_tokens, batch_size, seed, out, report, trust)
    evaluate_prompts(*files, max_left_out=allow_left_out)


def understanding(
    expected: Path,
    /,
    *,
    replies: Path | None = None,
    cascade: Path | None = None,
    repeated: Path | None = None,
    heard: Path | None = None,
    out: Path | None = None,
    split: str = "test",
) -> None:
    """Measure what a bot understands of speech: its replies beside those to the words, and what it repeats.

    Args:
        expected: Manifest with the frozen model's replies to the transcripts alone (prepare responses).
        replies: The same with its replies to the speech (respond).
        cascade: The same with its replies to a recogniser's words (prepare transcripts, prepare responses).
        repeated: The same with what was said when it was asked to repeat the words (respond, with such a prompt).
        heard: The same with the recogniser's words as transcripts (prepare transcripts).
        out: JSON file for the figures and each utterance's own.
        split: Which to measure, or all.

    Raises:
        InputError: If a file cannot be used.
    """
    from empathy_lightning.evaluation.understanding import evaluate_understanding

    evaluate_understanding(expected, replies, cascade, repeated, heard, out, split)
