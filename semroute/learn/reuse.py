"""What a build takes over from the index that it replaces: vectors of known texts, and a fit of the same examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from semroute import __version__
from semroute.arrays import read_npy
from semroute.encoders.fingerprint import of_arrays
from semroute.errors import ArtifactError
from semroute.heads import MlpHead
from semroute.index import Artifact, PrototypeIndex, Scorer, open_artifact
from semroute.learn.fit import Fitted, HeldOutScores, concluded
from semroute.learn.fit_record import FitRecord
from semroute.learn.validation import Split
from semroute.types import Encoder, Matrix

RECIPE = "1"
"""Changes whenever the same examples, settings and vectors would give another fit."""

SAME_ARITHMETIC = 1e-4
"""Most that a number of a probe's vector may differ for the stored vectors to be those that the encoder would make."""

UNIT_TOLERANCE = 1e-2


def previous_artifact(folder: Path) -> Artifact | None:
    """The index that lies in ``folder``; None where there is none that is whole."""
    try:
        return open_artifact(folder)
    except ArtifactError:
        return None


def known_vectors(previous: Artifact | None, encoder: Encoder) -> Mapping[str, Matrix]:
    """Vectors by text that an index holds and ``encoder`` would make; none where that is in doubt.

    The index must have been built with an encoder of the same fingerprint, and its probes must still get the vectors
    that they got then: another processor, or another model behind the same address, gives others.
    """
    if previous is None or not _is_same(previous, encoder):
        return {}
    try:
        _, texts = previous.examples()
        vectors: Matrix = read_npy(previous.files["vectors"])
    except (ArtifactError, OSError, ValueError, KeyError):
        return {}
    if vectors.shape != (len(texts), encoder.dimensions) or vectors.dtype != np.float32:
        return {}
    if not np.all(np.abs(np.linalg.norm(vectors, axis=1) - 1) <= UNIT_TOLERANCE):  # false of what is not finite, too
        return {}
    return dict(zip(texts, vectors, strict=True))


def _is_same(previous: Artifact, encoder: Encoder) -> bool:
    manifest = previous.manifest
    described = manifest.encoder
    if (described.get("fingerprint"), manifest.dimensions) != (encoder.fingerprint, encoder.dimensions):
        return False
    if described.get("max_tokens") != getattr(encoder, "max_tokens", None) or not manifest.probes:
        return False
    texts, rows = zip(*manifest.probes, strict=True)
    if any(len(row) != encoder.dimensions for row in rows):
        return False
    return bool(np.abs(encoder.encode(texts) - np.array(rows)).max() <= SAME_ARITHMETIC)


def fit_digest(
    vectors: Matrix,
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    head: bool,
    plan: Sequence[Split] | None,
    seed: int,
) -> str:
    """SHA-256, in hex, of all that a fit follows from."""
    arrays: dict[str, NDArray[Any]] = {"vectors": vectors, "labels": labels, "groups": groups}
    for number, split in enumerate(plan or ()):
        arrays |= {f"fit{number}": split.fit, f"held{number}": split.held}
    made_by = [RECIPE, __version__, np.__version__, str(faiss.__version__)]
    return of_arrays(arrays, *made_by, str(head), str(plan is None), str(seed))


def known_fit(previous: Artifact | None, digest: str) -> Fitted | None:
    """The fit of an index whose record has this digest; thresholds and calibration are made from its held-out rows."""
    record = None if previous is None else FitRecord.read(previous)
    if previous is None or record is None or record.digest != digest:
        return None
    scorer = stored_scorer(previous)
    if scorer is None:
        return None
    held = HeldOutScores(record.held.matrix(len(scorer.prototypes.counts)), record.held.labels)
    return concluded(scorer, dict(record.report), held, record.held.groups)


def stored_scorer(artifact: Artifact) -> Scorer | None:
    """The scorer that an index holds; None where its parts do not fit together."""
    manifest, parts = artifact.manifest, artifact.main
    try:
        prototypes = PrototypeIndex.read(parts.files["prototypes"], parts.prototypes)
        head = None if manifest.head is None else MlpHead.read(parts.files["head"])
    except (OSError, ValueError, KeyError):
        return None
    if prototypes.dimensions != manifest.dimensions:
        return None
    if head is not None and head.direct.shape != (manifest.dimensions, len(manifest.categories)):
        return None
    return Scorer(prototypes, head, manifest.weight, manifest.calibration)
