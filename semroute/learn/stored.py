"""What an artifact keeps of the examples it was built from."""

from __future__ import annotations

import numpy as np

from semroute.arrays import read_npy
from semroute.encoders.spec import load_encoder
from semroute.errors import ArtifactError, EncoderError
from semroute.index import Artifact
from semroute.learn.build import Examples
from semroute.learn.first_stage import FirstStagePlan
from semroute.types import Matrix


def stored_examples(artifact: Artifact) -> tuple[Examples, Matrix]:
    """The examples of an artifact and their ``(n, d)`` vectors, memory-mapped and read-only.

    Raises:
        ArtifactError: the two do not match, or the files are gone since the artifact was replaced.
    """
    entries = artifact.manifest.categories
    try:
        owners, texts = artifact.examples()
        vectors: Matrix = read_npy(artifact.files["vectors"], mmap_mode="r")
    except FileNotFoundError as error:
        raise ArtifactError(f"{error.filename}: gone, since the index was replaced; try again") from error
    except (KeyError, ValueError, OSError) as error:
        raise ArtifactError(f"{artifact.folder}: the stored examples are unusable; build the index again") from error
    shape = len(texts), artifact.manifest.dimensions
    if vectors.shape != shape or vectors.dtype.kind != "f" or set(owners) != set(entries):
        raise ArtifactError(f"{artifact.folder}: examples and vectors do not match; build the index again")
    if not np.isfinite(vectors).all():
        raise ArtifactError(f"{artifact.folder}: a stored vector is not finite; build the index again")
    examples = Examples(
        texts=tuple(texts),
        owners=tuple(owners),
        descriptions={name: entry.description for name, entry in entries.items()},
        models={name: entry.models for name, entry in entries.items()},
        pinned={name: entry.threshold for name, entry in entries.items() if entry.threshold_from == "file"},
    )
    return examples, vectors


def stored_first_stage(artifact: Artifact) -> FirstStagePlan | None:
    """How to make the first stage of an artifact again; None where it has none.

    A bar that was chosen against out-of-scope queries stays the lowest that is allowed: those queries are not stored.

    Raises:
        ArtifactError: its parts do not fit together, or are damaged.
    """
    parts, entry = artifact.first, artifact.manifest.first_stage
    if parts is None or entry is None:
        return None
    try:
        encoder = load_encoder(parts.encoder, artifact.folder)
    except EncoderError as error:
        raise ArtifactError(
            f"{artifact.folder}: the first stage is unusable ({error}); build the index again"
        ) from error
    return FirstStagePlan(encoder, floor=entry.floor)
