"""Corpora that say most in the names of their files and folders."""

import json

import pytest

from empathy_lightning.corpora import CorpusError
from empathy_lightning.corpora.asvp_esd import ASVPESD
from empathy_lightning.corpora.cafe import CaFE
from empathy_lightning.corpora.casia import CASIA
from empathy_lightning.corpora.emns import EMNS
from empathy_lightning.corpora.emov_db import EmoVDB
from empathy_lightning.corpora.emozionalmente import Emozionalmente
from empathy_lightning.corpora.jl_corpus import JLCorpus
from empathy_lightning.corpora.m3ed import M3ED
from empathy_lightning.corpora.mafw import MAFW
from empathy_lightning.corpora.mead import MEAD
from empathy_lightning.corpora.resd import RESD
from empathy_lightning.corpora.savee import SAVEE
from empathy_lightning.corpora.shemo import ShEMO
from empathy_lightning.corpora.subesco import SUBESCO
from empathy_lightning.corpora.tess import TESS
from empathy_lightning.data.manifest import valid
from tests.corpora import (
    asvp_esd,
    cafe,
    casia,
    emns,
    emov_db,
    emozionalmente,
    jl_corpus,
    m3ed,
    mafw,
    mead,
    resd,
    savee,
    shemo,
    subesco,
    tess,
)  # fmt: skip

CORPORA = {
    TESS: (tess, 28), SAVEE: (savee, 56), CASIA: (casia, 48), CaFE: (cafe, 52), Emozionalmente: (emozionalmente, 14),
    EMNS: (emns, 8), EmoVDB: (emov_db, 36), JLCorpus: (jl_corpus, 80), ShEMO: (shemo, 36), SUBESCO: (subesco, 28),
    MEAD: (mead, 88), ASVPESD: (asvp_esd, 16), M3ED: (m3ed, 28), MAFW: (mafw, 11), RESD: (resd, 7),
}  # fmt: skip


def by_id(corpus):
    return {utterance.id: utterance for utterance in corpus.utterances()}


@pytest.mark.parametrize("corpus", CORPORA)
def test_every_file_of_the_official_layout_is_read(corpus, tmp_path):
    writer, count = CORPORA[corpus]
    reader = corpus(str(writer.write(tmp_path)))
    utterances = reader.utterances()
    assert len(utterances) == count
    assert {u.emotion for u in utterances} == set(corpus.emotions.values())
    assert valid(utterances, "the parser") == utterances
    for utterance in utterances:
        assert utterance.raw_labels["emotion"] in corpus.emotions
        assert all(isinstance(value, str) for value in utterance.raw_labels.values())
        assert json.dumps(utterance.to_dict())
    assert not [reason for _, reason, _ in reader.skipped if not reason.startswith("doubled copy")]


@pytest.mark.parametrize("corpus", CORPORA)
def test_what_does_not_fit_is_reported_and_the_rest_is_read(corpus, tmp_path):
    writer, count = CORPORA[corpus]
    reader = corpus(str(writer.write(tmp_path, odd=True)))
    utterances = reader.utterances()
    assert len(utterances) == count + 1
    (unlabelled,) = [u for u in utterances if u.emotion is None]
    assert unlabelled.raw_labels["emotion"] not in corpus.emotions
    reasons = [reason for _, reason, _ in reader.skipped]
    assert any("unknown emotion code" in reason for reason in reasons)
    assert any(not reason.startswith(("label only", "doubled copy")) for reason in reasons)


@pytest.mark.parametrize("corpus", CORPORA)
def test_facts_are_stated_and_a_missing_corpus_says_where_to_get_it(corpus, tmp_path):
    assert all((corpus.title, corpus.source, corpus.licence, corpus.citation, corpus.languages, corpus.folders))
    assert set(corpus.counts) <= set(corpus.emotions.values())
    with pytest.raises(CorpusError, match="http"):
        corpus(str(tmp_path / "nothing")).utterances()
    with pytest.raises(CorpusError, match="http"):
        corpus(str(tmp_path)).utterances()


def test_tess_reports_the_nested_copy_and_reads_the_misspelt_file(tmp_path):
    corpus = TESS(str(tess.write(tmp_path)))
    found = by_id(corpus)
    assert found["OAF_bite_neutral"].speaker == "OAF" and "OA_bite" in found["OAF_bite_neutral"].path
    assert found["YAF_back_ps"].transcript == "Say the word back" and found["YAF_back_ps"].emotion == "surprised"
    assert len(corpus.skipped) == 28
    assert len(TESS(str(tmp_path / "TESS Toronto emotional speech set data")).utterances()) == 28


@pytest.mark.parametrize("pattern", ["AudioData/{}/{}.wav", "ALL/{}_{}.wav", "{}{}.wav"])
def test_savee_has_the_same_ids_in_all_its_spellings(pattern, tmp_path):
    root = tmp_path / "flat" if pattern == "{}{}.wav" else tmp_path
    for speaker in ("DC", "KL"):
        for stem in ("a01", "sa01", "su01"):
            savee.noise(root / pattern.format(speaker, stem))
    found = by_id(SAVEE(str(root)))
    assert sorted(found) == ["DC_a01", "DC_sa01", "DC_su01", "KL_a01", "KL_sa01", "KL_su01"]
    assert found["KL_sa01"].emotion == "sad" and found["KL_su01"].emotion == "surprised"
    assert found["KL_su01"].speaker == "KL"


def test_casia_keys_on_speaker_emotion_and_number(tmp_path):
    found = by_id(CASIA(str(casia.write(tmp_path))))
    assert found["zhaozuoxiang_fear_201"].speaker == "zhaozuoxiang"
    assert found["liuchanhg_surprise_250"].emotion == "surprised"


def test_cafe_does_not_need_the_folder_names(tmp_path):
    found = by_id(CaFE(str(cafe.write(tmp_path))))
    assert found["02-D-2-6"].emotion == "disgust" and found["02-D-2-6"].raw_labels["intensity"] == "2"
    assert found["02-D-2-6"].transcript == "Six ours aimants domestiqués" and found["02-D-2-6"].speaker == "02"
    studio = by_id(CaFE(str(cafe.write(tmp_path / "studio", release="CaFE_192k_1", suffix=".aiff"))))
    assert studio.keys() == found.keys()


def test_emozionalmente_joins_its_tables(tmp_path):
    corpus = Emozionalmente(str(emozionalmente.write(tmp_path, odd=True)))
    found = by_id(corpus)
    joy = found["1613655000030"]
    assert (joy.emotion, joy.speaker, joy.transcript) == ("happy", "user0", "Perché no, è così.")
    assert joy.raw_labels["votes"] == "joy 4, fear 1" and joy.raw_labels["age"] == "30"
    assert "age" not in found["1613655000031"].raw_labels
    assert found["1613655000099"].transcript is None and found["1613655000099"].raw_labels["sentence"] == "7"
    assert len([reason for _, reason, _ in corpus.skipped if "no audio file" in reason]) == 2
    assert any("1613655000098" in path and "no row" in reason for path, reason, _ in corpus.skipped)


def test_emns_takes_wav_before_cleaned_before_raw(tmp_path):
    corpus = EMNS(str(emns.write(tmp_path, odd=True)))
    found = by_id(corpus)
    assert found["recorded_audio_wC6dAs0"].path.endswith("wavs/recorded_audio_wC6dAs0.wav")
    assert "cleaned_webm" in found["recorded_audio_wC6dAs1"].path
    assert found["recorded_audio_wC6dAs1"].transcript == "This is number 1."
    assert found["recorded_audio_wC6dAs1"].speaker == "3" and found["recorded_audio_wC6dAs1"].raw_labels["level"] == "3"
    assert len([reason for _, reason, _ in corpus.skipped if "no audio file" in reason]) == 2
    assert any("norow" in path for path, _, _ in corpus.skipped)


@pytest.mark.parametrize("pattern", ["{}_{}", "{}/{}"])
def test_emov_db_reads_both_folder_forms(pattern, tmp_path):
    found = by_id(EmoVDB(str(emov_db.write(tmp_path / "sam", pattern=pattern))))
    assert len(found) == 36
    assert found["bea_amused_1-15_0003"].transcript == "For the twentieth time that evening."
    assert found["bea_amused_1-15_0015"].transcript is None
    assert found["sam_disgust_1-15_0003"].emotion == "disgust" and "josh_anger_1-15_0003" not in found
    (tmp_path / "sam" / "cmuarctic.data").unlink()
    corpus = EmoVDB(str(tmp_path / "sam"))
    assert len(corpus.utterances()) == 36 and "no transcripts" in corpus.skipped[0][1]


def test_jl_corpus_reads_the_sentences_beside_the_files(tmp_path):
    corpus = JLCorpus(str(jl_corpus.write(tmp_path, odd=True)))
    found = by_id(corpus)
    assert found["female2_encouraging_10b_1"].transcript == "Tom\x92s bear is here."
    assert found["male1_bored_10a_1"].transcript is None
    assert any("male2_sad_1a_1.txt" in path for path, _, _ in corpus.skipped)


def test_shemo_strips_the_marks_of_its_transcripts(tmp_path):
    corpus = ShEMO(str(shemo.write(tmp_path, odd=True)))
    found = by_id(corpus)
    assert found["F14F01"].transcript == "من خوبم" and found["F14F01"].emotion == "fearful"
    assert found["F14F01"].speaker == "F14" and found["M02X01"].transcript is None
    assert any("M03A01.ort" in path for path, _, _ in corpus.skipped)
    assert sum(ShEMO.counts.values()) == 3000


def test_subesco_tells_speakers_of_the_same_number_apart(tmp_path):
    found = by_id(SUBESCO(str(subesco.write(tmp_path))))
    assert {u.speaker for u in found.values()} == {"F01", "M01"}
    assert found["F_01_OISHI_S_10_SURPRISE_5"].emotion == "surprised"


def test_mead_takes_a_converted_file_silently(tmp_path):
    found = by_id(MEAD(str(mead.write(tmp_path))))
    assert found["M003_sad_1_001"].path.endswith("001.wav") and found["M003_sad_2_001"].path.endswith("001.m4a")
    assert found["W019_disgusted_3_020"].emotion == "disgust" and found["W019_disgusted_3_020"].speaker == "W019"


def test_asvp_esd_reads_speech_unless_asked_for_more(tmp_path):
    root = str(asvp_esd.write(tmp_path))
    found = by_id(ASVPESD(root))
    full = found["03-01-06-01-02-12-02-01-01-16"]
    assert (full.emotion, full.language, full.speaker) == ("fearful", "zh", "12")
    assert found["03-01-03-02-02-13-02-03-02-77"].raw_labels["quality"] == "noise"
    assert found["03-01-03-02-03-13-02-03-66"].language is None
    assert found["03-01-04-01-02-00-02"].speaker is None
    assert len(ASVPESD(root, other_sounds=True).utterances()) == len(found) + 1


def test_m3ed_joins_annotation_audio_and_splits(tmp_path):
    corpus = M3ED(str(m3ed.write(tmp_path, odd=True)))
    found = by_id(corpus)
    assert {u.split for u in found.values()} == {"train", "validation", "test", None}
    first = found["yueguangbianzouqu_1_1"]
    assert (first.emotion, first.split, first.transcript) == ("angry", "validation", "今天 下雨")
    assert first.speaker == "yueguangbianzouqu_李明" and first.session == "yueguangbianzouqu_1"
    assert first.raw_labels["emotions"] == "Anger,Sad"
    assert found["anjia_2_1"].speaker is None
    reasons = " ".join(f"{path} {reason}" for path, reason, _ in corpus.skipped)
    assert all(name in reasons for name in ("anjia_2_2", "anjia_2_3", "anjia_2_4", "anjia_9_9"))


def test_mafw_follows_the_lists_of_the_fold(tmp_path):
    root = str(mafw.write(tmp_path, odd=True))
    corpus = MAFW(root)
    found = by_id(corpus)
    assert found["00003"].path.endswith("audio/00003.wav") and found["00003"].split == "train"
    assert found["00009"].emotion == "other" and found["00009"].raw_labels == {"emotion": "helplessness"}
    assert by_id(MAFW(root, fold=2))["00003"].split == "test"
    reasons = " ".join(f"{path} {reason}" for path, reason, _ in corpus.skipped)
    assert all(name in reasons for name in ("00091.mp4", "broken", "00092.mp4"))
    assert sum(MAFW.counts.values()) == 9172
    with pytest.raises(CorpusError, match="set_3"):
        MAFW(root, fold=3).utterances()


def test_resd_reads_both_spellings_and_keeps_the_dialogue(tmp_path):
    found = by_id(RESD(str(resd.write(tmp_path))))
    assert found["08_sadness_anger a_010"].emotion == "angry" and found["08_sadness_anger a_010"].split == "test"
    assert found["11_anger_disgust d_190"].emotion == "disgust"
    assert found["27_neutral_fear_f_090"].split == "train" and found["27_neutral_fear_f_090"].session == "27"
    assert {u.split for u in RESD(str(tmp_path / "train")).utterances()} == {"train"}
