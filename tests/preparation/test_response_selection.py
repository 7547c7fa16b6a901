import itertools
import random

import pytest
import torch

from empathy_lightning import text as cleaning
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.preparation import diversity
from empathy_lightning.preparation.response_selection import ResponseSelection, report, select, table
from empathy_lightning.utterance import Utterance


def said(text, **fields):
    return Utterance(id=text[:8] or "-", corpus="c", path="a.wav", response=text, **fields)


@pytest.mark.parametrize(
    ("text", "published", "wide"),
    [
        ("I'm sorry, but I cannot continue this.", True, True),
        ("i'm SORRY, but I think it will pass.", True, False),
        ("Well, as an AI Language Model, I have no feelings.", True, True),
        ("As an AI, I do not have feelings.", False, True),
        ("I'm not sure what you mean.", True, True),
        ("i'm not sure what you mean.", False, True),
        ("I\u2019m sorry, I can\u2019t help with that.", False, True),
        ("Could you provide more context?", False, True),
        ("作为一个人工智能, 我没有感情。", False, True),
        ("I'm so sorry to hear that.", False, False),
        ("I cannot imagine how hard this is.", False, False),
        ("Said the painter as a dinosaur walked in.", False, False),
    ],
)
def test_refusals(text, published, wide):
    assert (cleaning.published_refusal(said(text)) is not None) == published
    assert (cleaning.refusal(said(text)) is not None) == wide


def test_length_and_script():
    rule = cleaning.length_within(2, 4)
    assert [rule(said(t)) for t in ("Oh.", "Oh no!", "That is so very sad", "很高兴")] == [
        "too short",
        None,
        "too long",
        None,
    ]
    own = cleaning.in_script()
    assert own(said("That is lovely!", language="en-GB")) is None
    assert own(said("太好了", language="en")) == "other script"
    assert own(said("Очень жаль, really", language="ru")) == "other script"
    assert own(said("Очень жаль.", language="ru")) is None
    assert own(said("太好了")) is None and own(said("Hm", language="xx")) is None
    assert cleaning.in_script("ja")(said("それはよかったですね。")) is None
    assert cleaning.in_script("en")(said("1234 ...")) == "other script"


def test_near_duplicates_are_those_of_the_plain_search():
    generator = random.Random(0)
    vocabulary = ["a", "b", "c", "d", "e", "f"]
    for overlap, n in itertools.product((0.2, 0.5, 0.7, 1.0), (1, 2, 3)):
        texts = [" ".join(generator.choices(vocabulary, k=generator.randint(0, 9))) for _ in range(150)]
        kept, expected = [], set()
        for index, text in enumerate(texts):
            own = text.split()
            size = min(n, len(own))
            grams = {tuple(own[i : i + size]) for i in range(len(own) - size + 1)} if size else set()
            if grams and any(len(grams & other) >= overlap * len(grams | other) - 1e-9 for _, other in kept):
                expected.add(index)
            else:
                kept.append((index, grams))
        found = diversity.near_duplicates(texts, overlap, n)
        assert set(found) == expected
        assert not set(found.values()) & expected


def test_repeats_are_counted_by_words():
    texts = ["Oh no!", "oh no", "Really?", "OH, NO.", "oh no no"]
    assert diversity.repeats(texts, 1) == [1, 3] and diversity.repeats(texts, 2) == [3]


def test_mean_embeddings_are_the_mean_of_the_last_states_of_each_alone():
    model = LanguageModel.from_pretrained("small-world/language_model")
    texts = ["How was the basket with your uncle at the museum?", "You sound so happy!", "Oh"]
    for text, row in zip(texts, diversity.mean_embeddings(model, texts, batch_size=2), strict=True):
        ids = model.tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
        with torch.no_grad():
            states = model.model(ids, output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(row, states[0].mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", [7, 256])
def test_similar_rows_are_dropped_and_no_two_kept_ones_are_alike(block, monkeypatch):
    monkeypatch.setattr(diversity, "_BLOCK", block)
    rows = torch.randn(80, 3)
    dropped = diversity.similar(rows, 0.9)
    centred = rows - rows.mean(0)
    cosine = torch.nn.functional.cosine_similarity(centred[:, None], centred[None], dim=-1)
    kept = [index for index in range(80) if index not in dropped]
    assert 0 < len(kept) < 80
    assert cosine[kept][:, kept].fill_diagonal_(-1).max() <= 0.9
    for index, nearest in dropped.items():
        earlier = [other for other in kept if other < index]
        assert cosine[index, nearest] > 0.9 and nearest == earlier[int(cosine[index, earlier].argmax())]


def test_farthest_points_cover_within_twice_the_best():
    rows = torch.randn(12, 2)
    distance = torch.cdist(rows, rows)
    for count in (1, 2, 3, 4):
        taken = diversity.farthest_points(rows, count)
        assert len(set(taken)) == count
        best = min(distance[list(centres)].min(0).values.max() for centres in itertools.combinations(range(12), count))
        assert distance[taken].min(0).values.max() <= 2 * best + 1e-6
    assert sorted(diversity.farthest_points(rows, 50)) == list(range(12))
    assert len(set(diversity.farthest_points(torch.zeros(5, 2), 3))) == 3


def test_the_report_accounts_for_every_utterance():
    texts = [
        "As an AI language model, no.",
        "",
        "How lovely for you!",
        "how lovely for you",
        "Why, what happened to it?",
    ]
    utterances = [said(text, emotion="sad" if index % 2 else "happy") for index, text in enumerate(texts)]
    texts.append("Tell me more about the fair.")
    utterances.append(said(texts[-1], response_cut=True))
    kept, dropped = select(
        utterances,
        ResponseSelection((cleaning.published_refusal, cleaning.empty), repeats=1, similarity=1.0, count=2),
        lambda rows: torch.eye(len(rows), 4) * torch.tensor([1.0, 5.0, 3.0, 1.0]),
    )
    assert [u.response for u in kept] == [texts[2], texts[4]]
    figures = report(kept, dropped)
    assert figures["reasons"] == {
        "refusal": 1, "empty": 1, "repeated too often": 1, "not among the 2 farthest apart": 1,
    }  # fmt: skip
    assert figures["utterances"] == 6 == figures["kept"] + len(figures["dropped"])
    assert figures["emotions"] == {
        "happy": {"utterances": 3, "kept": 2},
        "sad": {"utterances": 2, "kept": 0},
        "unlabelled": {"utterances": 1, "kept": 0},
    }
    assert "refusal" in table(figures)
