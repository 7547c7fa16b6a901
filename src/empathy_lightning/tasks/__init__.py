"""The three trainers: one LightningModule per trained part."""

from empathy_lightning.tasks.emotion_nuance import EmotionNuanceTask
from empathy_lightning.tasks.export import Export
from empathy_lightning.tasks.sharding import ShardedBackboneStrategy
from empathy_lightning.tasks.speech_adapter import SpeechAdapterTask
from empathy_lightning.tasks.speech_decoder import SpeechDecoderTask

__all__ = ["EmotionNuanceTask", "Export", "ShardedBackboneStrategy", "SpeechAdapterTask", "SpeechDecoderTask"]
