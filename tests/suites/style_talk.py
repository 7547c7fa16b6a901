"""Write a few lines of StyleTalk with the blanks and prefixes of its turns, and its audio in a folder of its own."""

from pathlib import Path

from tests.corpora.noise import noise

HEADER = (
    "diag_id,context,curr_audio_id,res_audio_id,curr_text,res_text,curr_emotion,curr_speed,curr_volume,res_emotion,"
    "res_speed,res_volume"
)
CONTEXT = '"A : I\'ve been eating fruit, every day. B : Great! A : I feel fine!"'


def write(root, odd=False):
    root = Path(root)
    lines = [HEADER]
    for number, (emotion, reply) in enumerate(
        {"unfriendly": "It can be a challenge.", "cheerful": "I hope to make it last!"}.items()
    ):
        names = [f"health_306/{turn}_{number}.wav" for turn in "cr"]
        noise(root / "audio" / names[0])
        turn = '"B: It is hard to keep it up, though.  "'
        lines.append(
            f'health_306,{CONTEXT},{",".join(names)},{turn},"  {reply}",{emotion},fast,loud,{emotion},slow,low'
        )
    if odd:
        lines.append(f"music_1,{CONTEXT},music_1/c_0.wav,music_1/r_0.wav,B: Hm.,Oh.,sad,slow,quiet,sad,slow,quiet")
    (root / "eval.csv").write_text("\n".join(lines))
    (root / "train.csv").write_text(HEADER)
    return root
