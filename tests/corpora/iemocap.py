"""Write a fake IEMOCAP in the official layout, quirks included."""

from pathlib import Path

import numpy as np
import soundfile

NOISE = 0.05 * np.random.default_rng(0).standard_normal(1600)
RESOURCE_FORK = b"\x00\x05\x16\x07" + bytes(range(128, 160))
HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
VOTES = (
    "C-E2:\tFrustration;\t()\nC-E3:\tAnger; Frustration;\t()\nC-E4:\tNeutral;\t(tired)\nC-F1:\tNeutral state;\t()\n"
    "A-E3:\tval 2; act 3; dom  3;\t()\nA-E4:\tval 2; act 4; dom  ;\t()\nA-F1:\tval 3; act 3; dom  2;\t()\n\n"
)
DIALOGS = {
    "1": ("Ses01F_impro01", "Ses01M_script01_1"),
    "3": ("Ses03M_impro05a",),
    "5": ("Ses05M_script01_1b", "Ses05F_script03_2"),
}
CODES = ("fru", "xxx", "ang", "exc")


def block(number, turn, code="neu", ratings="[2.0000, 3.5000, 3.0000]"):
    return f"[{number}.3456 - {number}.5456]\t{turn}\t{code}\t{ratings}\n{VOTES}"


def write(root):
    """Three sessions: AppleDouble files, CRLF, Latin-1 bytes, missing and surplus files, odd codes and ratings."""
    root = Path(root) / "IEMOCAP_full_release"
    for session, dialogs in DIALOGS.items():
        folder = root / f"Session{session}"
        for name in ("EmoEvaluation/Categorical", "transcriptions", "wav"):
            (folder / "dialog" / name).mkdir(parents=True, exist_ok=True)
        for dialog in dialogs:
            _dialog(folder, dialog, "\r\n" if session == "5" else "\n")
    first = root / "Session1"
    for name in ("dialog/EmoEvaluation/._Ses01F_impro01.txt", "dialog/transcriptions/._Ses01F_impro01.txt"):
        (first / name).write_bytes(RESOURCE_FORK)
    (first / "sentences/wav/Ses01F_impro01/._Ses01F_impro01_F000.wav").write_bytes(RESOURCE_FORK)
    (root / "Documentation").mkdir()
    (root / "README.txt").write_text("IEMOCAP")
    with (first / "dialog/EmoEvaluation/Ses01F_impro01.txt").open("a") as file:
        file.write(block(30, "Ses01F_impro01_M900"))
        file.write(block(31, "Ses01F_impro01_F901", "bor", "[2.0000, 5.5000, nan]"))
        file.write("[32.1 - broken\n")
        file.write(block(33, "Ses01F_impro01_FXX0"))
    soundfile.write(first / "sentences/wav/Ses01F_impro01/Ses01F_impro01_F901.wav", NOISE, 16_000)
    soundfile.write(first / "sentences/wav/Ses01F_impro01/Ses01F_impro01_M999.wav", NOISE, 16_000)
    return root.parent


def _dialog(folder, dialog, line_end):
    turns = [f"{dialog}_{'FM'[index % 2]}{index:03d}" for index in range(4)]
    evaluation = HEADER + "".join(
        block(6 + index, turn, code) for index, (turn, code) in enumerate(zip(turns, CODES, strict=True))
    )
    path = folder / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
    path.write_bytes(evaluation.replace("\n", line_end).encode())
    path = folder / "dialog" / "EmoEvaluation" / "Categorical" / f"{dialog}_e2_cat.txt"
    path.write_text(f"{turns[0]} :Neutral state; ()\n")
    words = [f"{turn} [006.2901-008.2357]: It\x92s [LAUGHTER] turn {turn[-3:]}\x85 now." for turn in turns]
    words += [f"{dialog}_FXX0 [007.0000-007.5000]: Hm.", "M: Ah.", "F: [BREATHING]", ""]
    path = folder / "dialog" / "transcriptions" / f"{dialog}.txt"
    path.write_bytes(line_end.join(words).encode("latin-1"))
    soundfile.write(folder / "dialog" / "wav" / f"{dialog}.wav", np.stack([NOISE, NOISE], 1), 16_000)
    (folder / "sentences" / "wav" / dialog).mkdir(parents=True)
    for turn in turns:
        soundfile.write(folder / "sentences" / "wav" / dialog / f"{turn}.wav", NOISE, 16_000)
