"""Look a corpus over before training on it: what is there, what is wrong with it, what leaks between splits."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empathy_lightning import storage
from empathy_lightning.audio import AudioError, levels_of, opened, samples_of
from empathy_lightning.containers import missing_part
from empathy_lightning.corpora.corpus import Corpus, Kind, Skipped
from empathy_lightning.data.left_out import Tally
from empathy_lightning.data.manifest import Manifest
from empathy_lightning.data.protocols import Protocol
from empathy_lightning.data.reading import read_split
from empathy_lightning.data.sentences import words_of
from empathy_lightning.digests import digest
from empathy_lightning.levels import faults, mixed
from empathy_lightning.progress import progress_bar
from empathy_lightning.sources import content
from empathy_lightning.utterance import Utterance


@dataclass(frozen=True, slots=True)
class Recording:
    """What one file turned out to be.

    Attributes:
        seconds: Its length, 0 if it cannot be read.
        sample_rate: In Hz.
        digest: Of its bytes.
        problem: Why it cannot be used, "" if it can.
        remarks: What was mended in reading it, and what is wrong with it although it can be used.
    """

    seconds: float
    sample_rate: int
    digest: str
    problem: str
    remarks: tuple[str, ...] = ()


def listen(path: str) -> Recording:
    """Decode one file as training does, and see whether there is anything in it."""
    try:
        data = content(path)
        with opened(path) as file:
            rate, kind = file.samplerate, file.format
            samples = samples_of(file)
        levels = levels_of(path, samples, rate)
        waveform = mixed(samples, levels, path)
    except (OSError, AudioError) as error:
        reason = " ".join(str(error).split()).removeprefix(f"{path}: ")
        return Recording(0.0, 0, "", f"unreadable: {reason}")
    problem = ""
    if not len(waveform):
        problem = "empty"
    elif waveform.abs().max() < 1e-4:
        problem = "silent"
    remarks = []
    if missing := missing_part(data, kind):
        remarks.append(missing)
    remarks += levels.describe()
    if not problem:
        remarks += faults(waveform, rate)
    return Recording(len(samples) / rate, rate, hashlib.sha256(data).hexdigest(), problem, tuple(remarks))


def check(corpus: Corpus, protocol: Protocol | None = None) -> dict[str, Any]:
    """Read a corpus and all its audio.

    Args:
        corpus: What to look over.
        protocol: Splits to look for leaks in; None takes the corpus's own.

    Returns:
        Counts, durations and rates, and under ``problems`` one line for each thing that is wrong.

    Raises:
        CorpusError: If the corpus is not there.
    """
    tally = Tally()
    # A file that is not there is told when it is listened to.
    utterances, split = read_split([corpus], protocol, tally, audio=False)
    heard = _listen_to_all(utterances)
    own = [heard[path] for path in sorted({u.path for u in utterances})]
    expected = [] if protocol is None else against_expected(split, protocol)
    return {
        "corpus": corpus.name,
        "root": str(corpus.root),
        **_identity(corpus),
        "read": tally.describe(),
        "utterances": len(utterances),
        "emotions": count(u.emotion for u in utterances),
        "published": dict(corpus.counts),
        "speakers": count(u.speaker for u in utterances),
        "languages": count(u.language for u in utterances),
        "splits": count(u.split for u in split),
        "hours": round(sum(r.seconds for r in own) / 3600, 4),
        "seconds": quantiles([r.seconds for r in own if not r.problem]),
        "sample_rates": count(r.sample_rate for r in own if r.sample_rate),
        "shared_sentences": overlap(split, "transcript", words_of),
        "skipped": [f"{path}: {reason}" for path, reason, _ in corpus.skipped],
        "problems": [
            *against_published(utterances, corpus),
            *expected,
            *_of_recordings(heard),
            *against_times(utterances, heard),
            *_doubled_recordings(utterances, heard),
            *(f"speaker {name} is in {' and '.join(splits)}" for name, splits in overlap(split, "speaker").items()),
            *skipped_by_reason(corpus.skipped),
        ],
    }


def _of_recordings(heard: dict[str, Recording]) -> list[str]:
    """First why files cannot be used, then what is to be said of those that can."""
    problems = [f"{path}: {recording.problem}" for path, recording in heard.items() if recording.problem]
    for path, recording in heard.items():
        problems += [f"{path}: {remark}" for remark in recording.remarks]
    return problems


def _doubled_recordings(utterances: Sequence[Utterance], heard: dict[str, Recording]) -> list[str]:
    # Two replies of the same words are spoken alike.
    replies = {u.response_path for u in utterances}
    return duplicates({path: recording for path, recording in heard.items() if path not in replies})


def _listen_to_all(utterances: Sequence[Utterance]) -> dict[str, Recording]:
    """What each file turned out to be: of words, of voices and of replies."""
    named: set[str | None] = set()
    for utterance in utterances:
        named |= {utterance.path, utterance.emotion_path, utterance.response_path}
    paths = sorted(path for path in named if path)
    # Decoders let other threads run.
    with ThreadPoolExecutor() as pool:
        found = progress_bar(pool.map(listen, paths), total=len(paths), what="listening")
        return dict(zip(paths, found, strict=True))


def _identity(corpus: Corpus) -> dict[str, str]:
    """Which manifest it was, where it was one."""
    if not isinstance(corpus, Manifest):
        return {}
    if storage.is_url(corpus.path):
        return {"manifest": corpus.path, "digest": hashlib.sha256(storage.read(corpus.path)).hexdigest()}
    file = Path(storage.local_path(corpus.path))
    return {"manifest": file.name, "digest": digest(file)}


def count(values: Any) -> dict[str, int]:
    """How often each value occurs, the most frequent first; what is not known counts as "unknown"."""
    found: dict[str, int] = {}
    for value, number in Counter(values).most_common():
        found["unknown" if value is None else str(value)] = number
    return found


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Shortest, median and longest."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    return {"shortest": ordered[0], "median": ordered[len(ordered) // 2], "longest": ordered[-1]}


def overlap(
    utterances: Sequence[Utterance], field: str, form: Callable[[str], str] = str.strip
) -> dict[str, list[str]]:
    """Values of a field, in the form in which they are compared, that are in more than one split, with those splits."""
    seen: dict[str, set[str]] = defaultdict(set)
    for utterance in utterances:
        value = getattr(utterance, field)
        if value is not None and utterance.split is not None:
            seen[f"{utterance.corpus} {form(value)}"].add(utterance.split)
    return {value: sorted(splits) for value, splits in seen.items() if len(splits) > 1}


def against_published(utterances: Sequence[Utterance], corpus: Corpus) -> list[str]:
    """Emotions whose number is not the published one."""
    found = Counter(u.emotion for u in utterances)
    return [
        f"{n} {emotion} published, {found[emotion]} found"
        for emotion, n in corpus.counts.items()
        if found[emotion] != n
    ]


def against_expected(utterances: Sequence[Utterance], protocol: Protocol) -> list[str]:
    """Splits whose size is not the protocol's."""
    found = Counter(u.split for u in utterances)
    return [
        f"{n} {split} by the protocol, {found[split]} found"
        for split, n in protocol.expected.items()
        if found[split] != n
    ]


def against_times(utterances: Sequence[Utterance], heard: dict[str, Recording]) -> list[str]:
    """Segments that lie beyond their files, and lengths that are not those that the corpus or manifest states."""
    found = []
    for utterance in utterances:
        found += _against_times(utterance.id, heard, utterance.path, utterance.start, utterance.end, utterance.duration)
        if utterance.emotion_path is not None:
            segment = utterance.emotion_start, utterance.emotion_end
            found += _against_times(utterance.id, heard, utterance.emotion_path, *segment, None)
    return found


def _against_times(
    id: str, heard: dict[str, Recording], path: str, start: float, end: float | None, stated: float | None
) -> list[str]:
    recording = heard[path]
    if recording.problem:
        return []
    end = recording.seconds if end is None else end
    length = min(end, recording.seconds) - start
    name = f"{id} ({path})"
    if length <= 0 or end > recording.seconds + 0.25:
        return [f"{name}: a segment from {start:.2f} to {end:.2f} s of a file of {recording.seconds:.2f} s"]
    if stated is not None and abs(length - stated) > 0.25 + 0.05 * stated:
        return [f"{name}: {length:.2f} s long, {stated:.2f} s by its record"]
    return []


def duplicates(heard: dict[str, Recording]) -> list[str]:
    """Groups of files with the same bytes."""
    same: dict[str, list[str]] = defaultdict(list)
    for path, recording in heard.items():
        if recording.digest:
            same[recording.digest].append(path)
    return [f"byte-identical: {', '.join(paths)}" for paths in same.values() if len(paths) > 1]


def skipped_by_reason(skipped: Sequence[Skipped]) -> list[str]:
    """One line for each reason, with an example; which file was doubled by which does not matter."""
    groups: dict[str, list[str]] = defaultdict(list)
    for path, reason, kind in skipped:
        if kind is Kind.COPY:
            reason = "doubled copy"
        groups[reason].append(path)
    return [f"{len(paths)} left out, {reason} (for example {paths[0]})" for reason, paths in groups.items()]


def describe(report: dict[str, Any], most: int = 20) -> str:
    """The report as a table for the screen.

    Args:
        report: From :func:`check`.
        most: Problems shown; the JSON file holds them all.
    """
    rows = [("utterances", report["utterances"]), ("hours", report["hours"])]
    rows += [(f"seconds, {name}", round(value, 2)) for name, value in report["seconds"].items()]
    for kind in ("emotions", "splits", "languages", "sample_rates"):
        published = report["published"] if kind == "emotions" else {}
        for name, number in report[kind].items():
            of_published = f" of {published[name]}" if name in published else ""
            rows.append((f"{kind[:-1].replace('_', ' ')} {name}", f"{number}{of_published}"))
    rows += [("speakers", len(report["speakers"])), ("sentences in several splits", len(report["shared_sentences"]))]
    problems = report["problems"]
    lines = [report["read"]]
    lines += [f"{name:<34}{value!s:>16}" for name, value in rows]
    lines += ["", f"{len(problems)} problem(s)" if problems else "nothing wrong"]
    lines += [f"  {problem}" for problem in problems[:most]]
    if len(problems) > most:
        lines.append(f"  and {len(problems) - most} more")
    return "\n".join(lines)
