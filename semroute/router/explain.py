"""Why a query went where it went: the stored examples that lie nearest to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semroute.arrays import read_npy
from semroute.errors import ArtifactError
from semroute.router.live import LiveIndex

CHUNK = 65_536
"""Stored vectors that are looked at together, about 100 MB of 384 dimensions."""


@dataclass(frozen=True, slots=True)
class NearestExample:
    """A stored example and its cosine to the query."""

    category: str
    query: str
    similarity: float


def nearest_examples(live: LiveIndex, text: str, count: int = 5) -> list[NearestExample]:
    """The ``count`` stored examples that are most similar to ``text``, best first; equal ones in the stored order.

    The examples' vectors are memory-mapped for this call only: routing itself never needs them.

    Args:
        live: the artifact in memory.
        text: the routed text (:attr:`semroute.types.Decision.query`).
        count: how many to return; fewer where the index holds fewer.

    Raises:
        ArtifactError: the artifact was replaced twice since it was opened, or its examples and vectors do not match.
    """
    try:
        vectors = read_npy(live.artifact.files["vectors"], mmap_mode="r")
        categories, texts = live.artifact.examples()
    except FileNotFoundError as error:
        raise ArtifactError(f"{error.filename}: gone, since the index was replaced; load it again") from error
    except (KeyError, ValueError, OSError) as error:
        raise ArtifactError(
            f"{live.artifact.folder}: the stored examples are unusable; build the index again"
        ) from error
    if vectors.shape != (len(texts), live.encoder.dimensions) or vectors.dtype.kind != "f":
        raise ArtifactError(f"{live.artifact.folder}: examples and vectors do not match; build the index again")
    vector = live.encoder.encode([text])[0]
    with np.errstate(all="ignore"):
        parts = [vectors[start : start + CHUNK] @ vector for start in range(0, len(texts), CHUNK)]
    similarities = np.concatenate(parts or [np.zeros(0, np.float32)])
    if not np.isfinite(similarities).all():
        raise ArtifactError(f"{live.artifact.folder}: a stored vector is not finite; build the index again")
    best = np.argsort(-similarities, kind="stable")[:count]
    return [NearestExample(categories[row], texts[row], float(similarities[row])) for row in best]
