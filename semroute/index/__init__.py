"""Prototypes in FAISS, the score made of them, and the artifact folder that keeps both.

:mod:`~semroute.index.prototypes` holds the centroids, :mod:`~semroute.index.scoring` the one scoring path, and
:mod:`~semroute.index.manifest` and :mod:`~semroute.index.store` the artifact on disk.
"""

from semroute.index.manifest import CategoryEntry, Manifest
from semroute.index.prototypes import PrototypeIndex
from semroute.index.scoring import Calibration, Scorer
from semroute.index.store import Artifact, exclusive, open_artifact, write_artifact

__all__ = [
    "Artifact",
    "Calibration",
    "CategoryEntry",
    "Manifest",
    "PrototypeIndex",
    "Scorer",
    "exclusive",
    "open_artifact",
    "write_artifact",
]
