"""Reuse vectors and fits of the index that a build replaces."""

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
from semroute.learn.fit import FitOptions, Fitted, HeldOutScores, complete_fit
from semroute.predictors.category_head import MlpHead
from semroute.types import Encoder, Matrix

# The evidence of a fit, stored in the index: a rebuild reuses the fit, and a small change continues it.

ROLE = "fit"
"""Role of the record's file in an index."""

UNKNOWN_SCORE = np.float32(-1e6)
"""Score of a held-out row's other categories, which are neither its best two nor its own."""

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HeldOutRows:
    """Held-out scores, reduced to those that thresholds and calibration need.

    Attributes:
        groups: ``(m,)`` group of examples that a row represents.
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
        """Reduce ``(m, categories)`` scores to the best two and the own ones."""
        rows, first = np.arange(len(scores)), scores.argmax(axis=1)
        other_scores = scores.copy()
        other_scores[rows, first] = -np.inf
        second = other_scores.argmax(axis=1) if scores.shape[1] > 1 else first
        columns = np.column_stack([scores[rows, column] for column in (first, second, labels)])
        return cls(groups, labels, first, second, columns.astype(np.float32))

    def matrix(self, categories: int) -> Matrix:
        """Return ``(m, categories)`` scores, with the best and own ones restored."""
        scores = np.full((len(self.labels), categories), UNKNOWN_SCORE)
        rows = np.arange(len(scores))
        for column, index in ((self.second, 1), (self.labels, 2), (self.first, 0)):
            scores[rows, column] = self.scores[:, index]
        return scores

    def only(self, is_kept: NDArray[np.bool_]) -> HeldOutRows:
        """Return the rows where ``is_kept`` ``(m,)`` is True."""
        return HeldOutRows(*(getattr(self, field.name)[is_kept] for field in fields(self)))

    def joined(self, other: HeldOutRows) -> HeldOutRows:
        """Return these rows and those of ``other``."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return HeldOutRows(*(np.concatenate(pair) for pair in pairs))


@dataclass(frozen=True, slots=True)
class FitRecord:
    """Inputs and held-out results of a fit, stored for reuse.

    Attributes:
        digest: of all inputs of the fit; empty once examples have changed without a full fit.
        groups: ``(n,)`` group of each example.
        held: the held-out rows.
        report: the report of the fit (JSON-ready).
        changed: number of examples added or removed since the last full fit, by category.
    """

    digest: str
    groups: Numbers
    held: HeldOutRows
    report: Mapping[str, Any]
    changed: Mapping[str, int]

    def write(self, path: Path) -> None:
        """Write a reproducible, uncompressed ``.npz`` without pickle.

        The same record gives the same bytes.
        """
        words = {"digest": self.digest, "report": dict(self.report), "changed": dict(self.changed)}
        arrays: dict[str, Any] = {field.name: _small(getattr(self.held, field.name)) for field in fields(HeldOutRows)}
        arrays["example_groups"] = _small(self.groups)
        arrays["words"] = np.frombuffer(json.dumps(words).encode(), np.uint8)
        with path.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def read(cls, artifact: Artifact) -> FitRecord | None:
        """Read the record of an index.

        None where there is no matching one, so that everything is fitted anew.
        """
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
        held_out = HeldOutRows(numbers[0], numbers[1], numbers[2], numbers[3], np.array(arrays["scores"], np.float32))
        groups = np.array(arrays["example_groups"], np.int64)
        return cls(str(words["digest"]), groups, held_out, dict(words["report"]), changed)

    def _check(self, examples: int, categories: int) -> None:
        """Raise ValueError unless the record matches the examples and categories."""
        held_out, rows = self.held, len(self.held.labels)
        numbers = (held_out.labels, held_out.first, held_out.second)
        seed, prototypes = self.report["seed"], self.report["prototypes_per_category"]
        if not isinstance(seed, int) or seed < 0 or not isinstance(prototypes, int) or not 1 <= prototypes <= examples:
            raise ValueError("a report of no fit")
        if min(self.changed.values(), default=0) < 0:
            raise ValueError("fewer than no changes")
        are_valid = all(array.shape == (rows,) and np.all((array >= 0) & (array < categories)) for array in numbers)
        if (
            not are_valid
            or rows == 0
            or held_out.scores.shape != (rows, 3)
            or not np.isfinite(held_out.scores).all()
            or self.groups.shape != (examples,)
            or held_out.groups.shape != (rows,)
            or not np.isin(held_out.groups, self.groups).all()
        ):
            raise ValueError("a record of another fit")


def _small(array: NDArray[Any]) -> NDArray[Any]:
    return array if array.dtype == np.float32 else array.astype(np.int32)


RECIPE = "4"
"""Version of the fit, raised when the same examples, settings and vectors would give another result."""

SAME_ARITHMETIC = 1e-4
"""Maximum difference in a component of a probe's vector at which stored vectors are still reused."""

UNIT_TOLERANCE = 1e-2


def previous_artifact(folder: Path) -> Artifact | None:
    """Return the index in ``folder``; None where there is no valid one."""
    try:
        return open_artifact(folder)
    except ArtifactError:
        return None


def known_vectors(previous: Artifact | None, encoder: Encoder) -> Mapping[str, Matrix]:
    """Return the vectors of an index that ``encoder`` would compute, by text.

    Empty where that is uncertain. The index must have been built with an encoder of the same fingerprint, and its
    probes must still get the same vectors: another processor, or another model behind the same address, gives others.
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
    if not np.all(np.abs(np.linalg.norm(vectors, axis=1) - 1) <= UNIT_TOLERANCE):  # also false for NaN and infinity
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
    options: FitOptions,
    *,
    background: str | None,
    names: Sequence[str] = (),
) -> str:
    """Return the SHA-256, in hex, of all inputs of a fit.

    ``background`` is the digest of the background queries, None without any. ``names`` are the texts that count as
    examples of categories with few; their vectors follow from the encoder that made ``vectors``.
    """
    arrays: dict[str, NDArray[Any]] = {"vectors": vectors, "labels": labels, "groups": groups}
    for number, split in enumerate(options.plan or ()):
        arrays |= {f"fit{number}": split.fit, f"held{number}": split.held}
    made_by = [RECIPE, __version__, np.__version__, str(faiss.__version__)]
    settings = (options.head, options.plan is None, background, options.seed)
    return of_arrays(arrays, *made_by, *map(str, settings), json.dumps(list(names)))


def known_fit(previous: Artifact | None, digest: str) -> Fitted | None:
    """Return the fit of an index whose record has this digest.

    Thresholds and calibration are computed from its held-out rows.
    """
    record = None if previous is None else FitRecord.read(previous)
    if previous is None or record is None or record.digest != digest:
        return None
    scorer = stored_scorer(previous)
    if scorer is None:
        return None
    held_out = HeldOutScores(record.held.matrix(len(scorer.prototypes.counts)), record.held.labels)
    return complete_fit(scorer, dict(record.report), held_out, record.held.groups)


def stored_scorer(artifact: Artifact) -> Scorer | None:
    """Return the scorer that an index holds.

    None where its parts do not match.
    """
    manifest, parts = artifact.manifest, artifact.main
    try:
        prototypes = PrototypeIndex.read(parts.files["prototypes"], parts.prototypes)
        head = None if manifest.head is None else MlpHead.read(parts.files["head"])
        background = MlpHead.read(parts.files["background"]) if manifest.background else None
    except (OSError, ValueError, KeyError):
        return None
    if prototypes.dimensions != manifest.dimensions:
        return None
    if head is not None and head.direct.shape != (manifest.dimensions, len(manifest.categories)):
        return None
    if background is not None and background.direct.shape != (manifest.dimensions, len(manifest.categories) + 1):
        return None
    return Scorer(prototypes, head, manifest.weight, manifest.calibration, background, manifest.background)
