"""The protocols of the papers and of the field, as data."""

from __future__ import annotations

from empathy_lightning.corpora.corpus import CorpusError
from empathy_lightning.data.protocols import LeaveOneOut, PerCorpus, Protocol, RandomSubset, SentenceSplit, Whole
from empathy_lightning.errors import meant
from empathy_lightning.utterance import EMOTIONS

FOUR = ("neutral", "happy", "sad", "angry")

_TRAIN, _TEST = Whole("train"), Whole("test")
_IEMOCAP_5 = LeaveOneOut("session", fold=4, validation=False)
_RE_LLM = "RE-LLM, arXiv 2602.10716, section on data"

PROTOCOLS: dict[str, Protocol] = {
    "official": Protocol(citation="the corpora's own splits"),
    "leave-one-session-out": LeaveOneOut("session", citation="customary for IEMOCAP"),
    "leave-one-speaker-out": LeaveOneOut("speaker", citation="customary for small acted corpora"),
    "iemocap-four": LeaveOneOut(
        "session", emotions=FOUR, merge={"excited": "happy"}, citation="customary: four classes, 5,531 utterances"
    ),
    "re-llm-iemocap": LeaveOneOut(
        "session", 4, False, FOUR, {"excited": "happy"}, _RE_LLM, {"train": 4_290, "test": 1_241}
    ),
    "re-llm-esd": SentenceSplit(0.7, 0, FOUR, _RE_LLM, "en"),
    "re-llm-msp-podcast": RandomSubset({"train": 4_290, "test": 1_245}, 0, EMOTIONS, _RE_LLM),
    "freezeempath": PerCorpus(
        {
            **dict.fromkeys(("mead", "asvp_esd", "cremad", "subesco", "m3ed", "emozionalmente", "esd", "mafw"), _TRAIN),
            **dict.fromkeys(("ravdess", "casia", "cafe", "resd"), _TEST),
            "iemocap": _IEMOCAP_5,
            "meld": Protocol(),
        },
        emotions=EMOTIONS,
        merge={"excited": "happy"},
        citation="FreezeEmpath, arXiv 2604.18159: ten corpora train, six test sets",
    ),
}
"""Published protocols by name."""


def protocol_named(name: str) -> Protocol:
    """A published protocol.

    Raises:
        CorpusError: If there is none of that name; the message lists them.
    """
    if name not in PROTOCOLS:
        raise CorpusError(f"no protocol named {name!r}; there are {', '.join(PROTOCOLS)}{meant(name, PROTOCOLS)}")
    return PROTOCOLS[name]
