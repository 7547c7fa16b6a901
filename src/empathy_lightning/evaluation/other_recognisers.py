"""Speech recognisers other than Whisper: whatever transformers' pipeline listens with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from empathy_lightning.audio import SAMPLE_RATE
from empathy_lightning.devices import own_device
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.reply_speech import SpeechRecogniser, primary_language
from empathy_lightning.modules.model_files import PretrainedError
from empathy_lightning.modules.pretrained import load, opened

CHUNK = 30.0
"""Seconds that a CTC model hears at once, with a sixth of them again at both sides."""


def speech_recogniser(name_or_path: str, language: str | None = None) -> SpeechRecogniser:
    """The recogniser that a folder or model id holds: a Whisper, a CTC model, or another that transformers knows.

    Args:
        name_or_path: Folder or model id.
        language: Of all recordings; see :class:`.reply_speech.SpeechRecogniser`. Others than Whisper are told nothing
            of it; it chooses the normaliser of the words.

    Raises:
        InputError: If it is none, or cannot be loaded.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CTC_MAPPING, MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING

    try:
        with opened(name_or_path) as (folder, where):
            config = AutoConfig.from_pretrained(folder, **where)
    except PretrainedError as error:
        raise InputError(f"speech recogniser: {error}"[:300]) from None
    if config.model_type == "whisper":
        return SpeechRecogniser(name_or_path, language)
    if type(config) in MODEL_FOR_CTC_MAPPING:
        return PipelineRecogniser(name_or_path, language, "AutoModelForCTC")
    if type(config) in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING:
        return PipelineRecogniser(name_or_path, language, "AutoModelForSpeechSeq2Seq")
    kind = config.model_type
    raise InputError(f"speech recogniser: {name_or_path} hears no words: it is a {kind}; give a Whisper or a CTC model")


class PipelineRecogniser(SpeechRecogniser):
    """A recogniser of transformers' pipeline, of one recording after the other: padding changes what some hear.

    Words are compared as Whisper's English normaliser leaves them, without its table of British spellings, and in
    other languages as its basic one does.

    Args:
        name_or_path: Folder or model id, with its processor.
        language: Of all recordings; None takes each utterance's own, and English where it states none.
        kind: transformers' class that loads it.

    Raises:
        InputError: If it cannot be loaded.
    """

    def __init__(self, name_or_path: str, language: str | None, kind: str) -> None:
        import transformers
        from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

        # Whisper's constructor holds nothing that this one needs: it is not called.
        device = own_device()
        dtype = torch.float16 if torch.cuda.is_available() else torch.float32
        try:
            with opened(name_or_path) as (folder, where):
                processor = transformers.AutoProcessor.from_pretrained(folder, **where)
            model = load(getattr(transformers, kind), name_or_path, dtype=dtype).eval()
        except PretrainedError as error:
            raise InputError(f"speech recogniser: {error}"[:300]) from None
        if language == "auto":
            raise InputError(f"{name_or_path} does not tell languages: give the language, or a Whisper")
        self.language = self._known(language)
        self.batch_size, self.window = 1, math.inf
        self.english, self.basic = EnglishTextNormalizer({}), BasicTextNormalizer()
        # A CTC model's letters lie at their frames, so that chunks can be joined; others hear the whole.
        self._cut = {"chunk_length_s": CHUNK} if kind == "AutoModelForCTC" else {}
        self._pipeline: Any = transformers.pipeline(
            "automatic-speech-recognition",
            model=model,
            tokenizer=processor.tokenizer,
            feature_extractor=processor.feature_extractor,
            device=device,
        )

    def _known(self, language: str | None) -> str | None:
        return primary_language(language) or None

    @torch.no_grad()
    def transcribe(self, waveforms: Sequence[Tensor], languages: Sequence[str | None]) -> list[tuple[str, str]]:
        """Words of recordings at 16 kHz, each (T,), with their stated languages."""
        heard = []
        for waveform, language in zip(waveforms, languages, strict=True):
            options = self._cut if len(waveform) > CHUNK * SAMPLE_RATE else {}
            said = self._pipeline({"raw": waveform.numpy(), "sampling_rate": SAMPLE_RATE}, **options)
            heard.append((said["text"].strip(), language or "en"))
        return heard
