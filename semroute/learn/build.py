"""Building and changing an index artifact: the whole way from examples to files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute import __version__
from semroute.encoders.spec import save_encoder
from semroute.index import Artifact, CategoryEntry, Manifest, write_artifact
from semroute.index.scoring import Scorer
from semroute.learn.fit import Fitted, fit
from semroute.learn.validation import Split
from semroute.types import Encoder, Matrix

PROBES = (
    "What is the capital gains tax on shares held for a year?",
    "def add(a, b): return a + b",
    "where is my parcel, it was due on monday",
)
Progress = Callable[[str, int, int], None]
CHUNK = 256


@dataclass(frozen=True, slots=True)
class Examples:
    """Labelled examples with what belongs to their categories.

    Attributes:
        texts: the examples.
        owners: category of each.
        descriptions, models, pinned: by category; ``pinned`` holds the thresholds that the category files name.
    """

    texts: tuple[str, ...]
    owners: tuple[str, ...]
    descriptions: Mapping[str, str]
    models: Mapping[str, tuple[str, ...]]
    pinned: Mapping[str, float]

    @property
    def categories(self) -> tuple[str, ...]:
        """Names in alphabetical order, which is the order of all arrays."""
        return tuple(sorted(self.descriptions))

    @property
    def labels(self) -> NDArray[np.int64]:
        """``(n,)`` category number of each example."""
        number = {name: index for index, name in enumerate(self.categories)}
        return np.array([number[owner] for owner in self.owners], dtype=np.int64)


def embed(encoder: Encoder, texts: Sequence[str], progress: Progress = lambda step, done, total: None) -> Matrix:
    """``(n, d)`` vectors of ``texts``, in chunks so that progress can be shown."""
    parts = []
    for start in range(0, len(texts), CHUNK):
        parts.append(encoder.encode(texts[start : start + CHUNK]))
        progress("embedding", min(start + CHUNK, len(texts)), len(texts))
    return np.concatenate(parts) if parts else np.zeros((0, encoder.dimensions), np.float32)


def build_artifact(
    folder: Path,
    examples: Examples,
    vectors: Matrix,
    encoder: Encoder,
    *,
    head: bool = True,
    plan: Sequence[Split] | None = None,
    seed: int = 0,
    notes: Mapping[str, Any] | None = None,
    replaces: Manifest | None = None,
    progress: Progress = lambda step, done, total: None,
) -> tuple[Artifact, Scorer]:
    """Fit on ``vectors``, write everything to ``folder``; the artifact, and the scorer that it holds.

    Args:
        folder: the artifact's folder.
        examples: the labelled examples.
        vectors: ``(n, d)`` their vectors.
        encoder: the encoder that made them; it goes into the artifact.
        head: whether validation may choose a head.
        plan: what to hold out; see :func:`semroute.learn.fit.fit`.
        seed: of everything drawn.
        notes: further entries of the validation report.
        replaces: the manifest that the examples come from, where they do; see
            :func:`~semroute.index.store.write_artifact`.
        progress: called with a step's name, what is done and the total.

    Raises:
        ArtifactError: the folder cannot be written, or holds something else.
        MissingExtraError: the extra "build" is not installed.
    """
    fitted = fit(vectors, examples.labels, head=head, plan=plan, seed=seed, progress=progress)

    def write(staging: Path) -> dict[str, Path]:
        files = write_scorer(fitted.scorer, staging)
        files["examples"] = staging / "examples.jsonl"
        rows = zip(examples.owners, examples.texts, strict=True)
        lines = [json.dumps({"category": owner, "query": text}) + "\n" for owner, text in rows]
        files["examples"].write_text("".join(lines), encoding="utf-8")
        files["vectors"] = staging / "vectors.npy"
        np.save(files["vectors"], vectors, allow_pickle=False)
        for role, name in described["files"].items():
            files[f"encoder_{role}"] = Path(saved) / name
        return files

    with TemporaryDirectory(prefix="semroute-") as saved:
        described = save_encoder(encoder, Path(saved))
        manifest = _manifest(examples, fitted, encoder, described, notes or {})
        artifact = write_artifact(folder, manifest, write, replaces=replaces)
    return artifact, fitted.scorer


def write_scorer(scorer: Scorer, staging: Path) -> dict[str, Path]:
    """Write prototypes and head into ``staging``; their paths by role."""
    files = {"prototypes": staging / "prototypes.faiss"}
    scorer.prototypes.write(files["prototypes"])
    if scorer.head is not None:
        files["head"] = staging / "head.npz"
        scorer.head.write(files["head"])
    return files


def with_thresholds(artifact: Artifact, thresholds: Mapping[str, float], source: str, **changes: Any) -> Artifact:
    """Write other thresholds (and other fields of the manifest) into an artifact; its files stay.

    Args:
        artifact: what is changed, in place on disk.
        thresholds: new minimum score by category; a category that is not named keeps its own.
        source: what ``threshold_from`` says of the changed ones.
        changes: other fields of :class:`~semroute.index.Manifest`.
    """
    categories = {
        name: replace(entry, threshold=float(thresholds[name]), threshold_from=source) if name in thresholds else entry
        for name, entry in artifact.manifest.categories.items()
    }
    manifest = replace(artifact.manifest, categories=categories, **changes)
    return write_artifact(artifact.folder, manifest, lambda staging: artifact.files, replaces=artifact.manifest)


def _manifest(
    examples: Examples, fitted: Fitted, encoder: Encoder, described: Mapping[str, Any], notes: Mapping[str, Any]
) -> Manifest:
    counts = np.bincount(examples.labels, minlength=len(examples.categories))
    categories = {}
    for number, name in enumerate(examples.categories):
        pinned = examples.pinned.get(name)
        categories[name] = CategoryEntry(
            description=examples.descriptions[name],
            models=examples.models[name],
            examples=int(counts[number]),
            prototypes=fitted.scorer.prototypes.counts[number],
            # A threshold of 0.0 is a threshold: only None means that the file names none.
            threshold=float(fitted.thresholds[number]) if pinned is None else pinned,
            threshold_from="in-scope" if pinned is None else "file",
        )
    head = fitted.scorer.head
    return Manifest(
        encoder={key: value for key, value in described.items() if key != "files"},
        dimensions=encoder.dimensions,
        categories=categories,
        head=None if head is None else head.kind,
        weight=fitted.scorer.weight,
        calibration=fitted.scorer.calibration,
        validation={"examples": len(examples.texts), **fitted.report, **notes},
        probes=tuple(
            (text, tuple(round(float(value), 6) for value in vector))
            for text, vector in zip(PROBES, encoder.encode(PROBES), strict=True)
        ),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        built_with=__version__,
    )
