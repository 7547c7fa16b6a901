"""Talk to a trained bot: recordings in, text and speech out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from empathy_lightning.audio import SAMPLE_RATE, AudioError, from_samples, read_speech, split_at_pauses, write
from empathy_lightning.checkpoints import Checkpoint, CheckpointError, load
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_folder, write_json
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.emotion_nuance import EmotionEstimate
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.vocoder import Vocoder
from empathy_lightning.progress import progress_bar, say
from empathy_lightning.prompts import follow_language
from empathy_lightning.slots import Turn
from empathy_lightning.thinking import visible

Recording = str | Path | Tensor | NDArray[np.floating[Any]]
"""An audio file, or a waveform at 16 kHz, shape (T,)."""

UNIT_TEMPERATURE = 0.4
"""At which speech units are drawn: words are clearer than at 1, and the likeliest units may repeat themselves."""


@dataclass
class Reply:
    """What was heard and what is answered.

    Attributes:
        text: The reply.
        emotion: Likeliest category, or None if the checkpoint's classifier was never trained.
        probabilities: Of each category, by name; empty without a trained classifier.
        arousal: In 0..1, or None if the checkpoint does not rate.
        valence: As arousal.
        dominance: As arousal.
        units: Speech units of the reply where no vocoder makes them a waveform, else None.
        waveform: The reply as speech, shape (T,), or None without a speech decoder.
        sample_rate: Of the waveform, in Hz.
        turn: The question and this reply, for the history of the next question.
    """

    text: str
    emotion: str | None
    probabilities: dict[str, float]
    arousal: float | None
    valence: float | None
    dominance: float | None
    units: list[int] | None = field(default=None, kw_only=True)
    waveform: Tensor | None
    sample_rate: int
    turn: Turn = field(repr=False)


class EmpatheticChatbot:
    """A trained bot, ready to answer.

    Args:
        checkpoint: A model with a speech adapter, a language model and an emotion nuance
            module; with a speech decoder and a vocoder it answers aloud.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        if checkpoint.model.language_model is None or checkpoint.model.emotion_nuance is None:
            raise CheckpointError("this checkpoint cannot chat: it has no language model or no emotion nuance module")
        self.model = checkpoint.model.eval()
        self.emotions = checkpoint.emotions
        self.speech_decoder = checkpoint.speech_decoder
        self.vocoder = checkpoint.vocoder

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, device: str | None = None, trust: Sequence[str] = ()
    ) -> EmpatheticChatbot:
        """Load a checkpoint folder and the backbones that it names.

        Args:
            folder: Written by a trainer.
            device: For example ``"cuda"``; None takes a GPU if there is one.
            trust: Packages besides this library whose classes the folder may name, see :func:`.checkpoints.load`.

        Raises:
            CheckpointError: If the folder is incomplete or damaged.
        """
        return cls(load(folder, trust).to(device or ("cuda" if torch.cuda.is_available() else "cpu")))

    def respond(
        self,
        recordings: Recording | Sequence[Recording],
        history: Sequence[Sequence[Turn]] | None = None,
        language: str | None = None,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        unit_temperature: float | None = None,
        batch_size: int = 8,
    ) -> list[Reply]:
        """Answer recordings, each as if it were alone.

        Args:
            recordings: Audio files, or waveforms at 16 kHz, each (T,); 0.2 s to 5 minutes. One alone may be given as
                it is; its reply comes in a list too.
            history: Earlier turns of each recording's conversation (:attr:`Reply.turn`, or with words); None where
                each recording begins one. The oldest are left out where the language model's window is too short.
            language: ``"auto"`` asks for a reply in the user's language, any other name for that one.
            max_new_tokens: Longest reply.
            temperature: 0 takes the likeliest words; above it, they are drawn.
            top_p: Draw from the likeliest tokens whose probabilities reach this sum.
            seed: Seed of each reply's draws.
            unit_temperature: Speech units are drawn from the 50 likeliest at this temperature; 0 takes the likeliest
                ones, which may repeat themselves without end. None stands for :data:`UNIT_TEMPERATURE`, and for 1
                where the speech decoder has ``released_rules``, as the released code has it.
            batch_size: Recordings that are answered together.

        Raises:
            AudioError: If a recording cannot be used; none is answered then.
            InputError: If another argument cannot be used.
        """
        _check_options(max_new_tokens, temperature, top_p, unit_temperature, batch_size)
        recordings = _as_list(recordings)
        if history is not None and len(history) != len(recordings):
            raise InputError(f"{len(history)} histories for {len(recordings)} recordings: give one for each")
        system = follow_language(self.model.system, language)
        waveforms = _waveforms(recordings)
        replies = []
        for start in range(0, len(waveforms), batch_size):
            speech, emotion = self.hear(waveforms[start : start + batch_size], batch_size)
            turns = [Turn(*heard) for heard in zip(speech, emotion.embedding, strict=True)]
            past = [()] * len(turns) if history is None else history[start : start + batch_size]
            prompts = [
                self._prompt([*earlier, turn], system, max_new_tokens)
                for earlier, turn in zip(past, turns, strict=True)
            ]
            tokens = self.model.respond(prompts, max_new_tokens, temperature, seed, top_p)
            spoken: Sequence[tuple[Tensor | None, Tensor | None]] = [(None, None)] * len(turns)
            if self.speech_decoder is not None:
                parts = (self.model, self.speech_decoder, self.vocoder)
                spoken = speak_replies(*parts, prompts, tokens, [seed] * len(turns), unit_temperature)
            replies += [self._reply(emotion, row, turn, tokens[row], *spoken[row]) for row, turn in enumerate(turns)]
        return replies

    @torch.no_grad()
    def _prompt(self, turns: Sequence[Turn], system: str | None, max_new_tokens: int) -> Tensor:
        """Prompt (T, D) with as many of the latest turns as fit into the language model's window, at least one."""
        language_model = self.model.language_model
        assert language_model is not None
        window = getattr(language_model.model.config, "max_position_embeddings", None)
        prompt = self.model.conversation_row(turns, system)
        while window is not None and len(turns) > 1 and len(prompt) + max_new_tokens > window:
            turns = turns[1:]
            prompt = self.model.conversation_row(turns, system)
        if window is not None and len(prompt) + max_new_tokens > window:
            warnings.warn(
                f"{len(prompt)} positions of prompt, {max_new_tokens} of reply exceed the language model's {window}: "
                "the reply may make no sense: give shorter speech",
                stacklevel=3,
            )
        return prompt

    @torch.no_grad()
    def hear(self, waveforms: Sequence[Tensor], batch_size: int = 8) -> tuple[list[Tensor], EmotionEstimate]:
        """Embeddings of what was said and of how, one per waveform.

        Speech longer than the encoder's window is cut at pauses; the pieces' words are
        joined and their emotions averaged by length.

        Args:
            waveforms: At 16 kHz, each (T,).
            batch_size: Pieces that are encoded together.
        """
        model = self.model
        assert model.speech_adapter is not None and model.emotion_nuance is not None
        device = next(model.speech_adapter.parameters()).device
        longest = getattr(model.speech_encoder, "max_seconds", 30.0)
        pieces = [(row, piece) for row, wave in enumerate(waveforms) for piece in split_at_pauses(wave, longest)]
        said: list[list[Tensor]] = [[] for _ in waveforms]
        total = torch.tensor([len(waveform) for waveform in waveforms], device=device)
        sums: dict[str, Tensor] = {}
        for start in range(0, len(pieces), batch_size):
            owners, waves = zip(*pieces[start : start + batch_size], strict=True)
            lengths = torch.tensor([len(wave) for wave in waves], device=device)
            padded = nn.utils.rnn.pad_sequence(list(waves), batch_first=True).to(device)
            encoded = model.speech_encoder(padded, lengths)
            adapted = model.adapt(encoded, padded, lengths)
            for owner, row, valid in zip(owners, *adapted, strict=True):
                said[owner].append(row[valid])
            rows = torch.tensor(owners, device=device)
            for name, value in vars(model.feel(encoded, adapted)).items():
                share = (lengths / total[rows]).to(value.dtype).reshape(-1, *[1] * (value.ndim - 1))
                empty = value.new_zeros(len(waveforms), *value.shape[1:])
                sums[name] = sums.get(name, empty).index_add(0, rows, share * value)
        return [torch.cat(parts) for parts in said], EmotionEstimate(**sums)

    def speak(
        self, states: Tensor, tokens: Sequence[int], temperature: float | None = None, seed: int = 0
    ) -> Tensor | None:
        """Speech of a reply from its hidden states (T, D) and token ids, or None without a speech decoder."""
        units = None if self.vocoder is None else self.units(states, tokens, temperature, seed)
        return None if self.vocoder is None or units is None else self.vocoder(units).cpu()

    def units(
        self, states: Tensor, tokens: Sequence[int], temperature: float | None = None, seed: int = 0
    ) -> Tensor | None:
        """Units (U,) of a reply from its hidden states (T, D) and token ids, or None without a speech decoder."""
        return None if self.speech_decoder is None else _units(self.speech_decoder, states, tokens, temperature, seed)

    def _reply(
        self,
        emotion: EmotionEstimate,
        row: int,
        turn: Turn,
        tokens: Sequence[int],
        units: Tensor | None,
        waveform: Tensor | None,
    ) -> Reply:
        shares = emotion.logits[row].float().softmax(-1)
        known = not bool(shares.isnan().any())
        text = self.model.text(tokens)
        return Reply(
            text=text,
            emotion=self.emotions[int(shares.argmax())] if known else None,
            probabilities={n: round(p, 4) for n, p in zip(self.emotions, shares.tolist(), strict=True) if known},
            arousal=_rating(emotion.arousal[row]),
            valence=_rating(emotion.valence[row]),
            dominance=_rating(emotion.dominance[row]),
            units=units.tolist() if self.vocoder is None and units is not None else None,
            waveform=waveform,
            sample_rate=SAMPLE_RATE if self.vocoder is None else self.vocoder.sample_rate,
            turn=replace(turn, reply=text),
        )


def speak_replies(
    model: EmpatheticLM,
    speech_decoder: SpeechDecoder,
    vocoder: Vocoder | None,
    prompts: Sequence[Tensor],
    tokens: Sequence[Sequence[int]],
    seeds: Sequence[int],
    temperature: float | None = None,
) -> list[tuple[Tensor, Tensor | None]]:
    """Let a bot say its replies, without what it thought before them.

    Args:
        model: Gives the hidden states.
        speech_decoder: Hidden states to units.
        vocoder: Units to a waveform; None leaves it at the units.
        prompts: Embeddings (T_i, D), as :meth:`EmpatheticLM.prompt_rows` gives them.
        tokens: Token ids of each reply.
        seeds: Of each reply's draws.
        temperature: Of the draws, see :meth:`EmpatheticChatbot.respond`.

    Returns:
        Units (U_i,) and waveform (T_i,) of each reply.
    """
    assert model.language_model is not None
    spoken: list[tuple[Tensor, Tensor | None]] = []
    for states, ids, seed in zip(model.reply_states(prompts, tokens), tokens, seeds, strict=True):
        # Where all was thinking, the last token stands for a reply without words.
        said = visible(model.language_model.tokenizer, ids) or [len(ids) - 1]
        units = _units(speech_decoder, states[said], [ids[position] for position in said], temperature, seed)
        spoken.append((units, None if vocoder is None else vocoder(units).cpu()))
    return spoken


def _units(
    decoder: SpeechDecoder, states: Tensor, tokens: Sequence[int], temperature: float | None, seed: int
) -> Tensor:
    if temperature is None:
        temperature = 1.0 if decoder.released_rules else UNIT_TEMPERATURE
    ids = torch.tensor(tokens, device=states.device)
    draws = torch.Generator(states.device).manual_seed(seed)
    return torch.cat(list(decoder.stream([(states, ids)], temperature=temperature, generator=draws, top_k=50)))


def _as_list(recordings: Recording | Sequence[Recording]) -> Sequence[Recording]:
    """The recordings, also where one was given that could be taken for a list: of letters, or of samples."""
    if isinstance(recordings, str | Path):
        return [recordings]
    if isinstance(recordings, Tensor | np.ndarray):
        return [recordings] if recordings.ndim == 1 else list(recordings)
    return recordings


def _waveforms(recordings: Sequence[Recording]) -> list[Tensor]:
    """Waveforms of all recordings, checked."""
    waveforms = []
    for number, recording in enumerate(recordings, 1):
        if isinstance(recording, np.ndarray):
            recording = torch.from_numpy(recording)
        if isinstance(recording, Tensor):
            if recording.ndim != 1 or not recording.is_floating_point() or not recording.isfinite().all():
                shape = tuple(recording.shape)
                raise AudioError(
                    f"recording {number}: {recording.dtype}, shape {shape}; a waveform has finite floats, shape (T,)"
                )
            waveforms.append(from_samples(recording, f"recording {number}"))
        else:
            waveforms.append(read_speech(recording))
    return waveforms


def _check_options(
    max_new_tokens: int, temperature: float, top_p: float, unit_temperature: float | None, batch_size: int
) -> None:
    if max_new_tokens < 1 or batch_size < 1:
        raise InputError("max_new_tokens and batch_size have to be at least 1")
    if min(temperature, unit_temperature or 0) < 0 or not 0 < top_p <= 1:
        raise InputError("a temperature has to be 0 or more, top_p above 0 and at most 1")


def chat(
    files: Sequence[Path],
    out: Path,
    checkpoint: Path,
    conversation: bool = False,
    explain: bool = False,
    batch_size: int = 8,
    trust: Sequence[str] = (),
    **options: Any,
) -> list[Reply]:
    """Answer files, print what was heard and said, and write ``<name>_reply.wav`` and ``replies.json``.

    Args:
        files: Recordings.
        out: Folder for the replies; made only after every file was found usable.
        checkpoint: Folder of the bot.
        conversation: The files are the turns of one conversation, in order.
        explain: Also print and plot what each emotion embedding is made of.
        batch_size: Files that are answered together.
        trust: Packages besides this library whose classes the folder may name.
        **options: Of :meth:`EmpatheticChatbot.respond`.

    Raises:
        InputError: If a file or the checkpoint cannot be used.
    """
    from empathy_lightning.evaluation.explanation import explain_reply

    if batch_size < 1:
        raise InputError("batch_size has to be at least 1")
    check_folder(out)
    _check_files(files)
    bot = EmpatheticChatbot.from_pretrained(checkpoint, trust=trust)
    replies: list[Reply] = []
    entries = []
    size = 1 if conversation else batch_size
    for start in progress_bar(range(0, len(files), size), what="answering", shown=len(files) > size):
        batch = files[start : start + size]
        history = [[reply.turn for reply in replies]] if conversation else None
        for file, reply in zip(batch, bot.respond(batch, history, batch_size=batch_size, **options), strict=True):
            name = file.stem if len(files) == 1 else f"{len(replies) + 1:03d}_{file.stem}"
            values = {key: value for key, value in vars(reply).items() if key not in ("waveform", "turn")}
            lines, entry = [describe(reply)], {"file": str(file), **values, "speech": None}
            if reply.waveform is not None:
                entry["speech"] = f"{name}_reply.wav"
                write(out / f"{name}_reply.wav", reply.waveform, reply.sample_rate)
                lines.append(f"  speech   {out / entry['speech']}")
            if explain:
                explanation = explain_reply(bot, read_speech(file), reply)
                explanation.plot(out / f"{name}_explained.png")
                entry["explanation"] = explanation.values()
                lines.append(f"{explanation}\n  plot     {out / f'{name}_explained.png'}")
            say("\n".join([str(file), *lines]))
            replies.append(reply)
            entries.append(entry)
        # After every batch, so that an interruption loses no words of the replies that were made.
        write_json(out / "replies.json", entries)
    return replies


def _check_files(files: Sequence[Path]) -> None:
    """Name all files that cannot be used at once."""
    wrong = []
    for file in files:
        try:
            read_speech(file)
        except AudioError as error:
            wrong.append(str(error))
    if wrong:
        raise AudioError("; ".join(wrong))


def _rating(value: Tensor) -> float | None:
    # RE-LLM's linear heads leave the scale of ratings.
    return None if value.isnan() else float(value.clamp(0, 1))


def describe(reply: Reply) -> str:
    """What was heard and what is answered, in lines for a terminal."""
    ratings = {"arousal": reply.arousal, "valence": reply.valence, "dominance": reply.dominance}
    heard = [] if reply.emotion is None else [f"{reply.emotion} ({reply.probabilities[reply.emotion]:.0%})"]
    heard += [f"{name} {value:.2f}" for name, value in ratings.items() if value is not None]
    return f"  heard    {', '.join(heard) or 'an emotion without a name'}\n  reply    {reply.text}"
