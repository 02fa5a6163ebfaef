"""Update the examples of an index without embedding the rest again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute.arrays import read_npy
from semroute.data.rows import usable
from semroute.encoders.registry import load_encoder
from semroute.errors import ArtifactError, DataError, EncoderError
from semroute.evaluate.routing import Overlap, overlaps
from semroute.index import Artifact, PrototypeIndex, Scorer
from semroute.learn.artifact import Examples, Material, build_artifact, embed, given_thresholds, write_index
from semroute.learn.background import background_for
from semroute.learn.category_head import HeadPlan, continue_head
from semroute.learn.first_stage import FirstStageFit, FirstStagePlan
from semroute.learn.fit import FitOptions, Fitted, HeldOutScores, category_prototypes, complete_fit, mean_by_group
from semroute.learn.near_twins import group_means, near_twins
from semroute.learn.reuse import FitRecord, HeldOutRows, stored_scorer
from semroute.learn.tune import known_categories
from semroute.predictors.category_head import MlpHead
from semroute.text.names import name_problem, normalize_name
from semroute.types import Encoder, Matrix
from semroute.types.protocols import Progress, silent

# Stored examples of an artifact.


def stored_examples(artifact: Artifact) -> tuple[Examples, Matrix]:
    """Return the examples of an artifact and their ``(n, d)`` vectors.

    The vectors are memory-mapped and read-only.

    Raises:
        ArtifactError: the two do not match, or the files are gone since the artifact was replaced.
    """
    entries = artifact.manifest.categories
    try:
        categories, texts = artifact.examples()
        vectors: Matrix = read_npy(artifact.files["vectors"], mmap_mode="r")
    except FileNotFoundError as error:
        raise ArtifactError(f"{error.filename}: gone, since the index was replaced; try again") from error
    except (KeyError, ValueError, OSError) as error:
        raise ArtifactError(f"{artifact.folder}: the stored examples are unusable; build the index again") from error
    shape = len(texts), artifact.manifest.dimensions
    if vectors.shape != shape or vectors.dtype.kind != "f" or set(categories) != set(entries):
        raise ArtifactError(f"{artifact.folder}: examples and vectors do not match; build the index again")
    if not np.isfinite(vectors).all():
        raise ArtifactError(f"{artifact.folder}: a stored vector is not finite; build the index again")
    examples = Examples(
        texts=tuple(texts),
        owners=tuple(categories),
        descriptions={name: entry.description for name, entry in entries.items()},
        models={name: entry.models for name, entry in entries.items()},
        pinned={name: entry.threshold for name, entry in entries.items() if entry.threshold_from == "file"},
    )
    return examples, vectors


def stored_first_stage(artifact: Artifact) -> FirstStagePlan | None:
    """Return the plan of an artifact's first stage; None without one.

    A bar that was chosen against out-of-scope queries stays the minimum: those queries are not stored.

    Raises:
        ArtifactError: its parts do not match, or are damaged.
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


@dataclass(frozen=True, slots=True)
class NamedStray:
    """An example that is nearer to an example of another category.

    With its cosine to the nearest of its own category, and the example of the other.
    """

    query: str
    own: float
    rival: str
    other: float


@dataclass(frozen=True, slots=True)
class NamedOverlap:
    """:class:`~semroute.evaluate.routing.Overlap` with names and texts."""

    category: str
    other: str
    share: float
    count: int
    worst: tuple[NamedStray, ...]


def overlapping(artifact: Artifact, *, worst: int = 3) -> list[NamedOverlap]:
    """List the most overlapping categories, with ``worst`` examples per pair.

    Raises:
        ArtifactError: the stored examples are unusable.
    """
    examples, vectors = stored_examples(artifact)
    return [_named(pair, examples) for pair in overlaps(vectors, examples.labels, worst=worst)]


def _named(pair: Overlap, examples: Examples) -> NamedOverlap:
    names, texts = examples.categories, examples.texts
    worst = tuple(NamedStray(texts[s.row], s.own, texts[s.rival], s.other) for s in pair.worst)
    return NamedOverlap(names[pair.category], names[pair.other], pair.share, pair.count, worst)


# Continuation of a fit after a small change, in place of a full one.
#
# What depends on the changed category alone is made anew as in a full fit: its groups and its prototypes. The training
# of the head is continued for a few steps. Choices stay: the number of prototypes and the weight of the head.
# Thresholds and calibration are refitted on the held-out rows of the last full fit and on the new examples, with their
# scores by the index from before they were added.

MAX_CHANGED = 0.02
"""Maximum share of an index's examples changed since the last full fit. With 1 in 22 changed, a head whose training was
continued was over a point of accuracy behind one trained anew; with 3 of 3,650, within the variation of seeds. The
limit lies between, and was not measured itself."""

MAX_CHANGED_OF_CATEGORY = 0.1
"""The same for the examples of each category."""

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Edit:
    """Change of one category's examples: removals, then additions at the end.

    Attributes:
        category: the changed category.
        kept: numbers of the old examples that stay, in their order.
        added: number of new examples after them.
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
    """Write a small change into an index, or return None for a full fit.

    Where a full fit is needed, nothing is written.

    Args:
        artifact: the index, as it was opened.
        encoder: its encoder.
        examples: all examples after the change.
        vectors: ``(n, d)`` their vectors.
        edit: the change.
        notes: further entries of the validation report.
        progress: called with a step's name, the number done and the total.

    Raises:
        ArtifactError: the artifact cannot be written, or was replaced in the meantime.
        MissingExtraError: the extra "build" is not installed.
    """
    record, scorer = _continued_fit(artifact, examples, edit)
    if record is None or scorer is None:
        return None
    progress("fitting", 0, 1)
    labels, number = examples.labels, examples.categories.index(edit.category)
    groups = _regrouped(record.groups, examples, labels, vectors, edit, number)
    held_out = _held_rows(record, groups, labels, vectors, edit, scorer)
    if len(held_out.labels) == 0:
        return None
    report = {**record.report, "groups": int(groups.max()) + 1, "held_out": len(held_out.labels)}
    changed = {**record.changed, edit.category: record.changed.get(edit.category, 0) + _size(record, edit)}
    report["changed_since_full_fit"] = sum(changed.values())
    changed_groups = np.unique(groups[len(edit.kept) :])
    scorer = _continued_scorer(scorer, group_means(vectors, labels, groups), changed_groups, report)
    fitted = complete_fit(
        scorer, report, HeldOutScores(held_out.matrix(len(examples.categories)), held_out.labels), held_out.groups
    )
    thresholds, _ = given_thresholds(examples, fitted)
    contents = Material(examples, vectors, thresholds, FitRecord("", groups, held_out, fitted.report, changed))
    progress("fitting", 1, 1)
    return _write_continued(artifact, contents, fitted, encoder, notes)


def _write_continued(
    artifact: Artifact, contents: Material, fitted: Fitted, encoder: Encoder, notes: Mapping[str, Any]
) -> Artifact:
    staged, min_margin = FirstStageFit(None, fitted, {}), artifact.manifest.ask_bar
    return write_index(artifact.folder, contents, staged, encoder, ask_bar=min_margin, notes=notes, replaces=artifact)


def _continued_fit(artifact: Artifact, examples: Examples, edit: Edit) -> tuple[FitRecord | None, Scorer | None]:
    """Return the record and scorer to continue.

    None where a full fit is needed.
    """
    entries = artifact.manifest.categories
    record = FitRecord.read(artifact) if artifact.manifest.first_stage is None else None
    if record is None or examples.categories != tuple(entries) or record.report.get("names"):
        return None, None  # names that count as examples are embedded and judged anew
    size = _size(record, edit)
    largest = MAX_CHANGED * len(record.groups)
    if size + sum(record.changed.values()) > largest:
        return None, None
    if size + record.changed.get(edit.category, 0) > MAX_CHANGED_OF_CATEGORY * entries[edit.category].examples:
        return None, None
    return record, stored_scorer(artifact)


def _size(record: FitRecord, edit: Edit) -> int:
    return edit.added + len(record.groups) - len(edit.kept)


def _regrouped(
    old_groups: Numbers, examples: Examples, labels: Numbers, vectors: Matrix, edit: Edit, category: int
) -> Numbers:
    """Regroup the examples of the changed category.

    The numbers are those that :func:`near_twins` gives for all.
    """
    groups = np.concatenate([old_groups[edit.kept], np.zeros(edit.added, np.int64)])
    rows = np.flatnonzero(labels == category)
    own_groups = near_twins([examples.texts[row] for row in rows], np.zeros(len(rows), np.int64), vectors[rows])
    groups[rows] = own_groups + old_groups.max() + 1
    _, first, own_groups = np.unique(groups, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first)), dtype=np.int64)[own_groups]


def _held_rows(
    record: FitRecord, groups: Numbers, labels: Numbers, vectors: Matrix, edit: Edit, scorer: Scorer
) -> HeldOutRows:
    """Return the held-out rows by new group numbers.

    Each group of only new examples gets one more row.
    """
    new_number = {
        int(old_group): int(new_rows)
        for old_group, new_rows in zip(record.groups[edit.kept][::-1], groups[: len(edit.kept)][::-1], strict=True)
    }
    held_out = record.held
    numbers = np.array([new_number.get(int(group), -1) for group in held_out.groups], dtype=np.int64)
    # Of groups that were merged, the first represents all.
    is_kept = np.zeros(len(numbers), dtype=np.bool_)
    is_kept[np.unique(numbers, return_index=True)[1]] = True
    is_kept &= numbers >= 0
    held_out = HeldOutRows(numbers, held_out.labels, held_out.first, held_out.second, held_out.scores).only(is_kept)
    new_rows = np.arange(len(edit.kept), len(groups))
    new_rows = new_rows[~np.isin(groups[new_rows], groups[: len(edit.kept)])]
    if len(new_rows) == 0:
        return held_out
    scores = mean_by_group(scorer.scores(vectors[new_rows]), groups[new_rows])
    numbers, first = np.unique(groups[new_rows], return_index=True)
    return held_out.joined(HeldOutRows.of(scores, labels[new_rows][first], numbers))


def _continued_scorer(
    scorer: Scorer, data: tuple[Matrix, Numbers], changed_groups: Numbers, report: Mapping[str, Any]
) -> Scorer:
    rows, category_of_group = data
    seed = int(report["seed"])
    prototypes, counts = category_prototypes(rows, category_of_group, int(report["prototypes_per_category"]), seed=seed)
    head = scorer.head
    if head is not None:
        assert isinstance(head, MlpHead)
        head = continue_head(head, rows, category_of_group, changed_groups, HeadPlan(seed=seed))
    return replace(scorer, prototypes=PrototypeIndex.build(prototypes, counts), head=head)


# Adding and removing examples and categories without embedding the rest again.
#
# A small change of a large index continues its fit (:mod:`semroute.learn.update`). A new or removed category, a first
# stage, or many changes since the last full fit need a full fit.

_KEPT_NOTES = ("encoder_tuned", "tuning_steps", "tuned_on")
TUNED_NOTE = "the encoder was tuned on most of these examples, so that the held-out figures are better than in use"


@dataclass(frozen=True, slots=True)
class Changed:
    """A changed artifact.

    Attributes:
        artifact: the new one, in the same folder.
        added, removed: number of examples.
        skipped: texts to add that the category already held.
        elsewhere: added texts that another category holds too, with that category.
        untuned: categories whose threshold came from out-of-scope queries and is now that of held-out examples, since
            scores have changed; tune again.
        first_stage_lost: True if the first stage was removed, since with these examples it does not pay.
    """

    artifact: Artifact
    added: int = 0
    removed: int = 0
    skipped: tuple[str, ...] = ()
    elsewhere: tuple[tuple[str, str], ...] = ()
    untuned: tuple[str, ...] = ()
    first_stage_lost: bool = False


def add_examples(
    artifact: Artifact,
    encoder: Encoder,
    category: str,
    texts: Sequence[str],
    *,
    description: str | None = None,
    models: Sequence[str] | None = None,
    progress: Progress = silent,
) -> Changed:
    """Add examples to a category; the other examples keep their vectors.

    A category that is not in the index is created.

    Args:
        artifact: changed in place on disk; a running server keeps the old one until the new one is complete.
        encoder: the artifact's.
        category: its name.
        texts: examples; surrounding whitespace is dropped.
        description: of the category; None keeps the old one.
        models: that serve the category, cheapest first; None keeps the old ones.
        progress: called with a step's name, the number done and the total.

    Raises:
        DataError: a text is blank or no valid Unicode, or a new category has no examples or an unusable name.
        ArtifactError: the artifact cannot be read or written.
        MissingExtraError: the extra "build" is not installed.
    """
    examples, vectors = stored_examples(artifact)
    if category not in examples.descriptions:
        category = normalize_name(category.strip())
    new_texts = list(dict.fromkeys(_checked(text) for text in texts))
    existing = {text for text, other in zip(examples.texts, examples.owners, strict=True) if other == category}
    missing = [text for text in new_texts if text not in existing]
    problem = name_problem(category)
    if category not in examples.descriptions and problem is not None:
        raise DataError(f"{category!a}: {problem}")
    if category not in examples.descriptions and not missing:
        raise DataError(f'a new category "{category}" needs examples; name at least one, better five')
    category_of = dict(zip(examples.texts, examples.owners, strict=True))
    extended = Examples(
        texts=(*examples.texts, *missing),
        owners=(*examples.owners, *[category] * len(missing)),
        descriptions=_with_settings(examples.descriptions, category, description, ""),
        models=_with_settings(examples.models, category, None if models is None else tuple(models), ()),
        pinned=examples.pinned,
    )
    all_vectors = np.concatenate([vectors, embed(encoder, missing, progress)])
    edit = Edit(category, np.arange(len(examples.texts)), len(missing))
    changed = _rebuild(artifact, encoder, extended, all_vectors, edit, progress)
    return replace(
        changed,
        added=len(missing),
        skipped=tuple(text for text in new_texts if text in existing),
        elsewhere=tuple((text, category_of[text]) for text in missing if text in category_of),
    )


def remove_examples(
    artifact: Artifact, encoder: Encoder, category: str, texts: Collection[str], *, progress: Progress = silent
) -> Changed:
    """Remove examples from a category; the other examples keep their vectors.

    What a full fit needs beside them is embedded: names of categories with few examples, examples without their
    boilerplate, and the background where its vectors are not cached.

    Raises:
        DataError: no such category or example, or the category would be left without any.
        ArtifactError: the artifact cannot be read or written.
        MissingExtraError: the extra "build" is not installed.
    """
    examples, vectors = stored_examples(artifact)
    category = _known(examples, category)
    removed = {text.strip() for text in texts}
    owned = {text for text, other in zip(examples.texts, examples.owners, strict=True) if other == category}
    unknown = sorted(removed - owned)
    if unknown:
        raise DataError(f'"{category}" has no example {unknown[0]!a}; write it exactly as it is stored')
    if removed == owned:
        raise DataError(f'these are all examples of "{category}"; remove the category instead')
    rows = zip(examples.texts, examples.owners, strict=True)
    is_kept = np.array([not (other == category and text in removed) for text, other in rows])
    edit = Edit(category, np.flatnonzero(is_kept), 0)
    changed = _rebuild(artifact, encoder, _select_examples(examples, is_kept), vectors[is_kept], edit, progress)
    return replace(changed, removed=len(removed))


def remove_category(artifact: Artifact, encoder: Encoder, category: str, *, progress: Progress = silent) -> Changed:
    """Remove a category with its examples; the others keep their vectors.

    What else a full fit needs is embedded, as :func:`remove_examples` says.

    Raises:
        DataError: no such category, or it is the only one.
        ArtifactError: the artifact cannot be read or written.
        MissingExtraError: the extra "build" is not installed.
    """
    examples, vectors = stored_examples(artifact)
    category = _known(examples, category)
    if len(examples.descriptions) == 1:
        raise DataError(f'"{category}" is the only category; an index without any could not route')
    is_kept = np.array([other != category for other in examples.owners])
    edit = Edit(category, np.flatnonzero(is_kept), 0)
    changed = _rebuild(artifact, encoder, _select_examples(examples, is_kept), vectors[is_kept], edit, progress)
    return replace(changed, removed=int((~is_kept).sum()))


def _rebuild(
    artifact: Artifact,
    encoder: Encoder,
    examples: Examples,
    vectors: Matrix,
    edit: Edit,
    progress: Progress,
) -> Changed:
    entries, report = artifact.manifest.categories, artifact.manifest.validation
    notes: dict[str, Any] = {key: report[key] for key in _KEPT_NOTES if key in report}
    notes["changes"] = int(report.get("changes", 0)) + 1
    if report.get("encoder_tuned"):
        notes["note"] = TUNED_NOTE
    stage = stored_first_stage(artifact)
    background, left_out = background_for(encoder, "background" in report, stage is not None, progress)
    notes |= left_out
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    updated = continued_artifact(artifact, encoder, examples, vectors, edit, notes, progress)
    if updated is None:
        # A build without a head has no figure for one, and neither has one of a single category, without a choice.
        head = report.get("accuracy_of_head", 0.0) is not None or len(entries) == 1 or "head_left_out" in report
        updated, *_ = build_artifact(
            artifact.folder,
            examples,
            vectors,
            encoder,
            options=FitOptions(head=head, seed=int(report.get("seed", 0)), progress=progress),
            first=stage,
            background=background,
            notes=notes,
            replaces=artifact,
        )
    untuned = [n for n, entry in entries.items() if entry.threshold_from == "out-of-scope" and n in examples.models]
    first_stage_lost = updated.manifest.first_stage is None and artifact.manifest.first_stage is not None
    return Changed(updated, untuned=tuple(untuned), first_stage_lost=first_stage_lost)


def _select_examples(examples: Examples, is_kept: NDArray[np.bool_]) -> Examples:
    categories = tuple(category for category, keep in zip(examples.owners, is_kept, strict=True) if keep)
    remaining = set(categories)
    return Examples(
        texts=tuple(text for text, keep in zip(examples.texts, is_kept, strict=True) if keep),
        owners=categories,
        descriptions={name: text for name, text in examples.descriptions.items() if name in remaining},
        models={name: models for name, models in examples.models.items() if name in remaining},
        pinned={name: threshold for name, threshold in examples.pinned.items() if name in remaining},
    )


def _with_settings(values: Mapping[str, Any], category: str, value: Any, default: Any) -> dict[str, Any]:
    return {**values, category: values.get(category, default) if value is None else value}


def _known(examples: Examples, category: str) -> str:
    """Return the category as the index spells it."""
    if category in examples.descriptions:
        return category
    name = normalize_name(category.strip())
    if name not in examples.descriptions:
        raise DataError(f'the index has no category "{name}"; {known_categories(name, examples.categories)}')
    return name


def _checked(text: str) -> str:
    def refuse(message: str, line: int | None) -> None:
        raise DataError(message)

    is_usable = usable(text, "an example", 0, refuse)
    assert is_usable is not None  # `refuse` raised otherwise
    return is_usable
