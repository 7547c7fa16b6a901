"""The emotion of a text that is read alone, by a classifier of transformers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from empathy_lightning.devices import own_device
from empathy_lightning.emotion_words import chosen_emotion
from empathy_lightning.errors import InputError
from empathy_lightning.modules.model_files import PretrainedError
from empathy_lightning.modules.pretrained import opened
from empathy_lightning.progress import progress_bar

_LONGEST = 512


class TextEmotions:
    """Names the likeliest of a few emotions; labels of the classifier that are none of them do not count.

    Args:
        name_or_path: Folder or model id of a text classifier whose labels are emotion words, in any spelling.
        emotions: Those that may be named.
        batch_size: Texts at a time.

    Raises:
        InputError: If it cannot be loaded, or has no label for one of the emotions.
    """

    def __init__(self, name_or_path: str, emotions: Sequence[str], batch_size: int = 32) -> None:
        self.emotions = tuple(emotions)
        self.batch_size = batch_size
        try:
            with opened(name_or_path) as (place, where):
                model = AutoModelForSequenceClassification.from_pretrained(place, **where)
                self._tokenizer = AutoTokenizer.from_pretrained(place, **where)
        except PretrainedError as error:
            raise InputError(f"the classifier of texts cannot be loaded: {error}"[:300]) from None
        labels = model.config.id2label
        meaning = [chosen_emotion(str(labels[index]), self.emotions) for index in sorted(labels)]
        missing = [emotion for emotion in self.emotions if emotion not in meaning]
        if missing:
            there = ", ".join(str(labels[index]) for index in sorted(labels))
            raise InputError(f"{name_or_path} has no label for {', '.join(missing)}; there are {there}"[:300])
        # Labels of one emotion, such as joy and happiness, are added up: shape (labels, emotions).
        self._sums = torch.zeros(len(meaning), len(self.emotions))
        for label, name in enumerate(meaning):
            if name is not None:
                self._sums[label, self.emotions.index(name)] = 1
        self._model = model.to(own_device()).eval()

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> list[str]:
        """The emotion of each text; long ones are read up to 512 tokens."""
        named: list[str] = []
        for start in progress_bar(range(0, len(texts), self.batch_size), what="emotions of texts"):
            named += [self.emotions[index] for index in self._read(texts[start : start + self.batch_size]).tolist()]
        return named

    def _read(self, texts: Sequence[str]) -> Tensor:
        longest = min(_LONGEST, self._tokenizer.model_max_length)
        encoded = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt",
            split_special_tokens=True,
        ).to(self._model.device)  # fmt: skip
        shares = self._model(**encoded).logits.float().softmax(-1).cpu() @ self._sums
        return shares.argmax(-1)
