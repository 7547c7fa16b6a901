"""Write a fake EMNS: rows name ``wavs/`` while the archive holds two folders of WebM files."""

from pathlib import Path

from tests.corpora.noise import hidden, noise

HEADER = "id|utterance|description|emotion|date_created|status|gender|age|level|audio_recording|user_id"
EMOTIONS = ("Angry", "Disgust", "Excited", "Happy", "Neutral", "Sad", "Sarcastic", "Surprised")
DESCRIPTION = "{transcription} said {user_id} in a {emotion} voice. Placing emphasis on {word}."


def row(number, emotion, stem, status="Complete"):
    said = f'"Is it {number}?" she asked.' if number == 2 else f"This is number {number}."
    date = "2022-07-16 15:43:06.014790"
    return f"{number}|{said}|{DESCRIPTION}|{emotion}|{date}|{status}|Female|20s|3|wavs/{stem}.webm|3"


def write(root, odd=False):
    root = Path(root)
    rows = [HEADER]
    for number, emotion in enumerate(EMOTIONS):
        stem = f"recorded_audio_wC6dAs{number}"
        for folder in ("raw_webm", "cleaned_webm"):
            noise(root / folder / f"{stem}.webm")
        rows.append(row(number, emotion, stem))
    noise(root / "wavs" / "recorded_audio_wC6dAs0.wav", 48_000)
    hidden(root / "raw_webm", "recorded_audio_wC6dAs0.webm")
    if odd:
        noise(root / "raw_webm" / "recorded_audio_odd.webm")
        noise(root / "raw_webm" / "recorded_audio_norow.webm")
        rows += [row(90, "Bored", "recorded_audio_odd"), row(91, "Sad", "recorded_audio_gone", "Pending"), "broken", ""]
    (root / "metadata.csv").write_text("\n".join(rows), encoding="utf-8")
    return root
