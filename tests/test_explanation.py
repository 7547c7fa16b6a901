import pytest
import torch

from empathy_lightning.audio import split_at_pauses
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.decoding import Decoding
from empathy_lightning.explanation import Explanation, explain_reply, nearest_words
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.pooled_heads import PooledEmotionHeads
from empathy_lightning.utterance import EMOTIONS
from tests.tiny import heard, spoken


@pytest.fixture(scope="module")
def small_world():
    return LanguageModel.from_pretrained("small-world/language_model")


@pytest.fixture
def bot(model):
    return EmpatheticChatbot(spoken(model, list(EMOTIONS)))


@pytest.mark.parametrize("word", ["sad", "angry", "neutral"])
def test_a_word_is_the_nearest_to_its_own_embedding(small_world, word):
    (token,) = small_world.tokenizer(f" {word}").input_ids
    (nearest, cosine), *others = nearest_words(small_world, 3.7 * small_world.embed([token])[0], 4)
    assert nearest == word and cosine == pytest.approx(1, abs=1e-4)
    assert len(others) == 3 and 1 > others[0][1] >= others[1][1] >= others[2][1]


def test_nearest_words_are_those_of_all_cosines_that_read_as_words(small_world):
    tokenizer, matrix = small_world.tokenizer, small_world.model.get_input_embeddings().weight
    direction = torch.randn(matrix.shape[1])
    best = {}
    for index in range(len(tokenizer)):
        word = tokenizer.decode([index]).strip()
        if word.isalpha() and index not in tokenizer.all_special_ids:
            cosine = torch.nn.functional.cosine_similarity(matrix[index], direction, 0).item()
            best[word] = max(best.get(word, -1), cosine)
    expected = sorted(best, key=best.get, reverse=True)[:10]
    found = nearest_words(small_world, direction)
    assert [word for word, _ in found] == expected
    assert [cosine for _, cosine in found] == pytest.approx([best[word] for word in expected], abs=1e-5)


def test_marks_of_the_chat_are_no_words(small_world):
    tokenizer = small_world.tokenizer
    for token in (tokenizer.eos_token_id, tokenizer(".").input_ids[0], tokenizer("\n").input_ids[0]):
        found = nearest_words(small_world, small_world.embed([token])[0])
        assert all(word.isalpha() for word, _ in found) and found[0][1] < 0.99


def test_layer_weights_of_long_speech_are_the_mean_over_its_pieces(bot):
    waveform = torch.randn(16_000 * 45)
    pieces = split_at_pauses(waveform, 30.0)
    assert len(pieces) > 1
    weights = heard(bot.model, [waveform]).emotion.layer_weights
    parts = [heard(bot.model, [piece]).emotion.layer_weights * len(piece) / len(waveform) for piece in pieces]
    torch.testing.assert_close(weights, sum(parts))
    assert weights.sum() == pytest.approx(1, abs=1e-5)


def test_an_explanation_says_what_the_reply_says(bot, tmp_path):
    waveform = torch.randn(16_000)
    (reply,) = bot.respond([waveform], decoding=Decoding(max_new_tokens=3))
    explanation = explain_reply(bot.responder.language_model, reply, words=4)
    assert explanation.probabilities == reply.probabilities
    assert explanation.ratings == {"arousal": reply.arousal, "valence": reply.valence, "dominance": reply.dominance}
    embedding = heard(bot.model, [waveform]).emotion_embedding[0]
    assert explanation.nearest_words == nearest_words(bot.responder.language_model, embedding, 4)
    assert explanation.values()["arousal"] == round(reply.arousal, 4)


def test_without_layers_and_ratings_the_rest_is_explained(bot, tmp_path):
    bot.model.listener.emotion_nuance, bot.model.responder.prompt = PooledEmotionHeads(32), "{speech}"
    waveform = torch.randn(16_000)
    (reply,) = bot.respond([waveform], decoding=Decoding(max_new_tokens=3))
    explained = explain_reply(bot.responder.language_model, reply)
    assert explained.layer_weights == [] and len(explained.nearest_words) == 10
    explanation = Explanation([], {"sad": 1.0}, {}, [("glad", 0.5)])
    explanation.plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()
    assert [line.split()[1] for line in str(explanation).splitlines()] == ["none", "sad", "none", "glad"]


def test_a_plot_of_any_words(tmp_path):
    words = [("glad", 0.5), ("$x", 0.4), ("快乐", 0.3), ("sad", -0.2)]
    explanation = Explanation([0.25, 0.75], {"neutral": 0.4, "sad": 0.6}, {"arousal": 0.2}, words)
    explanation.plot(tmp_path / "plots" / "a.png")
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["a.png"]
    assert str(explanation).splitlines()[0] == "  layers   1 0.25, 2 0.75"
