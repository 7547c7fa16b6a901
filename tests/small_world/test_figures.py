import pytest
import torch

from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.data import read_manifest
from empathy_lightning.small_world.figures import VARIANTS, hear_all, of_others, reply_figures
from empathy_lightning.utterance import EMOTIONS
from tests.tiny import spoken


@pytest.mark.parametrize("count", [2, 3, 40])
def test_each_embedding_stands_in_another_s_place(count):
    embedding = torch.arange(count)[:, None].expand(count, 3)
    for seed in range(20):
        drawn = of_others(embedding, seed)
        assert not (drawn == embedding).any() and torch.equal(drawn.sort(0).values, embedding)
    assert torch.equal(of_others(embedding, 5), of_others(embedding, 5))


@pytest.mark.parametrize("count", [1, 2])
def test_one_utterance_is_measured_without_that_row(model, corpus, count):
    bot, utterances = EmpatheticChatbot(spoken(model, list(EMOTIONS))), read_manifest(corpus)[:count]
    figures = reply_figures(bot, hear_all(bot, utterances), utterances)
    assert set(figures["ablations"]) == set(VARIANTS) - {"own"} - ({"random_emotion"} if count == 1 else set())
