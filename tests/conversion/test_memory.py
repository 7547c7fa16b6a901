"""What a conversion takes beside the files that it maps, under a limit that the kernel holds it to."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import ROOT
from tests.conversion.freezeempath_release import CONFIG, UNITS, released_state, write_release

LIMITED = """
import re, resource, sys
from pathlib import Path
from empathy_lightning.conversion.freezeempath import convert
first, release, out, more = sys.argv[1:]
convert(first, out + "-first")  # what the first conversion of a process imports and keeps is not meant
taken = re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
limit = int(taken) * 1024 + int(more)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
convert(release, out)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the limit is Linux's")
def test_memory_stays_below_a_shard_whatever_the_checkpoint(tmp_path):
    inner = 200_000
    state = released_state()
    write_release(tmp_path / "small", state, CONFIG, UNITS)
    shapes = {"gate_proj": (inner, 48), "up_proj": (inner, 48), "down_proj": (48, inner)}
    for layer in range(2):
        for name, shape in shapes.items():
            state[f"model.layers.{layer}.mlp.{name}.weight"] = torch.rand(shape)
    write_release(tmp_path / "large", state, CONFIG | {"intermediate_size": inner}, UNITS)
    sizes = [shard.stat().st_size for shard in (tmp_path / "large").glob("*.safetensors")]
    assert sum(sizes) > 230e6
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    # The kernel counts mapped files too, read or not; beyond them the process gets a fourth of a shard.
    more = sum(sizes) + max(sizes) // 4
    folders = [str(tmp_path / name) for name in ("small", "large", "out")]
    command = [sys.executable, "-c", LIMITED, *folders, str(more)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    written = load_file(tmp_path / "out" / "language_model" / "model.safetensors")
    assert len(written) == 27 and all(torch.equal(value, state[key]) for key, value in written.items())
