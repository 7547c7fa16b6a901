"""The language model inside the speech decoder: a Qwen2 over text, an end-of-text marker and units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, Qwen2Config, Qwen2ForCausalLM

from empathy_lightning.modules.pretrained import load, opened


@dataclass(frozen=True)
class Qwen2Body:
    """Sizes of a Qwen2 model.

    Args:
        hidden_size: Width.
        num_layers: Blocks.
        num_heads: Attention heads.
        num_key_value_heads: Key and value heads; None for as many as heads.
        intermediate_size: Width of the feed-forward layers; None for 8/3 of ``hidden_size``.
        rope_theta: Base of the rotary positions.
    """

    hidden_size: int = 256
    num_layers: int = 4
    num_heads: int = 4
    num_key_value_heads: int | None = None
    intermediate_size: int | None = None
    rope_theta: float = 10_000.0

    @classmethod
    def of(cls, config: Any) -> Qwen2Body:
        """The sizes in a transformers configuration."""
        return cls(
            config.hidden_size,
            config.num_hidden_layers,
            config.num_attention_heads,
            config.num_key_value_heads,
            config.intermediate_size,
            config.rope_parameters["rope_theta"],
        )

    def build(self, vocab_size: int, end_token_id: int) -> Any:
        """A model of these sizes with random weights, whose head is tied to its embeddings."""
        feed_forward = self.intermediate_size
        if feed_forward is None:
            feed_forward = self.hidden_size * 8 // 3 // 16 * 16
        return Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=vocab_size,
                hidden_size=self.hidden_size,
                intermediate_size=feed_forward,
                num_hidden_layers=self.num_layers,
                num_attention_heads=self.num_heads,
                num_key_value_heads=self.num_key_value_heads or self.num_heads,
                max_position_embeddings=8192,
                rope_parameters={"rope_type": "default", "rope_theta": self.rope_theta},
                tie_word_embeddings=True,
                eos_token_id=end_token_id,
                bos_token_id=None,
                pad_token_id=None,
            )
        )


def read_config(name_or_path: str) -> Any:
    """Configuration of a Qwen2 model that can become a unit language model.

    Args:
        name_or_path: Folder or model id.

    Raises:
        PretrainedError: If the file cannot be used.
        ValueError: If it is no Qwen2 model that ties its embeddings.
    """
    with opened(name_or_path) as (folder, where):
        config = AutoConfig.from_pretrained(folder, **where)
    if config.model_type != "qwen2" or not config.tie_word_embeddings:
        raise ValueError(
            f"{name_or_path} cannot write units: it must be a Qwen2 model that ties its embeddings, as those of up "
            "to 1.5B parameters do"
        )
    return config


@torch.no_grad()
def begin_as(model: Any, name_or_path: str) -> None:
    """Give a unit language model the weights of a Qwen2 model of its sizes; rows beyond its vocabulary stay.

    Args:
        model: Is changed.
        name_or_path: Folder or model id.

    Raises:
        PretrainedError: If the files cannot be used.
    """
    source = load(Qwen2ForCausalLM, name_or_path, dtype=torch.float32)
    model.model.layers.load_state_dict(source.model.layers.state_dict())
    model.model.norm.load_state_dict(source.model.norm.state_dict())
    words = source.get_input_embeddings().weight
    model.get_input_embeddings().weight[: len(words)] = words
