"""The wordings of the papers."""

from __future__ import annotations

from dataclasses import dataclass

from empathy_lightning.errors import InputError, meant
from empathy_lightning.prompts import EMPATHY_SYSTEM, SPEECH_AND_EMOTION, SPEECH_ONLY, Prompt


@dataclass(frozen=True)
class PaperPrompts:
    """The prompts of a paper.

    Attributes:
        labelled: Transcript and emotion label; the frozen model's answer is the expected response.
        unlabelled: Transcript alone, for semantic alignment.
        spoken: What the trained model is given, speech in the place of the transcript.
        recognition: Asks for the emotion of the speech.
        max_new_tokens: Longest expected response.
    """

    labelled: Prompt
    unlabelled: Prompt
    spoken: Prompt
    recognition: Prompt
    max_new_tokens: int


HELPFUL_SYSTEM = "You are a helpful assistant."
_OPTIONS = "Select from the following options: neutral, sad, angry, happy, or surprise."
_CONTINUE_LABELLED = Prompt(
    "Continue the following sentence that reflects a '{emotion}' emotion tone in a coherent style: {speech}",
    HELPFUL_SYSTEM,
)
_CONTINUE = Prompt("Continue the following sentence in a coherent style: {speech}", HELPFUL_SYSTEM)
_CONTINUE_SPOKEN = Prompt(
    "Continue the following sentence based on the conveyed emotion tone in a coherent style: {speech}", HELPFUL_SYSTEM
)

PAPERS: dict[str, PaperPrompts] = {
    "freezeempath": PaperPrompts(
        labelled=Prompt(SPEECH_AND_EMOTION, EMPATHY_SYSTEM),
        unlabelled=Prompt(SPEECH_ONLY),
        spoken=Prompt(SPEECH_AND_EMOTION, EMPATHY_SYSTEM),
        recognition=Prompt(
            f"{SPEECH_AND_EMOTION} Please identify the emotion tone of the speech provided above. "
            "Select from the following options: neutral, sad, angry, happy, or surprised."
        ),
        max_new_tokens=256,
    ),
    "blsp_emo": PaperPrompts(
        labelled=_CONTINUE_LABELLED,
        unlabelled=_CONTINUE,
        spoken=_CONTINUE_SPOKEN,
        recognition=Prompt(
            f"Please identify the emotion tone of the speech provided below. {_OPTIONS}\n\nSpeech: {{speech}}",
            HELPFUL_SYSTEM,
        ),
        max_new_tokens=48,
    ),
    "re_llm": PaperPrompts(
        labelled=_CONTINUE_LABELLED,
        unlabelled=_CONTINUE,
        spoken=_CONTINUE_SPOKEN,
        recognition=Prompt(
            f"Please identify the emotion tone of the sentence provided below. {_OPTIONS}\n\nSentence: {{speech}}",
            HELPFUL_SYSTEM,
        ),
        max_new_tokens=48,
    ),
}
"""Prompts by paper: FreezeEmpath (arXiv 2604.18159), BLSP-Emo's released code, RE-LLM (arXiv 2602.10716).

The trainers' YAML files give the same words. Two wordings are this library's, because the paper's are not published:
FreezeEmpath's question for the emotion, which offers the names that stage 2a's answers have, and no system message for
its transcripts alone. RE-LLM's paper says "reflects a tone" in its text, and "conveyed emotion tone", as its code does,
in its figure; that is taken here. Its code asks for the emotion of the "speech" where its paper, followed here, says
"sentence": that is the wording of ``blsp_emo``.
"""


def paper_named(name: str) -> PaperPrompts:
    """The prompts of a paper.

    Raises:
        InputError: If there are none of that name.
    """
    if name not in PAPERS:
        raise InputError(f"no prompts of a paper named {name!r}; there are {', '.join(PAPERS)}{meant(name, PAPERS)}")
    return PAPERS[name]
