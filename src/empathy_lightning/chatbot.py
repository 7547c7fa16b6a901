"""Talk to a trained bot: recordings in, text and speech out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from empathy_lightning.audio import SAMPLE_RATE, check_speech, read_speech, write
from empathy_lightning.checkpoints import Checkpoint, CheckpointError, load
from empathy_lightning.modules.emotion_nuance import EmotionEstimate


@dataclass
class Reply:
    """What was heard and what is answered.

    Attributes:
        text: The reply.
        emotion: Likeliest category.
        probabilities: Of each category, by name.
        arousal: In 0..1, or None if the checkpoint does not rate.
        valence: As arousal.
        dominance: As arousal.
        units: Speech units of the reply where no vocoder makes them a waveform, else None.
        waveform: The reply as speech, shape (T,), or None without a speech decoder.
        sample_rate: Of the waveform, in Hz.
    """

    text: str
    emotion: str
    probabilities: dict[str, float]
    arousal: float | None
    valence: float | None
    dominance: float | None
    units: list[int] | None = field(default=None, kw_only=True)
    waveform: Tensor | None
    sample_rate: int


def split_at_pauses(waveform: Tensor, longest: float) -> list[Tensor]:
    """Cut speech into pieces of at most ``longest`` seconds, each cut at the quietest 0.1 s of its last third.

    Args:
        waveform: At 16 kHz, shape (T,).
        longest: Most seconds of a piece.
    """
    most, window = round(longest * SAMPLE_RATE), SAMPLE_RATE // 10
    pieces = []
    while len(waveform) > most:
        begin = most * 2 // 3
        energy = waveform[begin:most].unfold(0, window, window // 2).square().mean(1)
        cut = begin + int(energy.argmin()) * (window // 2) + window // 2
        pieces.append(waveform[:cut])
        waveform = waveform[cut:]
    return [*pieces, waveform]


class EmpatheticChatbot:
    """A trained bot, ready to answer.

    Args:
        checkpoint: A model with a speech adapter and a language model; with an emotion
            nuance module it hears how something is said, with a speech decoder and a
            vocoder it answers aloud.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        if checkpoint.model.language_model is None or checkpoint.model.emotion_nuance is None:
            raise CheckpointError("this checkpoint cannot chat: it has no language model or no emotion nuance module")
        self.model = checkpoint.model.eval()
        self.emotions = checkpoint.emotions
        self.speech_decoder = checkpoint.speech_decoder
        self.vocoder = checkpoint.vocoder

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str | None = None) -> EmpatheticChatbot:
        """Load a checkpoint folder and the backbones that it names.

        Args:
            folder: Written by a trainer.
            device: For example ``"cuda"``; None takes a GPU if there is one.

        Raises:
            CheckpointError: If the folder is incomplete or damaged.
        """
        checkpoint = load(folder)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        for module in (checkpoint.model, checkpoint.speech_decoder, checkpoint.vocoder):
            if module is not None:
                module.to(device)
        return cls(checkpoint)

    def respond(
        self,
        recordings: Sequence[str | Path | Tensor],
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[Reply]:
        """Answer recordings.

        Args:
            recordings: Audio files, or waveforms at 16 kHz, each (T,); 0.2 s to 5 minutes.
            max_new_tokens: Longest reply.
            temperature: 0 takes the likeliest words; above it, they are drawn.
            seed: Seed of the draws.

        Raises:
            AudioError: If a recording cannot be used; none is answered then.
        """
        waveforms = []
        for number, recording in enumerate(recordings, 1):
            if isinstance(recording, Tensor):
                check_speech(recording, f"recording {number}")
                waveforms.append(recording)
            else:
                waveforms.append(read_speech(recording))
        speech, emotion = self.hear(waveforms)
        prompts = self.model.prompt_rows(speech, emotion.embedding)
        tokens = self.model.respond(prompts, max_new_tokens, temperature, seed)
        states = self.model.reply_states(prompts, tokens)
        return [self._reply(row, emotion, tokens[row], states[row]) for row in range(len(waveforms))]

    @torch.no_grad()
    def hear(self, waveforms: Sequence[Tensor]) -> tuple[list[Tensor], EmotionEstimate]:
        """Embeddings of what was said and of how, one per waveform.

        Speech longer than the encoder's window is cut at pauses; the pieces' words are
        joined and their emotions averaged by length.
        """
        model = self.model
        assert model.speech_adapter is not None and model.emotion_nuance is not None
        device = next(model.speech_adapter.parameters()).device
        said, estimates = [], []
        for waveform in waveforms:
            pieces = split_at_pauses(waveform, getattr(model.speech_encoder, "max_seconds", 30.0))
            lengths = torch.tensor([len(piece) for piece in pieces], device=device)
            padded = torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True).to(device)
            encoded = model.speech_encoder(padded, lengths)
            embeddings, mask = model.speech_adapter(encoded.frames, encoded.mask)
            said.append(torch.cat([row[valid] for row, valid in zip(embeddings, mask, strict=True)]))
            estimate = model.emotion_nuance(encoded.layers, encoded.mask)
            share = lengths / lengths.sum()
            estimates.append({name: torch.tensordot(share, value, 1) for name, value in vars(estimate).items()})
        return said, EmotionEstimate(**{name: torch.stack([e[name] for e in estimates]) for name in estimates[0]})

    def speak(self, states: Tensor, tokens: Sequence[int]) -> Tensor | None:
        """Speech of a reply from its hidden states (T, D) and token ids, or None without a speech decoder."""
        units = None if self.vocoder is None else self.units(states, tokens)
        return None if self.vocoder is None or units is None else self.vocoder(units).cpu()

    def units(self, states: Tensor, tokens: Sequence[int]) -> Tensor | None:
        """Units (U,) of a reply from its hidden states (T, D) and token ids, or None without a speech decoder."""
        if self.speech_decoder is None:
            return None
        ids = torch.tensor(tokens, device=states.device)
        return torch.cat(list(self.speech_decoder.stream([(states, ids)])))

    def _reply(self, row: int, emotion: EmotionEstimate, tokens: Sequence[int], states: Tensor) -> Reply:
        probabilities = emotion.logits[row].float().softmax(-1)
        units = None if self.vocoder is not None else self.units(states, tokens)
        return Reply(
            text=self.model.text(tokens),
            emotion=self.emotions[int(probabilities.argmax())],
            probabilities={n: round(p, 4) for n, p in zip(self.emotions, probabilities.tolist(), strict=True)},
            arousal=_rating(emotion.arousal[row]),
            valence=_rating(emotion.valence[row]),
            dominance=_rating(emotion.dominance[row]),
            units=None if units is None else units.tolist(),
            waveform=self.speak(states, tokens),
            sample_rate=SAMPLE_RATE if self.vocoder is None else self.vocoder.sample_rate,
        )


def chat(files: Sequence[Path], out: Path, checkpoint: Path, temperature: float = 0.0, seed: int = 0) -> list[Reply]:
    """Answer files, print what was heard and said, and write ``<name>_reply.wav`` and ``replies.json``.

    Args:
        files: Recordings.
        out: Folder for the replies; made only after every file was found usable.
        checkpoint: Folder of the bot.
        temperature: See :meth:`EmpatheticChatbot.respond`.
        seed: Seed of the draws.

    Raises:
        InputError: If a file or the checkpoint cannot be used.
    """
    for file in files:
        read_speech(file)
    bot = EmpatheticChatbot.from_pretrained(checkpoint)
    replies, entries = [], []
    for number, file in enumerate(tqdm(files, desc="answering", disable=len(files) < 2)):
        (reply,) = bot.respond([file], temperature=temperature, seed=seed)
        name = f"{file.stem}_reply.wav" if len(files) == 1 else f"{number + 1:03d}_{file.stem}_reply.wav"
        if reply.waveform is not None:
            write(out / name, reply.waveform, reply.sample_rate)
        described = describe(reply)
        tqdm.write(f"{file}\n{described}" + (f"\n  speech   {out / name}" if reply.waveform is not None else ""))
        replies.append(reply)
        values = {key: value for key, value in vars(reply).items() if key != "waveform"}
        entries.append({"file": str(file), **values, "speech": name if reply.waveform is not None else None})
    out.mkdir(parents=True, exist_ok=True)
    (out / ".replies.json").write_text(json.dumps(entries, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / ".replies.json").replace(out / "replies.json")
    return replies


def _rating(value: Tensor) -> float | None:
    return None if value.isnan() else float(value)


def describe(reply: Reply) -> str:
    """What was heard and what is answered, in lines for a terminal."""
    ratings = {"arousal": reply.arousal, "valence": reply.valence, "dominance": reply.dominance}
    rated = "".join(f", {name} {value:.2f}" for name, value in ratings.items() if value is not None)
    return f"  heard    {reply.emotion} ({reply.probabilities[reply.emotion]:.0%}){rated}\n  reply    {reply.text}"
