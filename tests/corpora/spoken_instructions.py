"""Write spoken instructions in the three forms of JSON that are in use."""

import json
from pathlib import Path

from tests.corpora.noise import noise


def instruct_s2s(root):
    """Conversations whose turns have their own audio, text and units; paths start at the top."""
    folder = "data/multiturn_instruction/en"
    conversations = []
    for number in (3, 4):
        turns = []
        for turn in (1, 2):
            stem = f"{folder}/wav/instruct_en_{number}/instruct_en_{number}-{turn}"
            noise(Path(root) / f"{stem}-user.wav")
            said = {"from": "human", "speech": f"{stem}-user.wav", "text": f"Hey, question {turn}?", "unit": None}
            reply = {"from": "gpt", "speech": f"{stem}-assistant.wav", "text": "An answer.", "unit": "<29><4299><7>"}
            turns += [said, reply]
        conversations.append({"id": f"instruct_en_{number}", "conversation": turns})
    noise(Path(root) / folder / "wav/instruct_en_3/instruct_en_3-1-assistant.wav")
    (Path(root) / folder / "train.json").write_text(json.dumps(conversations))
    return Path(root)


def vocalnet(root):
    """Audio and units beside the turns; the question's text is not given."""
    noise(Path(root) / "VoiceAssistant/audios/19090.wav")
    turns = [{"from": "human", "value": "<speech>\n"}, {"from": "gpt", "value": "It depends."}]
    record = {"speech": "VoiceAssistant/audios/19090.wav", "conversations": turns}
    records = [record | {"id": "1", "units": "VoiceAssistant/tokens/19090.npy"}, record | {"id": "2", "units": [5, 6]}]
    (Path(root) / "vocalnet.json").write_text(json.dumps(records))
    return Path(root)


def voice_assistant(root):
    """One line per question, some of them bad."""
    lines = []
    for number in range(2):
        noise(Path(root) / "audio" / f"{number}.wav")
        audio = f"audio/{number}.wav"
        record = {
            "split_name": "identity", "index": str(number), "round": "1", "question": "Who are you?",
            "question_audio": {"path": audio, "bytes": None} if number else audio, "answer": "An assistant.",
            "answer_snac": "# 1 2 3",
        }  # fmt: skip
        lines.append(json.dumps(record))
    lines += ['{"question": "no answer"}', '{"question_audio": "gone.wav", "answer": "x"}', "not json", "", "7"]
    (Path(root) / "voice.jsonl").write_text("\n".join(lines))
    (Path(root) / "._voice.jsonl").write_bytes(b"\0\x05\x16\x07")
    return Path(root)
