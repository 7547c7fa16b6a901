"""Train the emotion nuance module in a SpeechBrain recipe: our encoder and heads, their Brain, data and metrics.

    python examples/speechbrain_emotion.py MANIFEST.jsonl

The manifest has lines with path, split and emotion, as `empathy-lightning corpora export` writes them. To go on from a
checkpoint that is there, take EmotionNuance.from_pretrained("user/name") in the place of a new one.
"""

import json
import sys
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from torch import Tensor

from empathy_lightning.audio import read_speech
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.speech_encoder import SpeechEncoder


class EmotionBrain(sb.Brain):  # type: ignore[misc]
    """Categories alone; a loss of empathy_lightning.losses would do as well."""

    def compute_forward(self, batch: Any, stage: sb.Stage) -> Tensor:
        """Scores of the categories, shape (B, classes)."""
        waveform, shares = batch.waveform
        # SpeechBrain tells lengths as shares of the longest, this library as samples.
        lengths = (shares * waveform.shape[1]).round().long()
        heard = self.modules.encoder(waveform, lengths)
        logits: Tensor = self.modules.nuance(heard.layers, heard.mask).logits
        return logits

    def compute_objectives(self, predictions: Tensor, batch: Any, stage: sb.Stage) -> Tensor:
        """Cross-entropy; the accuracy is counted beside it."""
        labels = batch.label.data.to(predictions.device)
        if stage is not sb.Stage.TRAIN:
            self.hits += int((predictions.argmax(1) == labels).sum())
            self.seen += len(labels)
        return torch.nn.functional.cross_entropy(predictions, labels)

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Count anew."""
        self.hits = self.seen = 0

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        """Say how it goes."""
        accuracy = f", accuracy {self.hits / self.seen:.3f}" if self.seen else ""
        print(f"epoch {epoch} {stage.name.lower()}: loss {float(stage_loss):.3f}{accuracy}")


def datasets(manifest: Path) -> tuple[dict[str, DynamicItemDataset], list[str]]:
    """The splits, and the names of the emotions."""
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row.get("emotion")]
    emotions = sorted({row["emotion"] for row in rows})
    splits = {}
    for split in ("train", "validation"):
        # SpeechBrain keeps "id" for itself.
        kept = [{name: row[name] for name in ("path", "emotion")} for row in rows if row["split"] == split]
        chosen = {str(number): row for number, row in enumerate(kept)}
        data = DynamicItemDataset(chosen, output_keys=["id", "waveform", "label"])
        data.add_dynamic_item(lambda path: read_speech(manifest.parent / path), takes="path", provides="waveform")
        data.add_dynamic_item(emotions.index, takes="emotion", provides="label")
        splits[split] = data
    return splits, emotions


def main(manifest: str, epochs: int = 5) -> EmotionBrain:
    """Train and validate."""
    splits, emotions = datasets(Path(manifest))
    encoder = SpeechEncoder.from_pretrained("small-world/speech_encoder")  # or openai/whisper-small
    nuance = EmotionNuance(encoder.hidden_size, 192, len(emotions), hidden_size=256, pooling="statistics")
    brain = EmotionBrain(
        modules={"encoder": encoder, "nuance": nuance},
        opt_class=lambda parameters: torch.optim.AdamW((p for p in parameters if p.requires_grad), 1e-3),
    )
    loading = {"batch_size": 8}
    brain.fit(range(epochs), splits["train"], splits["validation"], loading | {"shuffle": True}, loading)
    return brain


if __name__ == "__main__":
    main(sys.argv[1])
