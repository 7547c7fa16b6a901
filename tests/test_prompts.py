import pytest

from empathy_lightning.errors import InputError
from empathy_lightning.prompts import (
    EMPATHY_SYSTEM,
    SPEECH_AND_EMOTION,
    SPEECH_ONLY,
    Prompt,
    follow_language,
    response_ids,
)
from tests.conftest import byte_tokenizer


def test_segments_are_the_chat_template_cut_at_the_slots():
    tokenizer = byte_tokenizer()
    prompt = Prompt(SPEECH_AND_EMOTION, EMPATHY_SYSTEM)
    segments = prompt.segments(tokenizer)
    assert [s for s in segments if isinstance(s, str)] == ["speech", "emotion"]
    filled = tokenizer.decode(prompt.text_ids(tokenizer, speech="I am here", emotion="sad"))
    expected = tokenizer.apply_chat_template(
        [
            {"role": "system", "content": EMPATHY_SYSTEM},
            {"role": "user", "content": "I am here(with a sad emotional tone)."},
        ],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert filled == expected


def test_a_prompt_without_speech_is_refused():
    with pytest.raises(ValueError, match="speech"):
        Prompt("hello").segments(byte_tokenizer())


def test_a_missing_slot_is_an_error():
    with pytest.raises(KeyError):
        Prompt(SPEECH_AND_EMOTION).text_ids(byte_tokenizer(), speech="x")


def test_a_response_ends_with_the_end_of_turn():
    tokenizer = byte_tokenizer()
    ids = response_ids(tokenizer, "yes")
    assert ids[-1] == tokenizer.eos_token_id and tokenizer.decode(ids[:-1]) == "yes"
    assert Prompt(SPEECH_ONLY).segments(tokenizer)[1] == "speech"


def test_the_papers_wordings():
    from empathy_lightning.papers import PAPERS

    emotional = "Continue the following sentence that reflects a 'sad' emotion tone in a coherent style: I am here"
    for name in ("blsp_emo", "re_llm"):
        recipe = PAPERS[name]
        assert recipe.labelled.user.format(speech="I am here", emotion="sad") == emotional
        assert recipe.unlabelled.user == "Continue the following sentence in a coherent style: {speech}"
        assert recipe.max_new_tokens == 48 and recipe.labelled.system == "You are a helpful assistant."
    assert PAPERS["blsp_emo"].spoken.user == (
        "Continue the following sentence based on the conveyed emotion tone in a coherent style: {speech}"
    )
    assert PAPERS["blsp_emo"].recognition.user == (
        "Please identify the emotion tone of the speech provided below. Select from the following options: "
        "neutral, sad, angry, happy, or surprise.\n\nSpeech: {speech}"
    )
    assert PAPERS["re_llm"].recognition.user == (
        "Please identify the emotion tone of the sentence provided below. Select from the following options: "
        "neutral, sad, angry, happy, or surprise.\n\nSentence: {speech}"
    )
    assert PAPERS["freezeempath"].labelled == Prompt(SPEECH_AND_EMOTION, EMPATHY_SYSTEM)


def test_earlier_turns_stand_before_the_one_to_be_answered():
    tokenizer = byte_tokenizer()
    segments = Prompt(SPEECH_AND_EMOTION, "Be kind.").segments(tokenizer, turns=2)
    slots = [s for s in segments if isinstance(s, str)]
    assert slots == ["speech", "emotion", "reply"] * 2 + ["speech", "emotion"]
    words = iter(["a", "sad", "b", "c", "happy", "d", "e", "angry"])
    filled = "".join(next(words) if isinstance(s, str) else tokenizer.decode(s) for s in segments)
    messages = [{"role": "system", "content": "Be kind."}]
    for said, tone, reply in (("a", "sad", "b"), ("c", "happy", "d"), ("e", "angry", None)):
        messages.append({"role": "user", "content": f"{said}(with a {tone} emotional tone)."})
        messages += [{"role": "assistant", "content": reply}] if reply else []
    assert filled == tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def test_the_language_is_one_sentence_of_the_system_message():
    assert follow_language("Be kind.", None) == "Be kind." and follow_language(None, None) is None
    assert follow_language("Be kind.", "auto") == "Be kind. Always answer in the same language as the user."
    assert follow_language(None, " German ") == "Always answer in German."
    for wrong in ("", "  ", "German\nand more"):
        with pytest.raises(InputError, match="is no name"):
            follow_language(None, wrong)
