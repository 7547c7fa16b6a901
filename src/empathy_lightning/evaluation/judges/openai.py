"""Judges behind an OpenAI-compatible endpoint: OpenAI's own, vLLM, llama.cpp, Ollama and many others."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from empathy_lightning.evaluation.judges.http import BadRequest, Endpoint
from empathy_lightning.evaluation.judges.judge import Answer, AskAgain, Pace, Question, Sampling


class OpenAIJudge:
    """Asks by ``POST base_url/chat/completions``; recordings go along as ``input_audio``.

    Args:
        base_url: Such as ``https://api.openai.com/v1``; nothing is sent anywhere else.
        model: Name of the model there.
        key_variable: Environment variable that holds the key, which is kept nowhere; None for a server without.
        at_once: Requests under way at the same time.
        timeout: Seconds that one answer may take.
        attempts: Requests until a question counts as not answered.
        first_wait: Seconds after a request that failed, doubled each time; a Retry-After of the server goes before.
        body: Fields of the request in the place of ours or beside them; None leaves one out, for example
            ``{"temperature": None}`` for models that know no temperature.

    Raises:
        InputError: If the address is none, or the variable holds no key.
    """

    hears = True

    def __init__(
        self,
        base_url: str,
        model: str,
        key_variable: str | None = None,
        at_once: int = 8,
        timeout: float = 120.0,
        attempts: int = 5,
        first_wait: float = 1.0,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.pace = Pace(at_once=at_once, attempts=attempts, first_wait=first_wait)
        self.body = dict(body or {})
        self._endpoint = Endpoint(base_url, key_variable, ("Authorization", "Bearer {}"), timeout)

    def identity(self, sampling: Sampling) -> dict[str, Any]:
        """Interface, model and settings; not the address, which tells nothing of the model."""
        return {"interface": "openai", "model": self.model, **self._settings(sampling, sampling.seed)}

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer one question after the other; see :class:`.judge.Judge`."""
        return [self._ask(question) for question in questions]

    def _ask(self, question: Question) -> Answer:
        settings = self._settings(question.sampling, question.seed)
        request = {"model": self.model, "messages": _messages(question), **settings}
        try:
            found = self._endpoint.post("chat/completions", request)
        except BadRequest as error:
            if _is_filtered(error.body):
                return Answer("", refused=True)
            raise
        return self._read(found)

    def _settings(self, sampling: Sampling, seed: int | None) -> dict[str, Any]:
        settings = {**vars(sampling), "seed": seed, **self.body}
        return {name: value for name, value in settings.items() if value is not None}

    def _read(self, found: dict[str, Any]) -> Answer:
        try:
            choice = found["choices"][0]
            message = choice["message"]
            text, refusal = message.get("content"), message.get("refusal")
            ended = choice.get("finish_reason")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise AskAgain(f"the judge at {self._endpoint.shown} answers with no chat completion") from None
        version = found.get("model")
        served = version if isinstance(version, str) else None
        refused, cut = bool(refusal) or ended == "content_filter", ended == "length"
        if not isinstance(text, str):
            if not (refused or cut):
                raise AskAgain(f"the judge at {self._endpoint.shown} answers with a chat completion without text")
            text = refusal if isinstance(refusal, str) else ""
        return Answer(text, refused, cut, served)


def _messages(question: Question) -> list[dict[str, Any]]:
    content: Any = question.text
    if question.recordings:
        content = []
        for recording in question.recordings:
            data = base64.b64encode(recording.wav).decode()
            content.append({"type": "text", "text": f"Recording {recording.title}:"})
            content.append({"type": "input_audio", "input_audio": {"data": data, "format": "wav"}})
        content.append({"type": "text", "text": question.text})
    user = {"role": "user", "content": content}
    return [user] if question.system is None else [{"role": "system", "content": question.system}, user]


def _is_filtered(body: Mapping[str, Any]) -> bool:
    """Whether a refused request was refused for what it says, as Azure does."""
    error = body.get("error")
    return isinstance(error, dict) and error.get("code") in ("content_filter", "content_policy_violation")
