"""A released tokenizer: the ids of its added tokens, and its files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from empathy_lightning.conversion.released import read_json
from empathy_lightning.errors import InputError
from empathy_lightning.modules.model_files import check_file

TOKENIZER_FILES = [
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "chat_template.jinja",
]  # fmt: skip

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen's chat format (ChatML), for a tokenizer that came without its template; a system message is the caller's."""


def _added_tokens(folder: Path) -> dict[str, int]:
    """Tokens beyond the vocabulary with their ids, from any form in which a tokenizer states them."""
    tokens: dict[str, int] = {}
    try:
        if (folder / "tokenizer.json").is_file():
            entries = read_json(folder / "tokenizer.json")["added_tokens"]
            tokens |= {entry["content"]: entry["id"] for entry in entries}
        if (folder / "tokenizer_config.json").is_file():
            listed = read_json(folder / "tokenizer_config.json").get("added_tokens_decoder", {})
            tokens |= {entry["content"]: int(index) for index, entry in listed.items()}
        if (folder / "added_tokens.json").is_file():
            numbers = read_json(folder / "added_tokens.json")
            tokens |= {content: int(index) for content, index in numbers.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"the tokenizer in {folder} is damaged ({error!r}): get it again") from None
    return tokens


def token_ids(folder: Path, tokens: list[str]) -> list[int]:
    """Ids of added tokens.

    Raises:
        InputError: If the tokenizer lacks one.
    """
    known = _added_tokens(folder)
    if lost := [token for token in tokens if token not in known]:
        raise InputError(
            f"the tokenizer in {folder} has no {lost[0]}: it is not the release's, or not all of its files"
        )
    return [known[token] for token in tokens]


def unit_ids(folder: Path) -> list[int]:
    """Ids of the units ``<0>``, ``<1>`` and so on."""
    known = _added_tokens(folder)
    # At least <0> is asked for, so that a tokenizer without units is refused by name.
    count = sum(re.fullmatch(r"<\d+>", token) is not None for token in known)
    return token_ids(folder, [f"<{unit}>" for unit in range(max(1, count))])


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy a tokenizer's files into a new folder, with Qwen's chat format if it has no template."""
    target.mkdir(parents=True)
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            check_file(source / name)
            shutil.copyfile(source / name, target / name)
    settings = source / "tokenizer_config.json"
    listed = read_json(settings) if settings.is_file() else {}
    if not listed.get("chat_template") and not (source / "chat_template.jinja").is_file():
        (target / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
