"""Words that the command line offers, apart from what they stand for, so that ``--help`` loads none of it."""

RECIPES = ("freezeempath", "blsp-emo", "re-llm")
"""Papers whose prompts there are, see :mod:`.prompts`."""

RECOGNISERS = ("answer", "options", "classifier")
"""Ways to recognise an emotion, see :mod:`.evaluation.recognisers`."""

PARSERS = ("words", "substring")
"""Parsers of answers, see :mod:`.evaluation.parsing`."""

REFUSALS = ("published", "wide", "off")
"""Filters of refusals, see :mod:`.preparation.response_selection`."""

ENGINES = ("transformers", "vllm")
"""What runs a language model, see :mod:`.preparation.engines`."""

DTYPES = ("float32", "bfloat16", "float16", "fp32", "bf16", "fp16")
"""Precisions of a model's weights, see :mod:`.modules.pretrained`."""

TRUST = "Python package whose classes the checkpoint folder may name, besides this library's; may be repeated"
"""Help of ``--trust``."""
