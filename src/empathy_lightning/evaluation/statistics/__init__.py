"""Intervals, tests of differences between two systems, their size, and how many utterances they need.

Everything here takes plain numbers, one of each utterance, so that it serves any measure. Utterances of one speaker, or
of one dialogue, are no independent draws: where ``clusters`` names whose each is, whole clusters are drawn or swapped.
"""

from empathy_lightning.evaluation.statistics.effects import cohen_dz, rank_biserial
from empathy_lightning.evaluation.statistics.families import holm, stars
from empathy_lightning.evaluation.statistics.intervals import difference, mean, ratio, spread_of
from empathy_lightning.evaluation.statistics.paired import mcnemar, permutation, signed_rank
from empathy_lightning.evaluation.statistics.power import utterances_needed
from empathy_lightning.evaluation.statistics.swapping import swapped

__all__ = [
    "cohen_dz",
    "difference",
    "holm",
    "mcnemar",
    "mean",
    "permutation",
    "rank_biserial",
    "ratio",
    "signed_rank",
    "spread_of",
    "stars",
    "swapped",
    "utterances_needed",
]
