"""Several speech engines as one, for speech in many voices."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from empathy_lightning.errors import InputError
from empathy_lightning.preparation.speech_engines import SpeechEngine


class Ensemble:
    """Engines side by side; a style ``NAME/STYLE`` is that of the engine NAME.

    Args:
        engines: By name; in a YAML each is a class path with its arguments, as the ensemble itself.

    Raises:
        InputError: If there is none.
    """

    def __init__(self, engines: Mapping[str, SpeechEngine]) -> None:
        if not engines:
            raise InputError("an ensemble needs engines, such as {first: {class_path: Espeak, init_args: ...}}")
        self.engines = dict(engines)
        self.styles: list[str] = []
        for name, engine in self.engines.items():
            self.styles += [f"{name}/{style}" for style in engine.styles]

    def say(self, text: str, style: str, seed: int) -> tuple[Tensor, int]:
        """See :class:`.speech_engines.SpeechEngine`."""
        name, _, own = style.partition("/")
        return self.engines[name].say(text, own, seed)

    def identity(self) -> dict[str, str]:
        """See :class:`.speech_engines.SpeechEngine`: of all engines, in their order."""
        identities = [engine.identity() for engine in self.engines.values()]
        joined = {}
        for field in ("engine", "version", "voice"):
            joined[field] = ", ".join(identity[field] for identity in identities)
        return joined
