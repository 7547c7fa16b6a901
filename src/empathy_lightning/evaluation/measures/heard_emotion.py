"""Which emotion the bot hears in the questions: by its classifier, by asking, or by scoring the words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_lightning.audio import LONGEST
from empathy_lightning.checkpoints import load
from empathy_lightning.data.batch import SpeechDataset
from empathy_lightning.devices import own_device
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.emotion_rows import emotion_row, figures_of_rows
from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.evaluation.recognisers import readable_batches, recogniser
from empathy_lightning.papers import paper_named
from empathy_lightning.progress import progress_bar
from empathy_lightning.utterance import Utterance


class HeardEmotion:
    """Speech emotion recognition of the questions' recordings; UA, WA, macro F1, calibration, ratings.

    Questions with an emotion that the checkpoint does not know have no row, and are counted as ``other_labels``.

    Args:
        checkpoint: Folder of the bot or the recogniser.
        by: ``classifier``, ``answer`` or ``options``; see :func:`.recognisers.recogniser`.
        paper: Whose question is asked; None asks as the folder does where ``by`` is no ``classifier``.
        parser: Of answers, ``words`` or ``substring``.
        per_token: Divide an option's score by its tokens.
        max_new_tokens: Longest answer.
        trust: Packages whose classes the folder may name.

    Raises:
        InputError: If the checkpoint lacks what is asked for.
    """

    name = "heard_emotion"
    needs = ("emotion",)

    def __init__(
        self,
        checkpoint: str,
        by: str = "classifier",
        paper: str | None = "freezeempath",
        parser: str = "words",
        per_token: bool = False,
        max_new_tokens: int = 32,
        trust: Sequence[str] = (),
    ) -> None:
        self.model = load(Path(checkpoint), trust).to(own_device())
        self.emotions = self.model.emotions
        if not self.emotions:
            raise InputError(f"{checkpoint} names no emotions: nothing can be recognised with it")
        if paper is not None and self.model.responder is not None:
            question = paper_named(paper).recognition
            self.model.responder.prompt, self.model.responder.system = question.user, question.system
        self._recognise = recogniser(self.model, self.emotions, by, parser, per_token, max_new_tokens)

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with ``emotion``, ``right``, ``confidence`` and ratings; figures of :func:`.emotion.emotion_figures`."""
        rows: list[dict[str, Any] | None] = [None] * len(replies)
        known = {id(reply): index for index, reply in enumerate(replies) if reply.emotion in self.emotions}
        if not known:
            raise InputError(f"no question has one of the emotions {', '.join(self.emotions)}")
        dataset = SpeechDataset([reply for reply in replies if id(reply) in known], LONGEST)
        unreadable: list[str] = []
        with progress_bar(total=len(dataset), what="recognising emotion") as progress:
            for batch, utterances in readable_batches(dataset, self.emotions, unreadable):
                for found in self._recognise(batch.to(self.model.device), utterances):
                    rows[known[id(found.utterance)]] = emotion_row(found)
                progress.update(len(utterances))
        counts = {"unreadable": len(unreadable), "other_labels": len(replies) - len(known)}
        return Measured(rows, {**self.figures(replies, rows), **counts})

    def figures(self, replies: Sequence[Utterance], rows: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
        """Of some of the rows."""
        return figures_of_rows(self.emotions, replies, rows)
