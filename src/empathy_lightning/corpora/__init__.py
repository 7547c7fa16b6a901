"""One file per corpus: from its official files to utterances."""

from empathy_lightning.corpora.asvp_esd import ASVPESD
from empathy_lightning.corpora.cafe import CaFE
from empathy_lightning.corpora.casia import CASIA
from empathy_lightning.corpora.corpus import Corpus, CorpusError
from empathy_lightning.corpora.cremad import CREMAD
from empathy_lightning.corpora.emns import EMNS
from empathy_lightning.corpora.emobox import EmoBox
from empathy_lightning.corpora.emodb import EmoDB
from empathy_lightning.corpora.emov_db import EmoVDB
from empathy_lightning.corpora.emozionalmente import Emozionalmente
from empathy_lightning.corpora.esd import ESD
from empathy_lightning.corpora.iemocap import IEMOCAP
from empathy_lightning.corpora.jl_corpus import JLCorpus
from empathy_lightning.corpora.librispeech import LibriSpeech
from empathy_lightning.corpora.m3ed import M3ED
from empathy_lightning.corpora.mafw import MAFW
from empathy_lightning.corpora.manifest import Manifest, read_manifest, write_manifest
from empathy_lightning.corpora.mead import MEAD
from empathy_lightning.corpora.meld import MELD
from empathy_lightning.corpora.msp_podcast import MSPPodcast
from empathy_lightning.corpora.nemo import NEMO
from empathy_lightning.corpora.protocols import Protocol
from empathy_lightning.corpora.published import PROTOCOLS
from empathy_lightning.corpora.ravdess import RAVDESS
from empathy_lightning.corpora.resd import RESD
from empathy_lightning.corpora.savee import SAVEE
from empathy_lightning.corpora.selection import Selection
from empathy_lightning.corpora.shards import Shards
from empathy_lightning.corpora.shemo import ShEMO
from empathy_lightning.corpora.spoken_instructions import SpokenInstructions
from empathy_lightning.corpora.subesco import SUBESCO
from empathy_lightning.corpora.tess import TESS

CORPORA: dict[str, type[Corpus]] = {
    corpus.name: corpus
    for corpus in (
        ASVPESD,
        CaFE,
        CASIA,
        CREMAD,
        EMNS,
        EmoDB,
        EmoVDB,
        Emozionalmente,
        ESD,
        IEMOCAP,
        JLCorpus,
        LibriSpeech,
        M3ED,
        MAFW,
        MEAD,
        MELD,
        MSPPodcast,
        NEMO,
        RAVDESS,
        RESD,
        SAVEE,
        ShEMO,
        SpokenInstructions,
        SUBESCO,
        TESS,
    )
}
"""Corpora by name, each built from its root folder alone."""

__all__ = [
    "ASVPESD",
    "CASIA",
    "CORPORA",
    "CREMAD",
    "EMNS",
    "ESD",
    "IEMOCAP",
    "M3ED",
    "MAFW",
    "MEAD",
    "MELD",
    "NEMO",
    "PROTOCOLS",
    "RAVDESS",
    "RESD",
    "SAVEE",
    "SUBESCO",
    "TESS",
    "CaFE",
    "Corpus",
    "CorpusError",
    "EmoBox",
    "EmoDB",
    "EmoVDB",
    "Emozionalmente",
    "JLCorpus",
    "LibriSpeech",
    "MSPPodcast",
    "Manifest",
    "Protocol",
    "Selection",
    "ShEMO",
    "Shards",
    "SpokenInstructions",
    "read_manifest",
    "write_manifest",
]
