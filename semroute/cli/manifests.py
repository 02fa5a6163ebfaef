"""A manifest as JSON-ready values, and in words."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from semroute.cli.tables import percent

if TYPE_CHECKING:
    from semroute.index import Artifact, Manifest


def manifest_dict(artifact: Artifact) -> dict[str, object]:
    """What an artifact holds, without probes and hashes."""
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
    }


def bytes_of(artifact: Artifact) -> int:
    """Bytes of the artifact's files on disk."""
    return sum(path.stat().st_size for path in set(artifact.files.values()))


def validated(manifest: Manifest) -> str:
    """How the build chose, in one sentence."""
    report = manifest.validation
    held = report.get("held_out")
    if not held:
        return "too few examples to hold any out: nothing was validated, the thresholds are a guess"
    prototypes = report.get("prototypes_per_category")
    head = f"{percent(manifest.weight)} head" if manifest.head else "no head"
    examples = f"validated on {held:,} of {report.get('examples', 0):,} examples"
    return f"{examples}; prototypes per category: {prototypes}; {head}"
