"""Write a fake Emozionalmente: columns in another order, a byte order mark, mixed rates, five votes per file."""

from pathlib import Path

from tests.corpora.noise import hidden, noise

EMOTIONS = ("anger", "disgust", "fear", "joy", "neutrality", "sadness", "surprise")


def write(root, odd=False):
    top = Path(root) / "emozionalmente_dataset"
    samples, votes = (
        ["id,file_name,actor,timestamp,emotion_expressed,sentence"],
        ["file_name,listener,emotion_recognized"],
    )
    for number, emotion in enumerate(EMOTIONS):
        for take in (0, 1):
            name = f"16136550000{number}{take}.wav"
            noise(top / "audio" / name, 44_100 if number == 3 else 16_000)
            samples.append(f'{number},{name},user{take},2021-02-18,{emotion},"Perché no, è così."')
            votes += [f"{name},{voter},{emotion if voter else 'fear'}" for voter in range(5)]
    hidden(top / "audio", "1613655000000.wav")
    if odd:
        noise(top / "audio" / "1613655000099.wav")
        noise(top / "audio" / "1613655000098.wav")
        samples += ["9,1613655000099.wav,user9,2021,boredom,7", "9,1613655000097.wav,user9,2021,joy,7", "broken"]
    (top / "metadata").mkdir()
    text = "\r\n".join(samples) + "\r\n"
    (top / "metadata" / "samples.csv").write_bytes(text.encode("utf-8-sig"))
    users = "username,gender,age,mother_tongue\nuser0,f,30,italian\nuser1,m,,italian\n"
    (top / "metadata" / "users.csv").write_text(users, encoding="utf-8")
    (top / "metadata" / "evaluations.csv").write_text("\n".join(votes), encoding="utf-8")
    return Path(root)
