"""Continue a fit after a small change, in place of a full one.

What depends on the changed category alone is made anew as a full fit would: its groups and its prototypes. The head is
trained on for a few steps. Choices stay: the number of prototypes and the share of the head. Thresholds and calibration
are fitted again on the held-out rows of the last full fit and on the new examples, as the index scored them before it
knew them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute.heads import MlpHead
from semroute.index import Artifact, PrototypeIndex, Scorer
from semroute.learn.build import Examples, Material, given_thresholds, write_index
from semroute.learn.first_stage import FirstStageFit
from semroute.learn.fit import Fitted, HeldOutScores, concluded
from semroute.learn.fit_record import FitRecord, HeldOutRows
from semroute.learn.head_training import HeadPlan, continue_head
from semroute.learn.near_twins import group_means, near_twins
from semroute.learn.prototypes import category_prototypes
from semroute.learn.reuse import stored_scorer
from semroute.learn.validation import mean_by_group
from semroute.types import Encoder, Matrix
from semroute.types.progress import Progress

MOST_CHANGED = 0.02
"""Share of an index's examples that may have changed since the last full fit. With 1 in 22 changed, a head that was
trained on was over a point of accuracy behind one trained anew; with 3 of 3,650, not beyond what a seed does. The limit
lies between, and was not measured itself."""

MOST_CHANGED_OF_CATEGORY = 0.1
"""The same of each category's own examples."""

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of examples: some stay, in their order, and new ones of one category follow.

    Attributes:
        category: that they came to or went from.
        kept: numbers of the old examples that stay.
        added: how many follow them.
    """

    category: str
    kept: Numbers
    added: int


def continued_artifact(
    artifact: Artifact,
    encoder: Encoder,
    examples: Examples,
    vectors: Matrix,
    edit: Edit,
    notes: Mapping[str, Any],
    progress: Progress,
) -> Artifact | None:
    """Write a small change into an index; None, and nothing is written, where a full fit is needed.

    Args:
        artifact: the index, as it was opened.
        encoder: its encoder.
        examples: all that it will have.
        vectors: ``(n, d)`` their vectors.
        edit: how they came about.
        notes: further entries of the validation report.
        progress: called with a step's name, what is done and the total.

    Raises:
        ArtifactError: the artifact cannot be written, or was replaced in the meantime.
        MissingExtraError: the extra "build" is not installed.
    """
    record, scorer = _known(artifact, examples, edit)
    if record is None or scorer is None:
        return None
    progress("fitting", 0, 1)
    labels, number = examples.labels, examples.categories.index(edit.category)
    groups = _regrouped(record.groups, examples, labels, vectors, edit, number)
    held = _held_rows(record, groups, labels, vectors, edit, scorer)
    if len(held.labels) == 0:
        return None
    report = {**record.report, "groups": int(groups.max()) + 1, "held_out": len(held.labels)}
    changed = {**record.changed, edit.category: record.changed.get(edit.category, 0) + _size(record, edit)}
    report["changed_since_full_fit"] = sum(changed.values())
    fresh = np.unique(groups[len(edit.kept) :])
    scorer = _continued_scorer(scorer, group_means(vectors, labels, groups), fresh, report)
    fitted = concluded(scorer, report, HeldOutScores(held.matrix(len(examples.categories)), held.labels), held.groups)
    thresholds, _ = given_thresholds(examples, fitted)
    material = Material(examples, vectors, thresholds, FitRecord("", groups, held, fitted.report, changed))
    progress("fitting", 1, 1)
    return _written(artifact, material, fitted, encoder, notes)


def _written(
    artifact: Artifact, material: Material, fitted: Fitted, encoder: Encoder, notes: Mapping[str, Any]
) -> Artifact:
    staged, bar = FirstStageFit(None, fitted, {}), artifact.manifest.ask_bar
    return write_index(artifact.folder, material, staged, encoder, ask_bar=bar, notes=notes, replaces=artifact)


def _known(artifact: Artifact, examples: Examples, edit: Edit) -> tuple[FitRecord | None, Scorer | None]:
    """Return what is continued; None where the change needs a full fit."""
    entries = artifact.manifest.categories
    record = FitRecord.read(artifact) if artifact.manifest.first_stage is None else None
    if record is None or examples.categories != tuple(entries):
        return None, None
    size = _size(record, edit)
    largest = MOST_CHANGED * len(record.groups)
    if size + sum(record.changed.values()) > largest:
        return None, None
    if size + record.changed.get(edit.category, 0) > MOST_CHANGED_OF_CATEGORY * entries[edit.category].examples:
        return None, None
    return record, stored_scorer(artifact)


def _size(record: FitRecord, edit: Edit) -> int:
    return edit.added + len(record.groups) - len(edit.kept)


def _regrouped(
    before: Numbers, examples: Examples, labels: Numbers, vectors: Matrix, edit: Edit, category: int
) -> Numbers:
    """Group the examples of the changed category anew; the same numbers as :func:`near_twins` gives for all."""
    groups = np.concatenate([before[edit.kept], np.zeros(edit.added, np.int64)])
    rows = np.flatnonzero(labels == category)
    own = near_twins([examples.texts[row] for row in rows], np.zeros(len(rows), np.int64), vectors[rows])
    groups[rows] = own + before.max() + 1
    _, first, own = np.unique(groups, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first)), dtype=np.int64)[own]


def _held_rows(
    record: FitRecord, groups: Numbers, labels: Numbers, vectors: Matrix, edit: Edit, scorer: Scorer
) -> HeldOutRows:
    """Return the held-out rows under the new groups' numbers, with one for each group of new examples alone."""
    now = {
        int(old): int(new)
        for old, new in zip(record.groups[edit.kept][::-1], groups[: len(edit.kept)][::-1], strict=True)
    }
    held = record.held
    numbers = np.array([now.get(int(group), -1) for group in held.groups], dtype=np.int64)
    # Of groups that became one, the first stands for all.
    kept = np.zeros(len(numbers), dtype=np.bool_)
    kept[np.unique(numbers, return_index=True)[1]] = True
    kept &= numbers >= 0
    held = HeldOutRows(numbers, held.labels, held.first, held.second, held.scores).only(kept)
    new = np.arange(len(edit.kept), len(groups))
    new = new[~np.isin(groups[new], groups[: len(edit.kept)])]
    if len(new) == 0:
        return held
    scores = mean_by_group(scorer.scores(vectors[new]), groups[new])
    numbers, first = np.unique(groups[new], return_index=True)
    return held.joined(HeldOutRows.of(scores, labels[new][first], numbers))


def _continued_scorer(
    scorer: Scorer, data: tuple[Matrix, Numbers], fresh: Numbers, report: Mapping[str, Any]
) -> Scorer:
    rows, owners = data
    seed = int(report["seed"])
    prototypes, counts = category_prototypes(rows, owners, int(report["prototypes_per_category"]), seed=seed)
    head = scorer.head
    if head is not None:
        assert isinstance(head, MlpHead)
        head = continue_head(head, rows, owners, fresh, HeadPlan(seed=seed))
    return Scorer(PrototypeIndex.build(prototypes, counts), head, scorer.weight, scorer.calibration)
