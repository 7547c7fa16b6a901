"""Qwen-1's tokenizer file as a fast tokenizer with the same ids."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from empathy_lightning.conversion.tokenizer import CHAT_TEMPLATE
from empathy_lightning.errors import InputError
from empathy_lightning.modules.model_files import check_file

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205)))
"""Their ids follow the ranks."""

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def read_ranks(path: str | Path) -> dict[bytes, int]:
    """Byte strings and their ranks from a tiktoken file.

    Raises:
        InputError: If the file is missing or not one, or its ranks are not 0, 1, 2 and so on.
    """
    if not Path(path).is_file():
        raise InputError(f"{path} is missing: it comes with the release or with Qwen-7B-Chat")
    check_file(Path(path))
    try:
        lines = [line.split() for line in Path(path).read_bytes().splitlines() if line]
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in lines}
    except (ValueError, binascii.Error):
        raise InputError(f"{path} is no tiktoken file: a line is not a token in base64 and its rank") from None
    if sorted(ranks.values()) != list(range(len(ranks))) or any(bytes([b]) not in ranks for b in range(256)):
        raise InputError(f"{path}: ranks must count from 0 without gaps and cover every single byte")
    return ranks


def fast_tokenizer(path: str | Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a ``qwen.tiktoken`` file.

    Text becomes the ids that tiktoken gives: it joins the neighbours whose union has the lowest rank,
    so every way to halve a token is a merge of that token's rank. Unlike the original call, special
    tokens written out in a text are taken as such.

    Raises:
        InputError: If the file is not a tiktoken file.
    """
    ranks = read_ranks(path)
    letters = bytes_to_unicode()
    spelled = {}
    for token in ranks:
        spelled[token] = "".join(letters[byte] for byte in token)
    merges = []
    for token in sorted(ranks, key=ranks.__getitem__):
        halves = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        known = [pair for pair in halves if pair[0] in ranks and pair[1] in ranks]
        known.sort(key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
        merges += [(spelled[left], spelled[right]) for left, right in known]
    vocabulary = {spelled[token]: rank for token, rank in ranks.items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
