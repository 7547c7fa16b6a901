"""VStyle, the part on empathy: how somebody tells of their day, in Chinese and English, and the reply they get.

Read are lines in the form of its results: ``id``, ``instruct_id``, ``ability`` (``empathy/anger``), ``instruct_text``
and, where it is there, ``instruction_audio_path``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.evaluation.suites.rows import json_rows
from empathy_lightning.evaluation.suites.suite import Suite, located
from empathy_lightning.text import script_share
from empathy_lightning.utterance import Utterance


class VStyleEmpathy(Suite):
    """Questions of the four abilities ``empathy/...``; other abilities of VStyle are left out."""

    name = "vstyle_empathy"
    title = "VStyle-Empathy, spoken Chinese and English, four feelings"
    source = "https://github.com/alibaba/vstyle"
    access = "download https://huggingface.co/datasets/zhanjun/VStyle and put its lines as JSON Lines beside the audio"
    licence = "MIT (code); that of the data is not confirmed"
    citation = "Zhan et al. 2025, VStyle: a benchmark for voice style adaptation with spoken instructions"
    languages = ("en", "zh")
    emotions = {
        "anger": "angry", "sadness_disappointment": "sad", "anxiety_fear": "fearful", "joy_excitement": "happy",
    }  # fmt: skip
    counts = {"empathy": 278}
    scoring = "Gemini 2.5 Pro hears the reply and reads the user's words: 1 to 5, mean of each ability"
    criteria = ("vstyle_empathy",)
    unconfirmed = (
        "the layout and the columns of the input set on the hub, and the licence of the data: lines are read in the"
        " form of its results"
    )

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read all JSON and JSON Lines files."""
        for file in self.files(folder, "*.json", "*.jsonl"):
            for row in json_rows(file, self.skip):
                ability = str(row.values.get("ability", ""))
                if not ability.startswith("empathy/"):
                    continue
                path = located(file.parent, row.values.get("instruction_audio_path"))
                if path is None:
                    self.skip(row.place, "no audio file (instruction_audio_path)")
                    continue
                words = str(row.values.get("instruct_text") or "")
                yield Utterance(
                    id=str(row.values.get("instruct_id", row.values.get("id"))),
                    corpus=self.name,
                    path=path,
                    transcript=words or None,
                    language="zh" if script_share(words, "zh") > 0.5 else "en",
                    emotion=self.emotion(ability.removeprefix("empathy/"), row.place),
                    ability=ability,
                )
