"""SD-Eval, its part on emotion: recordings of RAVDESS, JL-corpus and MEAD with five replies that suit each.

``data/test-emo.json`` of its repository is a list with ``wav_path``, ``transcript``, ``utt_id``, ``info`` (the
emotion) and ``target``, of which each has ``reply`` and ``reply_emotion``. The recordings are the corpora's own, laid
out in ``audio_data`` as its README says; MEAD's are converted to WAV.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from empathy_lightning.emotion_words import emotion_named
from empathy_lightning.evaluation.suites.rows import json_rows, objects_of
from empathy_lightning.evaluation.suites.suite import Suite, located
from empathy_lightning.utterance import Utterance

_SPEAKER = re.compile(r"Actor_\d+|(?:fe)?male\d+|\b[MW]\d{3}\b")


class SDEval(Suite):
    """Questions of the emotion part, in which the same words come in several emotions."""

    name = "sd_eval"
    title = "SD-Eval, test-emo: acted English with replies that suit the emotion"
    source = "https://github.com/amphionspace/SD-Eval"
    access = "clone https://github.com/amphionspace/SD-Eval and lay out RAVDESS, JL-corpus and MEAD in audio_data as its README says"  # noqa: E501
    licence = "CC BY-NC 4.0 (data); the corpora's own for the recordings"
    citation = "Ao et al. 2024, SD-Eval: a benchmark dataset for spoken dialogue understanding beyond words, NeurIPS"
    languages = ("en",)
    scoring = "GPT-4o, 1 to 10 against the replies, and overlap with them"
    measures = ("same_words",)
    criteria = ("sd_eval",)
    unconfirmed = "the words for its other emotions than sad, which are taken as emotion words where they are"

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read test-emo.json."""
        for file in self.files(folder, "test-emo.json"):
            for row in json_rows(file, self.skip):
                name = str(row.values.get("wav_path", ""))
                path = located(folder / "audio_data", name) or located(folder, name)
                if path is None:
                    self.skip(row.place, "no audio file (wav_path)")
                    continue
                code = str(row.values.get("info", ""))
                speaker = _SPEAKER.search(name)
                replies, feelings = _targets(row.values.get("target"))
                yield Utterance(
                    id=PurePosixPath(name).with_suffix("").as_posix(),
                    corpus=self.name,
                    path=path,
                    transcript=row.values.get("transcript"),
                    language="en",
                    speaker=speaker[0] if speaker else None,
                    emotion=emotion_named(code) or self.emotion(code, row.place),
                    raw_labels={"emotion": code, "reply_emotions": ", ".join(feelings)},
                    ability="emotion",
                    references=replies,
                )


def _targets(targets: Any) -> tuple[list[str], list[str]]:
    """Replies, and the emotion of each."""
    replies, feelings = [], []
    for target in objects_of(targets):
        if isinstance(target.get("reply"), str):
            replies.append(target["reply"])
            feelings.append(str(target.get("reply_emotion", "")))
    return replies, feelings
