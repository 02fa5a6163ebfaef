"""Why a query went where it went: the stored examples that lie nearest to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semroute.arrays import read_npy
from semroute.errors import ArtifactError
from semroute.index import Artifact
from semroute.router.live import LoadedIndex
from semroute.types import Encoder

CHUNK = 65_536
"""Stored vectors that are looked at together, about 100 MB of 384 dimensions."""
TOGETHER = 64
"""Texts that are compared with them at once."""


@dataclass(frozen=True, slots=True)
class NearestExample:
    """A stored example and its cosine to the query."""

    category: str
    query: str
    similarity: float


def nearest_examples(live: LoadedIndex, text: str, count: int = 5) -> list[NearestExample]:
    """The ``count`` stored examples that are most similar to ``text``, best first; equal ones in the stored order.

    The examples' vectors are memory-mapped for this call only: routing itself never needs them.

    Args:
        live: the artifact in memory.
        text: the routed text (:attr:`semroute.types.Decision.query`).
        count: how many to return; fewer where the index holds fewer.

    Raises:
        ArtifactError: the artifact was replaced twice since it was opened, or its examples and vectors do not match.
    """
    return nearest_to_each(live.artifact, live.encoder, [text], count)[0]


def nearest_to_each(
    artifact: Artifact, encoder: Encoder, texts: Sequence[str], count: int = 1
) -> list[list[NearestExample]]:
    """The ``count`` stored examples that are most similar to each text, as :func:`nearest_examples` lists them.

    Raises:
        ArtifactError: as :func:`nearest_examples`.
    """
    try:
        vectors = read_npy(artifact.files["vectors"], mmap_mode="r")
        categories, examples = artifact.examples()
    except FileNotFoundError as error:
        raise ArtifactError(f"{error.filename}: gone, since the index was replaced; load it again") from error
    except (KeyError, ValueError, OSError) as error:
        raise ArtifactError(f"{artifact.folder}: the stored examples are unusable; build the index again") from error
    if vectors.shape != (len(examples), encoder.dimensions) or vectors.dtype.kind != "f":
        raise ArtifactError(f"{artifact.folder}: examples and vectors do not match; build the index again")
    found = []
    for start in range(0, len(texts), TOGETHER):
        asked = encoder.encode(texts[start : start + TOGETHER])
        with np.errstate(all="ignore"):
            parts = [asked @ vectors[row : row + CHUNK].T for row in range(0, len(examples), CHUNK)]
        similarities = np.concatenate(parts or [np.zeros((len(asked), 0), np.float32)], axis=1)
        if not np.isfinite(similarities).all():
            raise ArtifactError(f"{artifact.folder}: a stored vector is not finite; build the index again")
        for one in similarities:
            best = np.argsort(-one, kind="stable")[:count]
            found.append([NearestExample(categories[row], examples[row], float(one[row])) for row in best])
    return found
