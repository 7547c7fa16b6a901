import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "empathy_lightning"
MODULES = sorted(
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
    for path in SOURCE.rglob("*.py")
    if path.name
    not in ("__init__.py", "__main__.py", "datamodule.py", "trainer.py", "trainer_cli.py", "configuration_errors.py")
    and "tasks" not in path.relative_to(SOURCE).parts
)


def imported_by(statement):
    code = f"import sys; {statement}; print(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_the_root_pulls_in_no_third_party_package():
    assert not imported_by("import empathy_lightning") & {"torch", "numpy", "transformers", "lightning", "torchmetrics"}


def test_only_datamodule_tasks_and_command_line_import_lightning():
    assert "lightning" not in imported_by("; ".join(f"import {name}" for name in MODULES))


def test_modules_need_only_torch_and_transformers():
    """And what transformers fetches and reads models by."""
    paths = sorted((SOURCE / "modules").glob("*.py"))
    assert len(paths) > 5
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                name = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                top = name.split(".")[0]
                known = {
                    "torch",
                    "transformers",
                    "huggingface_hub",
                    "safetensors",
                    "empathy_lightning",
                    *sys.stdlib_module_names,
                }
                assert top in known, path


@pytest.mark.parametrize("name", [name for name in MODULES if ".modules." in name])
def test_modules_import_only_each_other(name):
    text = (SOURCE.parent / (name.replace(".", "/") + ".py")).read_text()
    imports = [line.split()[1] for line in text.splitlines() if line.startswith(("from empathy", "import empathy"))]
    assert all(module.startswith(("empathy_lightning.modules", "empathy_lightning.errors")) for module in imports)


FLOORS = (
    "__init__ audio configurations constructor containers decoding devices digests emotion_words errors faults "
    "field_rules files flac jobs levels progress records sources splits storage text threads utterance walk",
    "corpora modules prompts papers thinking",
    "data",
    "filled_prompt listener responder slots speaking talker writing",
    "making models outputs reply streaming",
    "checkpoint_backbones checkpoints folders hub kept_speech losses memory metrics "
    "model_card part_weights parts publishing round_trip",
    "chatbot explanation recogniser tasks",
    "conversion evaluation preparation small_world",
    "serving",
    "commands",
    "__main__",
)
"""The rooms of the house from the ground up: what stands on a floor imports from its own and from those below."""


def imports_of(path):
    """Modules of this library that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "empathy_lightning":
            yield from (f"empathy_lightning.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("empathy_lightning."):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("empathy_lightning."))


def test_imports_point_one_way():
    floor = {room: height for height, rooms in enumerate(FLOORS) for room in rooms.split()}
    upward = []
    for path in sorted(SOURCE.rglob("*.py")):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for name in imports_of(path):
            below = name.split(".")[1]
            if floor.get(below, 0 if below == "__version__" else 99) > floor[room]:
                upward.append(f"{path.relative_to(SOURCE)} -> {name}")
    assert not upward
