import base64
import itertools
import random
import unicodedata

import pytest
import regex
from transformers import AutoTokenizer

from empathy_lightning.conversion.qwen_tokenizer import SPECIAL_TOKENS, fast_tokenizer
from empathy_lightning.errors import InputError

TEXT = (
    "I'm not sure what you're saying, but I'd like to help you! The weather today isn't what we'd hoped for; "
    "12345 people, café naïve, 你好世界, 😀\n\n  indented\tline   \r\n\nthe the thee then there other another mother."
)
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_ranks(text, size):
    """Byte pair encoding learned the plain way."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    words = [[bytes([b]) for b in w.encode()] for w in regex.findall(WORDS, text)]
    while len(ranks) < size:
        counts = {}
        for word in words:
            for pair in itertools.pairwise(word):
                counts[pair] = counts.get(pair, 0) + 1
        left, right = max(sorted(counts), key=counts.__getitem__)
        ranks.setdefault(left + right, len(ranks))
        for word in words:
            at = 0
            while at < len(word) - 1:
                if (word[at], word[at + 1]) == (left, right):
                    word[at : at + 2] = [left + right]
                at += 1
    return ranks


def write_tiktoken(path, ranks):
    lines = [base64.b64encode(token) + b" " + str(rank).encode() for token, rank in ranks.items()]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def encode_by_ranks(ranks, text):
    """An encoder of its own: join the neighbours with the lowest rank until none is left."""
    ids = []
    for word in regex.findall(WORDS, unicodedata.normalize("NFC", text)):
        parts = [bytes([byte]) for byte in word.encode()]
        while True:
            joined = [(ranks[a + b], i) for i, (a, b) in enumerate(itertools.pairwise(parts)) if a + b in ranks]
            if not joined:
                break
            _, at = min(joined)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        ids += [ranks[part] for part in parts]
    return ids


@pytest.fixture(scope="module")
def ranks():
    return train_ranks(TEXT * 3, 330)


@pytest.fixture(scope="module")
def tokenizer(ranks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    fast_tokenizer(write_tiktoken(folder / "qwen.tiktoken", ranks)).save_pretrained(folder / "fast")
    return AutoTokenizer.from_pretrained(folder / "fast")


def test_ids_are_those_of_byte_pair_encoding_by_ranks(tokenizer, ranks):
    generator = random.Random(0)
    pieces = [*TEXT.split(" "), " ", "  ", "\n", "'s", "é", "e\u0301", "9", "世", "\t", "…"]
    texts = [TEXT, *("".join(generator.choices(pieces, k=12)) for _ in range(200))]
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert ids == encode_by_ranks(ranks, text), text
        assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)


def test_special_tokens_follow_the_ranks(tokenizer, ranks):
    assert [tokenizer.convert_tokens_to_ids(t) for t in SPECIAL_TOKENS] == [len(ranks) + i for i in range(208)]
    assert tokenizer.eos_token_id == len(ranks) + 2 and tokenizer.pad_token_id == len(ranks)
    assert len(tokenizer) == len(ranks) + 208


def test_the_chat_format(tokenizer, ranks):
    messages = [{"role": "system", "content": "You are kind."}, {"role": "user", "content": "Hello"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    start, end = "<|im_start|>", "<|im_end|>"
    assert text == f"{start}system\nYou are kind.{end}\n{start}user\nHello{end}\n{start}assistant\n"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert ids[0] == len(ranks) + 1 and ids.count(len(ranks) + 2) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"not a token\n", "no tiktoken file"), (b"\x80\x81 1\n", "no tiktoken file"), (b"aGk= 0\n", "every single byte")],
)
def test_other_files_are_refused(tmp_path, content, reason):
    (tmp_path / "qwen.tiktoken").write_bytes(content)
    with pytest.raises(InputError, match=reason):
        fast_tokenizer(tmp_path / "qwen.tiktoken")
