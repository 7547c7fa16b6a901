import subprocess
import sys

import pytest

from empathy_lightning.threads import WAITING, share_the_machine

# What the process's environment says when OpenMP is loaded: the moment at which it is read.
SPY = """
import builtins, os, sys
load = builtins.__import__
def spy(name, *rest, **named):
    if name.partition(".")[0] == "torch" and "torch" not in sys.modules:
        print("SPIN", os.environ.get("GOMP_SPINCOUNT"))
    return load(name, *rest, **named)
builtins.__import__ = spy
from empathy_lightning.__main__ import main
main(["fit", "--config", "nowhere.yaml"])
"""


@pytest.mark.parametrize("own", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}])
def test_a_setting_of_the_users_own_wins(own):
    environment = dict(own)
    share_the_machine(environment)
    assert environment == own


def test_the_command_line_sets_it_before_torch_is_loaded(monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    said = subprocess.run([sys.executable, "-c", SPY], capture_output=True, text=True).stdout
    assert said.splitlines() == [f"SPIN {WAITING['GOMP_SPINCOUNT']}"]
