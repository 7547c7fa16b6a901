"""VoiceBench: what a voice assistant knows, follows and refuses; each subset is an ability.

The hub holds a folder for each subset with Parquet files: ``prompt`` the words of the question, ``reference`` the
answer where there is one (in multiple choice its letter; question and options are spoken). ``sd-qa`` has a file for
each region of its speakers; VoiceBench's own figure is that of ``usa``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from empathy_lightning.corpora.corpus import Kind
from empathy_lightning.evaluation.measures.instructions import INSTRUCTIONS
from empathy_lightning.evaluation.suites.rows import parquet_rows
from empathy_lightning.evaluation.suites.suite import Suite, texts
from empathy_lightning.utterance import Utterance

_SEVERAL_TURNS = "mtbench"


class VoiceBench(Suite):
    """Questions of all subsets that are there, but for ``mtbench``, whose second turn leans on the first."""

    name = "voicebench"
    title = "VoiceBench, what a voice assistant knows, follows and refuses, English"
    source = "https://github.com/MatthewCYM/VoiceBench"
    access = "download https://huggingface.co/datasets/hlt-lab/voicebench, all of it or the folders of some subsets"
    licence = "Apache 2.0"
    citation = "Chen et al. 2024, VoiceBench: benchmarking LLM-based voice assistants, arXiv:2410.17196"
    languages = ("en",)
    counts = {
        "alpacaeval": 199, "alpacaeval_full": 636, "commoneval": 200, "wildvoice": 1000, "openbookqa": 455,
        "mmsu": 3074, "sd-qa/usa": 553, "ifeval": 345, "bbh": 1000, "advbench": 520,
    }  # fmt: skip
    scoring = (
        "gpt-4o-mini: 1 to 5 (alpacaeval, commoneval, wildvoice) or Yes/No (sd-qa); the letter (openbookqa, mmsu;"
        " guessed where none is found, which multiple_choice does not); yes, no, (a) or (b), likewise (bbh); strings of"
        " refusals (advbench); checks of each instruction (ifeval)"
    )
    measures = ("multiple_choice", "refusals", "instructions")
    criteria = ("voicebench_open", "voicebench_sd_qa")
    unconfirmed = (
        "the strings that its advbench counts as refusals are not known here: those of the measure refusals are the"
        " library's own; that ifeval has IFEval's columns instruction_id_list and kwargs; the columns of mtbench, which"
        " is not read"
    )

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the Parquet files in the folders of the subsets."""
        numbers: dict[str, int] = {}
        for file in self.files(folder, "*.parquet"):
            subset, part = file.parent.name, file.name.split("-")[0]
            ability = subset if part == "test" or not part else f"{subset}/{part}"
            if subset == _SEVERAL_TURNS:
                self.skip(file, "questions of several turns, which are not asked", Kind.ASKED)
                continue
            for row in parquet_rows(file, self.skip):
                numbers[ability] = numbers.get(ability, 0) + 1
                yield Utterance(
                    id=f"{ability.replace('/', '-')}-{numbers[ability]:05d}",
                    corpus=self.name,
                    path=row.audio or "",
                    transcript=row.values.get("prompt"),
                    language="en",
                    ability=ability,
                    references=texts(row.values.get("reference")),
                    raw_labels=_instructions(row.values),
                )


def _instructions(values: dict[str, Any]) -> dict[str, str]:
    """The instructions of a question of ifeval as raw label; those of the others have none."""
    kinds, arguments = values.get("instruction_id_list"), values.get("kwargs")
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if not (isinstance(kinds, list) and isinstance(arguments, list) and len(kinds) == len(arguments)):
        return {}
    instructions = []
    for kind, given in zip(kinds, arguments, strict=True):
        # In Parquet each instruction has a column for the arguments of all kinds; those of others are None.
        own = {name: value for name, value in (given or {}).items() if value is not None}
        instructions.append((kind, own))
    return {INSTRUCTIONS: json.dumps(instructions, ensure_ascii=False)}
