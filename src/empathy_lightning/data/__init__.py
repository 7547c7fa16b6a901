"""From records to batches: manifests, shards, protocols, mixtures, checks, and the one DataModule."""

from empathy_lightning.data.manifest import Manifest, read_manifest, write_manifest
from empathy_lightning.data.protocols import Protocol
from empathy_lightning.data.published import PROTOCOLS
from empathy_lightning.data.selection import Selection
from empathy_lightning.data.shards import Shards

__all__ = ["PROTOCOLS", "Manifest", "Protocol", "Selection", "Shards", "read_manifest", "write_manifest"]
