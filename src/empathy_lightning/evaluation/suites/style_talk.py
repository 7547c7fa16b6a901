"""StyleTalk: the same turn spoken in several styles, and the reply to each; English, synthesised.

``eval.csv`` has ``diag_id``, ``context`` (the turns before), ``curr_audio_id``, ``curr_text`` (``B: ...``),
``res_text``, and emotion, speed and volume of both turns.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from empathy_lightning.corpora.corpus import decode
from empathy_lightning.evaluation.suites.suite import Suite, located, texts
from empathy_lightning.utterance import Utterance

_STYLES = tuple(f"{turn}_{what}" for turn in ("curr", "res") for what in ("emotion", "speed", "volume"))


class StyleTalk(Suite):
    """Turns of eval.csv; each is asked alone, without the turns before it, which are in the raw labels."""

    name = "style_talk"
    title = "StyleTalk, the same English turn in several styles, and the reply to each"
    source = "https://github.com/DanielLin94144/StyleTalk"
    access = "clone https://github.com/DanielLin94144/StyleTalk and unpack the audio that its README links to there"
    licence = "MIT"
    citation = "Lin, Chiang and Lee 2024, Advancing large language models to capture varied speaking styles and respond properly in spoken conversations, ACL"  # noqa: E501
    languages = ("en",)
    emotions = {"friendly": "friendly", "unfriendly": "unfriendly", "cheerful": "happy", "hopeful": "hopeful"}
    scoring = "overlap with the reply (BLEU, ROUGE, METEOR, BERTScore) and F1 of its style"
    measures = ("same_words",)
    unconfirmed = (
        "the place of the audio, which is looked for by the end of its name; its authors give their model the turns"
        " before too, in words, by a prompt that is not known here"
    )

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read eval.csv."""
        for file in self.files(folder, "eval.csv"):
            rows = csv.DictReader(io.StringIO(decode(file, "latin-1"), newline=""))
            homes = [folder, *(path for path in sorted(folder.iterdir()) if path.is_dir())]
            for number, row in enumerate(rows, 2):
                name = row.get("curr_audio_id") or ""
                path = next((path for home in homes if (path := located(home, name))), None)
                if path is None:
                    self.skip(f"{file}, line {number}", "no audio file (curr_audio_id)")
                    continue
                yield self._question(row, name, path)

    def _question(self, row: dict[str, str], name: str, path: str) -> Utterance:
        code = (row.get("curr_emotion") or "").strip()
        labels = {key: row[key] for key in (*_STYLES, "context") if row.get(key)}
        return Utterance(
            id=PurePosixPath(name).with_suffix("").as_posix(),
            corpus=self.name,
            path=path,
            transcript=(row.get("curr_text") or "").strip().removeprefix("B:").strip() or None,
            language="en",
            session=row.get("diag_id") or None,
            emotion=self.emotions.get(code, code) or None,
            raw_labels=labels,
            ability="style",
            references=texts(row.get("res_text")),
        )
