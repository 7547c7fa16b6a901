import json

import pytest
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.audio import AudioError, read_speech, split_at_pauses
from empathy_lightning.chatbot import EmpatheticChatbot, Turn
from empathy_lightning.checkpoints import CheckpointError, save
from empathy_lightning.decoding import Decoding
from empathy_lightning.errors import InputError
from empathy_lightning.explanation import explain_reply
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.modules.unit_choice import UnitDecoding
from empathy_lightning.modules.unit_language_model import Qwen2Body
from empathy_lightning.modules.vocoder import NeuralVocoder
from empathy_lightning.responder import Responder
from empathy_lightning.utterance import EMOTIONS
from tests.tiny import heard, spoken, whole


@pytest.fixture
def bot(model):
    return EmpatheticChatbot(spoken(model, list(EMOTIONS)))


def test_long_speech_is_cut_at_the_quietest_moment():
    waveform = torch.randn(16_000 * 25)
    waveform[16_000 * 9 : 16_000 * 9 + 8_000] = 0
    pieces = split_at_pauses(waveform, 10.0)
    assert torch.equal(torch.cat(pieces), waveform)
    assert all(len(piece) <= 160_000 for piece in pieces)
    assert 16_000 * 9 <= len(pieces[0]) <= 16_000 * 9 + 8_000


@pytest.fixture
def talker():
    """A bot around the shipped backbones: a language model that never learned anything says the same to everyone."""
    encoder = SpeechEncoder.from_pretrained("small-world/speech_encoder")
    language_model = LanguageModel.from_pretrained("small-world/language_model")
    torch.manual_seed(0)
    adapter, nuance = SpeechAdapter(192, 192, 64), EmotionNuance(192, 192, hidden_size=32, gate_size=8)
    return EmpatheticChatbot(spoken(whole(encoder, adapter, language_model, nuance).eval(), list(EMOTIONS)))


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "top_p": 0.9, "seed": 3}])
def test_many_recordings_are_answered_as_each_alone(talker, options):
    bot = talker
    recordings = [torch.randn(16_000 * n) for n in (1, 3, 35, 2)]
    singles = [bot.respond([recording], decoding=Decoding(max_new_tokens=24, **options))[0] for recording in recordings]
    assert len({reply.text for reply in singles}) > 1
    for batch_size in (3, 8):
        together = bot.respond(recordings, batch_size=batch_size, decoding=Decoding(max_new_tokens=24, **options))
        for alone, reply in zip(singles, together, strict=True):
            assert (reply.text, reply.emotion) == (alone.text, alone.emotion)
            assert reply.probabilities == pytest.approx(alone.probabilities, abs=2e-4)
            assert sum(reply.probabilities.values()) == pytest.approx(1, abs=1e-3)
            torch.testing.assert_close(reply.turn.speech, alone.turn.speech, rtol=1e-4, atol=1e-5)
            assert reply.waveform is None


def test_units_are_drawn_with_their_own_temperature(model):
    torch.manual_seed(0)
    decoder = SpeechDecoder(32, len(model.responder.language_model.tokenizer), 0, num_units=64, body=Qwen2Body(32, 1))
    bot = EmpatheticChatbot(spoken(model, list(EMOTIONS), decoder.eval()))
    states, tokens = torch.randn(6, 32), list(range(6))
    talker = bot.model.talker
    likeliest = talker.speak(states, tokens, UnitDecoding(0.0)).units
    drawn = [talker.speak(states, tokens, UnitDecoding(1.0), seed).units for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not any(torch.equal(drawn[0], other) for other in (drawn[2], likeliest))
    question = torch.randn(16_000)
    units = [
        bot.respond([question], decoding=Decoding(12, temperature=3.0, unit_temperature=t))[0].units
        for t in (0.0, 1.0, 1.0)
    ]
    assert units[1] == units[2] != units[0]
    own = talker.speak(states, tokens).units
    assert torch.equal(own, talker.speak(states, tokens, UnitDecoding(0.4)).units) and not torch.equal(own, drawn[0])
    # Released weights speak as their own code has them speak.
    decoder.released_rules = True
    assert torch.equal(talker.speak(states, tokens).units, talker.speak(states, tokens, UnitDecoding(1.0)).units)


def test_recordings_share_one_forward(bot, monkeypatch):
    sizes = []
    bot.model.listener.speech_encoder.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    bot.respond([torch.randn(16_000)] * 5, batch_size=3, decoding=Decoding(max_new_tokens=2))
    assert sizes == [3, 2]


def test_a_spoken_reply_hears_once_and_reads_each_position_once(model):
    """Encoder once for words and emotion, the language model once per token; its states are not computed again."""
    tokenizer = model.responder.language_model.tokenizer
    decoder = SpeechDecoder(32, len(tokenizer), 0, num_units=8, body=Qwen2Body(16, 1, 2))
    bot = EmpatheticChatbot(spoken(model, list(EMOTIONS), decoder.eval(), NeuralVocoder(8, 16, 1)))
    encoded, read = [], []
    bot.model.listener.speech_encoder.register_forward_hook(lambda _, inputs, __: encoded.append(len(inputs[0])))
    bot.responder.language_model.decoder.layers[0].register_forward_hook(
        lambda _, inputs, __: read.append(inputs[0].shape[1])
    )
    seen, original = [], bot.responder.write
    bot.responder.write = lambda prompts, *rest: seen.extend(prompts) or original(prompts, *rest)
    (reply,) = bot.respond([torch.randn(16_000)], decoding=Decoding(9, temperature=3.0, seed=2))
    explain_reply(bot.responder.language_model, reply)
    assert reply.waveform is not None and encoded == [1]
    written = len(read)
    assert 1 < written <= 9 and read == [len(seen[0])] + [1] * (written - 1)


def test_speech_beyond_the_window_is_heard_whole(bot):
    found = heard(bot.model, [torch.randn(16_000 * 65)])
    assert len(found.said[0]) >= 650 and found.emotion.logits.shape == (1, 5)


def test_pieces_of_long_speech_are_joined_and_weigh_by_their_length(bot):
    waveform = torch.randn(16_000 * 40)
    waveform[16_000 * 25 : 16_000 * 25 + 3_200] = 0
    pieces = split_at_pauses(waveform, 30.0)
    assert [round(len(piece) / 16_000) for piece in pieces] == [25, 15]
    # Beside a short one, which is heard as if it were alone.
    found = heard(bot.model, [waveform, pieces[1]])
    parts = [heard(bot.model, [piece]) for piece in pieces]
    words = torch.cat([part.said[0] for part in parts])
    torch.testing.assert_close(found.said[0], words, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.said[1], parts[1].said[0], rtol=1e-4, atol=1e-5)
    for name in vars(found.emotion):
        value, beside = getattr(found.emotion, name)
        first, second = (getattr(part.emotion, name)[0] for part in parts)
        torch.testing.assert_close(beside, second, rtol=1e-4, atol=1e-5)
        share = len(pieces[0]) / len(waveform)
        torch.testing.assert_close(value, share * first + (1 - share) * second, rtol=1e-4, atol=1e-5)


def prompt_of(bot, *arguments, **options):
    """The prompt that a call of respond gives to the language model."""
    seen = []
    original = bot.responder.write
    bot.responder.write = lambda prompts, *rest: seen.extend(p.embeddings for p in prompts) or original(prompts, *rest)
    replies = bot.respond(*arguments, **options, decoding=Decoding(max_new_tokens=4))
    del bot.responder.write
    return seen, replies


def words(bot, text):
    return bot.model.responder.language_model.embed(bot.model.responder.language_model.tokenizer(text).input_ids)


def test_earlier_turns_stand_in_the_prompt(bot):
    first, second = torch.randn(16_000), torch.randn(24_000)
    (opening,), (reply,) = prompt_of(bot, [first])
    history = [Turn("How are you?", "happy", "Well, and you?"), reply.turn]
    (prompt,), _ = prompt_of(bot, [second], [history])
    found = heard(bot.model, [second])
    expected = [
        words(bot, "<|im_start|>user\nHow are you?(with a happy emotional tone).<|im_end|>\n<|im_start|>assistant\n"),
        words(bot, "Well, and you?<|im_end|>\n"),
        opening,
        words(bot, reply.text + "<|im_end|>\n<|im_start|>user\n"),
        found.said[0],
        words(bot, "(with a "),
        found.emotion_embedding,
        words(bot, " emotional tone).<|im_end|>\n<|im_start|>assistant\n"),
    ]
    torch.testing.assert_close(prompt, torch.cat(expected), rtol=1e-4, atol=1e-5)


def test_histories_belong_to_their_recordings(talker):
    bot = talker
    recordings = [torch.randn(16_000), torch.randn(24_000)]
    histories = [[Turn("a", "sad", "b")], [Turn("a longer question", "happy", "c"), Turn("d", "angry", "e")]]
    together = bot.respond(recordings, histories, decoding=Decoding(max_new_tokens=12))
    for recording, history, reply in zip(recordings, histories, together, strict=True):
        assert bot.respond([recording], [history], decoding=Decoding(max_new_tokens=12))[0].text == reply.text
    assert bot.respond(recordings[1:], histories[:1], decoding=Decoding(max_new_tokens=12))[0].text != together[1].text
    with pytest.raises(InputError, match="1 histories for 2 recordings"):
        bot.respond(recordings, histories[:1])


def test_the_oldest_turns_make_room(bot):
    recording = torch.randn(16_000)
    short, long = Turn("x" * 40, "sad", "y"), Turn("z" * 2_000, "sad", "y")
    (with_short,), _ = prompt_of(bot, [recording], [[short]])
    (with_both,), _ = prompt_of(bot, [recording], [[long, short]])
    assert torch.equal(with_both, with_short)
    (alone,), _ = prompt_of(bot, [recording], [[long]])
    assert torch.equal(alone, prompt_of(bot, [recording])[0][0])


def test_speech_beyond_the_language_model_s_window_warns(bot):
    with pytest.warns(UserWarning, match=r"\d+ positions of prompt, 4 of reply exceed the language model's 512"):
        (reply,) = bot.respond([torch.randn(16_000 * 65)], decoding=Decoding(max_new_tokens=4))
    assert reply.text is not None


def test_the_language_is_asked_for_in_the_system_message(bot):
    recording = torch.randn(16_000)
    (plain,), _ = prompt_of(bot, [recording])
    for language, sentence in (("auto", "in the same language as the user"), ("German", "in German")):
        (prompt,), _ = prompt_of(bot, [recording], language=language)
        system = words(bot, f"<|im_start|>system\nAlways answer {sentence}.<|im_end|>\n")
        assert torch.equal(prompt, torch.cat([system, plain]))
    bot.model.responder.system = "Be kind."
    (prompt,), _ = prompt_of(bot, [recording], language="German")
    assert torch.equal(prompt[: len(plain)][:10], words(bot, "<|im_start|>system\nBe kind. Always answer in")[:10])
    assert len(prompt) - len(plain) == len(
        words(bot, "<|im_start|>system\nBe kind. Always answer in German.<|im_end|>\n")
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"batch_size": 0}, "batch_size"), ({"language": " "}, "language")],
)
def test_bad_options_are_refused(bot, options, reason):
    with pytest.raises(InputError, match=reason):
        bot.respond([torch.randn(16_000)], **options)


@pytest.mark.parametrize(
    "options",
    [{"temperature": -1}, {"top_p": 0}, {"max_new_tokens": 0}, {"unit_temperature": -1}, {"temperature": float("nan")}],
)
def test_decoding_that_cannot_be_is_refused(options):
    with pytest.raises(InputError, match=next(iter(options)).removeprefix("unit_")):
        Decoding(**options)


def test_bad_recordings_are_refused_before_any_answer(bot):
    with pytest.raises(AudioError, match="recording 2: is silent"):
        bot.respond([torch.randn(16_000), torch.zeros(16_000)])


@pytest.mark.parametrize(
    "waveform", [torch.zeros(16_000, dtype=torch.int16), torch.randn(2, 16_000), torch.full((16_000,), torch.nan)]
)
def test_what_is_no_waveform_is_refused(bot, waveform):
    with pytest.raises(AudioError, match=r"recording 2: .* a waveform has finite floats"):
        bot.respond([torch.randn(16_000), waveform])


def test_a_recogniser_alone_cannot_chat(model):
    recogniser = whole(model.listener.speech_encoder, emotion_nuance=model.listener.emotion_nuance)
    with pytest.raises(CheckpointError, match="cannot chat: it has no language model; give"):
        EmpatheticChatbot(spoken(recogniser, list(EMOTIONS)))


def test_chat_writes_what_it_says(model, corpus, tmp_path, capsys):
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    files = [corpus.parent / "0.wav", corpus.parent / "1.wav"]
    assert main(["chat", *map(str, files), "--checkpoint", str(tmp_path / "bot"), "--out", str(tmp_path / "out")]) == 0
    entries = json.loads((tmp_path / "out" / "replies.json").read_text())
    replies = EmpatheticChatbot.from_pretrained(tmp_path / "bot").respond([read_speech(file) for file in files])
    assert [entry["text"] for entry in entries] == [reply.text for reply in replies]
    assert "heard" in capsys.readouterr().out


def test_the_files_of_a_conversation_are_its_turns(talker, corpus, tmp_path, monkeypatch):
    save(tmp_path / "bot", spoken(talker.model, list(EMOTIONS)))
    files = [corpus.parent / f"{i}.wav" for i in (0, 1, 2)]
    seen, original = [], Responder.fill
    monkeypatch.setattr(
        Responder, "fill", lambda model, turns, *rest: seen.extend(turns) or original(model, turns, *rest)
    )
    words = ["chat", *map(str, files), "--checkpoint", str(tmp_path / "bot"), "--temperature=2", "--batch_size=2"]
    assert main([*words, "--out", str(tmp_path / "files")]) == 0
    assert [[turn.reply for turn in turns] for turns in seen] == [[""]] * 3
    seen.clear()
    assert main([*words, "--out", str(tmp_path / "talk"), "--conversation"]) == 0
    a, b, _ = (entry["text"] for entry in json.loads((tmp_path / "talk" / "replies.json").read_text()))
    assert [[turn.reply for turn in turns] for turns in seen] == [[""], [a, ""], [a, b, ""]] and a and b


def test_chat_explains(model, corpus, tmp_path, capsys):
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    file, out = corpus.parent / "0.wav", tmp_path / "out"
    words = ["chat", str(file), "--checkpoint", str(tmp_path / "bot"), "--out", str(out), "--explain"]
    assert main(words) == 0
    (entry,) = json.loads((out / "replies.json").read_text())
    explained = entry["explanation"]
    assert sum(explained["layer_weights"]) == pytest.approx(1, abs=1e-3)
    assert len(explained["nearest_words"]) == 10 and explained["probabilities"] == entry["probabilities"]
    shown = capsys.readouterr().out
    assert "layers   1 0." in shown and f"near     {explained['nearest_words'][0][0]} " in shown
    assert (out / "0_explained.png").read_bytes().startswith(b"\x89PNG")
    assert not list(out.glob(".*"))


def test_bad_options_of_the_command_are_one_line(model, corpus, tmp_path, capsys):
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    words = ["chat", str(corpus.parent / "0.wav"), "--checkpoint", str(tmp_path / "bot"), "--out", str(tmp_path / "o")]
    for extra in ("--top_p=2", "--batch_size=0", "--language= ", "--max_new_tokens=0"):
        assert main([*words, extra]) == 2
        assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: ")
        assert not (tmp_path / "o").exists()
