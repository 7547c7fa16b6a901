"""The wiring: speech to text around the frozen language model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import get_args

import torch
from torch import Tensor, nn

from empathy_lightning.batch import SpeechBatch
from empathy_lightning.errors import InputError
from empathy_lightning.modules.cached_encoder import CachedSpeechEncoder
from empathy_lightning.modules.cformer import CFormer
from empathy_lightning.modules.chat_format import literal_ids
from empathy_lightning.modules.convolutional_adapter import ConvolutionalAdapter
from empathy_lightning.modules.convolutional_encoder import ConvolutionalEncoder
from empathy_lightning.modules.emotion_encoder import EmotionEncoder
from empathy_lightning.modules.emotion_nuance import EmotionEstimate, EmotionNuance
from empathy_lightning.modules.language_model import IGNORE, LanguageModel, pack
from empathy_lightning.modules.partial_lora import PartialLora
from empathy_lightning.modules.pooled_heads import PooledEmotionHeads
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_encoder import EncodedSpeech, SpeechEncoder
from empathy_lightning.outputs import EmpatheticOutput, ResponseStates
from empathy_lightning.prompts import SPEECH_AND_EMOTION, SPEECH_ONLY, Prompt, Segment, response_ids
from empathy_lightning.slots import (
    EmotionSlot,
    PromptRow,
    SpeechSlot,
    Turn,
    emotion_content,
    known,
    pad_inside,
    positions_of,
    prompt_row,
    shared_prefix,
)
from empathy_lightning.thinking import reply_text


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
        max_length: Most positions of prompt and response in training; what is beyond is cut off at the end, as
            the released code does. None cuts nothing.
        speech_slot: What :meth:`forward` puts into the speech slot; ``"transcript"`` is the paper's ablation.
        emotion_slot: What it puts into the emotion slot; all but ``"embedding"`` are the paper's ablations.
        reference_compat: Begin what follows a slot where the slot's longest content in the batch ends, as the
            released code of BLSP-Emo and RE-LLM does: a loss or reply then depends on the batch.
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
        max_length: int | None = None,
        speech_slot: SpeechSlot = "speech",
        emotion_slot: EmotionSlot = "embedding",
        reference_compat: bool = False,
    ) -> None:
        super().__init__()
        if speech_slot not in get_args(SpeechSlot) or emotion_slot not in get_args(EmotionSlot):
            wanted = f"{', '.join(get_args(SpeechSlot))}; {', '.join(get_args(EmotionSlot))}"
            raise InputError(f"speech_slot {speech_slot!r} or emotion_slot {emotion_slot!r} is none of {wanted}")
        if (speech_adapter is None) != (language_model is None):
            raise InputError("speech_adapter and language_model need each other: give both or neither")
        if language_model is None and emotion_nuance is None:
            raise InputError("give a speech_adapter with a language_model, an emotion_nuance module, or all of them")
        if (emotion_encoder is not None) != (getattr(speech_adapter, "emotion_size", 0) > 0):
            raise InputError("an emotion_encoder and an adapter with an emotion_size need each other")
        if speech_adapter is None and isinstance(emotion_nuance, PooledEmotionHeads):
            raise InputError("PooledEmotionHeads read the speech_adapter's output: give one")
        if reference_compat and language_model is not None and not language_model.takes_positions:
            raise InputError("reference_compat tells the language model positions, which this one does not take")
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
        self.max_length = max_length
        self.speech_slot = speech_slot
        self.emotion_slot = emotion_slot
        self.reference_compat = reference_compat
        self.untrained_heads: frozenset[str] = frozenset()

    def segments(self, prompt: Prompt | None = None) -> list[Segment]:
        """A prompt, or the model's own, cut at its slots."""
        assert self.language_model is not None
        return (prompt or Prompt(self.prompt, self.system)).segments(self.language_model.tokenizer)

    def prefix(self, prompts: Sequence[Tensor] = ()) -> list[int]:
        """Token ids with which all prompts begin, before their first slots; of the model's own where none are given.

        None where partial LoRA acts on words: they are then no longer the frozen model's.
        """
        if self.partial_lora is not None and self.partial_lora.scope != "audio":
            return []
        return shared_prefix(prompts, self.segments())

    def prompt_rows(
        self,
        speech: Sequence[Tensor] | Sequence[str],
        emotion: Tensor | Sequence[str] | None,
        prompts: Sequence[Prompt | None] = (),
    ) -> list[PromptRow]:
        """Fill the prompt for each utterance.

        Args:
            speech: Adapter's embeddings, each (T_i, D), or transcripts.
            emotion: Emotion embeddings (B, D), or labels, or None where no prompt has such a slot.
            prompts: Of each utterance, None for the model's own; empty for that of the model for all.

        Returns:
            Embeddings (T_i, D) of each prompt. Words in the speech slot are not speech to partial LoRA.
        """
        assert self.language_model is not None
        segments = {prompt: self.segments(prompt) for prompt in set(prompts) or {None}}
        # Text segments are embedded once per batch and prompt, not once per utterance.
        embed = self.language_model.embed
        pieces = {p: [s if isinstance(s, str) else embed(s) for s in cut] for p, cut in segments.items()}
        if emotion is None and any("emotion" in cut for cut in segments.values()):
            raise InputError("the prompt has an {emotion} slot, but there is nothing to fill it")
        rows, cuts, contents = [], [], []
        for index, prompt in enumerate(prompts or [None] * len(speech)):
            slots = {"speech": self._slot(speech[index])}
            if emotion is not None:
                slots["emotion"] = self._slot(emotion[index])
            filled = [slots[p] if isinstance(p, str) else p for p in pieces[prompt]]
            heard = [s == "speech" and isinstance(speech[index], Tensor) for s in segments[prompt]]
            rows.append(prompt_row(segments[prompt], filled, heard))
            cuts.append(segments[prompt])
            contents.append(filled)
        if self.reference_compat:
            pad_inside(rows, cuts, contents)
        return rows

    def _slot(self, content: Tensor | str) -> Tensor:
        """Embeddings (T, D) of what fills a slot: words, a sequence of vectors or one vector."""
        assert self.language_model is not None
        if isinstance(content, str):
            return self.language_model.embed(literal_ids(self.language_model.tokenizer, content))
        return content.reshape(-1, self.language_model.hidden_size).to(
            self.language_model.device, self.language_model.model.dtype
        )

    def hear(self, batch: SpeechBatch) -> tuple[EncodedSpeech, EmotionEstimate | None]:
        """Encode the speech once, for the adapter and the nuance module together.

        Where the batch names other recordings for the emotion, the nuance module hears those.
        """
        encoded, _, emotion = self._hear(batch, words=False)
        return encoded, emotion

    def listen(self, batch: SpeechBatch) -> tuple[list[Tensor], EmotionEstimate | None]:
        """What was said, as the adapter's embeddings (T_i, D) of each utterance, and how, as :meth:`hear`."""
        _, adapted, emotion = self._hear(batch, words=True)
        assert adapted is not None
        return [row[valid] for row, valid in zip(*adapted, strict=True)], emotion

    def _hear(
        self, batch: SpeechBatch, words: bool
    ) -> tuple[EncodedSpeech, tuple[Tensor, Tensor] | None, EmotionEstimate | None]:
        """Each part once; the adapter only where its embeddings are wanted or the heads read them."""
        pooled = isinstance(self.emotion_nuance, PooledEmotionHeads)
        if pooled and self.emotion_encoder is None and batch.emotion_waveform is not None:
            raise InputError("no part of this model hears another recording for the emotion: leave emotion_path out")
        encoded = self.speech_encoder(batch.waveform, batch.lengths)
        adapted = None
        if words or pooled:
            adapted = self.adapt(encoded, *self._voice(batch))
        return encoded, adapted, self.feel(self._felt(batch, encoded), adapted)

    def _voice(self, batch: SpeechBatch) -> tuple[Tensor, Tensor]:
        """Waveform and lengths of the recordings in which the emotion is to be heard."""
        if batch.emotion_waveform is None or batch.emotion_lengths is None:
            return batch.waveform, batch.lengths
        return batch.emotion_waveform, batch.emotion_lengths

    def _felt(self, batch: SpeechBatch, encoded: EncodedSpeech) -> EncodedSpeech:
        """Those recordings encoded, for a nuance module that reads the encoder's layers."""
        if batch.emotion_waveform is None or not isinstance(self.emotion_nuance, EmotionNuance):
            return encoded
        heard: EncodedSpeech = self.speech_encoder(*self._voice(batch))
        return heard

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
        """The emotion, from the encoder's layers or, for pooled heads, from :meth:`adapt`'s embeddings.

        What a head says that was never trained (:attr:`untrained_heads`, as a folder names them) is NaN.
        """
        if self.emotion_nuance is None:
            return None
        if isinstance(self.emotion_nuance, PooledEmotionHeads):
            assert adapted is not None
            estimate: EmotionEstimate = self.emotion_nuance(*adapted)
        else:
            estimate = self.emotion_nuance(encoded.layers, encoded.mask)
        for head in self.untrained_heads:
            name = "logits" if head == "categorical" else head
            setattr(estimate, name, torch.full_like(getattr(estimate, name), torch.nan))
        return estimate

    def forward(self, batch: SpeechBatch) -> EmpatheticOutput:
        """Hear a batch and, where it has responses, score them under the frozen language model."""
        answered = self.language_model is not None and any(batch.responses)
        # The adapter's training has no use for the layers; the nuance module's graph keeps them.
        _, adapted, emotion = self._hear(batch, words=answered)
        if adapted is None or self.language_model is None or not answered:
            return EmpatheticOutput(None, emotion)
        said = [row[valid] for row, valid in zip(*adapted, strict=True)]
        hidden, labels = self.read_responses(self.prompts(batch, said, emotion), batch.responses, batch.cut)

        def _of_transcripts() -> tuple[Tensor, Tensor]:
            heard = known(batch.transcripts, batch.ids, "transcript")
            written = self.prompt_rows(heard, batch.emotions, batch.prompts)
            return self.read_responses(written, batch.responses, batch.cut, plain=True)

        states = ResponseStates(hidden, labels, self.language_model.logits, _of_transcripts)
        return EmpatheticOutput(self.language_model.response_loss(hidden, labels), emotion, states)

    def prompts(self, batch: SpeechBatch, said: Sequence[Tensor], emotion: EmotionEstimate | None) -> list[PromptRow]:
        """Prompts of a batch; :attr:`speech_slot` and :attr:`emotion_slot` say what fills them.

        Args:
            batch: Has the words and labels that may take the place of what was heard.
            said: Adapter's embeddings, each (T_i, D), as :meth:`listen` gives them.
            emotion: What was heard in the voice, likewise.

        Raises:
            InputError: If a transcript or label is needed and missing.
        """
        filling: Sequence[Tensor] | Sequence[str] = said
        if self.speech_slot == "transcript":
            filling = known(batch.transcripts, batch.ids, "transcript")
        embedding = None if emotion is None else emotion.embedding
        tone = emotion_content(self.emotion_slot, embedding, batch.emotions, batch.ids, batch.categories)
        return self.prompt_rows(filling, tone, batch.prompts)

    def adapted_at(self, prompts: Sequence[Tensor], left: bool = False) -> AbstractContextManager[None]:
        """Partial LoRA, if there is one, at the prompts' speech for the calls inside."""
        if self.partial_lora is None:
            return nullcontext()
        if not all(isinstance(row, PromptRow) for row in prompts):
            raise InputError("partial LoRA must know where speech is: give prompts as prompt_rows made them")
        speech = [row.speech for row in prompts if isinstance(row, PromptRow)]
        side = "left" if left else "right"
        return self.partial_lora.at(nn.utils.rnn.pad_sequence(speech, batch_first=True, padding_side=side))

    def response_loss(
        self, prompts: Sequence[Tensor], responses: Sequence[str | None], cut: Sequence[bool] = ()
    ) -> Tensor:
        """Mean cross-entropy of the responses; arguments as in :meth:`read_responses`."""
        assert self.language_model is not None
        return self.language_model.response_loss(*self.read_responses(prompts, responses, cut))

    def read_responses(
        self,
        prompts: Sequence[Tensor],
        responses: Sequence[str | None],
        cut: Sequence[bool] = (),
        plain: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Let the language model read the responses after their prompts; utterances without one are left out.

        The end of a response that was cut is not trained (RE-LLM's early-stop rule); no ``cut`` means none was.
        ``plain`` leaves partial LoRA out, whatever its scope.

        Returns:
            Last hidden states (B, T, D), and the responses' token ids (B, T) at their own positions, -100 elsewhere.
        """
        language_model = self.language_model
        assert language_model is not None
        rows, labels = self.supervised_rows(prompts, responses, cut)
        embeddings, mask = pack(rows)
        targets = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORE)
        answered = [prompt for prompt, response in zip(prompts, responses, strict=True) if response]
        positions = positions_of(answered, mask.shape[1])
        # A prompt may have been cut to its first positions; something must be left to go on from.
        still = [min(getattr(p, "still", 0), len(row) - 1) for p, row in zip(answered, rows, strict=True)]
        with nullcontext() if plain else self.adapted_at(answered):
            lead = still if self.partial_lora is None else None
            hidden = language_model(embeddings, mask, self.prefix(answered), lead, positions)
        return hidden, targets

    def supervised_rows(
        self, prompts: Sequence[Tensor], responses: Sequence[str | None], cut: Sequence[bool] = ()
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Embeddings (T_i, D) and labels (T_i,) of prompts with their responses; labels of a prompt are -100."""
        assert self.language_model is not None
        rows, labels = [], []
        for prompt, response, was_cut in zip(prompts, responses, cut or [False] * len(responses), strict=True):
            if not response:
                continue
            ids = response_ids(self.language_model.tokenizer, response, end=not was_cut)
            rows.append(torch.cat([prompt, self.language_model.embed(ids)])[: self.max_length])
            label = torch.tensor([IGNORE] * len(prompt) + ids, device=prompt.device)
            labels.append(label[: self.max_length])
        return rows, labels

    @torch.no_grad()
    def conversation_row(self, turns: Sequence[Turn], system: str | None = None) -> PromptRow:
        """Fill the prompt of a conversation.

        Args:
            turns: From the first to the one that is to be answered.
            system: System message; None takes the model's own.

        Returns:
            Embeddings (T, D); with one turn, those of :meth:`prompt_rows`.

        Raises:
            InputError: If a slot has nothing to fill it.
        """
        assert self.language_model is not None
        contents = {name: iter([getattr(turn, name) for turn in turns]) for name in ("speech", "emotion", "reply")}
        pieces, heard = [], []
        segments = Prompt(self.prompt, system or self.system).segments(self.language_model.tokenizer, len(turns) - 1)
        for segment in segments:
            content = next(contents[segment]) if isinstance(segment, str) else self.language_model.embed(segment)
            if content is None:
                raise InputError("the prompt has an {emotion} slot, but a turn has nothing to fill it")
            heard.append(segment == "speech" and isinstance(content, Tensor))
            pieces.append(self._slot(content))
        return prompt_row(segments, pieces, heard)

    @torch.no_grad()
    def respond(
        self,
        prompts: Sequence[Tensor],
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int | Sequence[int] = 0,
        top_p: float = 1.0,
    ) -> list[list[int]]:
        """Token ids of the replies to prompts from :meth:`prompt_rows`, end-of-turn token included."""
        assert self.language_model is not None
        embeddings, mask = pack(prompts, left=True)
        positions = positions_of(prompts, mask.shape[1], left=True)
        with self.adapted_at(prompts, left=True):
            return self.language_model.generate(embeddings, mask, max_new_tokens, temperature, seed, top_p, positions)

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
        embeddings, mask = pack(rows)
        with self.adapted_at(prompts):
            hidden = language_model(embeddings, mask, self.prefix(prompts), None, positions_of(prompts, mask.shape[1]))
        return [
            hidden[i, len(p) - 1 : len(p) - 1 + len(r)] for i, (p, r) in enumerate(zip(prompts, replies, strict=True))
        ]

    def text(self, ids: Sequence[int]) -> str:
        """The words of a reply, without what the model thought before it."""
        assert self.language_model is not None
        return reply_text(self.language_model.tokenizer, ids)
