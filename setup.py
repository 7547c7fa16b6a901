"""Where the packages lie: ``examples`` goes into the wheel as ``empathy_lightning.examples``. All else: setup.cfg."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages("src"), "empathy_lightning.examples"],
    package_dir={"": "src", "empathy_lightning.examples": "examples"},
)
