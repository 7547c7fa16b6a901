"""The wiring: speech to text around the frozen language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from empathy_lightning.batch import SpeechBatch
from empathy_lightning.errors import InputError
from empathy_lightning.modules.cached_encoder import CachedSpeechEncoder
from empathy_lightning.modules.convolutional_encoder import ConvolutionalEncoder
from empathy_lightning.modules.emotion_nuance import EmotionEstimate, EmotionNuance
from empathy_lightning.modules.language_model import IGNORE, LanguageModel, pack
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_encoder import EncodedSpeech, SpeechEncoder
from empathy_lightning.prompts import SPEECH_AND_EMOTION, SPEECH_ONLY, Prompt, Segment, response_ids


@dataclass
class EmpatheticOutput:
    """What the model makes of a batch; auxiliary losses read it beside the batch.

    Attributes:
        response_loss: Mean cross-entropy of the expected responses, or None without a
            language model or without responses.
        emotion: Estimates of the emotion nuance module, or None without one.
    """

    response_loss: Tensor | None
    emotion: EmotionEstimate | None


class EmpatheticLM(nn.Module):
    """Speech in, text out: encoder, adapter, emotion nuance and a frozen language model.

    Every part but the encoder may be left out: without ``emotion_nuance`` it is a
    spoken chatbot (stage 1); with ``emotion_nuance`` alone it is a recogniser of
    speech emotion that needs no language model.

    Args:
        speech_encoder: Encoder whose output the adapter reads and whose layers the nuance module reads.
        speech_adapter: Frames to embeddings.
        language_model: Frozen language model.
        emotion_nuance: Emotion embedding and heads.
        prompt: User's turn with its slots; None takes FreezeEmpath's, with or without the emotion slot.
        system: System message of the prompt; None leaves it out.
    """

    def __init__(
        self,
        speech_encoder: SpeechEncoder | CachedSpeechEncoder | ConvolutionalEncoder,
        speech_adapter: SpeechAdapter | None = None,
        language_model: LanguageModel | None = None,
        emotion_nuance: EmotionNuance | None = None,
        prompt: str | None = None,
        system: str | None = None,
    ) -> None:
        super().__init__()
        if (speech_adapter is None) != (language_model is None):
            raise InputError("speech_adapter and language_model need each other: give both or neither")
        if language_model is None and emotion_nuance is None:
            raise InputError("give a speech_adapter with a language_model, an emotion_nuance module, or all of them")
        self.speech_encoder = speech_encoder
        self.speech_adapter = speech_adapter
        self.language_model = language_model
        self.emotion_nuance = emotion_nuance
        self.prompt = prompt or (SPEECH_AND_EMOTION if emotion_nuance is not None else SPEECH_ONLY)
        self.system = system

    def segments(self) -> list[Segment]:
        """The prompt cut at its slots."""
        assert self.language_model is not None
        return Prompt(self.prompt, self.system).segments(self.language_model.tokenizer)

    def prefix(self) -> list[int]:
        """Token ids before the first slot, which all utterances share; none where rows must be computed whole."""
        first = self.segments()[0]
        return [] if isinstance(first, str) else first

    def prompt_rows(
        self, speech: Sequence[Tensor] | Sequence[str], emotion: Tensor | Sequence[str] | None
    ) -> list[Tensor]:
        """Fill the prompt for each utterance.

        Args:
            speech: Adapter's embeddings, each (T_i, D), or transcripts.
            emotion: Emotion embeddings (B, D), or labels, or None where the prompt has no such slot.

        Returns:
            Embeddings (T_i, D) of each prompt.
        """
        assert self.language_model is not None
        # Text segments are embedded once per batch, not once per utterance.
        pieces = [s if isinstance(s, str) else self.language_model.embed(s) for s in self.segments()]
        if emotion is None and "emotion" in [p for p in pieces if isinstance(p, str)]:
            raise InputError("the prompt has an {emotion} slot, but there is nothing to fill it")
        rows = []
        for index in range(len(speech)):
            slots = {"speech": self._slot(speech[index])}
            if emotion is not None:
                slots["emotion"] = self._slot(emotion[index])
            rows.append(torch.cat([slots[p] if isinstance(p, str) else p for p in pieces]))
        return rows

    def _slot(self, content: Tensor | str) -> Tensor:
        """Embeddings (T, D) of what fills a slot: words, a sequence of vectors or one vector."""
        assert self.language_model is not None
        if isinstance(content, str):
            return self.language_model.embed(self.language_model.tokenizer(content, add_special_tokens=False).input_ids)
        return content.reshape(-1, self.language_model.hidden_size).to(
            self.language_model.device, self.language_model.model.dtype
        )

    def hear(self, batch: SpeechBatch) -> tuple[EncodedSpeech, EmotionEstimate | None]:
        """Encode the speech once, for the adapter and the nuance module together."""
        encoded = self.speech_encoder(batch.waveform, batch.lengths)
        emotion = None if self.emotion_nuance is None else self.emotion_nuance(encoded.layers, encoded.mask)
        return encoded, emotion

    def forward(self, batch: SpeechBatch) -> EmpatheticOutput:
        """Hear a batch and, where it has responses, score them under the frozen language model."""
        encoded, emotion = self.hear(batch)
        if self.language_model is None or self.speech_adapter is None or not any(batch.responses):
            return EmpatheticOutput(None, emotion)
        speech, speech_mask = self.speech_adapter(encoded.frames, encoded.mask)
        said = [row[valid] for row, valid in zip(speech, speech_mask, strict=True)]
        del encoded  # The adapter's training has no use for the layers; the nuance module's graph keeps them.
        # Before there is an emotion embedding, the label's words hold its place in the prompt.
        prompts = self.prompt_rows(said, batch.emotions if emotion is None else emotion.embedding)
        still = None if emotion is None or speech.requires_grad else self._before_emotion(said)
        return EmpatheticOutput(self.response_loss(prompts, batch.responses, still), emotion)

    def _before_emotion(self, speech: Sequence[Tensor]) -> list[int] | None:
        """Positions of each prompt before its emotion slot: none needs a gradient where only that module trains."""
        segments = self.segments()
        if "emotion" not in segments or not self.prefix():
            return None
        before = segments[: segments.index("emotion")]
        return [sum(len(row) if isinstance(s, str) else len(s) for s in before) for row in speech]

    def response_loss(
        self, prompts: Sequence[Tensor], responses: Sequence[str | None], still: Sequence[int] | None = None
    ) -> Tensor:
        """Mean cross-entropy of the responses after their prompts; utterances without a response are left out.

        Args:
            prompts: Embeddings (T_i, D) from :meth:`prompt_rows`.
            responses: Expected replies.
            still: How many first positions of each prompt need no gradient.
        """
        language_model = self.language_model
        assert language_model is not None
        rows, labels = [], []
        for prompt, response in zip(prompts, responses, strict=True):
            if not response:
                continue
            ids = response_ids(language_model.tokenizer, response)
            rows.append(torch.cat([prompt, language_model.embed(ids)]))
            labels.append(torch.tensor([IGNORE] * len(prompt) + ids, device=prompt.device))
        kept = None if still is None else [count for count, response in zip(still, responses, strict=True) if response]
        embeddings, mask = pack(rows)
        targets = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORE)
        return language_model.response_loss(language_model(embeddings, mask, self.prefix(), kept), targets)

    @torch.no_grad()
    def respond(
        self, prompts: Sequence[Tensor], max_new_tokens: int = 256, temperature: float = 0.0, seed: int = 0
    ) -> list[list[int]]:
        """Token ids of the replies to prompts from :meth:`prompt_rows`, end-of-turn token included."""
        assert self.language_model is not None
        embeddings, mask = pack(prompts, left=True)
        return self.language_model.generate(embeddings, mask, max_new_tokens, temperature, seed)

    @torch.no_grad()
    def reply_states(self, prompts: Sequence[Tensor], replies: Sequence[Sequence[int]]) -> list[Tensor]:
        """Hidden states that predicted each token of the replies, for the speech decoder.

        Args:
            prompts: Embeddings (T_i, D) from :meth:`prompt_rows`.
            replies: Token ids of each reply.

        Returns:
            One (len(reply), D) per reply: state t is the one from which token t was chosen.
        """
        language_model = self.language_model
        assert language_model is not None
        rows = [torch.cat([p, language_model.embed(r)]) for p, r in zip(prompts, replies, strict=True)]
        hidden = language_model(*pack(rows), self.prefix())
        return [
            hidden[i, len(p) - 1 : len(p) - 1 + len(r)] for i, (p, r) in enumerate(zip(prompts, replies, strict=True))
        ]

    def text(self, ids: Sequence[int]) -> str:
        """The words of a reply."""
        assert self.language_model is not None
        decoded: str = self.language_model.tokenizer.decode(ids, skip_special_tokens=True)
        return decoded.strip()
