"""What a build takes over from the index that it replaces: vectors of known texts, and a fit of the same examples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from semroute import __version__
from semroute.arrays import read_npy, read_npz
from semroute.encoders.fingerprint import of_arrays
from semroute.errors import ArtifactError
from semroute.index import Artifact, PrototypeIndex, Scorer, open_artifact
from semroute.learn.fit import Fitted, HeldOutScores, Split, concluded
from semroute.predictors.category_head import MlpHead
from semroute.types import Encoder, Matrix

# The evidence of a fit, stored in the index: a rebuild takes the fit over from it, and a small change continues it.

ROLE = "fit"
"""Role of the record's file in an index."""

UNKNOWN_SCORE = np.float32(-1e6)
"""Stands for the scores of a held-out row that are neither its best two nor that of its own category."""

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HeldOutRows:
    """Held-out scores, of each row those that thresholds and calibration follow from.

    Attributes:
        groups: ``(m,)`` group of examples that a row stands for.
        labels: ``(m,)`` its category.
        first, second: ``(m,)`` the categories of its two best scores.
        scores: ``(m, 3)`` its best score, its second best, and that of its own category.
    """

    groups: Numbers
    labels: Numbers
    first: Numbers
    second: Numbers
    scores: Matrix

    @classmethod
    def of(cls, scores: Matrix, labels: Numbers, groups: Numbers) -> HeldOutRows:
        """Keep what matters of ``(m, categories)`` scores."""
        rows, first = np.arange(len(scores)), scores.argmax(axis=1)
        others = scores.copy()
        others[rows, first] = -np.inf
        second = others.argmax(axis=1) if scores.shape[1] > 1 else first
        kept = np.column_stack([scores[rows, column] for column in (first, second, labels)])
        return cls(groups, labels, first, second, kept.astype(np.float32))

    def matrix(self, categories: int) -> Matrix:
        """Return ``(m, categories)`` scores with the same best ones and own ones as those of :meth:`of`."""
        found = np.full((len(self.labels), categories), UNKNOWN_SCORE)
        rows = np.arange(len(found))
        for column, place in ((self.second, 1), (self.labels, 2), (self.first, 0)):
            found[rows, column] = self.scores[:, place]
        return found

    def only(self, kept: NDArray[np.bool_]) -> HeldOutRows:
        """Return the rows that ``kept`` ``(m,)`` names."""
        return HeldOutRows(*(getattr(self, field.name)[kept] for field in fields(self)))

    def joined(self, other: HeldOutRows) -> HeldOutRows:
        """Return these rows and those of ``other``."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return HeldOutRows(*(np.concatenate(pair) for pair in pairs))


@dataclass(frozen=True, slots=True)
class FitRecord:
    """What a fit was made from and what it found on held-out examples.

    Attributes:
        digest: of all that the fit follows from; empty once examples have changed without a full fit.
        groups: ``(n,)`` group of each example.
        held: the held-out rows.
        report: the report of the fit (JSON-ready).
        changed: how many examples came or went since the last full fit, by category.
    """

    digest: str
    groups: Numbers
    held: HeldOutRows
    report: Mapping[str, Any]
    changed: Mapping[str, int]

    def write(self, path: Path) -> None:
        """Write an uncompressed ``.npz`` without pickle; the same record gives the same bytes."""
        words = {"digest": self.digest, "report": dict(self.report), "changed": dict(self.changed)}
        arrays: dict[str, Any] = {field.name: _small(getattr(self.held, field.name)) for field in fields(HeldOutRows)}
        arrays["example_groups"] = _small(self.groups)
        arrays["words"] = np.frombuffer(json.dumps(words).encode(), np.uint8)
        with path.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def read(cls, artifact: Artifact) -> FitRecord | None:
        """Read the record of an index; None where it has none that fits it, so that everything is fitted anew."""
        path, entries = artifact.files.get(ROLE), artifact.manifest.categories
        if path is None:
            return None
        try:
            record = cls._parse(read_npz(path))
            record._check(sum(entry.examples for entry in entries.values()), len(entries))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None
        return record

    @classmethod
    def _parse(cls, arrays: Mapping[str, NDArray[Any]]) -> FitRecord:
        words = json.loads(arrays["words"].tobytes())
        changed = {str(name): int(count) for name, count in words["changed"].items()}
        numbers = [np.array(arrays[name], np.int64) for name in ("groups", "labels", "first", "second")]
        held = HeldOutRows(numbers[0], numbers[1], numbers[2], numbers[3], np.array(arrays["scores"], np.float32))
        groups = np.array(arrays["example_groups"], np.int64)
        return cls(str(words["digest"]), groups, held, dict(words["report"]), changed)

    def _check(self, examples: int, categories: int) -> None:
        """Raise ValueError where the record is not one of so many examples and categories."""
        held, rows = self.held, len(self.held.labels)
        numbers = (held.labels, held.first, held.second)
        seed, prototypes = self.report["seed"], self.report["prototypes_per_category"]
        if not isinstance(seed, int) or seed < 0 or not isinstance(prototypes, int) or not 1 <= prototypes <= examples:
            raise ValueError("a report of no fit")
        if min(self.changed.values(), default=0) < 0:
            raise ValueError("fewer than no changes")
        known = all(array.shape == (rows,) and np.all((array >= 0) & (array < categories)) for array in numbers)
        if (
            not known
            or rows == 0
            or held.scores.shape != (rows, 3)
            or not np.isfinite(held.scores).all()
            or self.groups.shape != (examples,)
            or held.groups.shape != (rows,)
            or not np.isin(held.groups, self.groups).all()
        ):
            raise ValueError("a record of another fit")


def _small(array: NDArray[Any]) -> NDArray[Any]:
    return array if array.dtype == np.float32 else array.astype(np.int32)


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
