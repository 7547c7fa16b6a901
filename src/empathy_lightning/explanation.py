"""What an emotion embedding is made of, and what it is close to in the language model's own words."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from empathy_lightning.files import whole
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.reply import Reply
from empathy_lightning.utterance import RATINGS


@dataclass
class Explanation:
    """Why a reply has its tone.

    Attributes:
        layer_weights: Share of each layer of the speech encoder in the emotion embedding, from the first; empty
            if the embedding is no mix of them.
        probabilities: Of each category, by name.
        ratings: Arousal, valence and dominance in 0..1, by name; empty if the checkpoint does not rate.
        nearest_words: Words whose embeddings are nearest to the emotion embedding, with the cosine.
    """

    layer_weights: list[float]
    probabilities: dict[str, float]
    ratings: dict[str, float]
    nearest_words: list[tuple[str, float]]

    def __str__(self) -> str:
        """In lines for a terminal."""
        layers = ", ".join(f"{i} {weight:.2f}" for i, weight in enumerate(self.layer_weights, 1))
        emotions = ", ".join(f"{name} {share:.2f}" for name, share in self.probabilities.items())
        ratings = ", ".join(f"{name} {value:.2f}" for name, value in self.ratings.items())
        words = ", ".join(f"{word} {cosine:.2f}" for word, cosine in self.nearest_words)
        return (
            f"  layers   {layers or 'none'}\n  emotions {emotions}\n  ratings  {ratings or 'none'}\n  near     {words}"
        )

    def values(self) -> dict[str, Any]:
        """As JSON holds it, rounded to four decimals."""
        return {
            "layer_weights": [round(weight, 4) for weight in self.layer_weights],
            "probabilities": {name: round(share, 4) for name, share in self.probabilities.items()},
            **{name: round(value, 4) for name, value in self.ratings.items()},
            "nearest_words": [[word, round(cosine, 4)] for word, cosine in self.nearest_words],
        }

    def plot(self, path: str | Path) -> None:
        """Draw the four as bars, a PNG file that appears whole or not at all."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(13, 3.4), layout="constrained")
        layers, emotions, ratings, words = figure.subplots(1, 4)
        layers.bar(range(1, len(self.layer_weights) + 1), self.layer_weights)
        layers.set(title="layers of the speech encoder", xlabel="layer", ylabel="weight")
        emotions.barh(list(self.probabilities), list(self.probabilities.values()))
        emotions.set(title="emotion", xlabel="probability", xlim=(0, 1))
        ratings.barh(list(self.ratings), list(self.ratings.values()))
        ratings.set(title="ratings", xlim=(0, 1))
        # By position, since words that differ for the model may look alike; "$" would begin a formula.
        places = range(len(self.nearest_words))
        words.barh(places, [cosine for _, cosine in self.nearest_words])
        words.set_yticks(places, [word.replace("$", r"\$") for word, _ in self.nearest_words])
        words.set(title="nearest words", xlabel="cosine")
        for axis in (emotions, ratings, words):
            axis.invert_yaxis()
        with whole(Path(path)) as partial, warnings.catch_warnings():
            # A word in a script that the font lacks is drawn as boxes; the text has it.
            warnings.filterwarnings("ignore", "Glyph .* missing")
            figure.savefig(partial, format="png", dpi=110)


def explain_reply(language_model: LanguageModel, reply: Reply, words: int = 10) -> Explanation:
    """Explain the emotion embedding behind a reply, from what was heard when it was made.

    Args:
        language_model: Whose words are near to the embedding.
        reply: Of a model with an emotion nuance module.
        words: Number of nearest words.
    """
    estimate = reply.estimate
    assert estimate is not None
    ratings = {}
    for name in RATINGS:
        if getattr(reply, name) is not None:
            ratings[name] = getattr(reply, name)
    mixed = estimate.layer_weights
    return Explanation(
        layer_weights=[] if mixed is None else mixed[0].float().tolist(),
        probabilities=dict(reply.probabilities),
        ratings=ratings,
        nearest_words=nearest_words(language_model, estimate.embedding, words),
    )


@torch.no_grad()
def nearest_words(language_model: LanguageModel, embedding: Tensor, count: int = 10) -> list[tuple[str, float]]:
    """Words whose embeddings point most nearly in the direction of a vector.

    Only tokens that read as words count (letters, after spaces are cut off); of tokens
    that read alike, with and without a space before them, the nearest is taken.

    Args:
        language_model: Its input embeddings are searched.
        embedding: Shape (D,).
        count: Number of words.

    Returns:
        Words with their cosines, the nearest first; fewer where the vocabulary has no more words.
    """
    tokenizer, matrix = language_model.tokenizer, language_model.model.get_input_embeddings().weight
    rows = matrix[: len(tokenizer)]  # The matrix is often larger than the vocabulary.
    direction = functional.normalize(embedding.reshape(-1).to(rows.device).float(), dim=0)
    # Some rows at a time, since a whole vocabulary in float32 is a second copy of the matrix or two.
    cosines = torch.cat([functional.normalize(chunk.float(), dim=1) @ direction for chunk in rows.split(8192)])
    special = set(tokenizer.all_special_ids)
    found: dict[str, float] = {}
    for index in cosines.argsort(descending=True).tolist():
        if index in special:
            continue
        word = tokenizer.decode([index]).strip()
        if word.isalpha() and word not in found:
            found[word] = float(cosines[index])
            if len(found) == count:
                break
    return list(found.items())
