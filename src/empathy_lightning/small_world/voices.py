"""The speakers of the small world: eSpeak's accents, its own voice variants, and variants drawn at random.

eSpeak NG comes with few voices, too few to learn from what is common to all of
them. A variant is a short text (pitch, formants, tone, breath), so new ones can be
drawn. Most training voices are; those that validate and test are eSpeak's own.
"""

from __future__ import annotations

import math
import random

from empathy_lightning.small_world.espeak import add_variant

ACCENTS = (
    "en", "en-US", "en-GB-scotland", "en-GB-x-rp", "en-029", "en-GB-x-gbclan", "en-GB-x-gbcwmd", "en-US-nyc",
)  # fmt: skip
VARIANTS: dict[str, tuple[str, ...]] = {
    "train": (
        "m1", "m3", "m5", "m6", "m7", "m8", "f1", "f2", "f5", "Alex", "Alicia", "Andrea", "Andy", "Annie", "Denis",
        "Diogo", "Gene", "Henrique", "Hugo", "Jacky", "Lee", "Marco", "Mario", "Mike", "Nguyen", "Reed", "adam",
        "anika", "aunty", "belinda", "benjamin", "boris", "david", "ed", "edward", "grandma", "gustave", "ian", "iven",
        "john", "linda", "marcelo", "max", "miguel", "norbert", "pablo", "paul", "pedro", "quincy", "rob", "robert",
        "sandro", "shelby", "travis", "victor", "zac",
    ),
    "validation": ("m2", "f3", "m4", "f4", "michel"),
    "test": ("Michael", "antonio", "Gene2", "grandpa", "Storm", "steph2"),
}  # fmt: skip
"""ESpeak's own variants by split; a held-out variant is never heard in training, in no accent."""
_STRESS = (-10, -10, -10, -10, 0, 0, 20, 60)
"""Centres of a variant's stressAdd, one for each of eSpeak's eight grades of stress."""


def voice(split: str, generator: random.Random, odd: bool = False) -> str:
    """Draw a voice of a split: an accent with a variant.

    Args:
        split: In ``train``, three voices in four are new ones.
        generator: Source of chance.
        odd: Let new voices be breathy, whispering or of eSpeak's other synthesiser too, which an encoder should
            have heard; recognition trained on as few utterances as the demo's gets worse by them.

    Returns:
        Name for :func:`empathy_lightning.small_world.espeak.render`.
    """
    accent = generator.choice(ACCENTS)
    if split == "train" and generator.random() < 0.75:
        return f"gmw/{accent}+{drawn_variant(generator.randrange(1_000_000), odd)}"
    return f"gmw/{accent}+{generator.choice(VARIANTS[split])}"


def drawn_variant(seed: int, odd: bool = False) -> str:
    """Draw a variant and make it known to eSpeak.

    Args:
        seed: The same seed gives the same variant.
        odd: As of :func:`voice`.

    Returns:
        Its name.
    """
    generator = random.Random(f"variant {seed}")
    name = f"{'odd' if odd else 'drawn'}{seed}"
    add_variant(name, variant_text(name, generator, odd))
    return name


def variant_text(name: str, generator: random.Random, odd: bool = False) -> str:
    """A voice variant in eSpeak's format, within the ranges of eSpeak's own variants."""
    base = math.exp(generator.uniform(math.log(62), math.log(215)))
    lines = ["language variant", f"name {name}", f"pitch {base:.0f} {base * generator.uniform(1.2, 1.75):.0f}"]
    # High voices come from short vocal tracts, whose formants are higher.
    tract = 96 + 18 * math.log(base / 75) / math.log(215 / 75) + generator.gauss(0, 6)
    for formant in range(9):
        frequency = tract + generator.gauss(0, 5)
        strength = generator.uniform(60, 140) if formant < 4 else generator.uniform(0, 120)
        lines.append(f"formant {formant} {frequency:.0f} {strength:.0f} {generator.uniform(70, 150):.0f}")
    extras = {
        "voicing": (0.5, lambda: f"{generator.uniform(40, 150):.0f}"),
        "consonants": (0.5, lambda: f"{generator.uniform(40, 130):.0f} {generator.uniform(40, 140):.0f}"),
        "tone": (0.4, lambda: " ".join(f"{at} {generator.uniform(40, 255):.0f}" for at in (300, 1200, 2000, 3500))),
        "flutter": (0.4, lambda: f"{generator.uniform(0, 20):.0f}"),
        "roughness": (0.4, lambda: f"{generator.uniform(0, 4):.0f}"),
        "echo": (0.2, lambda: f"{generator.uniform(50, 150):.0f} {generator.uniform(5, 30):.0f}"),
        "intonation": (0.2, lambda: generator.choice("123")),
        "stressAdd": (0.3, lambda: " ".join(f"{generator.gauss(stress, 20):.0f}" for stress in _STRESS)),
        "stressAmp": (0.3, lambda: " ".join(f"{generator.uniform(15, 25):.0f}" for _ in range(8))),
    }
    if odd:
        extras["klatt"] = (0.2, lambda: generator.choice("123456"))
        extras["voicing"] = (0.5, lambda: f"{generator.uniform(30, 170):.0f}")
        extras["breath"] = (0.25, lambda: " ".join(f"{generator.uniform(0, 40) ** 2 / 40:.0f}" for _ in range(8)))
        if generator.random() < 0.05:  # a whisper: almost only breath
            extras["voicing"] = (1, lambda: f"{generator.uniform(0, 40):.0f}")
            extras["breath"] = (1, lambda: " ".join(f"{generator.uniform(10, 100):.0f}" for _ in range(8)))
    for key, (chance, draw) in extras.items():
        if generator.random() < chance:
            lines.append(f"{key} {draw()}")
    return "\n".join(lines) + "\n"
