"""Weights of a frozen language model in fewer bits, by the packages that do so."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig, TorchAoConfig

from empathy_lightning.errors import meant


def quantization_config(name: str, dtype: torch.dtype) -> Any:
    """What transformers is told, so that it stores the blocks' weights in fewer bits.

    Args:
        name: ``bitsandbytes-4bit`` or ``torchao-int8``.
        dtype: Precision of the arithmetic.

    Raises:
        ValueError: If there is no such name.
        ModuleNotFoundError: If a package that it needs is not installed.
    """
    needed = {"bitsandbytes-4bit": ["bitsandbytes", "accelerate"], "torchao-int8": ["torchao"]}
    if name not in needed:
        raise ValueError(f"quantization {name} is not known: choose {' or '.join(needed)}{meant(name, needed)}")
    if any(find_spec(package) is None for package in needed[name]):
        package = needed[name][0]
        raise ModuleNotFoundError(f"quantization {name} needs {package}: pip install 'empathy_lightning[quantization]'")
    if name == "bitsandbytes-4bit":
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    return TorchAoConfig(import_module("torchao.quantization").Int8WeightOnlyConfig())
