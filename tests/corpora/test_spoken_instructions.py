import json

import pytest

from empathy_lightning.__main__ import main
from empathy_lightning.corpora import CorpusError
from empathy_lightning.corpora.spoken_instructions import SpokenInstructions
from empathy_lightning.data import read_manifest
from tests.corpora import spoken_instructions
from tests.corpora.noise import noise


def test_every_turn_of_a_conversation_is_an_utterance(tmp_path):
    root = str(spoken_instructions.instruct_s2s(tmp_path))
    corpus = SpokenInstructions(root)
    found = {u.id: u for u in corpus.utterances()}
    assert len(found) == 4 and not corpus.skipped
    first = found["data/multiturn_instruction/en/train-instruct_en_3-1"]
    assert (first.transcript, first.response, first.units) == ("Hey, question 1?", "An answer.", [29, 4299, 7])
    assert first.path.endswith("instruct_en_3-1-user.wav") and first.response_path.endswith("3-1-assistant.wav")
    assert (
        first.session == "data/multiturn_instruction/en/train-instruct_en_3"
        and found["data/multiturn_instruction/en/train-instruct_en_3-2"].response_path is None
    )
    short = SpokenInstructions(root, first_turn_only=True, language="zh").utterances()
    assert [u.id for u in short] == [
        "data/multiturn_instruction/en/train-instruct_en_3-1",
        "data/multiturn_instruction/en/train-instruct_en_4-1",
    ]
    assert {u.language for u in short} == {"zh"}


def test_audio_and_units_may_lie_beside_the_turns(tmp_path):
    first, second = SpokenInstructions(str(spoken_instructions.vocalnet(tmp_path))).utterances()
    assert first.transcript is None and first.response == "It depends." and first.units is None
    assert first.raw_labels == {"units": "VoiceAssistant/tokens/19090.npy"}
    assert second.units == [5, 6] and second.raw_labels == {}


def test_questions_and_answers_of_json_lines_and_its_bad_lines(tmp_path):
    corpus = SpokenInstructions(str(spoken_instructions.voice_assistant(tmp_path)))
    first, second = corpus.utterances()
    assert first.id == "voice-identity-0-1-1" and second.path.endswith("1.wav")
    assert (first.transcript, first.response, first.units) == ("Who are you?", "An assistant.", None)
    reasons = [f"{path}: {reason}" for path, reason, _ in corpus.skipped]
    assert len(reasons) == 4 and any("line 5: not JSON" in reason for reason in reasons)
    assert any("gone.wav" in reason for reason in reasons)


def test_a_file_may_hold_one_conversation_or_bare_lists(tmp_path):
    noise(tmp_path / "q.wav")
    turns = [
        {"from": "gpt", "text": "Nobody asked."},
        {"from": "human", "speech": str(tmp_path / "q.wav"), "text": "Why?"},
        {"from": "gpt", "text": "Because.", "units": "1 2 3"},
        {"from": "human", "speech": "q.wav", "text": "No answer."},
    ]
    (tmp_path / "one.json").write_text(json.dumps(turns))
    (tmp_path / "two.json").write_text(json.dumps([turns, turns]))
    found = SpokenInstructions(str(tmp_path)).utterances()
    assert [u.id for u in found] == ["one-0-1", "two-0-1", "two-1-1"]
    assert all(u.response == "Because." and u.units == [1, 2, 3] for u in found)
    assert len(SpokenInstructions(str(tmp_path), files="one.json").utterances()) == 1


def test_a_folder_without_conversations_says_where_to_get_them(tmp_path):
    with pytest.raises(CorpusError, match="InstructS2S"):
        SpokenInstructions(str(tmp_path)).utterances()


def two_folders(root, answer):
    for name, said in (("a", "A"), ("b", answer)):
        noise(root / name / "q.wav")
        rows = [{"question": f"{n}?", "question_audio": "q.wav", "answer": said} for n in range(5)]
        (root / name / "data.json").write_text(json.dumps(rows))
    return ["corpora", "export", "spoken_instructions", str(root), "--out", str(root / "out.jsonl")]


def test_files_of_one_name_in_two_folders_are_both_read(tmp_path):
    assert main(two_folders(tmp_path, "B")) == 0
    found = {u.id: u.response for u in read_manifest(tmp_path / "out.jsonl")}
    assert found == {f"{name}/data-{n}-1": name.upper() for name in "ab" for n in range(5)}


def test_records_of_one_id_are_copies_only_where_they_are_equal(tmp_path, capsys):
    noise(tmp_path / "q.wav")
    row = {"id": "x", "question": "Why?", "question_audio": "q.wav", "answer": "So."}
    words = ["corpora", "export", "spoken_instructions", str(tmp_path), "--out", str(tmp_path / "out.jsonl")]
    (tmp_path / "data.json").write_text(json.dumps([row, row]))
    assert main(words) == 0 and "read 1 of 2 utterances: 1 doubled copies" in capsys.readouterr().err
    (tmp_path / "data.json").write_text(json.dumps([row, row | {"answer": "No."}]))
    assert main(words) == 2 and "1 another one with the id of" in capsys.readouterr().err
