"""EmoDB, Berlin: ten actors say ten sentences in seven emotions.

``03a01Fa.wav`` is speaker 03, text a01, emotion F (Freude, happiness: the letters are those
of the German words, A is Angst, fear) and version a. ``erkennung.txt`` holds the results of a
listening test, in Latin-1 with no-break spaces and decimal commas. Some public copies
were cut to exactly two seconds under the same names: check a few durations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus, Kind, decode
from empathy_lightning.utterance import Utterance

_NAME = re.compile(r"(\d\d)([ab]\d\d)([A-Z])([a-z])")


class EmoDB(Corpus):
    """Utterances of EmoDB; shares of listeners, in percent, are in the raw labels.

    Args:
        root: Folder that holds ``wav`` (under any name) and, if it is there, ``erkennung.txt``.
    """

    name = "emodb"
    title = "EmoDB (Berlin Database of Emotional Speech), acted German, ten sentences, 10 actors"
    source = "http://emodb.bilderbar.info/"
    access = "download it from http://emodb.bilderbar.info/download/download.zip and unpack it there"
    licence = "published for free use, no licence stated"
    citation = "Burkhardt et al. 2005, Interspeech: 1517-1520"
    languages = ("de",)
    emotions = {
        "W": "angry", "L": "bored", "E": "disgust", "A": "fearful", "F": "happy", "T": "sad", "N": "neutral",
    }  # fmt: skip
    counts = {"angry": 127, "bored": 81, "disgust": 46, "fearful": 69, "happy": 71, "sad": 62, "neutral": 79}
    folders = ("emodb", "EmoDB", "")
    unconfirmed = "the names of the root folder; the licence"
    sentences = {
        "a01": "Der Lappen liegt auf dem Eisschrank.",
        "a02": "Das will sie am Mittwoch abgeben.",
        "a04": "Heute abend könnte ich es ihm sagen.",
        "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
        "a07": "In sieben Stunden wird es soweit sein.",
        "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
        "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
        "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
        "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
        "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
    }

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the file names and the listening test."""
        heard = self._listening_test(folder / "erkennung.txt")
        for path in self.audio(folder):
            match = _NAME.fullmatch(path.stem)
            if match is None:
                self.skip(path, "its name is not one of EmoDB")
                continue
            speaker, sentence, emotion, _ = match.groups()
            yield Utterance(
                id=path.stem,
                corpus=self.name,
                path=str(path),
                transcript=self.sentences.get(sentence),
                language="de",
                speaker=speaker,
                emotion=self.emotion(emotion, path),
                raw_labels={"emotion": emotion, **heard.get(path.stem, {})},
            )

    def _listening_test(self, path: Path) -> dict[str, dict[str, str]]:
        heard: dict[str, dict[str, str]] = {}
        lines = decode(path, "latin-1").split("\n")[1:] if path.is_file() else []
        for line in filter(str.strip, lines):
            fields = [field.strip() for field in line.split("\t")]
            if len(fields) != 4:
                self.skip(path, f"not a line of the listening test: {line!r}", Kind.KEPT)
                continue
            # The test also holds takes that were never released; they are no loss.
            heard[Path(fields[1]).stem] = {"recognised": fields[2], "natural": fields[3]}
        return heard
