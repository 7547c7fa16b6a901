"""``ablate``: the variants of a list, trained, tested and set side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from empathy_lightning.errors import InputError, meant


def ablate(
    entries: Path,
    /,
    *,
    out: Path,
    config: tuple[Path, ...] = (),
    only: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    seeds: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = (),
) -> int:
    """Train and test the variants of a list, and print their table.

    Args:
        entries: YAML list of entries with name, config and overrides.
        out: Folder; variants that are finished there are skipped.
        config: YAML that overrides each variant's, for example paths; may be repeated.
        only: Names of the variants to run.
        seeds: Train each variant with each of these seeds, and give means and deviations (default: once, with the seed
            of its configuration).

    Returns:
        0; 1 if a variant failed.

    Raises:
        InputError: If the list or a name cannot be used.
    """
    from empathy_lightning.evaluation.ablation_seeds import run_seeds, seed_table
    from empathy_lightning.evaluation.ablations import read_ablations, run_ablations, table
    from empathy_lightning.files import check_folder

    check_folder(out)
    ablations = {ablation.name: ablation for ablation in read_ablations(entries, config)}
    for name in only:
        if name not in ablations:
            raise InputError(f"{entries} has no entry named {name}{meant(name, ablations)}")
    chosen = [ablation for name, ablation in ablations.items() if not only or name in only]
    if seeds:
        spreads = run_seeds(chosen, out, seeds)
        counts = [of["seeds"] for spread in spreads.values() for of in spread.values()]
        # A variant that failed with every seed has no figures at all.
        done, text = all(spreads.values()) and set(counts) <= {len(seeds)}, seed_table(spreads)
    else:
        figures = run_ablations(chosen, out)
        done, text = all(figures.values()), table(figures)
    print(f"\n{text}\ntable: {out / 'ablations.md'}")
    return 0 if done else 1
