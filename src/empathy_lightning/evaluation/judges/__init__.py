"""Language models that judge replies: behind an OpenAI-compatible endpoint, Gemini's, or on this machine.

A judge is any object with the attributes and the one method of :class:`Judge`.
"""

from empathy_lightning.evaluation.judges.gemini import GeminiJudge
from empathy_lightning.evaluation.judges.judge import Answer, AskAgain, Judge, Pace, Question, Recording, Sampling
from empathy_lightning.evaluation.judges.local import LocalJudge
from empathy_lightning.evaluation.judges.openai import OpenAIJudge

__all__ = [
    "Answer",
    "AskAgain",
    "GeminiJudge",
    "Judge",
    "LocalJudge",
    "OpenAIJudge",
    "Pace",
    "Question",
    "Recording",
    "Sampling",
]
