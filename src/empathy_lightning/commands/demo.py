"""``demo ...``: the small synthetic world's own commands; what they need is imported when they run."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from empathy_lightning.commands.options import Again, AllowLeftOut, Trust
from empathy_lightning.configurations import recipes_folder


def run(*, again: bool = False, quick: bool = False) -> None:
    """Train the three modules in the small world, measure them, and talk: ten to 25 minutes on two cores.

    Each step is a command that is printed before it runs. What is done is skipped, what was stopped goes on.

    Args:
        again: Make everything anew, whatever it was made from.
        quick: A few utterances and steps only, in outputs/demo_quick, to see whether everything runs; the figures
            mean nothing then.

    Raises:
        InputError: If what is there was made from something else.
    """
    spec = spec_from_file_location("demo", recipes_folder() / "demo.py")
    assert spec is not None and spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    script.demo(again, quick)


def corpus(
    *, out: Path, train: int = 3000, validation: int = 300, test: int = 300, seed: int = 0, again: Again = False
) -> None:
    """Render the small world's questions with eSpeak NG.

    Args:
        out: Folder of the corpus.
        train: Utterances in the training split.
        validation: In the validation split: other voices and other sentences.
        test: In the test split: other voices and other sentences again.
        seed: Of all draws.

    Raises:
        InputError: If eSpeak NG is not installed, or the folder holds another corpus.
    """
    from empathy_lightning.small_world.corpus import write_synthetic_corpus

    print(write_synthetic_corpus(out, train, validation, test, seed, again=again))


def evaluate(
    *,
    checkpoint: Path = Path("outputs/demo/speech_decoder"),
    manifest: Path = Path("outputs/demo/corpus/units.jsonl"),
    out: Path = Path("outputs/demo"),
    stages: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)] = (),
    trust: Trust = (),
    allow_left_out: AllowLeftOut = 0.01,
) -> None:
    """Measure a chatbot of the small world and write an HTML report.

    Args:
        checkpoint: Folder of the bot.
        manifest: Utterances with responses; the test split is used.
        out: Folder for metrics.json, report.html and replies/.
        stages: Folders of the training stages, for their curves and the check of the frozen weights.

    Raises:
        InputError: If the checkpoint or the manifest cannot be used.
    """
    from empathy_lightning.small_world.evaluation import evaluate as measure

    measure(checkpoint, manifest, out, stages, trust=trust, max_left_out=allow_left_out)
