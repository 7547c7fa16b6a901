"""The words of replies while they are being written, token by token."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from empathy_lightning.modules.chat_format import always_thinks, opened_tag
from empathy_lightning.thinking import first_said, settled_end, special_tags

_HALF = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer gives for a character of which tokens are still to come."""

_NOT_FINITE = "the language model's hidden states are not finite: load it in bfloat16 or float32"


@dataclass
class Written:
    """The words of a reply.

    Attributes:
        text: Without what the model thought before it, and without control tokens.
        tokens: Token ids of all that was written, the end of the turn included.
        states: Last hidden states from which the tokens were chosen, shape (T, D).
        said: Positions of the tokens that are no thinking.
        cut: Whether the reply was cut at the most tokens that it may have.
    """

    text: str
    tokens: list[int]
    states: Tensor
    said: list[int]
    cut: bool


@dataclass
class Piece:
    """What a step adds to a reply; nothing of it is taken back later.

    Attributes:
        text: New characters; may be empty.
        tokens: Ids that are said from now on, blank ones before the first word included; no thinking.
        states: Last hidden states from which they were chosen, shape (T, D).
        ended: Whether the reply ends here.
        cut: Whether it is cut here, at the most tokens that it may have.
        fault: Why it ends here, in one line, where it should not.
    """

    text: str
    tokens: list[int]
    states: Tensor
    ended: bool
    cut: bool = False
    fault: str | None = None


Told = Callable[[list[Piece | None]], Collection[int]]
"""Is told of each step the piece of each reply, None of those that have ended, and says which replies are to end."""


class TextStream:
    """The text of one reply as its tokens come: no character is split, thinking and control tokens are left out.

    What might still turn out to be thinking is held back. Words before which the template closed a block of thinking
    are a reply at once, unless the template cannot leave thinking out: then they are held until the block is closed
    once more, or the reply ends.

    Args:
        tokenizer: Of the model that replies.

    Attributes:
        text: What was given out so far; in the end, the reply.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.text = ""
        self.tokens: list[int] = []
        self.said: list[int] = []
        self._opened = opened_tag(tokenizer) if always_thinks(tokenizer) else None
        self._closing_of = special_tags(tokenizer)
        self._closing: int | None = None
        self._next: int | None = None
        self._inside = 0
        self._before = self._shown = 0
        self._blank = ""

    def read(self, token: int, ended: bool) -> tuple[list[int], str]:
        """Positions of tokens that are said from now on, and new text.

        Args:
            token: The next one of the reply, the end-of-turn token included.
            ended: Whether it is the last one.
        """
        self.tokens.append(token)
        if self._next is None and (ended or self._settled()):
            self._next, self._inside = first_said(self.tokenizer, self.tokens, self._opened)
        if self._next is None:
            return [], ""
        known = len(self.said)
        for position in range(self._next, len(self.tokens)):
            self._say(position)
        self._next = len(self.tokens)
        piece = self._trimmed(self._decoded(ended))
        self.text += piece
        return self.said[known:], piece

    def _settled(self) -> bool:
        text = self.tokenizer.decode(self.tokens, skip_special_tokens=False)
        return settled_end(text.rstrip(_HALF), self._opened) is not None

    def _say(self, position: int) -> None:
        """Count a token as said, unless it stands between tags of thinking that are special tokens."""
        token = self.tokens[position]
        if self._closing is not None:
            if token == self._closing:
                self._closing = None
            return
        self._closing = self._closing_of.get(token)
        if self._closing is None:
            self.said.append(position)

    def _decoded(self, ended: bool) -> str:
        """What the tokens since the last call add; none while a character is not whole."""
        # Some tokenizers write a token's space only after another one.
        words = [self.tokens[position] for position in self.said[self._before :]]
        before = self.tokenizer.decode(words[: self._shown - self._before], skip_special_tokens=True)
        text: str = self.tokenizer.decode(words, skip_special_tokens=True)
        if len(text) <= len(before) or (text.endswith(_HALF) and not ended):
            return ""
        self._before, self._shown = self._shown, len(self.said)
        return text[len(before) :]

    def _trimmed(self, piece: str) -> str:
        """The piece without thinking and white space around the reply."""
        hidden = min(self._inside, len(piece))
        self._inside -= hidden
        piece = self._blank + piece[hidden:]
        if not self.text:
            piece = piece.lstrip()
        shown = piece.rstrip()
        self._blank = piece[len(shown) :]
        return shown


class Writing:
    """Tells what is written of a batch of replies: a step of :meth:`.LanguageModel.generate`.

    Args:
        tokenizer: Of the model that replies.
        stops: Tokens that end a reply.
        max_new_tokens: Longest reply.
        told: Is told each step's pieces; None where nobody listens.
    """

    def __init__(self, tokenizer: Any, stops: Collection[int], max_new_tokens: int, told: Told | None) -> None:
        self.tokenizer = tokenizer
        self.stops = stops
        self.max_new_tokens = max_new_tokens
        self.told = told
        self.streams: list[TextStream] = []
        self.ended: list[bool] = []
        self._held: list[dict[int, Tensor]] = []
        self._waiting: list[list[int]] = []
        self._nothing = torch.zeros(0, 0)

    def __call__(self, tokens: list[int], states: Tensor) -> Sequence[bool]:
        """Take the new tokens (B,) with their states (B, D); which replies end here."""
        if not self.streams:
            self.streams = [TextStream(self.tokenizer) for _ in tokens]
            self.ended = [False] * len(tokens)
            self._held = [{} for _ in tokens]
            self._waiting = [[] for _ in tokens]
        self._nothing = states[:0]
        pieces: list[Piece | None] = [None] * len(tokens)
        for row, finite in enumerate(states.isfinite().all(1).tolist()):
            if self.ended[row]:
                continue
            if finite:
                pieces[row] = self._piece(row, tokens[row], states[row])
            else:
                self.ended[row] = True
                pieces[row] = Piece("", [], self._nothing, ended=True, fault=_NOT_FINITE)
        left = () if self.told is None else self.told(pieces)
        for row in left:
            self.ended[row] = True
        return self.ended

    def end(self) -> None:
        """Tell that no more comes, where the model's own settings ended a reply before its end."""
        if self.told is None or all(self.ended):
            return
        pieces: list[Piece | None] = [None] * len(self.ended)
        for row, ended in enumerate(self.ended):
            if not ended:
                pieces[row] = Piece("", [], self._nothing, ended=True, cut=True)
        self.told(pieces)

    def _piece(self, row: int, token: int, state: Tensor) -> Piece:
        stream, held, waiting = self.streams[row], self._held[row], self._waiting[row]
        cut = token not in self.stops and len(stream.tokens) + 1 == self.max_new_tokens
        ended = token in self.stops or cut
        self.ended[row] = ended
        # States wait as long as their tokens may turn out to be thinking.
        held[len(stream.tokens)] = state
        positions, text = stream.read(token, ended)
        waiting += positions
        if not stream.text or not waiting:
            # Control tokens alone are no words: such a reply is not spoken.
            return Piece(text, [], state.new_zeros(0, len(state)), ended, cut)
        tokens = [stream.tokens[position] for position in waiting]
        states = torch.stack([held[position] for position in waiting])
        held.clear()
        waiting.clear()
        return Piece(text, tokens, states, ended, cut)
