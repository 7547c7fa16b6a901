import itertools
import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empathy_lightning.corpora import CorpusError
from empathy_lightning.data import PROTOCOLS, Manifest, write_manifest
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.data.emobox_folds import EmoBoxFolds
from empathy_lightning.data.held_out import hold_out_speakers as hold_out
from empathy_lightning.data.protocols import LeaveOneOut, PerCorpus, RandomSubset, SentenceSplit, Whole
from empathy_lightning.data.published import protocol_named
from empathy_lightning.utterance import Utterance
from tests.corpora.noise import noise


def utterance(index, **values):
    return Utterance(**{"id": str(index), "corpus": "c", "path": f"{index}.wav"} | values)


utterances = st.lists(
    st.builds(
        Utterance,
        id=st.integers(0, 10_000).map(str),
        corpus=st.sampled_from(["c", "d"]),
        path=st.just("x.wav"),
        speaker=st.sampled_from("ABCDE"),
        session=st.sampled_from("123"),
        transcript=st.sampled_from(["one", "two  words", "Two words", "three"]),
        emotion=st.sampled_from(["happy", "excited", "sad", None]),
        split=st.sampled_from(["train", "validation", "test", "test2", None]),
    ),
    unique_by=lambda u: (u.corpus, u.id),
    min_size=1,
)


@given(utterances, st.sampled_from(["speaker", "session"]), st.integers(0, 20))
def test_no_left_out_unit_is_in_two_splits(given_, unit, fold):
    splits = {}
    for u in LeaveOneOut(unit, fold)(given_):
        assert splits.setdefault((u.corpus, getattr(u, unit)), u.split) == u.split
    assert Counter(splits.values())["test"] == 1


@given(utterances)
def test_each_unit_is_tested_in_exactly_one_fold(given_):
    units = {(u.corpus, u.speaker) for u in given_}
    tested = [
        (u.corpus, u.id)
        for fold in range(len(units))
        for u in LeaveOneOut("speaker", fold)(given_)
        if u.split == "test"
    ]
    assert sorted(tested) == sorted((u.corpus, u.id) for u in given_)


@given(utterances, st.floats(0.1, 0.9), st.integers(0, 5))
def test_no_sentence_is_in_two_splits_whatever_its_spelling(given_, share, seed):
    splits = {}
    for u in SentenceSplit(share, seed)(given_):
        words = u.transcript.lower().split()
        assert splits.setdefault(tuple(words), u.split) == u.split


def test_merged_emotions_merge_their_votes():
    given_ = [utterance(0, emotion="excited", emotion_votes={"excited": 0.5, "happy": 0.25, "sad": 0.25})]
    (merged,) = Whole("train", merge={"excited": "happy"})(given_)
    assert merged.emotion == "happy" and merged.emotion_votes == {"happy": 0.75, "sad": 0.25}
    assert given_[0].emotion_votes["excited"] == 0.5


@given(utterances, st.randoms())
def test_a_random_subset_depends_on_the_ids_and_the_seed_alone(given_, random):
    protocol = RandomSubset({"train": 3, "test": 2}, seed=1)
    chosen = {(u.corpus, u.id) for u in protocol(given_)}
    shuffled = list(given_)
    random.shuffle(shuffled)
    assert chosen == {(u.corpus, u.id) for u in protocol(shuffled)}
    counts = Counter(u.split for u in protocol(given_))
    for split, size in {"train": 3, "test": 2}.items():
        assert counts[split] == min(size, sum(u.split == split for u in given_))


@given(utterances, st.floats(0.01, 1), st.randoms())
def test_holding_out_finds_something_and_leaves_the_test_split_as_it_is(given_, share, random):
    held = hold_out(given_, share)
    splits, training = {}, [u for u in given_ if u.split == "train"]
    for before, after in zip(given_, held, strict=True):
        assert replace(after, split=before.split) == before
        if before.split != "train":
            assert after == before
        else:
            splits.setdefault((after.corpus, after.speaker), set()).add(after.split)
    for corpus in {u.corpus for u in training}:
        speakers = {u.speaker for u in training if u.corpus == corpus}
        validates = [u for u, v in zip(held, given_, strict=True) if u.corpus == corpus and u.split != v.split]
        assert validates or sum(u.corpus == corpus for u in training) == 1
        if share * len(speakers) >= 1:
            assert all(len(splits[corpus, speaker]) == 1 for speaker in speakers)
    shuffled = random.sample(list(zip(given_, held, strict=True)), len(held))
    assert hold_out([before for before, _ in shuffled], share) == [after for _, after in shuffled]
    assert hold_out(given_, 0.0) == given_


def test_corpora_with_few_speakers_validate_too():
    names = [f"Ses0{session}{letter}" for session in range(1, 5) for letter in "FM"]
    held = hold_out([utterance(i, corpus="iemocap", speaker=names[i % 8], split="train") for i in range(400)], 0.05)
    assert sum(u.split == "validation" for u in held) == 20
    many = hold_out([utterance(i, speaker=str(i % 40), split="train") for i in range(400)], 0.05)
    assert {u.speaker for u in many if u.split == "validation"}.isdisjoint(
        u.speaker for u in many if u.split == "train"
    )


def test_pairs_of_one_instruction_stay_together():
    rows = [
        replace(utterance(i, split="train"), speaker=None, raw_labels={"instruction": f"i/{i % 50}"})
        for i in range(200)
    ]
    splits = {}
    for u in hold_out(rows, 0.1):
        splits.setdefault(u.raw_labels["instruction"], set()).add(u.split)
    assert all(len(found) == 1 for found in splits.values()) and {"validation"} in splits.values()


def test_re_llm_s_esd_is_its_english_half():
    rows = [
        utterance(i, corpus="esd", language="en" if i % 2 else "zh", transcript=f"sentence {i // 2}", emotion="sad")
        for i in range(200)
    ]
    chosen = PROTOCOLS["re-llm-esd"](rows)
    assert {u.language for u in chosen} == {"en"}
    assert sum(u.split == "train" for u in chosen) == 70 and len(chosen) == 100


def test_a_mixture_s_own_filters_belong_to_it():
    with pytest.raises(CorpusError, match="give emotions and merge to PerCorpus"):
        PerCorpus({"iemocap": PROTOCOLS["re-llm-iemocap"]})


def test_iemocap_as_in_re_llm():
    rows = [
        utterance(i, corpus="iemocap", session=str(1 + i % 5), emotion=["happy", "excited", "frustrated", "sad"][i % 4])
        for i in range(40)
    ]
    kept = PROTOCOLS["re-llm-iemocap"](rows)
    assert {u.emotion for u in kept} == {"happy", "sad"} and len(kept) == 30
    assert {u.split for u in kept if u.session == "5"} == {"test"}
    assert {u.split for u in kept if u.session != "5"} == {"train"}
    assert rows[1].emotion == "excited", "the given utterances must not change"


def test_the_mixture_of_freezeempath():
    rows = [utterance(c, corpus=c, emotion="happy") for c in ("mead", "esd", "ravdess", "casia", "savee")]
    rows += [utterance("m", corpus="meld", emotion="sad", split="validation")]
    rows += [utterance(f"i{s}", corpus="iemocap", emotion="excited", session=str(s)) for s in range(1, 6)]
    splits = {u.id: u.split for u in PROTOCOLS["freezeempath"](rows)}
    assert splits == {
        "mead": "train", "esd": "train", "ravdess": "test", "casia": "test", "m": "validation",
        "i1": "train", "i2": "train", "i3": "train", "i4": "train", "i5": "test",
    }  # fmt: skip


def test_every_corpus_of_the_mixture_can_be_read():
    from empathy_lightning.corpora import CORPORA

    mixture = PROTOCOLS["freezeempath"]
    assert isinstance(mixture, PerCorpus) and set(mixture.protocols) <= set(CORPORA) and len(mixture.protocols) == 14


def test_a_speaker_that_is_not_known_cannot_be_left_out():
    with pytest.raises(CorpusError, match="has no speaker"):
        LeaveOneOut("speaker")([utterance(1)])
    with pytest.raises(CorpusError, match="re-llm-iemocap"):
        protocol_named("relm")


def test_emobox_folds_choose_among_our_utterances(tmp_path):
    fold = tmp_path / "fold_2"
    fold.mkdir()
    for name, stems in {"train": "ab", "valid": "c", "test": "d"}.items():
        lines = [json.dumps({"key": s, "wav": f"downloads/x/spk/{s}.wav"}) for s in stems]
        (fold / f"x_{name}_fold_2.jsonl").write_text("\n".join(lines) + "\n")
    rows = [utterance(s, path=f"/data/spk/{s}.wav") for s in "abcde"]
    assert [u.split for u in EmoBoxFolds(str(tmp_path), 2)(rows)] == ["train", "train", "validation", "test"]
    with pytest.raises(CorpusError, match="no EmoBox fold 1"):
        EmoBoxFolds(str(tmp_path))(rows)


def test_protocols_compose():
    rows = [utterance(i, corpus=c, speaker=str(i)) for c in "cde" for i in range(3)]
    protocol = PerCorpus({"c": Whole("train"), "d": LeaveOneOut("speaker", 2)})
    assert Counter(u.split for u in protocol(rows)) == {"train": 4, "test": 1, "validation": 1}


def test_validation_shares_no_sentence_with_training_where_sentences_are_split(tmp_path):
    """Ten speakers say 50 sentences in two emotions, which spell one of them differently."""
    noise(tmp_path / "a.wav")
    rows = []
    for emotion, speaker, number in itertools.product(("sad", "happy"), range(10), range(1, 51)):
        words = f"sentence {number}" + (" indeed" if emotion == "sad" and number % 5 == 0 else "")
        row = utterance(len(rows), corpus="esd", language="en", speaker=str(speaker), transcript=words, emotion=emotion)
        labels = {"sentence": str(number)}
        rows.append(replace(row, id=f"{emotion}{speaker}-{number}", path=str(tmp_path / "a.wav"), raw_labels=labels))
    write_manifest(tmp_path / "m.jsonl", rows)
    protocols = [PROTOCOLS["re-llm-esd"], PerCorpus({"esd": SentenceSplit(0.7)})]
    for protocol in protocols:
        data = EmpathyDataModule([Manifest(str(tmp_path / "m.jsonl"))], protocol=protocol, allow_empty_classes=True)
        data.setup()
        said = {split: {u.raw_labels["sentence"] for u in rows} for split, rows in data.splits.items()}
        assert {split: len(numbers) for split, numbers in said.items()} == {"train": 33, "validation": 2, "test": 15}
        assert len(said["train"] | said["validation"] | said["test"]) == 50
