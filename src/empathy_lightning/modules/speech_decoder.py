"""From the language model's hidden states to speech units, while the text is still being written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, Qwen2Config, Qwen2ForCausalLM

from empathy_lightning.errors import meant
from empathy_lightning.modules.language_model import IGNORE, pack
from empathy_lightning.modules.pretrained import load, opened
from empathy_lightning.modules.read_write import ReadWriteSchedule
from empathy_lightning.modules.unit_choice import UnitDecoding
from empathy_lightning.modules.unit_stream import UnitStream


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

    @property
    def choices(self) -> int:
        """Number of ids that may be written: the units and, last, the end marker; all ids with ``released_rules``."""
        return self.separator_id + 1 + self.num_units if self.released_rules else self.num_units + 1

    def scores(self, hidden: Tensor, may_end: Tensor) -> Tensor:
        """Scores of the next choice.

        Args:
            hidden: Hidden states of the last positions, shape (B, hidden_size).
            may_end: Whether a row may write the end marker now, shape (B,).

        Returns:
            Shape (B, choices), minus infinity where there is no choice.
        """
        weight = self.model.lm_head.weight
        if self.released_rules:
            return nn.functional.linear(hidden, weight).float()
        units = nn.functional.linear(hidden, weight[self.separator_id + 1 :])
        end = (hidden @ weight[self.end_token_id, :, None]).masked_fill(~may_end[:, None], -torch.inf)
        return torch.cat([units, end], 1).float()

    def chosen_ids(self, choices: Tensor) -> Tensor:
        """The ids of choices."""
        if self.released_rules:
            return choices
        return torch.where(choices == self.num_units, self.end_token_id, choices + self.separator_id + 1)

    def choices_of(self, ids: Tensor) -> Tensor:
        """The choices of ids that were written."""
        if self.released_rules:
            return ids
        return torch.where(ids == self.end_token_id, self.num_units, ids - self.separator_id - 1)

    def begin(
        self,
        count: int = 1,
        decoding: UnitDecoding | None = None,
        seeds: Sequence[int] = (),
        stopped: Callable[[], bool] | None = None,
    ) -> UnitStream:
        """Begin to speak replies whose text is still to come.

        Args:
            count: Number of replies.
            decoding: How units are chosen; None for :class:`.unit_choice.UnitDecoding` as it is.
            seeds: Of each reply's draws; empty for 0 for all.
            stopped: Looked at before every step; once it is true nothing more is written.
        """
        return UnitStream(self, decoding or UnitDecoding(), list(seeds) or [0] * count, stopped)
