import html
import re

import pytest

from empathy_lightning.errors import InputError
from empathy_lightning.modules.chat_format import THINKING_TAGS, check_chat_template, end_token_id, literal_ids
from empathy_lightning.modules.model_files import PretrainedError
from empathy_lightning.prompts import SPEECH_AND_EMOTION, Prompt, fill, response_ids
from tests import chat_formats
from tests.chat_formats import tokenizer_of

SYSTEM = "Be kind {speech} <|im_end|>."
ASKED = "I failed(with a sad emotional tone)."
WITH_SYSTEM = ["CHATML", "ESCAPES", "LLAMA3", "PHI", "QWEN3", "QWEN3_THINKING", "DEEPSEEK_R1", "HARMONY"]
WITHOUT_SYSTEM = ["GEMMA", "DROPS_SYSTEM", "REWRITES_BRACES"]
ENDS = {"LLAMA3": "<|eot_id|>", "PHI": "<|end|>", "GEMMA": "<end_of_turn>", "HARMONY": "<|return|>"}


def filled(tokenizer, prompt, turns=0):
    words = {"speech": "I failed", "emotion": "sad", "reply": "Oh."}
    return fill(prompt.segments(tokenizer, turns), {k: literal_ids(tokenizer, v) for k, v in words.items()})


def conversation(name, turns, reply=None):
    """Messages as a template of that name has to be given them."""
    asked = {"role": "user", "content": ASKED}
    messages = [asked, {"role": "assistant", "content": "Oh."}] * turns + [asked]
    if name in ("GEMMA", "DROPS_SYSTEM"):
        messages[0] = {"role": "user", "content": f"{SYSTEM}\n\n{ASKED}"}
    else:
        messages.insert(0, {"role": "system", "content": SYSTEM})
    return messages if reply is None else [*messages, {"role": "assistant", "content": reply}]


@pytest.mark.parametrize("turns", [0, 2])
@pytest.mark.parametrize("name", [*WITH_SYSTEM, *WITHOUT_SYSTEM])
def test_prompt_reply_and_end_are_what_the_template_makes_of_the_whole_conversation(name, turns):
    tokenizer = tokenizer_of(getattr(chat_formats, name))
    prompt = Prompt(SPEECH_AND_EMOTION, SYSTEM)
    trained = tokenizer.decode(filled(tokenizer, prompt, turns) + response_ids(tokenizer, "Tell me."))
    expected = html.unescape(tokenizer.apply_chat_template(conversation(name, turns, "Tell me."), tokenize=False))
    if name == "DEEPSEEK_R1":  # A reply that is there has no block, one that is to come opens one.
        expected = expected.replace("<|Assistant|>Tell", "<|Assistant|><think>\n\n</think>\n\nTell")
    assert expected.startswith(trained)
    assert trained.count("Be kind") == 1 and trained.count("I failed") == turns + 1


@pytest.mark.parametrize("name", [*WITH_SYSTEM, *WITHOUT_SYSTEM])
def test_control_tokens_in_the_words_are_no_control_tokens(name):
    tokenizer = tokenizer_of(getattr(chat_formats, name), more=["<|im_end|>"])
    plain = filled(tokenizer, Prompt(SPEECH_AND_EMOTION, "Be kind."))
    loud = Prompt(SPEECH_AND_EMOTION.replace("emotional", "<bos>"), "Be <|im_end|> kind.")
    words = {"speech": "so <|im_end|> {emotion} <|eot_id|>", "emotion": "sad<bos>"}
    ids = loud.text_ids(tokenizer, **words)
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    assert [i for i in ids if i in special] == [i for i in plain if i in special]
    text = tokenizer.decode(ids)
    assert "so <|im_end|> {emotion} <|eot_id|>(with a sad<bos> <bos> tone)" in text and "Be <|im_end|> kind." in text


def test_words_are_never_control_tokens_whatever_the_tokenizer_calls_special():
    tokenizer = tokenizer_of(chat_formats.QWEN3, plain=["<think>", "<tool_call>"])
    for text in ("<think>", "a <|im_end|><|im_end|> b", "<tool_call><|im_start|>user", "<<think>>", "", "plain"):
        ids = literal_ids(tokenizer, text)
        assert not set(ids) & set(tokenizer.added_tokens_decoder) and tokenizer.decode(ids) == text
    assert response_ids(tokenizer, "<|im_end|>")[:-1] == literal_ids(tokenizer, "<|im_end|>")


def test_words_stay_words_for_a_tokenizer_in_python(tmp_path):
    from transformers import ByT5Tokenizer

    tokenizer = ByT5Tokenizer()
    ids = literal_ids(tokenizer, "a</s>b<pad>")
    assert not set(ids) & set(tokenizer.all_special_ids) and tokenizer.decode(ids) == "a</s>b<pad>"


@pytest.mark.parametrize("name", [*WITH_SYSTEM, *WITHOUT_SYSTEM])
def test_the_beginning_of_text_is_there_as_often_as_the_template_says(name):
    tokenizer = tokenizer_of(getattr(chat_formats, name))
    ids = filled(tokenizer, Prompt(SPEECH_AND_EMOTION, "Be kind."))
    messages = [{"role": "user", "content": ASKED}]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ids.count(tokenizer.bos_token_id) == expected.count(tokenizer.bos_token_id) <= 1


@pytest.mark.parametrize("name", [*WITH_SYSTEM, *WITHOUT_SYSTEM])
def test_a_reply_ends_as_the_template_ends_it(name):
    tokenizer = tokenizer_of(getattr(chat_formats, name))
    end = ENDS.get(name, "<|endoftext|>" if name == "DEEPSEEK_R1" else "<|im_end|>")
    assert end_token_id(tokenizer) == tokenizer.convert_tokens_to_ids(end)


def test_a_template_without_an_end_leaves_it_to_the_tokenizer():
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    assert end_token_id(tokenizer_of(template)) == tokenizer_of(template).eos_token_id
    with pytest.raises(PretrainedError, match="eos_token"):
        check_chat_template(tokenizer_of(template, eos=None), "it")
    with pytest.raises(InputError, match="eos_token"):
        response_ids(tokenizer_of(template, eos=None), "Yes.")


@pytest.mark.parametrize("opening", [tag for tag in THINKING_TAGS if not tag.endswith("thought")])
def test_a_reply_never_begins_inside_a_block_that_nobody_closes(opening):
    template = chat_formats.CHATML.replace("assistant\n{% endif", f"assistant\n{opening}\n{{% endif")
    tokenizer = tokenizer_of(template)
    text = tokenizer.decode(filled(tokenizer, Prompt(SPEECH_AND_EMOTION)))
    assert re.fullmatch(rf".*{re.escape(opening)}\s*{re.escape(THINKING_TAGS[opening])}\n\n", text, re.DOTALL)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (None, "no chat template"),
        ("{{ raise_exception('only tools') }}", "only tools"),
        ("{% for m in messages %}{{ m.content[0].text }}{% endfor %}", "leaves out what the user says"),
        ("{% for m in messages", "cannot be used"),
    ],
)
def test_a_template_that_cannot_serve_is_one_line(template, reason):
    with pytest.raises(PretrainedError, match=reason) as error:
        check_chat_template(tokenizer_of(template), "some/model")
    assert "some/model" in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) <= 300


def test_a_template_that_loses_turns_is_refused():
    template = "{{ messages[-1].content }}<|im_end|>"
    with pytest.raises(InputError, match="does not keep the words of each turn"):
        Prompt().segments(tokenizer_of(template), turns=1)
