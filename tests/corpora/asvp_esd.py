"""Write a fake ASVP-ESD: names of seven to ten fields, speech and other sounds, noisy files."""

from pathlib import Path

from tests.corpora.noise import hidden, noise


def write(root, odd=False):
    folder = Path(root) / "ASVP-ESD-Update" / "Audio"
    for emotion in range(1, 14):
        noise(folder / "actor_12" / f"03-01-{emotion:02d}-01-02-12-02-01-01-16.wav")
    noise(folder / "actor_13" / "03-01-03-02-02-13-02-03-02-77.wav")
    noise(folder / "actor_13" / "03-01-03-02-03-13-02-03-66.wav")
    noise(folder / "actor_0" / "03-01-04-01-02-00-02.wav")
    noise(folder / "actor_13" / "03-02-04-01-02-13-02-01-14.wav")
    noise(folder.with_name("Bonus") / "03-02-04-01-02-01-04-01-14.wav")
    hidden(folder / "actor_12", "03-01-01-01-02-12-02-01-01-16.wav")
    if odd:
        noise(folder / "actor_12" / "03-01-99-01-02-12-02-01-01-16.wav")
        noise(folder / "actor_12" / "laugh.wav")
    return Path(root)
