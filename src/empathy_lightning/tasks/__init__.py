"""The trainers: a LightningModule for each trained part, one for all of RE-LLM's kind, and what they share."""

from empathy_lightning.tasks.emotion_nuance import EmotionNuanceTask
from empathy_lightning.tasks.empathy_classifier import EmpathyClassifierTask
from empathy_lightning.tasks.export import Export
from empathy_lightning.tasks.joint import JointTask
from empathy_lightning.tasks.run_log import RunLog
from empathy_lightning.tasks.schedule import Cosine, Linear, Schedule, WarmupDecay
from empathy_lightning.tasks.sharding import ShardedBackboneStrategy
from empathy_lightning.tasks.speaker_enrolment import SpeakerEnrolment
from empathy_lightning.tasks.speech_adapter import SpeechAdapterTask
from empathy_lightning.tasks.speech_decoder import SpeechDecoderTask
from empathy_lightning.tasks.vocoder import VocoderTask

__all__ = [
    "Cosine",
    "EmotionNuanceTask",
    "EmpathyClassifierTask",
    "Export",
    "JointTask",
    "Linear",
    "RunLog",
    "Schedule",
    "ShardedBackboneStrategy",
    "SpeakerEnrolment",
    "SpeechAdapterTask",
    "SpeechDecoderTask",
    "VocoderTask",
    "WarmupDecay",
]
