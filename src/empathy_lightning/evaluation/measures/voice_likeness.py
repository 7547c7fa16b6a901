"""Whether the spoken replies keep one voice: that of the same replies as they should sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_lightning.audio import AudioError, read
from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.evaluation.speech_judges import SpeakerEncoder
from empathy_lightning.evaluation.target_speech import targets_of
from empathy_lightning.jobs import digest
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

    def __init__(self, folder: str, targets: str) -> None:
        self.folder, self.targets = folder, targets
        self._known = targets_of(Path(targets))
        self._encoder = SpeakerEncoder(folder)

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with ``speaker_similarity``; None without a target, or where one of both cannot be read."""
        rows: list[dict[str, Any] | None] = []
        for reply in progress_bar(replies, what="voices"):
            target = self._known.get((reply.corpus, reply.id))
            try:
                both = [read(one.response_path or "") for one in (reply, target) if one is not None]
            except AudioError:
                both = []
            rows.append({"speaker_similarity": round(self._encoder.similarity(*both), 4)} if len(both) == 2 else None)
        return Measured(rows, {})

    def made_from(self) -> dict[str, str]:
        """Content of weights and targets."""
        return {"weights": digest(Path(self.folder) / "embedding_model.ckpt"), "targets": digest(self.targets)}
