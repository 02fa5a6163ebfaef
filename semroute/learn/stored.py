"""What an artifact keeps of the examples it was built from."""

from __future__ import annotations

import numpy as np

from semroute.errors import ArtifactError
from semroute.index import Artifact
from semroute.learn.build import Examples
from semroute.types import Matrix


def stored_examples(artifact: Artifact) -> tuple[Examples, Matrix]:
    """The examples of an artifact and their ``(n, d)`` vectors, memory-mapped and read-only.

    Raises:
        ArtifactError: the two do not match, or the files are gone since the artifact was replaced.
    """
    entries = artifact.manifest.categories
    try:
        owners, texts = artifact.examples()
        vectors: Matrix = np.load(artifact.files["vectors"], mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise ArtifactError(f"{error.filename}: gone, since the index was replaced; try again") from error
    except (KeyError, ValueError) as error:
        raise ArtifactError(f"{artifact.folder}: the stored examples are unusable; build the index again") from error
    if vectors.shape != (len(texts), artifact.manifest.dimensions) or set(owners) != set(entries):
        raise ArtifactError(f"{artifact.folder}: examples and vectors do not match; build the index again")
    examples = Examples(
        texts=tuple(texts),
        owners=tuple(owners),
        descriptions={name: entry.description for name, entry in entries.items()},
        models={name: entry.models for name, entry in entries.items()},
        pinned={name: entry.threshold for name, entry in entries.items() if entry.threshold_from == "file"},
    )
    return examples, vectors
