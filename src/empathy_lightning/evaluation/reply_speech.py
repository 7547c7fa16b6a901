"""Spoken replies as a speech recogniser hears them: word and character error rates against their text, and their pace.

FreezeEmpath and LLaMA-Omni2 measure the word error rate so (ASR-WER, with Whisper-large-v3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from empathy_lightning.audio import SAMPLE_RATE, AudioError, duration_of, read
from empathy_lightning.devices import own_device
from empathy_lightning.errors import InputError
from empathy_lightning.modules.model_files import PretrainedError
from empathy_lightning.modules.pretrained import load, opened
from empathy_lightning.progress import progress_bar
from empathy_lightning.utterance import Utterance

SPACELESS = ("zh", "yue", "ja", "th", "lo", "my", "km", "bo")
"""Languages that are written without spaces between words; their characters count as words."""


_ENGLISH_ALONE = 51_864
"""Tokens of the Whispers for English alone; the others have more."""


@dataclass(frozen=True)
class Heard:
    """What was heard in a spoken reply, beside what it should say; both as Whisper's normaliser leaves them.

    Attributes:
        transcript: Words that were heard, as they were written down.
        language: Whisper's code of the language, stated or heard.
        seconds: Length of the recording.
        words: Words of the reply's text; characters in :data:`SPACELESS` languages.
        word_errors: Words to be replaced, left out or put in.
        characters: Characters of the reply's text, with the single spaces between its words.
        character_errors: As word_errors.
    """

    transcript: str
    language: str
    seconds: float
    words: int
    word_errors: int
    characters: int
    character_errors: int

    @property
    def word_error_rate(self) -> float | None:
        """Errors a word; may exceed 1; None where the text has no word."""
        return self.word_errors / self.words if self.words else None


@dataclass(frozen=True)
class Recording:
    """Where something is said.

    Attributes:
        path: Audio file.
        start: First second.
        end: Last second; None for the end of the file.
        language: BCP 47 tag, where it is known.
    """

    path: str
    start: float = 0.0
    end: float | None = None
    language: str | None = None


class SpeechRecogniser:
    """Whisper, for what is said in replies: greedy, without a prompt.

    Args:
        name_or_path: Model id or folder, with its tokenizer and generation config.
        language: Of all replies, or ``"auto"`` to hear it; None takes each utterance's own, and hears it where the
            utterance states none that the model knows.
        batch_size: Replies at a time.

    Raises:
        InputError: If there is no Whisper, or it does not know the language.
    """

    def __init__(self, name_or_path: str, language: str | None = None, batch_size: int = 8) -> None:
        from transformers import AutoConfig, WhisperForConditionalGeneration, WhisperProcessor
        from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

        device = own_device()
        dtype = torch.float16 if torch.cuda.is_available() else torch.float32
        try:
            with opened(name_or_path) as (folder, where):
                kind = AutoConfig.from_pretrained(folder, **where).model_type
                if kind != "whisper":
                    raise ValueError(f"it is a {kind}; give a Whisper such as openai/whisper-large-v3")
                self.processor: Any = WhisperProcessor.from_pretrained(folder, **where)
                self.model: Any = load(WhisperForConditionalGeneration, name_or_path, dtype=dtype).eval().to(device)
        except PretrainedError as error:
            raise InputError(f"speech recogniser: {error}"[:300]) from None
        _tell_languages(self.model, self.processor.tokenizer)
        # A model for English alone has no languages to choose from, and says so, or has a token less than the others.
        ids = getattr(self.model.generation_config, "lang_to_id", None) or {}
        multilingual = getattr(self.model.generation_config, "is_multilingual", None)
        if not ids and multilingual is not False and self.model.config.vocab_size != _ENGLISH_ALONE:
            raise InputError(f"{name_or_path} names no languages in generation_config.json: take its latest version's")
        self.languages = {number: token.strip("<|>") for token, number in ids.items()}
        self.language = language if language == "auto" else self._known(language)
        if language is not None and self.language is None:
            raise InputError(f"{name_or_path} does not know the language {language}: give a code such as en, or auto")
        self.batch_size = batch_size
        self.window = self.processor.feature_extractor.n_samples / SAMPLE_RATE
        # A folder without its table of British spellings takes them for other words.
        self.english = EnglishTextNormalizer(self.processor.tokenizer.english_spelling_normalizer or {})
        self.basic = BasicTextNormalizer()

    def _known(self, language: str | None) -> str | None:
        """Whisper's code of a BCP 47 tag or a language's English name, or None."""
        from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

        primary = primary_language(language)
        code = TO_LANGUAGE_CODE.get(primary, primary)
        known = list(self.languages.values()) or ["en"]
        return code if code in known else None

    @torch.no_grad()
    def transcribe(self, waveforms: Sequence[Tensor], languages: Sequence[str | None]) -> list[tuple[str, str]]:
        """Words and language of recordings.

        Args:
            waveforms: At 16 kHz, each (T,); all within the model's window (30 s), or all beyond it. Those are heard
                window after window, each beginning where the last full phrase ended.
            languages: Whisper's codes; None to hear it.
        """
        long = max(map(len, waveforms)) > self.window * SAMPLE_RATE
        # By default the extractor cuts at the window, and pads what is shorter up to it.
        whole = {"truncation": False, "padding": "longest"} if long else {}
        inputs = self.processor.feature_extractor(
            [waveform.numpy() for waveform in waveforms],
            sampling_rate=SAMPLE_RATE,
            return_tensors="pt",
            return_attention_mask=True,
            **whole,
        ).to(self.model.device, self.model.dtype)
        options: dict[str, Any] = {"return_timestamps": True} if long else {}
        spoken = [language or "en" for language in languages]
        # A model for English alone takes neither a language nor a task.
        if self.languages:
            if None in languages:
                # The first window tells the language of the whole.
                frames = self.processor.feature_extractor.nb_max_frames
                numbers = self.model.detect_language(inputs.input_features, num_segment_frames=frames)
                heard = [self.languages[number] for number in numbers.tolist()]
                spoken = [stated or own for stated, own in zip(languages, heard, strict=True)]
            options |= {"language": spoken, "task": "transcribe"}
        ids = self.model.generate(**inputs, **options, num_beams=1, do_sample=False, temperature=0.0)
        texts = self.processor.batch_decode(ids, skip_special_tokens=True)
        return [(text.strip(), language) for text, language in zip(texts, spoken, strict=True)]

    def measure(
        self, utterances: Sequence[Utterance], unreadable: dict[int, str], what: str | None
    ) -> list[Heard | None]:
        """Listen to the replies; None for those without speech.

        Args:
            utterances: Their responses are what ``response_path`` should say.
            unreadable: Why a recording cannot be read is added under its place, which holds None.
            what: Stands before the progress bar; None shows none.
        """
        replies: list[Recording | None] = []
        for reply in utterances:
            path = reply.response_path
            replies.append(None if path is None else Recording(path, language=reply.language))
        found: list[Heard | None] = []
        for reply, said in zip(utterances, self.listen(replies, unreadable, what), strict=True):
            found.append(None if said is None else self.compare(reply.response or "", *said))
        return found

    def listen(
        self, recordings: Sequence[Recording | None], unreadable: dict[int, str], what: str | None
    ) -> list[tuple[str, str, float] | None]:
        """Write down what is said; words, language and seconds of each recording, those of like length together.

        Args:
            recordings: None where there is none.
            unreadable: Why a recording cannot be read is added under its place, which holds None.
            what: Stands before the progress bar; None shows none.
        """
        found: list[tuple[str, str, float] | None] = [None] * len(recordings)
        seconds = _lengths(recordings, unreadable)
        in_order = sorted(seconds, key=seconds.__getitem__)
        within = [row for row in in_order if seconds[row] <= self.window]
        beyond = in_order[len(within) :]
        with progress_bar(total=len(seconds), what=what or "", shown=what is not None) as progress:
            # Recordings beyond the model's window are heard otherwise, and so never in one batch with shorter ones.
            for rows in (within, beyond):
                for start in range(0, len(rows), self.batch_size):
                    few = rows[start : start + self.batch_size]
                    self._listen({row: recordings[row] for row in few}, found, unreadable)
                    progress.update(len(few))
        return found

    def _listen(
        self,
        recordings: dict[int, Recording | None],
        found: list[tuple[str, str, float] | None],
        unreadable: dict[int, str],
    ) -> None:
        waveforms: dict[int, Tensor] = {}
        stated: list[str | None] = []
        for row, recording in recordings.items():
            assert recording is not None
            try:
                waveforms[row] = read(recording.path, recording.start, recording.end)
            except AudioError as error:
                unreadable[row] = str(error)
                continue
            code = self.language or self._known(recording.language)
            if code == "auto":
                code = None
            stated.append(code)
        if not waveforms:
            return
        heard = self.transcribe(list(waveforms.values()), stated)
        for (row, waveform), (text, language) in zip(waveforms.items(), heard, strict=True):
            found[row] = (text, language, len(waveform) / SAMPLE_RATE)

    def compare(self, reply: str, transcript: str, language: str, seconds: float) -> Heard:
        """Count the errors of a transcript."""
        from torchaudio.functional import edit_distance

        meant, said = self._normal(reply, language), self._normal(transcript, language)
        if language in SPACELESS:
            own, others = list(meant), list(said)
        else:
            own, others = meant.split(), said.split()
        errors = edit_distance(own, others), edit_distance(meant, said)
        return Heard(transcript, language, round(seconds, 3), len(own), errors[0], len(meant), errors[1])

    def _normal(self, text: str, language: str) -> str:
        """A text as it is compared."""
        normalise = self.english if language == "en" else self.basic
        # The normaliser knows "I'm" with a typewriter's apostrophe alone.
        words = normalise(text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")).split()
        space = "" if language in SPACELESS else " "
        return space.join(words)


def primary_language(tag: str | None) -> str:
    """The language of a BCP 47 tag without script and region, in lower case; "" of none.

    >>> primary_language("zh-Hans-CN"), primary_language("en_US"), primary_language(None)
    ('zh', 'en', '')
    """
    return (tag or "").lower().replace("_", "-").split("-")[0]


def _lengths(recordings: Sequence[Recording | None], unreadable: dict[int, str]) -> dict[int, float]:
    """Seconds of the recordings that can be read, by their places; why others cannot is added."""
    seconds: dict[int, float] = {}
    for row, recording in enumerate(recordings):
        if recording is None:
            continue
        try:
            seconds[row] = duration_of(recording.path, recording.start, recording.end)
        except AudioError as error:
            unreadable[row] = str(error)
    return seconds


def _tell_languages(model: Any, tokenizer: Any) -> None:
    """Tell a Whisper its languages and tasks from its tokenizer, where its generation config does not.

    Folders that were converted by hand often bring a generation config that was made from the model's own.
    """
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    config, known = model.generation_config, tokenizer.get_vocab()
    if getattr(config, "lang_to_id", None) or getattr(config, "is_multilingual", None) is False:
        return
    tokens = [f"<|{code}|>" for code in LANGUAGES]
    languages = {token: known[token] for token in tokens if token in known}
    if len(languages) < 2 or model.config.vocab_size == _ENGLISH_ALONE:
        return
    config.lang_to_id, config.is_multilingual = languages, True
    config.task_to_id = {task: known[f"<|{task}|>"] for task in ("transcribe", "translate")}
    config.no_timestamps_token_id = known["<|notimestamps|>"]
