"""CASIA: four Mandarin speakers say 50 sentences in six emotions.

Laid out as ``<speaker>/<emotion>/201.wav``. Numbers repeat: the same number is the same
sentence, so the id joins speaker, emotion and number. The speaker "liuchanhg" is spelt so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus
from empathy_lightning.utterance import Utterance


class CASIA(Corpus):
    """Utterances of the public part of CASIA; it states no splits."""

    name = "casia"
    title = "CASIA, acted Mandarin, 50 sentences, 4 speakers (public part)"
    source = "http://www.chineseldc.org"
    access = "ask for it at http://www.chineseldc.org and unpack it so that <speaker>/<emotion>/201.wav lies there"
    licence = "by agreement with the Chinese Linguistic Data Consortium"
    citation = "Tao, Liu, Zhang and Jia 2008, Design of speech corpus for Mandarin text to speech, Blizzard Challenge"
    languages = ("zh",)
    emotions = {
        "angry": "angry", "fear": "fearful", "happy": "happy",
        "neutral": "neutral", "sad": "sad", "surprise": "surprised",
    }  # fmt: skip
    counts = {"angry": 200, "fearful": 200, "happy": 200, "neutral": 200, "sad": 200, "surprised": 200}
    unconfirmed = "the licence and the citation are from general knowledge"

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read speaker and emotion from the folders."""
        for path in self.audio(folder):
            if len(path.relative_to(folder).parts) < 3 or not path.stem.isdecimal():
                self.skip(path, "not <speaker>/<emotion>/<number>.wav")
                continue
            speaker, emotion = path.parts[-3].lower(), path.parts[-2].lower()
            yield Utterance(
                id=f"{speaker}_{emotion}_{path.stem}",
                corpus=self.name,
                path=str(path),
                language="zh",
                speaker=speaker,
                emotion=self.emotion(emotion, path),
                raw_labels={"emotion": emotion, "sentence": path.stem},
            )
