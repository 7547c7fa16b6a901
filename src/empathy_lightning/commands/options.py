"""Options that several commands share, and the words that they offer; light, so that ``--help`` loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token

PaperName = Literal["freezeempath", "blsp_emo", "re_llm"]
"""Papers whose prompts there are, see :mod:`empathy_lightning.papers`."""

RecogniserName = Literal["answer", "options", "classifier"]
"""Ways to recognise an emotion, see :mod:`empathy_lightning.evaluation.recognisers`."""

ParserName = Literal["words", "substring"]
"""Parsers of answers, see :mod:`empathy_lightning.evaluation.parsing`."""

RefusalFilter = Literal["published", "wide", "off"]
"""Filters of refusals, see :mod:`empathy_lightning.preparation.response_selection`."""

EngineName = Literal["transformers", "vllm"]
"""What runs a language model, see :mod:`empathy_lightning.preparation.engines`."""

DtypeName = Literal["float32", "bfloat16", "float16", "fp32", "bf16", "fp16"]
"""Precisions of a model's weights, see :mod:`empathy_lightning.modules.pretrained`."""


def _manifests(kind: Any, tokens: Sequence[Token]) -> Path | tuple[Path, ...]:
    """Files of this machine; of manifests behind URLs, copies."""
    from empathy_lightning.data.fetched import local_manifest

    found = tuple(local_manifest(token.value) for token in tokens)
    return found[0] if kind is Path else found


ManifestFile = Annotated[Path, Parameter(converter=_manifests)]
"""A manifest, which may lie behind a URL."""

Flat = Parameter(name="*")
"""The fields of a dataclass are options of their own."""

Wording = Annotated[str | None, Parameter(allow_leading_hyphen=True)]
"""Words of a prompt, which may begin with a hyphen."""

Trust = Annotated[
    tuple[str, ...],
    Parameter(help="Python package whose classes the folder may name, besides this library's; may be repeated."),
]
Again = Annotated[bool, Parameter(help="Make --out anew, whatever it was made from (else another's is refused).")]
AllowLeftOut = Annotated[
    float, Parameter(help="Share of the utterances that may be left out though no option asks for it.")
]
KeepEncoded = Annotated[
    Path | None, Parameter(help="Folder where what the frozen speech encoder makes of speech is kept and looked for.")
]
