"""What users might say: questions and sentences that a language model writes, and templates that are filled."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from empathy_lightning.configurations import located, read_yaml
from empathy_lightning.data.manifest import write_manifest
from empathy_lightning.errors import InputError, meant
from empathy_lightning.files import check_target, write_json
from empathy_lightning.jobs import Claim, alone
from empathy_lightning.preparation.answers import answer_in_shards, asked, check_shards, shards_of, tell_of_share
from empathy_lightning.preparation.diversity import near_duplicates, repeats
from empathy_lightning.preparation.engines import Generation
from empathy_lightning.text import published_refusal, words
from empathy_lightning.utterance import Utterance

_LEAD = re.compile(r"^\s*(?:\d+\s*[.):-]|[-*\u2022]|[Qq](?:uestion)?\s*\d*\s*[:.])\s*")
"""What stands before an item of a list."""

_SAYABLE = re.compile(r"[A-Z][A-Za-z' ,-]*[.?]")
"""One sentence of plain words: no digits, abbreviations or markup, whose reading would be open."""

_KEYS = ("topics", "openings", "requests", "templates", "words")


@dataclass(frozen=True)
class Wishes:
    """What is to be written.

    Attributes:
        topics: Fill ``{topic}`` of the requests.
        openings: Fill ``{opening}`` of the requests.
        requests: What the language model is asked for.
        templates: Sentences with slots.
        words: What fills each slot of the templates.
    """

    topics: list[str]
    openings: list[str]
    requests: list[str]
    templates: list[str]
    words: dict[str, list[str]]

    def __post_init__(self) -> None:
        drawn = {"topic": self.topics, "opening": self.openings}
        for texts, known in ((self.requests, drawn), (self.templates, self.words)):
            for text in texts:
                for slot in _slots(text):
                    if not known.get(slot):
                        raise InputError(f"nothing fills {{{slot}}} of {text!r}{meant(slot, list(known))}")

    def asked(self, count: int, seed: int) -> list[Utterance]:
        """Requests to the language model, as utterances; the first ones are the same whatever the count."""
        if count and not self.requests:
            raise InputError("there are no requests to ask the language model: --asked 0, or add some")
        drawn = {"topic": self.topics, "opening": self.openings}
        rows = []
        for number in range(count):
            draw = random.Random(f"{seed}/asked/{number}")
            request = self.requests[number % len(self.requests)]
            rows.append(_unspoken(number, "requests", transcript=_filled(request, drawn, draw)))
        return rows

    def filled(self, count: int, seed: int) -> list[str]:
        """Filled templates, as many as were asked for; a text may come twice."""
        if count and not self.templates:
            raise InputError("there are no templates to fill: --filled 0, or add some")
        texts = []
        for number in range(count):
            draw = random.Random(f"{seed}/filled/{number}")
            texts.append(_filled(self.templates[number % len(self.templates)], self.words, draw))
        return texts


def read_wishes(file: str | Path) -> Wishes:
    """Read the YAML.

    Args:
        file: Path, or ``recipe:NAME``.

    Raises:
        InputError: If it is none, or a slot has nothing to fill it.
    """
    path = located(file)
    if not path.is_file():
        raise InputError(f"no file at {path}: give a YAML such as recipe:real/instructions")
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} is no table of topics, requests and templates")
    for name in content:
        if name not in _KEYS:
            raise InputError(f"{path}: unknown key {name}; there are {', '.join(_KEYS)}{meant(str(name), _KEYS)}")
    lists = {name: _texts(content.get(name)) for name in _KEYS if name != "words"}
    words_of = content.get("words") or {}
    fillers = {str(name): _texts(texts) for name, texts in words_of.items()}
    try:
        return Wishes(**lists, words=fillers)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _texts(listed: Any) -> list[str]:
    return [str(text) for text in listed or []]


def sentences_of(reply: str) -> Iterator[str]:
    """The items of a list that a language model wrote, without numbers, quotation marks and markup."""
    for line in reply.splitlines():
        text = _LEAD.sub("", line).strip(' "*_\u201c\u201d').replace("\u2019", "'")
        if text:
            yield text


def unfit(text: str, fewest: int, most: int) -> str | None:
    """Why a text is no instruction that can be said; None if it is one.

    Args:
        text: One item of a list.
        fewest: Fewest words.
        most: Most words.
    """
    said = words(text)
    if not fewest <= len(said) <= most:
        return "too short or too long"
    if not _SAYABLE.fullmatch(text):
        return "not one sentence of plain words"
    if published_refusal(Utterance("", "", "", response=text)) is not None:
        return "refusal"
    # A weak writer falls into loops.
    if len(said) > 4 and len(set(said)) < 0.7 * len(said):
        return "repeats its own words"
    return None


def prepare_instructions(
    wishes: str | Path,
    out: str | Path,
    generation: Generation,
    asked_for: int = 1000,
    filled: int = 0,
    words_within: tuple[int, int] = (3, 12),
    overlap: float = 0.5,
    held_out: float = 0.05,
    per_shard: int = 256,
    again: bool = False,
) -> Path:
    """Write a manifest of texts that users might say, which ``prepare speech --users`` says in many voices.

    What the language model wrote may train, validate or test; filled templates only train, and none that is like a
    text of another split. The seed of ``generation`` decides all draws. A run that was interrupted goes on.

    Args:
        wishes: YAML, see :func:`read_wishes`.
        out: Manifest to write; its name without the suffix is that of the corpus.
        generation: Model, prompt and lengths.
        asked_for: Requests to the model.
        filled: Templates to fill.
        words_within: Fewest and most words of a text.
        overlap: 3-gram overlap (0..1) from which a text is like an earlier one and is dropped.
        held_out: Share of the model's texts that validates, and as large a one that tests.
        per_shard: Requests in a shard, the most that an interruption costs.
        again: Make anew what is there, whatever it was made from.

    Raises:
        InputError: If the file, the model or ``out`` cannot be used, or nothing is left.
    """
    out = Path(out)
    check_target(out, [])
    check_shards(out, again)
    wanted = read_wishes(wishes)
    requests = wanted.asked(asked_for, generation.seed)
    with alone(shards_of(out)):
        answered = answer_in_shards(requests, shards_of(out), generation, per_shard, again)
        if answered is None:
            tell_of_share(out)
            return out
        written: list[tuple[str, str]] = []
        for request in answered:
            written += [(request.id, text) for text in sentences_of(request.response or "")]
        texts = wanted.filled(filled, generation.seed)
        kept, dropped = _chosen(written, texts, words_within, overlap)
        if not kept:
            raise InputError(f"{out}: no text is left ({dict(dropped)}): ask for more, or loosen the filters")
        rows = _with_splits(kept, out.stem, held_out, generation.seed)
        made_from = {**asked(generation), "wishes": vars(wanted), "asked": asked_for, "filled": filled}
        made_from |= {"words": list(words_within), "overlap": overlap, "held_out": held_out}
        write_json(out.with_name(f"{out.name}.report.json"), {"kept": len(rows), "dropped": dict(dropped)})
        Claim(out, made_from).write()
        write_manifest(out, rows)
    _tell(rows, dropped)
    return out


def _slots(text: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(text) if name]


def _filled(text: str, fillers: dict[str, list[str]], draw: random.Random) -> str:
    """A text whose slots are filled, each with a draw of its own."""
    found = ""
    for before, name, _, _ in Formatter().parse(text):
        found += before
        if name:
            found += draw.choice(fillers[name])
    return found[:1].upper() + found[1:]


def _chosen(
    written: Sequence[tuple[str, str]], texts: Sequence[str], within: tuple[int, int], overlap: float
) -> tuple[list[tuple[str, str]], Counter[str]]:
    """What is kept of the model's texts, then of the templates': who wrote it and the text; and counts of the rest."""
    dropped: Counter[str] = Counter()
    kept = []
    # Of texts that are alike the first is kept: the model's before the templates'.
    every = [(f"request {number}", text) for number, text in written]
    every += [("template", text) for text in texts]
    for writer, text in every:
        reason = unfit(text, *within)
        if reason is None:
            kept.append((writer, text))
        else:
            dropped[reason] += 1
    # First the cheap test, which leaves fewer texts to the other.
    again = set(repeats([text for _, text in kept], 1))
    dropped["written twice"] += len(again)
    kept = [row for index, row in enumerate(kept) if index not in again]
    twins = near_duplicates([text for _, text in kept], overlap)
    dropped["like another"] += len(twins)
    return [row for index, row in enumerate(kept) if index not in twins], dropped


def _with_splits(kept: Sequence[tuple[str, str]], corpus: str, held_out: float, seed: int) -> list[Utterance]:
    """Utterances with ids; a text's split is drawn from the text itself."""
    rows = []
    for number, (writer, text) in enumerate(kept):
        place = random.Random(f"{seed}/split/{text}").random()
        if writer == "template" or place >= 2 * held_out:
            split = "train"
        else:
            split = "test" if place < held_out else "validation"
        fields: dict[str, Any] = {"transcript": text, "language": "en", "split": split}
        rows.append(_unspoken(number, corpus, **fields, raw_labels={"written_by": writer}))
    return rows


def _unspoken(number: int, corpus: str, **fields: Any) -> Utterance:
    """An utterance that nobody has said yet: its path names no file until ``prepare speech`` gives it one."""
    return Utterance(f"{number:06d}", corpus, f"unspoken/{number:06d}.wav", **fields)


def _tell(rows: Sequence[Utterance], dropped: Counter[str]) -> None:
    counts = Counter(u.split for u in rows)
    print(f"{len(rows)} texts: {', '.join(f'{count} {split}' for split, count in counts.most_common())}")
    for reason, count in dropped.most_common():
        print(f"  {reason:<40}{-count:>8}")
