"""From the language model's hidden states to speech units, while the text is still being written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, DynamicCache, Qwen2Config, Qwen2ForCausalLM

from empathy_lightning.errors import meant
from empathy_lightning.modules.language_model import IGNORE, pack
from empathy_lightning.modules.pretrained import load, opened


@dataclass(frozen=True)
class ReadWriteSchedule:
    """Read some text tokens, write some units, and so on; with the last text, write all that remains.

    Args:
        read: Text tokens per turn (FreezeEmpath: 3).
        write: Units per turn (FreezeEmpath: 15).
    """

    read: int = 3
    write: int = 15

    def turns(self, text_length: int, units_length: int) -> list[tuple[slice, slice]]:
        """Cut text (with its end marker) and units (with theirs) into turns.

        Args:
            text_length: Text rows, end marker included.
            units_length: Units, end marker included.

        Returns:
            Slices into text and units, in order; the last turn takes all remaining units.
        """
        count = max(1, -(-text_length // self.read))
        # Too few units for a turn each: the whole text is read first.
        if -(-units_length // self.write) < count:
            return [(slice(0, text_length), slice(0, units_length))]
        turns = []
        for turn in range(count):
            text = slice(turn * self.read, min((turn + 1) * self.read, text_length))
            last = turn == count - 1
            turns.append((text, slice(turn * self.write, units_length if last else (turn + 1) * self.write)))
        return turns


class SpeechDecoder(nn.Module):
    """Gated fusion of hidden states and text, and a unit language model, as in FreezeEmpath.

    Each text token gives one row: g * project(state) + (1 - g) * embed(token) with
    g = sigmoid(W [project(state); embed(token)]). A Qwen2 model reads rows and
    writes units in turns. Its vocabulary is the text vocabulary, an end-of-text
    marker, and the units. The arguments after ``schedule`` are there for released
    weights and for the ablations of LLaMA-Omni2 (arXiv 2505.02625).

    Args:
        input_size: Width of the language model's hidden states.
        text_vocab_size: Size of the language model's vocabulary.
        end_token_id: Text id that ends the units (the reference: ``<|endoftext|>``).
        num_units: Number of units.
        hidden_size: Width of the unit language model.
        num_layers: Its layers.
        num_heads: Its attention heads.
        schedule: Reading and writing turns, as (read, write).
        num_key_value_heads: Key and value heads of the unit language model; None for as many as heads.
        intermediate_size: Width of its feed-forward layers; None for 8/3 of ``hidden_size``.
        rope_theta: Base of its rotary positions.
        projection_size: Width inside the projection of the states; None for twice
            ``input_size``, 0 for a single linear layer.
        fusion: ``"gate"``, ``"sum"`` of state and embedding, or ``"states"`` without embeddings.
        released_rules: Write as the released code does: any id may be written, text included;
            the end marker may close an early turn and stays in the sequence; the end-of-text
            marker comes with the last tokens even where they fill a turn, although training
            puts that turn's units between. By default only units are written, the end marker
            only after the text, and the turns are those of training.

    Raises:
        ValueError: If there is no such fusion.
    """

    def __init__(
        self,
        input_size: int,
        text_vocab_size: int,
        end_token_id: int,
        num_units: int = 512,
        hidden_size: int = 256,
        num_layers: int = 4,
        num_heads: int = 4,
        schedule: tuple[int, int] = (3, 15),
        num_key_value_heads: int | None = None,
        intermediate_size: int | None = None,
        rope_theta: float = 10_000.0,
        projection_size: int | None = None,
        fusion: str = "gate",
        released_rules: bool = False,
    ) -> None:
        super().__init__()
        if fusion not in ("gate", "sum", "states"):
            raise ValueError(
                f"fusion must be gate, sum or states, not {fusion!r}{meant(fusion, ['gate', 'sum', 'states'])}"
            )
        self.input_size = input_size
        self.text_vocab_size = text_vocab_size
        self.end_token_id = end_token_id
        self.num_units = num_units
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.schedule = (int(schedule[0]), int(schedule[1]))
        self.num_key_value_heads = num_heads if num_key_value_heads is None else num_key_value_heads
        self.intermediate_size = hidden_size * 8 // 3 // 16 * 16 if intermediate_size is None else intermediate_size
        self.rope_theta = rope_theta
        self.projection_size = 2 * input_size if projection_size is None else projection_size
        self.fusion = fusion
        self.released_rules = released_rules
        self.input_proj: nn.Module = nn.Linear(input_size, hidden_size)
        if self.projection_size:
            inner = nn.Linear(input_size, self.projection_size)
            self.input_proj = nn.Sequential(inner, nn.ReLU(), nn.Linear(self.projection_size, hidden_size))
        self.gate: nn.Module | None = None
        if fusion == "gate":
            self.gate = nn.Sequential(nn.Linear(2 * hidden_size, hidden_size), nn.Sigmoid())
        self.model: Any = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=text_vocab_size + 1 + num_units,
                hidden_size=hidden_size,
                intermediate_size=self.intermediate_size,
                num_hidden_layers=num_layers,
                num_attention_heads=num_heads,
                num_key_value_heads=self.num_key_value_heads,
                max_position_embeddings=8192,
                rope_parameters={"rope_type": "default", "rope_theta": rope_theta},
                tie_word_embeddings=True,
                eos_token_id=end_token_id,
                bos_token_id=None,
                pad_token_id=None,
            )
        )

    @classmethod
    def from_language_model(
        cls,
        name_or_path: str,
        input_size: int,
        end_token_id: int,
        num_units: int = 512,
        text_vocab_size: int | None = None,
        schedule: tuple[int, int] = (3, 15),
        projection_size: int | None = None,
        fusion: str = "gate",
    ) -> SpeechDecoder:
        """A decoder whose unit language model begins with the weights of a Qwen2 or Qwen2.5 model.

        Rows of the vocabulary beyond the model's own, the units' among them, and the fusion
        begin as in the constructor.

        Args:
            name_or_path: Folder or model id, for example ``Qwen/Qwen2.5-0.5B``; its tokenizer must be the answering
                model's.
            input_size: Width of the language model's hidden states, of the one that answers.
            end_token_id: Text id that ends the units.
            num_units: Number of units.
            text_vocab_size: Size of the answering model's vocabulary; None for this model's rows.
            schedule: Reading and writing turns, as (read, write).
            projection_size: See the class.
            fusion: See the class.

        Raises:
            PretrainedError: If the files cannot be used.
            ValueError: If the model is none of Qwen2, or its vocabulary is larger than ``text_vocab_size``.
        """
        with opened(name_or_path) as (folder, where):
            config = AutoConfig.from_pretrained(folder, **where)
        if config.model_type != "qwen2" or not config.tie_word_embeddings:
            raise ValueError(
                f"{name_or_path} cannot write units: it must be a Qwen2 model that ties its embeddings, as those of up "
                "to 1.5B parameters do"
            )
        rows = config.vocab_size if text_vocab_size is None else text_vocab_size
        if rows < config.vocab_size:
            raise ValueError(
                f"text_vocab_size {rows} is smaller than the vocabulary of {name_or_path}: the tokenizers differ"
            )
        decoder = cls(
            input_size,
            rows,
            end_token_id,
            num_units,
            hidden_size=config.hidden_size,
            num_layers=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
            schedule=schedule,
            num_key_value_heads=config.num_key_value_heads,
            intermediate_size=config.intermediate_size,
            rope_theta=config.rope_parameters["rope_theta"],
            projection_size=projection_size,
            fusion=fusion,
        )
        source = load(Qwen2ForCausalLM, name_or_path, dtype=torch.float32)
        decoder.model.model.layers.load_state_dict(source.model.layers.state_dict())
        decoder.model.model.norm.load_state_dict(source.model.norm.state_dict())
        with torch.no_grad():
            decoder.model.get_input_embeddings().weight[: config.vocab_size] = source.get_input_embeddings().weight
        return decoder

    @property
    def separator_id(self) -> int:
        """Id of the end-of-text marker; unit u has the id ``separator_id + 1 + u``."""
        return self.text_vocab_size

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings of text, marker or unit ids."""
        embeddings: Tensor = self.model.get_input_embeddings()(ids)
        return embeddings

    def fuse(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Rows (T, hidden_size) of the states (T, input_size) that predicted the tokens (T,)."""
        embedded = self.embed(tokens)
        projected: Tensor = self.input_proj(states.to(embedded.dtype))
        if self.fusion == "states":
            return projected
        if self.gate is None:
            return projected + embedded
        gate: Tensor = self.gate(torch.cat([projected, embedded], -1))
        return gate * projected + (1 - gate) * embedded

    def sequence(self, states: Tensor, tokens: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
        """Interleave one reply for training.

        Args:
            states: Hidden states that predicted the tokens, shape (T, input_size).
            tokens: Text ids of the reply, shape (T,).
            units: Units of the spoken reply, shape (U,).

        Returns:
            Input rows (T + 1 + U + 1, hidden_size) and labels, -100 on text.
        """
        separator = torch.full_like(tokens[:1], self.separator_id)
        text = torch.cat([self.fuse(states, tokens), self.embed(separator)])
        ids = torch.cat([units + self.separator_id + 1, torch.full_like(units[:1], self.end_token_id)])
        written = self.embed(ids)
        rows: list[Tensor] = []
        labels: list[Tensor] = []
        for reading, writing in ReadWriteSchedule(*self.schedule).turns(len(text), len(ids)):
            rows += [text[reading], written[writing]]
            labels += [torch.full_like(ids[:1], IGNORE).expand(len(text[reading])), ids[writing]]
        return torch.cat(rows), torch.cat(labels)

    def forward(self, states: Sequence[Tensor], tokens: Sequence[Tensor], units: Sequence[Tensor]) -> Tensor:
        """Mean cross-entropy of the units of a batch of replies; arguments as in :meth:`sequence`, one per reply."""
        sequences = [self.sequence(*reply) for reply in zip(states, tokens, units, strict=True)]
        embeddings, mask = pack([rows for rows, _ in sequences])
        labels = nn.utils.rnn.pad_sequence([label for _, label in sequences], batch_first=True, padding_value=IGNORE)
        hidden = self.model.model(inputs_embeds=embeddings, attention_mask=mask.long(), use_cache=False)
        supervised = labels[:, 1:] != IGNORE
        logits = self.model.lm_head(hidden.last_hidden_state[:, :-1][supervised])
        return nn.functional.cross_entropy(logits.float(), labels[:, 1:][supervised])

    def stream(
        self,
        text: Iterable[tuple[Tensor, Tensor]],
        max_units: int = 1500,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
        top_k: int | None = None,
    ) -> Iterator[Tensor]:
        """Write units while the text is coming in; one cache is kept over all turns.

        Args:
            text: Pieces of the reply, each states (t, input_size) with their tokens (t,).
            max_units: Most units written after the last text (the released code: 1024).
            temperature: 0 takes the likeliest unit; above it, units are drawn (the released code: 1).
            generator: Source of the draws.
            top_k: Draw from this many likeliest units (the released code: 50); None for all.

        Yields:
            Units (U_i,) of each turn.
        """
        for ids in self.stream_ids(text, max_units, temperature, generator, top_k):
            yield ids[ids > self.separator_id] - self.separator_id - 1

    @torch.no_grad()
    def stream_ids(
        self,
        text: Iterable[tuple[Tensor, Tensor]],
        max_units: int = 1500,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
        top_k: int | None = None,
    ) -> Iterator[Tensor]:
        """As :meth:`stream`, but yields the ids (U_i,) of each turn as written, end marker included."""
        schedule, cache = ReadWriteSchedule(*self.schedule), DynamicCache(config=self.model.config)
        draw = (temperature, generator, top_k)
        pending: Tensor | None = None
        for states, tokens in text:
            rows = self.fuse(states, tokens)
            pending = rows if pending is None else torch.cat([pending, rows])
            while True:
                # The last id written is not in the cache yet; it is the first row of the next turn.
                cut = schedule.read + int(cache.get_seq_length() > 0)
                if len(pending) < cut + int(self.released_rules):
                    break
                ids = self._write(pending[:cut], cache, schedule.write, False, *draw)
                yield ids
                pending = torch.cat([self.embed(ids[-1:]), pending[cut:]])
        if pending is None:
            return
        separator = self.embed(torch.tensor([self.separator_id], device=pending.device))
        yield self._write(torch.cat([pending, separator]), cache, max_units, True, *draw)

    def _write(
        self,
        rows: Tensor,
        cache: Any,
        count: int,
        last: bool,
        temperature: float,
        generator: torch.Generator | None,
        top_k: int | None,
    ) -> Tensor:
        """Read rows, then write ``count`` ids, or fewer, up to the end marker."""
        forbidden = torch.zeros(self.model.config.vocab_size, dtype=torch.bool, device=rows.device)
        if not self.released_rules:
            forbidden[: self.separator_id + 1] = True
            forbidden[self.end_token_id] = not last
        written: list[Tensor] = []
        while len(written) < count:
            hidden = self.model.model(inputs_embeds=rows[None], past_key_values=cache, use_cache=True).last_hidden_state
            logits = self.model.lm_head(hidden[0, -1]).float().masked_fill(forbidden, -torch.inf)
            if temperature > 0:
                if top_k is not None:
                    logits = logits.masked_fill(logits < logits.topk(min(top_k, len(logits))).values[-1], -torch.inf)
                token = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
            else:
                token = logits.argmax()[None]
            written.append(token)
            if token.item() == self.end_token_id:
                break
            rows = self.embed(token)
        return torch.cat(written) if written else torch.zeros(0, dtype=torch.long, device=rows.device)
