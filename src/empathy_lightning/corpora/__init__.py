"""One file per corpus: from its official files to utterances."""

from empathy_lightning.corpora.corpus import Corpus, CorpusError
from empathy_lightning.corpora.manifest import Manifest, read_manifest, write_manifest
from empathy_lightning.corpora.ravdess import RAVDESS

__all__ = ["RAVDESS", "Corpus", "CorpusError", "Manifest", "read_manifest", "write_manifest"]
