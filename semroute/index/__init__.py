"""Prototypes in FAISS, the score made of them, and the artifact folder that keeps both.

:mod:`~semroute.index.prototypes` holds the centroids, :mod:`~semroute.index.scoring` the one scoring path,
:mod:`~semroute.index.stages` the rule of a first stage, and :mod:`~semroute.index.manifest` and
:mod:`~semroute.index.store` the artifact on disk.
"""

from semroute.index.manifest import CategoryEntry, FirstStageEntry, Manifest
from semroute.index.prototypes import PrototypeIndex
from semroute.index.scoring import Calibration, Scorer
from semroute.index.stages import BothScores, FirstStage
from semroute.index.store import Artifact, StageParts, exclusive, open_artifact, write_artifact

__all__ = [
    "Artifact",
    "BothScores",
    "Calibration",
    "CategoryEntry",
    "FirstStage",
    "FirstStageEntry",
    "Manifest",
    "PrototypeIndex",
    "Scorer",
    "StageParts",
    "exclusive",
    "open_artifact",
    "write_artifact",
]
