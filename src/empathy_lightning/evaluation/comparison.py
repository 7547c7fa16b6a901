"""Systems compared on the same questions: differences with intervals, tests, adjusted p-values and effect sizes.

Of each number of a measure's rows the means are compared; of its ratios, such as a word error rate, the ratios; of
emotion, UA and macro F1. Numbers that are 0 or 1 in every row are tested by McNemar's test, others by Wilcoxon's
signed-rank test, or all of them by a permutation test. Of ratios and emotion figures, which no reply has alone, the
systems' answers are swapped at random. Intervals, swaps and permutations take whole speakers (or sessions) where the
runs do; McNemar's and Wilcoxon's tests take the replies for independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.compared_pairs import Pair, compare_pair, figures_to_compare
from empathy_lightning.evaluation.result_folder import Results, question_of
from empathy_lightning.evaluation.result_tables import read_all
from empathy_lightning.evaluation.statistics import holm, stars, utterances_needed
from empathy_lightning.evaluation.table_formats import FORMATS

_MUST_AGREE = ("transcript", "emotion", "references")
"""What is asked and held for right; predictions of other questions do not compare."""

POWER = 0.8
"""Chance to find a difference, for which the utterances are told that it needs."""


@dataclass(frozen=True)
class Comparison:
    """Two systems compared by one figure.

    Attributes:
        suite: Of the questions.
        measure: Whose figure it is.
        figure: Its name.
        systems: Own and other.
        found: Of :class:`.compared_pairs.Pair`.
        p_adjusted: By Holm over the family: all figures and pairs of this measure and suite.
        needed: Utterances with which the paired t-test would find the difference with power 0.8; None where it is 0.
    """

    suite: str
    measure: str
    figure: str
    systems: tuple[str, str]
    found: Pair
    p_adjusted: float
    needed: int | None


def compare(folders: Sequence[Path], test: str = "auto") -> list[Comparison]:
    """Compare every pair of systems by every figure that they share.

    Args:
        folders: Of ``evaluate run``, two or more.
        test: Of numbers: ``auto`` (McNemar's of 0 and 1, else Wilcoxon's), ``wilcoxon`` or ``permutation``.

    Raises:
        InputError: If they cannot be compared: other questions, other measures, or none in common.
    """
    systems = read_all(folders)
    if len(systems) < 2:
        raise InputError("give two folders of `evaluate run` or more to compare")
    first, *others = systems.items()
    for other in others:
        check_match(first, other)
    shared = _shared(list(systems.values()))
    if not shared:
        raise InputError(
            f"{' and '.join(systems)} have no measure in common: run `evaluate run` with the same --measures"
        )
    found: list[Comparison] = []
    for suite, measure in shared:
        found += _family(systems, suite, measure, test)
    return found


def check_match(one: tuple[str, Results], other: tuple[str, Results]) -> None:
    """Refuse predictions of other questions, or of questions with other references.

    Raises:
        InputError: If they are.
    """
    (own_name, own), (other_name, theirs) = one, other
    by_key = {question_of(line): line for line in theirs.predictions}
    keys = {question_of(line) for line in own.predictions}
    for name, missing in ((other_name, keys - by_key.keys()), (own_name, by_key.keys() - keys)):
        if missing:
            example = "/".join(sorted(missing)[0])
            raise InputError(f"{name} has no prediction of {len(missing)} questions of the other, such as {example}")
    for line in own.predictions:
        key = question_of(line)
        for name in _MUST_AGREE:
            if line[name] != by_key[key][name]:
                where = "/".join(key)
                raise InputError(f"{own_name} and {other_name} have another {name} of {where}: they do not compare")


def _shared(systems: Sequence[Results]) -> list[tuple[str, str]]:
    """Suites and measures of all systems.

    Raises:
        InputError: If a measure had other arguments or models.
    """
    found = []
    for suite, of_suite in systems[0].metrics["suites"].items():
        for measure, held in of_suite["measures"].items():
            others = [results.metrics["suites"][suite]["measures"].get(measure) for results in systems[1:]]
            if None in others:
                continue
            if any(other["made_from"] != held["made_from"] for other in others):
                raise InputError(f"{measure} was made with other arguments or models in these runs: measure them alike")
            found.append((suite, measure))
    return found


def _family(systems: Mapping[str, Results], suite: str, measure: str, test: str) -> list[Comparison]:
    """All comparisons of a measure, whose p-values are adjusted together."""
    compared: list[tuple[str, tuple[str, str], Pair]] = []
    for (own_name, own), (other_name, other) in combinations(systems.items(), 2):
        for figure in figures_to_compare(own, other, suite, measure):
            pair = compare_pair(own, other, suite, measure, figure, test)
            if pair is not None:
                compared.append((figure, (own_name, other_name), pair))
    adjusted = holm([pair.p for *_, pair in compared])
    found = []
    for (figure, names, pair), p in zip(compared, adjusted, strict=True):
        needed = None if pair.effect is None else utterances_needed(pair.effect, POWER)
        found.append(Comparison(suite, measure, figure, names, pair, p, needed))
    return found


_HEAD = (
    "suite",
    "measure",
    "figure",
    "systems",
    "pairs",
    "values",
    "difference",
    "p",
    "p (Holm)",
    "",
    "effect",
    "tested",
)


def comparison_table(found: Sequence[Comparison], form: str) -> str:
    """The comparisons as a table: stars by the adjusted p; effects d_z and rank-biserial."""
    rows = []
    for row in found:
        pair = row.found
        effect = "" if pair.effect is None else f"d {pair.effect:+.2f}, r {pair.rank_biserial:+.2f}"
        if row.needed is not None:
            effect += f", n {row.needed}"
        rows.append(
            [
                row.suite,
                row.measure,
                row.figure.replace("_", " "),
                " - ".join(row.systems),
                str(pair.pairs),
                f"{pair.own:.3f}, {pair.other:.3f}",
                f"{pair.difference:+.3f} [{pair.low:+.3f}, {pair.high:+.3f}]",
                f"{pair.p:.3g}",
                f"{row.p_adjusted:.3g}",
                stars(row.p_adjusted),
                effect,
                pair.test,
            ]
        )
    return FORMATS[form](_HEAD, rows)


def as_json(found: Sequence[Comparison]) -> list[dict[str, Any]]:
    """The comparisons as JSON values."""
    rows = []
    for row in found:
        values = asdict(row)
        found_values = values.pop("found")
        rows.append(values | found_values)
    return rows
