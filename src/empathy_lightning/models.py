"""The wiring: speech to text around the frozen language model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from empathy_lightning.batch import SpeechBatch
from empathy_lightning.errors import InputError
from empathy_lightning.modules.cached_encoder import CachedSpeechEncoder
from empathy_lightning.modules.cformer import CFormer
from empathy_lightning.modules.convolutional_adapter import ConvolutionalAdapter
from empathy_lightning.modules.convolutional_encoder import ConvolutionalEncoder
from empathy_lightning.modules.emotion_encoder import EmotionEncoder
from empathy_lightning.modules.emotion_nuance import EmotionEstimate, EmotionNuance
from empathy_lightning.modules.language_model import IGNORE, LanguageModel, pack
from empathy_lightning.modules.partial_lora import PartialLora
from empathy_lightning.modules.pooled_heads import PooledEmotionHeads
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


class PromptRow(Tensor):
    """Embeddings (T, D) of a prompt that know which of them are speech; what is computed from them is plain.

    Attributes:
        speech: Shape (T,), True where the embedding came from the speech adapter.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    speech: Tensor


class EmpatheticLM(nn.Module):
    """Speech in, text out: encoder, adapter, emotion nuance and a frozen language model.

    Every part but the encoder may be left out: without ``emotion_nuance`` it is a
    spoken chatbot (stage 1); with ``emotion_nuance`` alone it is a recogniser of
    speech emotion that needs no language model. RE-LLM is a ``ConvolutionalAdapter``
    with an ``emotion_encoder``, ``PooledEmotionHeads`` and ``partial_lora``.

    Args:
        speech_encoder: Encoder whose output the adapter reads and whose layers the nuance module reads.
        speech_adapter: Frames to embeddings.
        language_model: Frozen language model.
        emotion_nuance: Emotion embedding for the prompt and heads, or heads alone over the adapter's output.
        prompt: User's turn with its slots; None takes FreezeEmpath's, with or without the emotion slot.
        system: System message of the prompt; None leaves it out.
        emotion_encoder: Frozen encoder whose embedding an adapter with an ``emotion_size`` reads.
        partial_lora: Update of the language model that acts at speech positions.
    """

    def __init__(
        self,
        speech_encoder: SpeechEncoder | CachedSpeechEncoder | ConvolutionalEncoder,
        speech_adapter: SpeechAdapter | ConvolutionalAdapter | CFormer | None = None,
        language_model: LanguageModel | None = None,
        emotion_nuance: EmotionNuance | PooledEmotionHeads | None = None,
        prompt: str | None = None,
        system: str | None = None,
        emotion_encoder: EmotionEncoder | None = None,
        partial_lora: PartialLora | None = None,
    ) -> None:
        super().__init__()
        if (speech_adapter is None) != (language_model is None):
            raise InputError("speech_adapter and language_model need each other: give both or neither")
        if language_model is None and emotion_nuance is None:
            raise InputError("give a speech_adapter with a language_model, an emotion_nuance module, or all of them")
        if (emotion_encoder is not None) != (getattr(speech_adapter, "emotion_size", 0) > 0):
            raise InputError("an emotion_encoder and an adapter with an emotion_size need each other")
        if speech_adapter is None and isinstance(emotion_nuance, PooledEmotionHeads):
            raise InputError("PooledEmotionHeads read the speech_adapter's output: give one")
        if partial_lora is not None:
            if language_model is None:
                raise InputError("partial_lora updates a language_model: give one")
            partial_lora.attach(language_model.model)
        self.speech_encoder = speech_encoder
        self.speech_adapter = speech_adapter
        self.language_model = language_model
        self.emotion_nuance = emotion_nuance
        self.emotion_encoder = emotion_encoder
        self.partial_lora = partial_lora
        self.prompt = prompt or (SPEECH_AND_EMOTION if isinstance(emotion_nuance, EmotionNuance) else SPEECH_ONLY)
        self.system = system

    def segments(self) -> list[Segment]:
        """The prompt cut at its slots."""
        assert self.language_model is not None
        return Prompt(self.prompt, self.system).segments(self.language_model.tokenizer)

    def prompt_rows(
        self, speech: Sequence[Tensor] | Sequence[str], emotion: Tensor | Sequence[str] | None
    ) -> list[PromptRow]:
        """Fill the prompt for each utterance.

        Args:
            speech: Adapter's embeddings, each (T_i, D), or transcripts.
            emotion: Emotion embeddings (B, D), or labels, or None where the prompt has no such slot.

        Returns:
            Embeddings (T_i, D) of each prompt. Words in the speech slot are not speech to partial LoRA.
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
            filled = [slots[p] if isinstance(p, str) else p for p in pieces]
            row = torch.cat(filled).as_subclass(PromptRow)
            heard = [isinstance(p, str) and p == "speech" and isinstance(speech[index], Tensor) for p in pieces]
            row.speech = torch.cat(
                [torch.full((len(f),), h, device=row.device) for f, h in zip(filled, heard, strict=True)]
            )
            rows.append(row)
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
        pooled = isinstance(self.emotion_nuance, PooledEmotionHeads)
        return encoded, self.feel(encoded, self.adapt(encoded, batch.waveform, batch.lengths) if pooled else None)

    def adapt(self, encoded: EncodedSpeech, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The adapter's embeddings (B, T, D) of encoded speech and their mask; the waveform is for the emotion."""
        assert self.speech_adapter is not None
        if self.emotion_encoder is None:
            adapted: tuple[Tensor, Tensor] = self.speech_adapter(encoded.frames, encoded.mask)
        else:
            emotion = self.emotion_encoder(waveform, lengths).embedding
            adapted = self.speech_adapter(encoded.frames, encoded.mask, emotion)
        return adapted

    def feel(self, encoded: EncodedSpeech, adapted: tuple[Tensor, Tensor] | None) -> EmotionEstimate | None:
        """The emotion, from the encoder's layers or, for pooled heads, from :meth:`adapt`'s embeddings."""
        if self.emotion_nuance is None:
            return None
        if isinstance(self.emotion_nuance, PooledEmotionHeads):
            assert adapted is not None
            estimate: EmotionEstimate = self.emotion_nuance(*adapted)
        else:
            estimate = self.emotion_nuance(encoded.layers, encoded.mask)
        return estimate

    def forward(self, batch: SpeechBatch) -> EmpatheticOutput:
        """Hear a batch and, where it has responses, score them under the frozen language model."""
        encoded = self.speech_encoder(batch.waveform, batch.lengths)
        answered = self.language_model is not None and any(batch.responses)
        adapted = None
        if answered or isinstance(self.emotion_nuance, PooledEmotionHeads):
            adapted = self.adapt(encoded, batch.waveform, batch.lengths)
        emotion = self.feel(encoded, adapted)
        if adapted is None or not answered:
            return EmpatheticOutput(None, emotion)
        said = [row[valid] for row, valid in zip(*adapted, strict=True)]
        # Before there is an emotion embedding, the label's words hold its place in the prompt.
        prompts = self.prompt_rows(said, batch.emotions if emotion is None else emotion.embedding)
        return EmpatheticOutput(self.response_loss(prompts, batch.responses), emotion)

    def _adapted_at(self, prompts: Sequence[Tensor], left: bool = False) -> AbstractContextManager[None]:
        """Partial LoRA, if there is one, at the prompts' speech for the calls inside."""
        if self.partial_lora is None:
            return nullcontext()
        if not all(isinstance(row, PromptRow) for row in prompts):
            raise InputError("partial LoRA must know where speech is: give prompts as prompt_rows made them")
        speech = [row.speech for row in prompts if isinstance(row, PromptRow)]
        side = "left" if left else "right"
        return self.partial_lora.at(nn.utils.rnn.pad_sequence(speech, batch_first=True, padding_side=side))

    def response_loss(self, prompts: Sequence[Tensor], responses: Sequence[str | None]) -> Tensor:
        """Mean cross-entropy of the responses after their prompts; utterances without a response are left out."""
        language_model = self.language_model
        assert language_model is not None
        rows, labels = [], []
        for prompt, response in zip(prompts, responses, strict=True):
            if not response:
                continue
            ids = response_ids(language_model.tokenizer, response)
            rows.append(torch.cat([prompt, language_model.embed(ids)]))
            labels.append(torch.tensor([IGNORE] * len(prompt) + ids, device=prompt.device))
        embeddings, mask = pack(rows)
        targets = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORE)
        answered = [prompt for prompt, response in zip(prompts, responses, strict=True) if response]
        with self._adapted_at(answered):
            hidden = language_model(embeddings, mask)
        return language_model.response_loss(hidden, targets)

    @torch.no_grad()
    def respond(
        self, prompts: Sequence[Tensor], max_new_tokens: int = 256, temperature: float = 0.0, seed: int = 0
    ) -> list[list[int]]:
        """Token ids of the replies to prompts from :meth:`prompt_rows`, end-of-turn token included."""
        assert self.language_model is not None
        embeddings, mask = pack(prompts, left=True)
        with self._adapted_at(prompts, left=True):
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
        with self._adapted_at(prompts):
            hidden = language_model(*pack(rows))
        return [
            hidden[i, len(p) - 1 : len(p) - 1 + len(r)] for i, (p, r) in enumerate(zip(prompts, replies, strict=True))
        ]

    def text(self, ids: Sequence[int]) -> str:
        """The words of a reply."""
        assert self.language_model is not None
        decoded: str = self.language_model.tokenizer.decode(ids, skip_special_tokens=True)
        return decoded.strip()
