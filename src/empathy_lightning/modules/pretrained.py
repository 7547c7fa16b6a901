"""Pretrained models of transformers: where they lie, and what is wrong with them in one line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import cached_file

from empathy_lightning.errors import meant
from empathy_lightning.modules.chat_format import check_chat_template
from empathy_lightning.modules.hub_access import why_unreachable
from empathy_lightning.modules.model_files import (
    PretrainedError,
    check_folder,
    pickled_in,
    read_json_object,
    weights_in,
)

SHIPPED = "small-world/"
"""Prefix of the shipped backbones: ``small-world/speech_encoder`` and ``small-world/language_model``."""

DTYPES = {
    "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64,
    "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "half": torch.float16,
}  # fmt: skip
"""Names of precisions."""


def shipped(name: str) -> str:
    """Folder of a part that the package brings along, such as ``small-world/vocoder``; any other name as it is."""
    if name.startswith(SHIPPED) and not Path(name).exists():
        return str(files("empathy_lightning") / "backbones" / name.removeprefix(SHIPPED))
    return name


def locate(name_or_path: str) -> str:
    """Folder of a model that is on this machine, or the name as it is for transformers to load.

    Where there is no such folder, one with the name's last part is looked for in EMPATHY_BACKBONES, if that is set.

    Raises:
        PretrainedError: If the name is a path, and nothing is there, or the folder's files are not whole.
    """
    if (folder_here := shipped(name_or_path)) != name_or_path:
        return folder_here
    folder = Path(name_or_path).expanduser()
    if not folder.is_dir():
        folder = _among_backbones(folder.name) or folder
    if folder.is_dir():
        check_folder(folder)
        return str(folder)
    if name_or_path.startswith(("/", "./", "../", "~")):
        raise PretrainedError(f"no model folder at {name_or_path}")
    return name_or_path


def _among_backbones(name: str) -> Path | None:
    """The folder of this name in EMPATHY_BACKBONES, in its own letters or in small ones."""
    home = os.environ.get("EMPATHY_BACKBONES")
    if not home or not name:
        return None
    places = (Path(home) / name, Path(home) / name.lower())
    return next((place for place in places if place.is_dir()), None)


def dtype_named(name: str) -> torch.dtype:
    """A precision, such as ``bfloat16`` or ``bf16``; ``auto`` is bfloat16 where this machine computes in it.

    Raises:
        PretrainedError: If there is none of that name.
    """
    if name == "auto":
        return torch.bfloat16 if _computes_in_bfloat16() else torch.float32
    if name not in DTYPES:
        raise PretrainedError(f"no dtype named {name!r}; there are {', '.join(DTYPES)}{meant(name, DTYPES)}")
    return DTYPES[name]


def _computes_in_bfloat16() -> bool:
    """Whether there is a GPU or a processor with instructions for it; others are slower in it than in float32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def embedding_width(config: Any) -> int | None:
    """Width of a model's embeddings, or of its frames, as its transformers configuration tells; None if it does not."""
    # OPT's embeddings have a width of their own.
    width: int | None = getattr(config, "word_embed_proj_dim", None) or getattr(config, "hidden_size", None)
    return width


@contextmanager
def opened(name_or_path: str, revision: str | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where to read a pretrained model, as the first arguments of transformers' ``from_pretrained``.

    Args:
        name_or_path: Folder, model id or shipped backbone.
        revision: Commit of the model id.

    Raises:
        PretrainedError: What is wrong inside, in one line that names the model, and file and key where they are known.
    """
    folder = locate(name_or_path)
    options: dict[str, Any] = {"revision": revision or "main", "local_files_only": True, "trust_remote_code": False}
    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    # Its report of what does not fit is a table; the same comes as one line. Bars are for terminals.
    transformers_logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    try:
        if not Path(folder).is_dir():
            options["local_files_only"] = _only_cached(folder, options["revision"])
        yield folder, options
    except (PretrainedError, ModuleNotFoundError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # Damaged files and wrong configurations raise anything.
        reason = _reason(folder, error)
        line = reason if reason.startswith(folder) else f"{name_or_path} cannot be loaded: {reason}"
        raise PretrainedError(line) from error
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _only_cached(name: str, revision: str) -> bool:
    """Whether the Hub cannot be reached; the cache holds the model then."""
    reason = why_unreachable(name, revision)
    if reason is None:
        return False
    quietly = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    config: str | None = cached_file(name, "config.json", revision=revision, local_files_only=True, **quietly)
    if config is None:
        raise PretrainedError(
            f"{name} is no folder and not in the cache, and the Hub cannot be reached ({reason}): check the name, or "
            f"fetch it where there is a network (`hf download {name}`) and give its folder"
        )
    check_folder(Path(config).parent)
    return True


def _reason(folder: str, error: Exception) -> str:
    """An error of transformers in short, with file and key where it is the configuration's."""
    if "trust_remote_code" in str(error):
        return "it comes with code of its own, which is never run: take a model that transformers knows by itself"
    config = Path(folder) / "config.json"
    values = read_json_object(config) if config.is_file() else {}
    kind = values.get("model_type")
    if values and not kind:
        return f"{config} has no model_type"
    if values and kind not in CONFIG_MAPPING:
        return f"{config}: model_type {kind!r} is none that transformers knows"
    if isinstance(error, KeyError):
        key = next((name for name, value in values.items() if value in error.args), None)
        return f"{config}: {key} {error} is not known" if key else f"{error!r}"
    text = " ".join(str(error).split())
    weights = weights_in(Path(folder))
    if values and weights is None and Path(folder).is_dir():
        return f"{folder} holds no weights (model.safetensors or pytorch_model.bin): get all files of the model"
    for file in pickled_in(Path(folder)):
        if not _can_be_read(file):
            size = file.stat().st_size
            return f"{file} is damaged: it is cut at {size} bytes, or holds something else; get it again"
    # What checks a configuration's fields raises errors of several names, with a large letter or a small one.
    return f"{config}: {text}" if "alidation" in type(error).__name__ else text


def _can_be_read(file: Path) -> bool:
    # Where a file of PyTorch's older format is cut, almost anything is raised.
    try:
        torch.load(file, map_location="meta", weights_only=True)
    except Exception:
        return False
    return True


_WEIGHTLESS: ContextVar[bool] = ContextVar("weightless", default=False)


@contextmanager
def without_weights() -> Iterator[None]:
    """Let :func:`load` give models of the right sizes that hold nothing, made from config.json alone."""
    token = _WEIGHTLESS.set(True)
    try:
        with torch.device("meta"):
            yield
    finally:
        _WEIGHTLESS.reset(token)


def _of_config(architecture: Any, folder: str, where: dict[str, Any], dtype: torch.dtype) -> Any:
    config = AutoConfig.from_pretrained(folder, **where)
    make = getattr(architecture, "from_config", None) or architecture._from_config
    return make(config, dtype=dtype)


def load_tokenizer(name_or_path: str, revision: str | None = None) -> Any:
    """The tokenizer of a model that chats.

    Args:
        name_or_path: Folder, model id or shipped backbone.
        revision: Commit of the model id.

    Raises:
        PretrainedError: If its files cannot be used, or it cannot lay out a chat.
    """
    with opened(name_or_path, revision) as (folder, where):
        if _WEIGHTLESS.get() and Path(folder).is_dir() and not (Path(folder) / "tokenizer_config.json").is_file():
            return None
        tokenizer = AutoTokenizer.from_pretrained(folder, **where)
    check_chat_template(tokenizer, name_or_path)
    return tokenizer


def load(
    architecture: Any,
    name_or_path: str,
    revision: str | None = None,
    part: str = "",
    spare: Collection[str] = (),
    **options: Any,
) -> Any:
    """Load a model of transformers, all of whose weights have to be there.

    Args:
        architecture: Class with transformers' ``from_pretrained``.
        name_or_path: Folder, model id or shipped backbone.
        revision: Commit of the model id.
        part: Beginning of the names of the weights that count; the others may be missing.
        spare: Names of weights that may be missing too.
        **options: For ``from_pretrained``.

    Raises:
        PretrainedError: If it cannot be loaded, or weights are missing or have other sizes than the configuration says.
    """
    with opened(name_or_path, revision) as (folder, where):
        if _WEIGHTLESS.get():
            return _of_config(architecture, folder, where, options["dtype"])
        # Sizes that differ then stand in the report, and no error of transformers' own is raised.
        model, report = architecture.from_pretrained(
            folder, output_loading_info=True, ignore_mismatched_sizes=True, **where, **options
        )
        wrong = sorted(row for row in report["mismatched_keys"] if row[0].startswith(part))
        if wrong:
            key, stored, wanted = wrong[0]
            raise PretrainedError(
                f"{folder}: {key} has shape {list(stored)} in the weights, but config.json says {list(wanted)}: "
                "they do not belong together"
            )
        missing = sorted(key for key in set(report["missing_keys"]) - set(spare) if key.startswith(part))
        if missing and any(".blocks.0.attn." in key for key in report["unexpected_keys"]):
            raise PretrainedError(
                f"{folder}: the weights have the names of openai-whisper: give the folder as the Hub has it, such as "
                "openai/whisper-base"
            )
        if missing:
            raise PretrainedError(
                f"{folder}: the weights lack {missing[0]}: they are another kind of model, or not whole"
            )
    return model


def commit_of(name_or_path: str, revision: str | None = None) -> str | None:
    """The commit of a model that was just loaded by its id; of a local folder, what was given.

    Args:
        name_or_path: Folder or model id.
        revision: Branch, tag or commit that was asked for.
    """
    if Path(locate(name_or_path)).is_dir():
        return revision
    # The cache's folders have the commits for names.
    file = cached_file(name_or_path, "config.json", revision=revision, local_files_only=True)
    found = re.search(r"/snapshots/([0-9a-f]{40})/", Path(str(file)).as_posix())
    return found[1] if found else revision
