import pytest

from empathy_lightning.modules.chat_format import THINKING_TAGS
from empathy_lightning.thinking import reply_text, visible, without_thinking
from tests.chat_formats import CHATML, HARMONY, tokenizer_of


@pytest.mark.parametrize(("opening", "closing"), THINKING_TAGS.items())
@pytest.mark.parametrize("special", [True, False])
def test_thinking_is_no_part_of_a_reply(opening, closing, special):
    tokenizer = tokenizer_of(CHATML, more=[opening, closing, "<|im_end|>"] if special else ["<|im_end|>"])
    texts = [
        f"{opening}\nShe <b>is</b> sad.\n{closing}\n\nOh no.<|im_end|>",
        f"{opening}{closing}Oh no.<|im_end|>",
        f"She is sad.\n{closing}\n\nOh no.<|im_end|>",
        f"{opening}\n{opening}a{closing}b{closing}Oh no.<|im_end|>",
    ]
    if special:
        texts += [f"Oh no.{opening}More?", f"{opening}a{closing} Oh no. {opening}b{closing}"]
    tags = (opening, closing) if special else ()
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert reply_text(tokenizer, ids) == "Oh no." == without_thinking(text.replace("<|im_end|>", ""), tags)
        said = tokenizer.decode([ids[position] for position in visible(tokenizer, ids)])
        assert said.removesuffix("<|im_end|>") == "Oh no."
    assert reply_text(tokenizer, tokenizer(f"{opening}She is", add_special_tokens=False).input_ids) == ""


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


@pytest.mark.parametrize("text", ["Use {0}tags to reason.", "I think {1} is a tag. Hi.", "Write {0}so{1}, then reply."])
def test_a_reply_may_speak_of_tags(text):
    tokenizer = tokenizer_of(CHATML)
    said = text.format("<thinking>", "</thinking>")
    ids = tokenizer(said, add_special_tokens=False).input_ids
    assert reply_text(tokenizer, ids) == said == without_thinking(said) and visible(tokenizer, ids) == [
        *range(len(ids))
    ]


def test_other_words_stay_as_they_are():
    tokenizer = tokenizer_of(CHATML)
    for text in ("I think so.", "2 < 3, <b>yes</b>!", "Grüße, 你好 🙂", "[laughs] Yes.", ""):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert reply_text(tokenizer, [*ids, tokenizer.eos_token_id]) == text
        assert visible(tokenizer, ids) == list(range(len(ids)))
