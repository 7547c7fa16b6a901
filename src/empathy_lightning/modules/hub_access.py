"""The Hub is asked once for a model, before anything is fetched: what is wrong comes at once, in one line."""

from __future__ import annotations

import re

from huggingface_hub import HfApi, constants, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from empathy_lightning.modules.model_files import PretrainedError

_SECONDS = 10.0
"""How long the Hub has to answer."""

_COMMIT = re.compile("[0-9a-f]{40}")
_answered: set[tuple[str, str]] = set()


def why_unreachable(name: str, revision: str = "main") -> str | None:
    """Ask the Hub for a model.

    Args:
        name: Model id, such as ``openai/whisper-small``.
        revision: Branch, tag or commit.

    Returns:
        None if it can be fetched, or lies in the cache as just this commit; otherwise why the Hub does not answer, so
        that only what is in the cache can be had.

    Raises:
        PretrainedError: If there is no such model or revision, or this user may not read it, and it is not in the
            cache.
    """
    try:
        cached = isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str)
    except HFValidationError:
        raise PretrainedError(
            f"{name} is no folder here, and no model of the Hub has such a name: check the path, or make the folder "
            "first (a recipe's first lines say how)"
        ) from None
    if (name, revision) in _answered or (cached and _COMMIT.fullmatch(revision)):
        return None
    api = HfApi()
    try:
        about = api.model_info(name, revision=revision, timeout=_SECONDS)
        if about.gated:
            # What is gated is described to everybody; only its files are kept back.
            api.auth_check(name)
    except Exception as error:  # Of the network anything may be raised.
        refusal = _refusal(name, revision, error)
        if refusal is None or cached:
            return _short(error)
        raise PretrainedError(refusal) from None
    _answered.add((name, revision))
    return None


def _refusal(name: str, revision: str, error: Exception) -> str | None:
    """What the Hub refused, and what to do; None where it did not answer."""
    page = f"{constants.ENDPOINT}/{name}"
    if isinstance(error, GatedRepoError):
        return f"{name} is gated: accept its terms at {page}, then log in (`hf auth login`, or HF_TOKEN=...)"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{name} is no folder here, and the Hub has no such model, or it is private: check the name, or log in "
            "(`hf auth login`)"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{name} has no revision {revision}: give a branch, a tag or a commit of {page}/commits/main"
    return None


def _short(error: Exception) -> str:
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    return str(error).partition("\n")[0] or type(error).__name__
