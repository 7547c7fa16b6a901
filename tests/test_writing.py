"""Text as it is written: what is given out is never taken back, and all together is the reply."""

import pytest
import torch

from empathy_lightning.modules.chat_format import THINKING_TAGS
from empathy_lightning.modules.language_model import pack
from empathy_lightning.thinking import reply_text, settled_end, thinking_end, visible
from empathy_lightning.writing import TextStream, Writing
from tests.chat_formats import CHATML, DEEPSEEK_R1, HARMONY, QWEN3, QWEN3_THINKING, tokenizer_of


def streamed(tokenizer, text):
    """The pieces of a reply, whose whole is its text, and whose tokens are those that are said."""
    ids = tokenizer(text, add_special_tokens=False).input_ids
    stream, pieces, said = TextStream(tokenizer), [], []
    for number, token in enumerate(ids):
        positions, piece = stream.read(token, ended=number == len(ids) - 1)
        said += positions
        pieces.append(piece)
    assert "".join(pieces) == stream.text == reply_text(tokenizer, ids) and said == visible(tokenizer, ids)
    return pieces


@pytest.mark.parametrize(("opening", "closing"), THINKING_TAGS.items())
@pytest.mark.parametrize("special", [True, False])
def test_pieces_are_the_whole_without_its_thinking(opening, closing, special):
    tokenizer = tokenizer_of(CHATML, more=[opening, closing, "<|im_end|>"] if special else ["<|im_end|>"])
    for text in (
        f"{opening}\nShe <b>is</b> sad.\n{closing}\n\nOh no.<|im_end|>",
        f"\n {opening}a{closing}\n{opening}b{closing} Oh no.<|im_end|>",
        f"{opening}\n{opening}a{closing}b{closing}Oh no.",
        f"{opening}They want {opening} tags.{closing}Oh no.",
        f"{opening}a{closing}Oh no. {opening}b{closing}I hear you.{opening}b{closing}<|im_end|>",
        f"{opening}She is",
        f"{opening}a{closing}<|im_end|>",
        opening[:-1],
        f"{opening[:3]} is no tag.",
    ):
        streamed(tokenizer, text)


@pytest.mark.parametrize("text", ["Grüße, 你好 🙂!", " 2 < 3 ", "🙂", "a\n\n b \n", "", "<|im_end|>"])
def test_no_character_is_split(text):
    tokenizer = tokenizer_of(CHATML, more=["<|im_end|>"])
    pieces = streamed(tokenizer, text)
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    # Every token is a byte: each character comes with its last one, white space with the word behind it.
    assert sum(map(bool, pieces)) == len(text.replace("<|im_end|>", "").replace(" ", "").replace("\n", ""))


def test_half_a_character_at_the_end_is_what_it_is_in_the_whole():
    tokenizer = tokenizer_of(CHATML)
    ids = tokenizer("a🙂", add_special_tokens=False).input_ids[:-1]
    stream = TextStream(tokenizer)
    assert [stream.read(token, token == ids[-1])[1] for token in ids][1:3] == ["", ""]
    assert stream.text == reply_text(tokenizer, ids)


@pytest.mark.parametrize("template", [QWEN3_THINKING, DEEPSEEK_R1])
def test_a_model_that_always_thinks_is_heard_once_it_has_thought(template):
    tokenizer = tokenizer_of(template, more=["<|im_end|>"], plain=["<think>", "</think>"])
    for text in ("She is sad.\n</think>\n\nOh no.<|im_end|>", "She <think>is</think> sad.</think>Oh no."):
        pieces = streamed(tokenizer, text)
        assert len([piece for piece in pieces if piece]) == len("Oh") + len("no.")
    assert [piece for piece in streamed(tokenizer, "Oh no.") if piece] == ["Oh no."]


def test_a_model_that_can_leave_thinking_out_is_heard_at_once():
    tokenizer = tokenizer_of(QWEN3, more=["<|im_end|>"], plain=["<think>", "</think>"])
    assert streamed(tokenizer, "Oh no.")[0] == "O"
    assert "".join(streamed(tokenizer, "<think>She is sad.</think>Oh no.")) == "Oh no."


def test_of_channels_the_final_one_comes_as_it_is_written():
    tokenizer = tokenizer_of(HARMONY)
    lead = "<|channel|>analysis<|message|>She is sad.<|end|><|start|>assistant<|channel|>final<|message|>"
    pieces = streamed(tokenizer, f"{lead}Oh no.<|return|>")
    assert [piece for piece in pieces if piece] == ["O", "h", " n", "o", "."]
    assert streamed(tokenizer, "<|channel|>analysis<|message|>She is")[-1] == ""


@pytest.mark.parametrize("opened", [None, "<think>"])
def test_what_is_settled_stays(opened):
    for text in (
        "<think>a</think> <thinking>b</thinking>Oh.",
        "a</think>Oh.",
        "<thin",
        " <think><think>a</think>b</think>c",
    ):
        whole = thinking_end(text, opened)
        ends = [settled_end(text[:cut], opened) for cut in range(len(text) + 1)]
        assert all(end in (None, whole) for end in ends)


def test_each_step_tells_its_tokens_with_their_states(language_model):
    rows = [language_model.embed(torch.arange(3, 3 + length)) for length in (5, 9)]
    asked = (*pack(rows, left=True), 12, 2.0, [4, 5])
    told = []

    def _step(tokens, states):
        told.append((tokens, states))
        return [len(told) == 4, False]

    whole = language_model.generate(*asked)
    (short, short_states), (long, long_states) = language_model.generate(*asked, step=_step)
    assert long == whole[1][0] and torch.equal(long_states, whole[1][1])
    # The first reply was ended, the second goes on.
    assert short == whole[0][0][:4] and torch.equal(short_states, whole[0][1][:4]) and len(told) == len(long) > 4
    assert [tokens[1] for tokens, _ in told] == long and [tokens[0] for tokens, _ in told][:4] == short
    assert torch.equal(torch.stack([states[1] for _, states in told]), long_states)
    assert not language_model.decoder._forward_hooks


def test_a_reply_that_the_model_s_own_settings_end_has_an_end(language_model):
    pieces = []
    writing = Writing(language_model.tokenizer, {2}, 9, lambda new: pieces.extend(new) or ())
    writing([70], torch.zeros(1, 32))
    writing.end()
    writing.told = None
    writing.end()
    assert [(piece.ended, piece.cut) for piece in pieces] == [(False, False), (True, True)]
    assert pieces[0].tokens == [70] and pieces[1].tokens == []
