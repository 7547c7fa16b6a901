"""Whether the spoken replies keep one voice: that of the same replies as they should sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_lightning.audio import AudioError, read
from empathy_lightning.digests import digest
from empathy_lightning.evaluation.measured import Measured, unreadable_in
from empathy_lightning.evaluation.speech_judges import SpeakerEncoder
from empathy_lightning.evaluation.styles import targets_of
from empathy_lightning.progress import progress_bar
from empathy_lightning.utterance import Utterance


class VoiceLikeness:
    """Cosine of the embeddings of reply and target by SpeechBrain's ECAPA-TDNN, -1 to 1.

    Args:
        folder: With ``embedding_model.ckpt``, as of ``speechbrain/spkrec-ecapa-voxceleb``.
        targets: Manifest of the same utterances whose ``response_path`` is the reply as it should sound.

    Raises:
        InputError: If there are no such weights, or no such manifest.
    """

    name = "voice_likeness"
    needs = ("response_path",)
    part = 32

    def __init__(self, folder: str, targets: str) -> None:
        self.folder, self.targets = folder, targets
        self._known = targets_of(Path(targets))
        self._encoder = SpeakerEncoder(folder)

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with ``speaker_similarity``, or why one of both is ``unreadable``; None without a target."""
        rows = [self._row(reply) for reply in progress_bar(replies, what="voices")]
        return Measured(rows, self.figures(replies, rows))

    def _row(self, reply: Utterance) -> dict[str, Any] | None:
        target = self._known.get((reply.corpus, reply.id))
        if target is None:
            return None
        try:
            own, other = (read(one.response_path or "") for one in (reply, target))
        except AudioError as error:
            return {"unreadable": str(error)}
        return {"speaker_similarity": round(self._encoder.similarity(own, other), 4)}

    def figures(self, replies: Sequence[Utterance], rows: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
        """How many could not be read, and how many have no target."""
        return {**unreadable_in(rows), "without_target": list(rows).count(None)}

    def made_from(self) -> dict[str, str]:
        """Content of weights and targets."""
        return {"weights": digest(Path(self.folder) / "embedding_model.ckpt"), "targets": digest(self.targets)}
