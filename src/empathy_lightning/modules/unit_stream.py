"""Units of several replies, written while their texts are coming in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from empathy_lightning.errors import InputError
from empathy_lightning.modules.read_write import ReadWriteSchedule
from empathy_lightning.modules.unit_cache import UnitCache
from empathy_lightning.modules.unit_choice import UnitDecoding, choose


class UnitStream:
    """Reads text as it comes and writes the units that it allows, several replies at a time.

    The units of a reply depend on its own states, tokens and seed: not on how its text was cut into pieces, nor on
    when they were read. Alone, or in the same company, they are the same bit for bit; in other company the scores
    differ by the rounding of larger matrix products, which can decide only between choices that are equally likely
    within it. Nothing is awaited from the device within a block, and steps after an end are cut off behind it.

    Use it from one thread; ``stopped`` may be set from any.

    Args:
        decoder: A :class:`.speech_decoder.SpeechDecoder`.
        decoding: How units are chosen.
        seeds: Of each reply's draws.
        stopped: Looked at before every step; once it is true nothing more is written.

    Attributes:
        cut: Replies that ended at the most units that they may have, not by themselves.
    """

    def __init__(
        self,
        decoder: Any,
        decoding: UnitDecoding,
        seeds: Sequence[int],
        stopped: Callable[[], bool] | None = None,
    ) -> None:
        self.decoder = decoder
        self.decoding = decoding
        self.schedule = ReadWriteSchedule(*decoder.schedule)
        self.count = len(seeds)
        self.cut: set[int] = set()
        self.stopped = stopped or (lambda: False)
        self._voices = [_Voice(row, seed, decoder, decoding) for row, seed in enumerate(seeds)]
        self._cache: UnitCache | None = UnitCache(decoder.model.model, self.count)

    @property
    def finished(self) -> bool:
        """Whether every reply has all its units, or was dropped."""
        return not self._voices

    def read(self, states: Sequence[Tensor], tokens: Sequence[Tensor], ended: Sequence[bool]) -> None:
        """Take in new text of every reply; nothing is computed yet.

        Args:
            states: Hidden states that predicted the new tokens, each (T_i, input_size); T_i may be 0.
            tokens: The new tokens, each (T_i,).
            ended: Whether a reply's text ends with them.

        Raises:
            InputError: If states are not finite, or text comes after a reply's end; nothing is taken in then.
        """
        if not len(states) == len(tokens) == len(ended) == self.count:
            raise InputError(f"give states, tokens and ends of {self.count} replies, empty where there is nothing new")
        for row, (new, ids) in enumerate(zip(states, tokens, strict=True)):
            if len(new) != len(ids):
                raise InputError(f"reply {row}: {len(new)} states, but {len(ids)} tokens")
            if not bool(torch.isfinite(new).all()):
                raise InputError(
                    f"reply {row}: its hidden states are not finite: look at the language model's precision"
                )
        for voice in self._voices:
            if voice.ended and len(tokens[voice.row]):
                raise InputError(f"reply {voice.row}: its text had ended")
        for voice in self._voices:
            voice.read(states[voice.row], tokens[voice.row], ended[voice.row])

    def write(self) -> Iterator[list[Tensor]]:
        """Write what can be written with the text so far.

        Yields:
            Blocks: new units (U_i,) of every reply, at most as many as the schedule writes in a turn, empty where it
            has none.
        """
        for ids in self.write_ids():
            yield [row[row > self.decoder.separator_id] - self.decoder.separator_id - 1 for row in ids]

    @torch.no_grad()
    def write_ids(self) -> Iterator[list[Tensor]]:
        """As :meth:`write`, but yields the ids as written, end markers included."""
        while True:
            ended = [voice for voice in self._voices if voice.finished(self.decoding)]
            self.cut |= {voice.row for voice in ended if voice.units and not voice.over}
            self._keep([voice for voice in self._voices if voice not in ended])
            slots = [slot for slot, voice in enumerate(self._voices) if voice.can_write(self.schedule.read)]
            written = self._block(slots) if slots else None
            if written is None:
                return
            # A copy, since what inference mode made cannot be part of a gradient's graph.
            yield [ids.clone() for ids in written]

    def drop(self, row: int) -> None:
        """End a reply at once and free its share of the cache."""
        self._keep([voice for voice in self._voices if voice.row != row])

    def close(self) -> None:
        """End all replies and free the cache."""
        self._keep([])

    def _keep(self, voices: list[_Voice]) -> None:
        """Go on with these replies only."""
        if len(voices) == len(self._voices):
            return
        slots = [self._voices.index(voice) for voice in voices]
        self._voices = voices
        if not voices:
            self._cache = None
        elif self._cache is not None:
            self._cache = self._cache.taken(slots)

    @torch.inference_mode()
    def _block(self, slots: list[int]) -> list[Tensor] | None:
        """The next ids of every reply, of which these slots write; None if stopped."""
        assert self._cache is not None
        voices = [self._voices[slot] for slot in slots]
        everyone = len(slots) == len(self._voices)
        cache = self._cache if everyone else self._cache.taken(slots)
        began = cache.lengths
        turns = [voice.turn(self.schedule.read) for voice in voices]
        quotas = [voice.quota(self.schedule.write, self.decoding) for voice in voices]
        ids = self._steps(cache, voices, turns, max(quotas))
        if ids is None:
            self.close()
            return None
        written = [ids[0, :0]] * self.count
        for at, (voice, row) in enumerate(zip(voices, ids.tolist(), strict=True)):
            kept = voice.wrote(row[: quotas[at]], ids[at])
            # The last id is not in the cache: it is read at the beginning of the next turn.
            cache.lengths[at] = began[at] + len(turns[at]) + kept - 1
            written[voice.row] = ids[at, :kept]
        if not everyone:
            self._cache.put(slots, cache)
        return written

    def _steps(self, cache: UnitCache, voices: list[_Voice], turns: list[Tensor], count: int) -> Tensor | None:
        """Read the turns (N_i, D) of replies, then write ``count`` ids of each, shape (B, count); None if stopped."""
        device = turns[0].device
        may_end = torch.tensor([voice.last_turn for voice in voices], device=device)
        # Always as many numbers as a turn has units, so that a reply's draws do not depend on where it stopped.
        draws = torch.stack([torch.rand(self.schedule.write, generator=voice.draws) for voice in voices]).to(device)
        recent = torch.stack([voice.recent for voice in voices])
        inputs, counts = nn.utils.rnn.pad_sequence(turns, batch_first=True), [len(turn) for turn in turns]
        written: list[Tensor] = []
        for step in range(count):
            if self.stopped():
                return None
            scores = self.decoder.scores(cache.read(inputs, counts), may_end)
            choice = choose(scores, self.decoding, draws[:, step], recent)
            if self.decoding.repetition_penalty != 1:
                recent = torch.cat([recent[:, 1:], choice[:, None]], 1)
            written.append(self.decoder.chosen_ids(choice))
            inputs, counts = self.decoder.embed(written[-1])[:, None], [1] * len(voices)
        return torch.stack(written, 1)


class _Voice:
    """One reply: what of its text waits to be read, and where its units are."""

    def __init__(self, row: int, seed: int, decoder: Any, decoding: UnitDecoding) -> None:
        weight = decoder.model.get_input_embeddings().weight
        self.row = row
        self.decoder = decoder
        self.draws = torch.Generator().manual_seed(seed)
        self.states = weight.new_zeros(0, decoder.input_size)
        self.tokens = torch.zeros(0, dtype=torch.long, device=weight.device)
        self.ended = self.last_turn = self.over = False
        self.read_tokens = self.units = self.units_since = 0
        self.last: Tensor | None = None
        # A number beyond all choices stands for none yet.
        self.recent = torch.full((decoding.repetition_window,), decoder.choices, device=weight.device)

    def read(self, states: Tensor, tokens: Tensor, ended: bool) -> None:
        """Put new text behind that which waits."""
        self.states = torch.cat([self.states, states.to(self.states)])
        self.tokens = torch.cat([self.tokens, tokens.to(self.tokens)])
        self.read_tokens += len(tokens)
        self.ended = self.ended or ended

    def finished(self, decoding: UnitDecoding) -> bool:
        """Whether nothing more will be written."""
        if self.over or not self.ended:
            return self.over
        silent = self.read_tokens == 0
        return silent or (self._is_last(self.decoder.schedule[0]) and self._left(decoding) == 0)

    def can_write(self, read: int) -> bool:
        """Whether there is text for a turn."""
        return self.ended or self._has_turn(read)

    def _has_turn(self, read: int) -> bool:
        # The released code keeps the last tokens for the end-of-text marker even where they fill a turn.
        return len(self.tokens) >= read + int(self.decoder.released_rules)

    def _is_last(self, read: int) -> bool:
        """Whether the next turn takes all the text that is left, and then writes to the end."""
        return self.last_turn or (self.ended and not self._has_turn(read))

    def turn(self, read: int) -> Tensor:
        """What is read before the next units: the unit before them, then a turn's text, fused turn by turn."""
        pieces = [] if self.last is None else [self.decoder.embed(self.last)]
        if not self.last_turn:
            self.last_turn = self._is_last(read)
            cut = len(self.tokens) if self.last_turn else read
            if cut:
                pieces.append(self.decoder.fuse(self.states[:cut], self.tokens[:cut]))
            self.states, self.tokens = self.states[cut:], self.tokens[cut:]
            if self.last_turn:
                pieces.append(self.decoder.embed(torch.full_like(self.recent[:1], self.decoder.separator_id)))
        return torch.cat(pieces)

    def _left(self, decoding: UnitDecoding) -> int:
        return decoding.allowed(self.read_tokens, self.units, self.units_since)

    def quota(self, write: int, decoding: UnitDecoding) -> int:
        """Units that the turn may have in this block."""
        return min(write, self._left(decoding)) if self.last_turn else write

    def wrote(self, row: list[int], ids: Tensor) -> int:
        """Note what was written, up to the first end marker; its length."""
        end = self.decoder.end_token_id
        kept = row.index(end) + 1 if end in row else len(row)
        self.over = self.last_turn and end in row
        self.last = ids[kept - 1 : kept]
        self.units += kept
        if self.last_turn:
            self.units_since += kept
        written = self.decoder.choices_of(ids[:kept])
        self.recent = torch.cat([self.recent, written])[-len(self.recent) :]
        return kept
