"""Contents of an index, its overlapping categories, small changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from semroute.data.categories import READERS, read_category_file
from semroute.data.examples import Notes, combined, way_on
from semroute.errors import DataError
from semroute.index import Artifact, FirstStageEntry
from semroute.learn.update import (
    Changed,
    NamedOverlap,
    add_examples,
    overlapping,
    remove_category,
    remove_examples,
)
from semroute.router.load import open_encoder
from semroute.types import Encoder
from semroute.types.protocols import Progress, silent
from semroute.workflows.workspace import Workspace

# Description of an index.


@dataclass(frozen=True, slots=True)
class IndexDescription:
    """Contents of an index.

    Attributes:
        artifact: the index.
        overlaps: overlapping categories, the largest share first.
    """

    artifact: Artifact
    overlaps: Sequence[NamedOverlap]

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values, without probes and hashes."""
        return {**artifact_dict(self.artifact), "overlaps": [overlap_dict(pair) for pair in self.overlaps]}


def describe_index(workspace: Workspace, progress: Progress = silent) -> IndexDescription:
    """Return the contents of the serving index.

    ``progress`` is called while the shipped index is built.

    Raises:
        ArtifactError: it cannot be used.
    """
    artifact = workspace.serving_index(progress)
    return IndexDescription(artifact, overlapping(artifact))


def artifact_dict(artifact: Artifact) -> dict[str, object]:
    """Return an artifact as JSON-ready values, without probes and hashes."""
    manifest = artifact.manifest
    return {
        "path": str(artifact.folder),
        "bytes": bytes_of(artifact),
        "created": manifest.created,
        "built_with": manifest.built_with,
        "encoder": dict(manifest.encoder),
        "dimensions": manifest.dimensions,
        "head": manifest.head,
        "weight": manifest.weight,
        "categories": {name: asdict(entry) for name, entry in manifest.categories.items()},
        "validation": dict(manifest.validation),
        "first_stage": None if manifest.first_stage is None else first_stage_dict(manifest.first_stage),
    }


def first_stage_dict(entry: FirstStageEntry) -> dict[str, object]:
    """Return a first stage as JSON-ready values, without probes."""
    return {
        "encoder": dict(entry.encoder),
        "dimensions": entry.dimensions,
        "prototypes": dict(entry.prototypes),
        "head": entry.head,
        "weight": entry.weight,
        "bar": entry.bar,
        "floor": entry.floor,
        "validation": dict(entry.validation),
    }


def overlap_dict(pair: NamedOverlap) -> dict[str, object]:
    """Return a pair of overlapping categories as JSON-ready values."""
    worst = [{"query": w.query, "own_similarity": w.own, "similarity": w.other, "nearest": w.rival} for w in pair.worst]
    return {
        "category": pair.category,
        "other": pair.other,
        "share": pair.share,
        "count": pair.count,
        "worst": worst,
    }


def bytes_of(artifact: Artifact) -> int:
    """Return the size of the artifact's files on disk, in bytes."""
    return sum(path.stat().st_size for path in set(artifact.files.values()))


# Changes that do not embed the existing examples again.


@dataclass(frozen=True, slots=True)
class IndexChange:
    """Change of an index.

    Attributes:
        category: name of the changed category, as given.
        changed: the index now, and what was added, removed or skipped.
    """

    category: str
    changed: Changed

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        of = self.changed
        return {
            "added": of.added,
            "removed": of.removed,
            "skipped": list(of.skipped),
            "elsewhere": [{"query": text, "category": category} for text, category in of.elsewhere],
            "untuned": list(of.untuned),
            "first_stage_lost": of.first_stage_lost,
            "artifact": artifact_dict(of.artifact),
        }


def add_to_category(
    workspace: Workspace,
    category: str,
    examples: Sequence[str],
    *,
    description: str | None = None,
    models: Sequence[str] = (),
    progress: Progress = silent,
) -> IndexChange:
    """Add examples to a category, or create it.

    Args:
        workspace: the user's index.
        category: its name.
        examples: texts.
        description: of the category; None leaves it.
        models: models that serve it, cheapest first; empty leaves them.
        progress: called with a step's name, the number done and the total.

    Raises:
        ArtifactError: there is no index, or it cannot be used.
        DataError: an example cannot be used.
    """
    artifact, encoder = _opened(workspace)
    changed = add_examples(
        artifact, encoder, category, examples,
        description=description, models=tuple(models) or None, progress=progress,
    )  # fmt: skip
    return IndexChange(category, changed)


def remove_from_index(
    workspace: Workspace, category: str, examples: Sequence[str] = (), *, progress: Progress = silent
) -> IndexChange:
    """Remove a category, or only these examples of it.

    Raises:
        ArtifactError: there is no index, or it cannot be used.
        DataError: there is no such category or example.
    """
    artifact, encoder = _opened(workspace)
    if examples:
        return IndexChange(category, remove_examples(artifact, encoder, category, examples, progress=progress))
    return IndexChange(category, remove_category(artifact, encoder, category, progress=progress))


def _opened(workspace: Workspace) -> tuple[Artifact, Encoder]:
    artifact = workspace.own_index()
    return artifact, open_encoder(artifact, workspace.config.encoder)


def examples_of(word: str, category: str) -> Sequence[str]:
    """Return the examples of a file, or the argument itself as an example.

    Args:
        word: name of a ``.txt``, ``.jsonl``, ``.csv`` or ``.yaml`` file, or an example.
        category: their category, for messages.

    Raises:
        DataError: the file cannot be used.
    """
    path = Path(word)
    if path.suffix.lower() not in READERS and len(word.split()) == 1 and path.suffix and _exists(path):
        raise DataError(f"a file of examples is one of {', '.join(READERS)}; {way_on(path)}", path=path)
    # "fix my main.txt" is an example; a single word with a file's suffix is a file, whether it exists or not.
    if path.suffix.lower() not in READERS or (len(word.split()) > 1 and not _exists(path)):
        return [word]
    notes = Notes(path)
    content = read_category_file(path, notes, category)
    if notes.problems:
        raise combined(notes.problems)
    return [example.text for example in content.examples]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # longer than any path, or with a NUL in it
        return False
