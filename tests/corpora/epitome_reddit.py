"""Write EPITOME's Reddit files in the official layout, small and with their quirks."""

import csv
from pathlib import Path

COLUMNS = ("sp_id", "rp_id", "seeker_post", "response_post", "level", "rationales")
FILES = ("emotional-reactions-reddit.csv", "interpretations-reddit.csv", "explorations-reddit.csv")
SHOWN = {2: ("So sorry for you", "So sorry"), 1: ("That is rough", "rough"), 0: ("Buy more milk", "")}


def pairs(count):
    """Replies that show much, little and nothing, to posts that have two replies each."""
    for number in range(count):
        level = number % 3
        reply, reason = SHOWN[level]
        # Non-zero levels without a rationale are in the real files too.
        reason = "" if number == 4 else reason
        yield (
            f"post{number // 2}",
            f"reply{number}",
            f"My day {number // 2}\nwas bad, \u00fcbel",
            f"{reply}.",
            level,
            reason,
        )


def write(root, count=60):
    """The three files, with the same pairs; in that of the explorations all levels are turned round."""
    folder = Path(root) / "dataset"
    folder.mkdir(parents=True)
    for name in FILES:
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(COLUMNS)
            for *pair, level, reason in pairs(count):
                rows.writerow([*pair, 2 - level if name.startswith("exp") else level, reason])
    return Path(root)
