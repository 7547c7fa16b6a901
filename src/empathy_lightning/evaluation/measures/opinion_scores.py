"""How good the spoken replies sound, by predictors of opinion scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from empathy_lightning.audio import AudioError, read
from empathy_lightning.digests import digest
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.measured import Measured, unreadable_in
from empathy_lightning.evaluation.speech_judges import PREDICTORS, installed_predictors, torchscript_predictor
from empathy_lightning.progress import progress_bar
from empathy_lightning.utterance import Utterance


class OpinionScores:
    """Mean opinion scores, 1 to 5, that trained predictors give each recording.

    Args:
        predictors: Some of ``speechmos`` (DNSMOS), ``distillmos`` and ``nisqa``; None takes those that are there.
        torchscript: Files of TorchScript modules from a waveform (1, T) at 16 kHz and its rate, or the waveform alone,
            to a score, by name, such as ``utmos``.

    Raises:
        InputError: If one is not there, or none.
    """

    name = "opinion_scores"
    needs = ("response_path",)
    part = 32

    def __init__(self, predictors: Sequence[str] | None = None, torchscript: Mapping[str, str] | None = None) -> None:
        self.files = dict(torchscript or {})
        wanted = PREDICTORS if predictors is None else predictors
        self.judges, missing = installed_predictors(wanted)
        if predictors and missing:
            raise InputError(f"not installed: {', '.join(missing)}: pip install 'empathy_lightning[evaluation]'")
        for name, file in self.files.items():
            self.judges[name] = torchscript_predictor(name, file)
        if not self.judges:
            raise InputError(
                "opinion_scores has no predictor: pip install 'empathy_lightning[evaluation]', or give "
                "opinion_scores.torchscript='{utmos: FILE}'"
            )

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with a score for each predictor, or why the speech is ``unreadable``."""
        rows: list[dict[str, Any] | None] = []
        for reply in progress_bar(replies, what="opinion scores"):
            try:
                waveform = read(reply.response_path or "")
            except AudioError as error:
                rows.append({"unreadable": str(error)})
                continue
            row: dict[str, Any] = {}
            for judge in self.judges.values():
                row |= {name: round(score, 4) for name, score in judge(waveform).items()}
            rows.append(row)
        return Measured(rows, self.figures(replies, rows))

    def figures(self, replies: Sequence[Utterance], rows: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
        """How many could not be read."""
        return unreadable_in(rows)

    def made_from(self) -> dict[str, Any]:
        """Which predictors, and the content of the files."""
        return {"predictors": sorted(self.judges), "files": {name: digest(file) for name, file in self.files.items()}}
