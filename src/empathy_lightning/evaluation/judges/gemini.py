"""Judges behind Gemini's own interface, which takes speech of any length as it is."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from empathy_lightning.evaluation.judges.http import Endpoint
from empathy_lightning.evaluation.judges.judge import Answer, AskAgain, Pace, Question, Sampling

_REFUSED = ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE")
"""Reasons for which an answer ended that is none."""

_NAMES = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "max_tokens": "maxOutputTokens",
}


class GeminiJudge:
    """Asks by ``POST base_url/models/MODEL:generateContent``; recordings go along as ``inline_data``.

    Args:
        base_url: Such as ``https://generativelanguage.googleapis.com/v1beta``; nothing is sent anywhere else.
        model: Name of the model there, for example ``gemini-2.5-pro``.
        key_variable: Environment variable that holds the key, which is kept nowhere; None for a server without.
        at_once: Requests under way at the same time.
        timeout: Seconds that one answer may take.
        attempts: Requests until a question counts as not answered.
        first_wait: Seconds after a request that failed, doubled each time; a Retry-After of the server goes before.

    Raises:
        InputError: If the address is none, or the variable holds no key.
    """

    hears = True

    def __init__(
        self,
        base_url: str,
        model: str,
        key_variable: str | None = None,
        at_once: int = 4,
        timeout: float = 180.0,
        attempts: int = 5,
        first_wait: float = 1.0,
    ) -> None:
        self.model = model
        self.pace = Pace(at_once=at_once, attempts=attempts, first_wait=first_wait)
        self._endpoint = Endpoint(base_url, key_variable, ("x-goog-api-key", "{}"), timeout)

    def identity(self, sampling: Sampling) -> dict[str, Any]:
        """Interface, model and settings."""
        settings = {name: value for name, value in vars(sampling).items() if value is not None}
        return {"interface": "gemini", "model": self.model, **settings}

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer one question after the other; see :class:`.judge.Judge`."""
        return [self._ask(question) for question in questions]

    def _ask(self, question: Question) -> Answer:
        settings = {**vars(question.sampling), "seed": question.seed}
        chosen = {_NAMES[name]: value for name, value in settings.items() if value is not None}
        request: dict[str, Any] = {
            "contents": [{"role": "user", "parts": _parts(question)}],
            "generationConfig": chosen,
        }
        if question.system is not None:
            request["system_instruction"] = {"parts": [{"text": question.system}]}
        return self._read(self._endpoint.post(f"models/{quote(self.model, safe='')}:generateContent", request))

    def _read(self, found: dict[str, Any]) -> Answer:
        version = found.get("modelVersion")
        served = version if isinstance(version, str) else None
        feedback = found.get("promptFeedback")
        if isinstance(feedback, dict) and feedback.get("blockReason"):
            return Answer("", refused=True, served=served)
        try:
            candidate = found["candidates"][0]
            ended = candidate.get("finishReason")
            parts = candidate.get("content", {}).get("parts", [])
            # What a model thinks before it answers is no part of the answer.
            said = [part for part in parts if not part.get("thought")]
            text = "".join(part["text"] for part in said if "text" in part)
        except (KeyError, IndexError, TypeError, AttributeError):
            raise AskAgain(f"the judge at {self._endpoint.shown} answers with no candidate") from None
        refused, cut = ended in _REFUSED, ended == "MAX_TOKENS"
        if not text and not refused and not cut:
            raise AskAgain(f"the judge at {self._endpoint.shown} answers with a candidate without text")
        return Answer(text, refused, cut, served)


def _parts(question: Question) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for recording in question.recordings:
        data = base64.b64encode(recording.wav).decode()
        parts.append({"text": f"Recording {recording.title}:"})
        parts.append({"inline_data": {"mime_type": "audio/wav", "data": data}})
    return [*parts, {"text": question.text}]
