"""Answering: from what was heard to the words of a reply, by a language model that stays frozen."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.decoding import Decoding
from empathy_lightning.errors import InputError
from empathy_lightning.filled_prompt import FilledPrompt, Turn, shared_prefix
from empathy_lightning.listener import Heard
from empathy_lightning.modules.chat_format import literal_ids
from empathy_lightning.modules.language_model import IGNORE, LanguageModel, pack
from empathy_lightning.modules.partial_lora import PartialLora
from empathy_lightning.prompts import SPEECH_ONLY, Prompt, Segment, response_ids
from empathy_lightning.slots import HeardEmotion, HeardSpeech, SlotFiller
from empathy_lightning.writing import Told, Writing, Written


class Responder(nn.Module):
    """Frozen language model with its prompt: what was heard goes in as embeddings, a reply comes out.

    Args:
        language_model: Frozen.
        partial_lora: Update of the language model that acts at speech positions.
        prompt: User's turn with its slots; None takes FreezeEmpath's, with or without the emotion slot.
        system: System message of the prompt; None leaves it out.
        max_length: Most positions of prompt and response in training; what is beyond is cut off at the end, as
            the released code does. None cuts nothing.
        speech_slot: What fills ``{speech}``; None takes what was heard.
        emotion_slot: What fills ``{emotion}``, likewise.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        partial_lora: PartialLora | None = None,
        prompt: str | None = None,
        system: str | None = None,
        max_length: int | None = None,
        speech_slot: SlotFiller | None = None,
        emotion_slot: SlotFiller | None = None,
    ) -> None:
        super().__init__()
        if partial_lora is not None:
            partial_lora.attach(language_model.model)
        self.language_model = language_model
        self.partial_lora = partial_lora
        self.prompt = prompt
        self.system = system
        self.max_length = max_length
        self.speech_slot = speech_slot or HeardSpeech()
        self.emotion_slot = emotion_slot or HeardEmotion()
        for slot in (self.speech_slot, self.emotion_slot):
            if not isinstance(slot, SlotFiller):
                raise InputError(f"{slot!r} fills no slot: give a SlotFiller, such as those of empathy_lightning.slots")
        self.rendered: dict[Prompt, list[Segment]] = {}

    def asked(self, system: str | None = None) -> Prompt:
        """The prompt of the model's own; another system message may take the place of its."""
        user = SPEECH_ONLY if self.prompt is None else self.prompt
        return Prompt(user, system or self.system)

    def segments(self, prompt: Prompt | None = None, turns: int = 0) -> list[Segment]:
        """A prompt, or the model's own, cut at its slots.

        One that stands in :attr:`rendered` is taken from there: a template may put today's date into it, and a long
        job asks each question as it was first laid out.

        Args:
            prompt: None takes the model's own.
            turns: Earlier turns before the one to be answered.
        """
        wanted = prompt or self.asked()
        if turns == 0 and wanted in self.rendered:
            return self.rendered[wanted]
        return wanted.segments(self.language_model.tokenizer, turns)

    def prompts(self, batch: SpeechBatch, heard: Heard) -> list[FilledPrompt]:
        """Prompts of a batch, the utterances' own where they have one, filled as the slots say.

        Raises:
            InputError: If there is nothing to fill a slot.
        """
        return self.fill([[turn] for turn in self.turns(batch, heard)], batch.prompts)

    def turns(self, batch: SpeechBatch, heard: Heard) -> list[Turn]:
        """What fills the slots of each utterance, for :meth:`fill`."""
        speech = self.speech_slot(batch, heard)
        emotion = self.emotion_slot(batch, heard)
        return [Turn(said, felt) for said, felt in zip(speech, emotion, strict=True)]

    def fill(
        self, conversations: Sequence[Sequence[Turn]], prompts: Sequence[Prompt | None] = ()
    ) -> list[FilledPrompt]:
        """Fill the prompts of conversations.

        Args:
            conversations: Turns of each, from the first to the one that is to be answered.
            prompts: Of each conversation, None for the model's own; empty for that of the model for all.

        Raises:
            InputError: If there is nothing to fill a slot.
        """
        # A prompt of as many turns is laid out alike, whatever fills it.
        layouts: dict[tuple[Prompt | None, int], list[Segment | Tensor]] = {}
        filled = []
        for turns, prompt in zip(conversations, prompts or [None] * len(conversations), strict=True):
            segments = self.segments(prompt, len(turns) - 1)
            key = (prompt, len(turns))
            if key not in layouts:
                # Words are embedded once per batch and prompt, not once per utterance.
                layouts[key] = self._laid_out(segments)
            filled.append(self._filled(segments, layouts[key], turns))
        return filled

    def _laid_out(self, segments: Sequence[Segment]) -> list[Segment | Tensor]:
        """Segments with embeddings (T_i, D) in the place of token ids."""
        layout: list[Segment | Tensor] = []
        for segment in segments:
            layout.append(segment if isinstance(segment, str) else self.language_model.embed(segment))
        return layout

    def _filled(
        self, segments: Sequence[Segment], layout: Sequence[str | Tensor | list[int]], turns: Sequence[Turn]
    ) -> FilledPrompt:
        contents: list[Tensor] = []
        heard: list[bool] = []
        # Each slot takes its next content wherever a turn names it.
        slots = {
            "speech": iter([turn.speech for turn in turns]),
            "emotion": iter([turn.emotion for turn in turns]),
            "reply": iter([turn.reply for turn in turns]),
        }
        for piece in layout:
            if isinstance(piece, Tensor):
                contents.append(piece)
                heard.append(False)
                continue
            content = next(slots[str(piece)])
            is_unknown_label = piece == "emotion" and isinstance(content, str) and not content
            if content is None or is_unknown_label:
                raise InputError(f"the prompt has an {{{piece}}} slot, but there is nothing to fill it")
            contents.append(self._embedded(content))
            heard.append(piece == "speech" and isinstance(content, Tensor))
        return FilledPrompt.of(segments, contents, heard)

    def _embedded(self, content: Tensor | str) -> Tensor:
        """Embeddings (T, D) of what fills a slot: words, a sequence of vectors or one vector."""
        if isinstance(content, str):
            return self.language_model.embed(literal_ids(self.language_model.tokenizer, content))
        vectors = content.reshape(-1, self.language_model.hidden_size)
        return vectors.to(self.language_model.device, self.language_model.model.dtype)

    def token_counts(self, texts: Sequence[str]) -> Tensor:
        """Word pieces of texts, shape (B,)."""
        counts = [0] * len(texts)
        for row, text in enumerate(texts):
            if text:
                counts[row] = len(literal_ids(self.language_model.tokenizer, text))
        return torch.tensor(counts, device=self.language_model.device)

    def adapted_at(self, prompts: Sequence[FilledPrompt], left: bool = False) -> AbstractContextManager[None]:
        """Partial LoRA, if there is one, at the prompts' speech for the calls inside."""
        if self.partial_lora is None:
            return nullcontext()
        speech = [prompt.speech for prompt in prompts]
        side = "left" if left else "right"
        return self.partial_lora.at(nn.utils.rnn.pad_sequence(speech, batch_first=True, padding_side=side))

    def prefix(self, prompts: Sequence[FilledPrompt]) -> list[int]:
        """Token ids with which all prompts begin, before their first slots.

        None where partial LoRA acts on words: they are then no longer the frozen model's.
        """
        if self.partial_lora is not None and self.partial_lora.scope != "audio":
            return []
        return shared_prefix(prompts)

    def forward(
        self,
        prompts: Sequence[FilledPrompt],
        responses: Sequence[str | None],
        cut: Sequence[bool] = (),
        plain: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Read expected responses after their prompts; utterances without one are left out.

        Args:
            prompts: Of each utterance.
            responses: Of each utterance, None where there is none; at least one.
            cut: Whether each response was cut: its end is then not trained (RE-LLM's early-stop rule). Empty where
                none was.
            plain: Leave partial LoRA out, whatever its scope.

        Returns:
            Last hidden states (B', T, D), and the responses' token ids (B', T) at their own positions, -100 elsewhere.
        """
        answered = [prompt for prompt, response in zip(prompts, responses, strict=True) if response]
        rows, labels = self.supervised_rows(prompts, responses, cut)
        embeddings, mask = pack(rows)
        targets = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORE)
        still = None
        if self.partial_lora is None:
            # A prompt may have been cut to its first positions; something must be left to go on from.
            still = [min(prompt.still, len(row) - 1) for prompt, row in zip(answered, rows, strict=True)]
        with nullcontext() if plain else self.adapted_at(answered):
            hidden = self.language_model(embeddings, mask, self.prefix(answered), still)
        return hidden, targets

    def loss(
        self, prompts: Sequence[FilledPrompt], responses: Sequence[str | None], cut: Sequence[bool] = ()
    ) -> Tensor:
        """Mean cross-entropy of the responses' tokens; arguments as in :meth:`forward`."""
        return self.language_model.response_loss(*self(prompts, responses, cut))

    def supervised_rows(
        self, prompts: Sequence[FilledPrompt], responses: Sequence[str | None], cut: Sequence[bool] = ()
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Embeddings (T_i, D) and labels (T_i,) of prompts with their responses; labels of a prompt are -100."""
        rows, labels = [], []
        for prompt, response, was_cut in zip(prompts, responses, cut or [False] * len(responses), strict=True):
            if not response:
                continue
            ids = response_ids(self.language_model.tokenizer, response, end=not was_cut)
            rows.append(torch.cat([prompt.embeddings, self.language_model.embed(ids)])[: self.max_length])
            label = torch.tensor([IGNORE] * len(prompt) + ids, device=prompt.embeddings.device)
            labels.append(label[: self.max_length])
        return rows, labels

    @torch.no_grad()
    def write(
        self,
        prompts: Sequence[FilledPrompt],
        decoding: Decoding | None = None,
        seeds: Sequence[int] = (),
        told: Told | None = None,
    ) -> list[Written]:
        """Write the replies to prompts; the states behind the words are kept, nothing is read again.

        Args:
            prompts: From :meth:`fill`.
            decoding: How words are chosen; None takes the likeliest.
            seeds: Of each reply's draws; empty for ``decoding.seed`` for all.
            told: Is told what is written as it is written, and may end replies.
        """
        decoding = decoding or Decoding()
        language_model, stops = self.language_model, self.language_model.stop_ids
        embeddings, mask = pack([prompt.embeddings for prompt in prompts], left=True)
        writing = Writing(language_model.tokenizer, stops, decoding.longest, told)
        with self.adapted_at(prompts, left=True):
            generated = language_model.generate(
                embeddings,
                mask,
                decoding.longest,
                decoding.temperature,
                list(seeds) or decoding.seed,
                decoding.top_p,
                writing,
            )
        writing.end()
        written = []
        for stream, (tokens, states) in zip(writing.streams, generated, strict=True):
            written.append(Written(stream.text, tokens, states, stream.said, cut=stops.isdisjoint(tokens)))
        return written

    @torch.no_grad()
    def states(self, prompts: Sequence[FilledPrompt], replies: Sequence[Sequence[int]]) -> list[Tensor]:
        """Hidden states from which the tokens of given replies would have been chosen, for the speech decoder.

        Args:
            prompts: From :meth:`fill`.
            replies: Token ids of each reply.

        Returns:
            One (len(reply), D) per reply.
        """
        rows = []
        for prompt, reply in zip(prompts, replies, strict=True):
            rows.append(torch.cat([prompt.embeddings, self.language_model.embed(reply)]))
        embeddings, mask = pack(rows)
        with self.adapted_at(prompts):
            hidden = self.language_model(embeddings, mask, self.prefix(prompts))
        states = []
        for row, prompt, reply in zip(hidden, prompts, replies, strict=True):
            # The state before a token is the one that predicts it.
            states.append(row[len(prompt) - 1 : len(prompt) - 1 + len(reply)])
        return states
