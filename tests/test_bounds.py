"""The lowest versions that are tested (`make bounds`) are the lowest that setup.cfg allows."""

import re
from configparser import ConfigParser

from packaging.version import Version

from tests.conftest import ROOT


def test_the_lowest_versions_are_those_of_setup_cfg():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"].split()
    lowest = {re.split(r"[\[>]", line)[0]: Version(line.partition(">=")[2]) for line in lines}
    tested = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    pairs = [line.split("==") for line in tested if not line.startswith("#")]
    assert {name: Version(version) for name, version in pairs} == lowest
