"""RE-LLM's auxiliary heads: category and ratings read from the pooled speech embeddings."""

from __future__ import annotations

from torch import Tensor, nn

from empathy_lightning.modules.emotion_heads import EmotionEstimate


class PooledEmotionHeads(nn.Module):
    """Linear heads over the mean of an adapter's valid embeddings (RE-LLM; BLSP-Emo has the first alone).

    What they learn reaches the language model through the adapter; nothing goes into the prompt.
    Ratings are linear outputs, which nothing keeps in 0..1.

    Args:
        input_size: Width of the adapter's embeddings.
        num_emotions: Number of categories.
    """

    reads = "embeddings"
    """What its input is: the speech adapter's embeddings."""

    def __init__(self, input_size: int, num_emotions: int = 5) -> None:
        super().__init__()
        self.input_size = input_size
        self.num_emotions = num_emotions
        self.categorical_head = nn.Linear(input_size, num_emotions, bias=False)
        self.arousal_head = nn.Linear(input_size, 1, bias=False)
        self.valence_head = nn.Linear(input_size, 1, bias=False)
        self.dominance_head = nn.Linear(input_size, 1, bias=False)

    def forward(self, embeddings: Tensor, mask: Tensor) -> EmotionEstimate:
        """Estimate the emotion of each utterance.

        Args:
            embeddings: The adapter's output, shape (B, T, input_size).
            mask: Shape (B, T), True where valid; at least one per row.
        """
        valid = mask[..., None]
        # Sums of hundreds of embeddings lose their digits in half precision.
        pooled = (embeddings.float() * valid).sum(1) / valid.sum(1)
        pooled = pooled.to(self.categorical_head.weight.dtype)
        return EmotionEstimate(
            pooled,
            self.categorical_head(pooled),
            self.arousal_head(pooled)[:, 0],
            self.valence_head(pooled)[:, 0],
            self.dominance_head(pooled)[:, 0],
        )
