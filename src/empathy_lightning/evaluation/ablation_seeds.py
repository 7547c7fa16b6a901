"""A list of variants trained with several seeds: the mean of each figure and its deviation over them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.ablations import Ablation, figure_names, run_ablations
from empathy_lightning.evaluation.table_formats import markdown
from empathy_lightning.files import write_json, write_text

Spread = dict[str, dict[str, float]]
"""Of each figure ``mean``, ``deviation`` (of a sample; 0 of a single seed) and the number of ``seeds``."""


def run_seeds(ablations: Sequence[Ablation], out: Path, seeds: Sequence[int]) -> dict[str, Spread]:
    """Run the whole list with each seed, in ``out/seedN``, and write ``ablations.json`` and ``ablations.md``.

    ``{out}`` in an override is the folder of the seed, so that a later stage starts from the weights of its own seed.

    Args:
        ablations: The variants.
        out: Folder for all seeds.
        seeds: Different ones.

    Returns:
        Figures by variant; those that failed with a seed count with the others, and so have fewer ``seeds``.

    Raises:
        InputError: If seeds repeat themselves, or as :func:`.ablations.run_ablations`.
    """
    if len(set(seeds)) < len(seeds):
        raise InputError("--seeds: each seed once")
    found: dict[str, list[Mapping[str, float]]] = {ablation.name: [] for ablation in ablations}
    for seed in seeds:
        print(f"seed {seed}")
        seeded = [replace(a, overrides={**a.overrides, "seed_everything": seed}) for a in ablations]
        for name, figures in run_ablations(seeded, out / f"seed{seed}").items():
            if figures:
                found[name].append(figures)
    spreads = {name: _spread(rows) for name, rows in found.items()}
    write_json(out / "ablations.json", spreads)
    write_text(out / "ablations.md", seed_table(spreads))
    return spreads


def _spread(rows: Sequence[Mapping[str, float]]) -> Spread:
    spread = {}
    for key in figure_names(rows):
        values = [row[key] for row in rows if key in row]
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        spread[key] = {"mean": statistics.fmean(values), "deviation": deviation, "seeds": len(values)}
    return spread


def seed_table(spreads: Mapping[str, Spread]) -> str:
    """The figures as a Markdown table, one row a variant: mean ± deviation."""
    columns = figure_names(spreads.values())
    rows = []
    for name, spread in spreads.items():
        seeds = max((int(of["seeds"]) for of in spread.values()), default=0)
        rows.append([name, str(seeds), *(_cell(spread.get(column)) for column in columns)])
    return markdown(["ablation", "seeds", *(column.removeprefix("test/") for column in columns)], rows)


def _cell(of: Mapping[str, float] | None) -> str:
    return "" if of is None else f"{of['mean']:.4f} ± {of['deviation']:.4f}"
