"""Vector index: prototypes, scoring, and the artifact folder.

:mod:`~semroute.index.prototypes` holds the centroids, :mod:`~semroute.index.scoring` the one scoring path and the rule
of a first stage, :mod:`~semroute.index.faiss_file` the reader of FAISS files, and :mod:`~semroute.index.manifest` and
:mod:`~semroute.index.artifact` the artifact on disk.
"""

from semroute.index.artifact import Artifact, StageParts, exclusive, open_artifact, write_artifact
from semroute.index.manifest import CategoryEntry, FirstStageEntry, Manifest
from semroute.index.prototypes import PrototypeIndex
from semroute.index.scoring import BothScores, Calibration, FirstStage, Scorer

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
