"""A manifest as JSON-ready values, and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from semroute.cli.tables import percent

if TYPE_CHECKING:
    from semroute.index import Artifact, FirstStageEntry, Manifest


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
        "first_stage": None if manifest.first_stage is None else first_stage_dict(manifest.first_stage),
    }


def first_stage_dict(entry: FirstStageEntry) -> dict[str, object]:
    """A first stage, without probes."""
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


def first_stage_figures(entry: FirstStageEntry) -> str:
    """What a first stage does on the queries that its bar was chosen on."""
    report = entry.validation
    slips = report.get("slips")
    return (
        f"answers {percent(report.get('answered'))} of {_chosen_on(report)} from a bar of {entry.bar:.3f} on; accuracy "
        f"{percent(report.get('accuracy_in_scope'))} with it, {percent(report.get('accuracy_without'))} without"
        + ("" if slips is None else f"; {percent(slips)} of out of scope slip past")
    )


def left_out(manifest: Manifest) -> str:
    """Why an index has no first stage although it was asked for."""
    report = manifest.validation.get("first_stage_left_out", {})
    if not report.get("queries"):
        return "too few examples to choose the bar of a first stage on: it was left out"
    share = percent(report.get("answered"))
    return f"a first stage could answer only {share} of {_chosen_on(report)} without harm: it was left out"


def _chosen_on(report: Mapping[str, object]) -> str:
    kind = "validation queries" if report.get("chosen_on") == "validation" else "held-out examples"
    count = report.get("queries", 0)
    return f"{count:,} {kind}" if isinstance(count, int) else f"an unknown number of {kind}"


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
    count = report.get("examples", 0)
    groups = report.get("groups", count)
    alike = "" if groups == count else f" that differ ({count:,} in all)"
    examples = f"validated on {held:,} of {groups:,} examples{alike}"
    return f"{examples}; prototypes per category: {prototypes}; {head}{changed(manifest)}"


def changed(manifest: Manifest) -> str:
    """How many examples changed since all were fitted together; empty where none did."""
    count = manifest.validation.get("changed_since_full_fit")
    if not isinstance(count, int) or count == 0:
        return ""
    return f'; {count:,} examples changed since the last full fit, "semroute build-index" makes one'
