import pytest

from empathy_lightning.modules.chat_format import THINKING_TAGS
from empathy_lightning.thinking import reply_text, visible
from tests.chat_formats import CHATML, DEEPSEEK_R1, HARMONY, QWEN3, QWEN3_THINKING, tokenizer_of


def reply(tokenizer, text):
    """The words of a reply, by its text and by the tokens that are said."""
    ids = tokenizer(text, add_special_tokens=False).input_ids
    said = tokenizer.decode([ids[position] for position in visible(tokenizer, ids)], skip_special_tokens=True)
    assert said.strip() == reply_text(tokenizer, ids)
    return said


@pytest.mark.parametrize(("opening", "closing"), THINKING_TAGS.items())
@pytest.mark.parametrize("special", [True, False])
def test_thinking_is_no_part_of_a_reply(opening, closing, special):
    tokenizer = tokenizer_of(CHATML, more=[opening, closing, "<|im_end|>"] if special else ["<|im_end|>"])
    for text in (
        f"{opening}\nShe <b>is</b> sad.\n{closing}\n\nOh no.<|im_end|>",
        f"{opening}{closing}Oh no.<|im_end|>",
        f"\n {opening}a{closing}\n{opening}b{closing} Oh no.<|im_end|>",
        f"{opening}\n{opening}a{closing}b{closing}Oh no.",
        # Thinking that speaks of the tag.
        f"{opening}They want {opening} tags.{closing}Oh no.",
    ):
        assert reply(tokenizer, text) == "Oh no."
    assert reply(tokenizer, f"{opening}She is") == reply(tokenizer, f"{opening}a{closing}<|im_end|>") == ""


@pytest.mark.parametrize(("opening", "closing"), THINKING_TAGS.items())
def test_thinking_may_begin_anew_where_its_tags_are_special_tokens(opening, closing):
    tokenizer = tokenizer_of(CHATML, more=[opening, closing, "<|im_end|>"])
    text = f"{opening}a{closing}Oh no. {opening}She <b>is</b> sad.{closing}I hear you.{opening}b{closing}<|im_end|>"
    assert reply(tokenizer, text) == "Oh no. I hear you."
    assert reply(tokenizer, f"Oh no. {opening}She is") == "Oh no. "


@pytest.mark.parametrize(("opening", "closing"), THINKING_TAGS.items())
def test_a_reply_may_speak_of_tags(opening, closing):
    tokenizer = tokenizer_of(CHATML, plain=[opening, closing])
    for text in (
        f"Use {opening} tags when you want a model to reason.",
        f"I think {closing} is a tag. Hi",
        f"{closing} is a tag.",
        f"The line\n{closing}\nends it.",
        f"Write {opening}a{closing} first.",
        "Use <|channel|> tokens.",
    ):
        assert reply(tokenizer, text) == text
        assert reply(tokenizer, f"{opening}Hm.{closing}{text}<|im_end|>") == text


@pytest.mark.parametrize("template", [QWEN3_THINKING, DEEPSEEK_R1, QWEN3])
def test_a_block_that_the_prompt_opened_may_be_closed_by_the_reply(template):
    tokenizer = tokenizer_of(template, more=["<|im_end|>"], plain=["<think>", "</think>"])
    for text in (
        "She is sad.\n</think>\n\nOh no.",
        "<think>She is sad.</think>Oh no.",
        "She <think>is</think> sad.</think>Oh no.",
        "<think>She</think> is sad.</think>Oh no.",
    ):
        assert reply(tokenizer, f"{text}<|im_end|>") == "Oh no."
    # The prompt closed the block at once, so words are a reply.
    for text in ("Oh no.", "Use <think> and </think>.", "Use <think> tags."):
        assert reply(tokenizer, text) == text
    other = "</thinking> is another tag."
    assert reply(tokenizer, other) == other


def test_a_token_that_ends_the_thinking_and_begins_the_reply():
    tokenizer = tokenizer_of(CHATML, plain=[">Oh"])
    ids = tokenizer("<think>sad</think>Oh no.", add_special_tokens=False).input_ids
    assert reply_text(tokenizer, ids) == "Oh no."
    assert tokenizer.decode([ids[position] for position in visible(tokenizer, ids)]) == ">Oh no."


@pytest.mark.parametrize(
    "text",
    [
        "<|channel|>analysis<|message|>She is sad.<|end|><|start|>assistant<|channel|>final<|message|>Oh no.<|return|>",
        "<|channel|>final<|message|>Oh no.<|return|>",
        "Oh no.<|return|>",
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>b<|end|>"
        "<|start|>assistant<|channel|>final<|message|>Oh no.",
    ],
)
def test_of_the_channels_only_the_final_one_is_said(text):
    tokenizer = tokenizer_of(HARMONY)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert reply_text(tokenizer, ids) == "Oh no."
    assert tokenizer.decode([ids[i] for i in visible(tokenizer, ids)], skip_special_tokens=True) == "Oh no."


def test_an_unfinished_channel_says_nothing():
    tokenizer = tokenizer_of(HARMONY)
    ids = tokenizer("<|channel|>analysis<|message|>She is", add_special_tokens=False).input_ids
    assert reply_text(tokenizer, ids) == "" and visible(tokenizer, ids) == []


def test_other_words_stay_as_they_are():
    tokenizer = tokenizer_of(CHATML)
    for text in ("I think so.", "2 < 3, <b>yes</b>!", "Grüße, 你好 🙂", "[laughs] Yes.", ""):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert reply_text(tokenizer, [*ids, tokenizer.eos_token_id]) == text
        assert visible(tokenizer, ids) == list(range(len(ids)))
