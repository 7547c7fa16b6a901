"""From the language model's hidden states to speech units, while the text is still being written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from empathy_lightning.errors import InputError
from empathy_lightning.modules.fusion import Fusion, GatedFusion
from empathy_lightning.modules.language_model import IGNORE
from empathy_lightning.modules.packed_replies import read_packed
from empathy_lightning.modules.read_write import ReadWriteSchedule
from empathy_lightning.modules.unit_cache import product
from empathy_lightning.modules.unit_choice import UnitDecoding
from empathy_lightning.modules.unit_language_model import Qwen2Body, begin_as, read_config
from empathy_lightning.modules.unit_stream import UnitStream


class SpeechDecoder(nn.Module):
    """Fusion of hidden states and text, and a unit language model, as in FreezeEmpath.

    Each text token gives one row, made of its embedding and of the state that predicted it. A Qwen2 model reads rows
    and writes units in turns. Its vocabulary is the text vocabulary, an end-of-text marker, and the units.

    Args:
        input_size: Width of the language model's hidden states.
        text_vocab_size: Size of the language model's vocabulary.
        end_token_id: Text id that ends the units (the reference: ``<|endoftext|>``).
        num_units: Number of units.
        body: Sizes of the unit language model; None for :class:`.unit_language_model.Qwen2Body` as it is.
        fusion: How states and embeddings join; None for :class:`.fusion.GatedFusion`.
        schedule: Reading and writing turns, as (read, write).
        released_rules: Learn and write as the released code does: any id may be written, text included;
            the end marker may close an early turn and stays in the sequence; the end-of-text
            marker comes with the last tokens even where they fill a turn, although training
            puts that turn's units between. By default only units are written, the end marker
            only after the text, and the turns are those of training.
    """

    def __init__(
        self,
        input_size: int,
        text_vocab_size: int,
        end_token_id: int,
        num_units: int = 512,
        body: Qwen2Body | None = None,
        fusion: Fusion | None = None,
        schedule: tuple[int, int] = (3, 15),
        released_rules: bool = False,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.text_vocab_size = text_vocab_size
        self.end_token_id = end_token_id
        self.num_units = num_units
        self.body = body or Qwen2Body()
        self.fusion = fusion or GatedFusion()
        self.schedule = (int(schedule[0]), int(schedule[1]))
        self.released_rules = released_rules
        self.fused = self.fusion.build(input_size, self.body.hidden_size)
        self.model = self.body.build(text_vocab_size + 1 + num_units, end_token_id)

    @classmethod
    def from_language_model(
        cls,
        name_or_path: str,
        input_size: int,
        end_token_id: int,
        num_units: int = 512,
        text_vocab_size: int | None = None,
        fusion: Fusion | None = None,
        schedule: tuple[int, int] = (3, 15),
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
            fusion: See the class.
            schedule: Reading and writing turns, as (read, write).

        Raises:
            PretrainedError: If the files cannot be used.
            ValueError: If the model is none of Qwen2, or its vocabulary is larger than ``text_vocab_size``.
        """
        config = read_config(name_or_path)
        rows = config.vocab_size if text_vocab_size is None else text_vocab_size
        if rows < config.vocab_size:
            raise ValueError(
                f"text_vocab_size {rows} is smaller than the vocabulary of {name_or_path}: the tokenizers differ"
            )
        decoder = cls(input_size, rows, end_token_id, num_units, Qwen2Body.of(config), fusion, schedule)
        begin_as(decoder.model, name_or_path)
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
        rows: Tensor = self.fused(states.to(embedded.dtype), embedded)
        return rows

    def sequence(self, states: Tensor, tokens: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
        """Interleave one reply for training.

        Args:
            states: Hidden states that predicted the tokens, shape (T, input_size).
            tokens: Text ids of the reply, shape (T,).
            units: Units of the spoken reply, shape (U,).

        Returns:
            Input rows (T + 1 + U + 1, hidden_size) and labels, -100 on text.
        """
        return self.interleaved([states], [tokens], [units])

    def interleaved(
        self, states: Sequence[Tensor], tokens: Sequence[Tensor], units: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Rows and labels of replies behind each other, each as in :meth:`sequence`.

        All embeddings are looked up at once: the gradient of a look-up is as large as the vocabulary.
        """
        ids, labels, fused = [], [], []
        for text, written in zip(tokens, units, strict=True):
            marks = text.new_tensor([self.separator_id, self.end_token_id])
            whole = torch.cat([text, marks[:1], written + self.separator_id + 1, marks[1:]])
            order = ReadWriteSchedule(*self.schedule).order(len(text) + 1, len(written) + 1).to(text.device)
            ids.append(whole[order])
            labels.append(whole.index_fill(0, torch.arange(len(text) + 1, device=text.device), IGNORE)[order])
            fused.append(order < len(text))
        embedded = self.embed(torch.cat(ids))
        at = torch.cat(fused).nonzero()[:, 0]
        of_text = self.fused(torch.cat(list(states)).to(embedded.dtype), embedded.index_select(0, at))
        places = torch.arange(len(embedded), device=at.device)
        places[at] = len(embedded) + torch.arange(len(at), device=at.device)
        return torch.cat([embedded, of_text]).index_select(0, places), torch.cat(labels)

    def forward(self, states: Sequence[Tensor], tokens: Sequence[Tensor], units: Sequence[Tensor]) -> Tensor:
        """Mean cross-entropy of the units of a batch of replies, which are read packed into one row.

        Each is one of the :attr:`choices`, as when it is written: text is no alternative, and its scores are not made.

        Args:
            states: Of each reply, as in :meth:`sequence`.
            tokens: Likewise.
            units: Likewise.

        Returns:
            A scalar.

        Raises:
            InputError: If a unit is none of 0 to ``num_units`` - 1.
        """
        self._check_units(units)
        rows, labels = self.interleaved(states, tokens, units)
        lengths = [len(text) + len(written) + 2 for text, written in zip(tokens, units, strict=True)]
        hidden = read_packed(self.model.model, rows, lengths)
        # Each reply begins with text, so that nothing is predicted across a border.
        labels = labels[1:]
        supervised = labels != IGNORE
        scores = self.scores(hidden[:-1][supervised])
        return nn.functional.cross_entropy(scores, self.choices_of(labels[supervised]))

    def _check_units(self, units: Sequence[Tensor]) -> None:
        everything = torch.cat(list(units))
        if not len(everything):
            return
        # One look at the device for both ends.
        least, most = torch.stack([everything.min(), everything.max()]).tolist()
        if least < 0 or most >= self.num_units:
            wrong = least if least < 0 else most
            raise InputError(
                f"unit {wrong} is none of the {self.num_units} that the speech decoder writes: give it the num_units "
                "of what made the units, or make them anew with prepare units"
            )

    @property
    def choices(self) -> int:
        """Number of ids that may be written: the units and, last, the end marker; all ids with ``released_rules``."""
        return self.separator_id + 1 + self.num_units if self.released_rules else self.num_units + 1

    def scores(self, hidden: Tensor, may_end: Tensor | None = None) -> Tensor:
        """Scores of the next choice.

        Args:
            hidden: Hidden states of the last positions, shape (B, hidden_size).
            may_end: Whether a row may write the end marker now, shape (B,); None where each may.

        Returns:
            Shape (B, choices), minus infinity where there is no choice.
        """
        weight = self.model.lm_head.weight
        if self.released_rules:
            return product(hidden, weight).float()
        units = product(hidden, weight[self.separator_id + 1 :])
        end = hidden @ weight[self.end_token_id, :, None]
        if may_end is not None:
            end = end.masked_fill(~may_end[:, None], -torch.inf)
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
        decoding = (decoding or UnitDecoding()).at_temperature(self.released_rules)
        return UnitStream(self, decoding, list(seeds) or [0] * count, stopped)
