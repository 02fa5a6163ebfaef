"""Examples and categories that come and go without embedding the rest again.

A small change of a large index continues its fit (:mod:`semroute.learn.continuing`). A new category, a category that
goes, a first stage, or many changes since the last full fit bring a full fit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute.categories.rows import usable
from semroute.errors import DataError
from semroute.index import Artifact
from semroute.learn.build import Examples, build_artifact, embed
from semroute.learn.continuing import Edit, continued_artifact
from semroute.learn.stored import stored_examples, stored_first_stage
from semroute.learn.tuning import known_categories
from semroute.texts.names import name_problem, normalize_name
from semroute.types import Encoder, Matrix
from semroute.types.progress import Progress

_KEPT_NOTES = ("encoder_tuned", "tuning_steps", "tuned_on")
TUNED_NOTE = "the encoder was tuned on most of these examples, so that the held-out figures are better than in use"


def _silent(step: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Changed:
    """A changed artifact.

    Attributes:
        artifact: as it is now, in the same folder.
        added, removed: how many examples.
        skipped: texts to add that the category held already.
        elsewhere: texts added that another category holds too, with that category.
        untuned: categories whose threshold came from out-of-scope queries and is now that of held-out examples, since
            scores have changed; tune again.
        first_stage_lost: whether the first stage is gone, since with these examples it does not pay.
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
    progress: Progress = _silent,
) -> Changed:
    """Add examples to a category, which is made where the index lacks it; only their texts are embedded.

    Args:
        artifact: changed in place on disk; what serves goes on serving until the new one is complete.
        encoder: the artifact's.
        category: its name.
        texts: examples; surrounding whitespace is dropped.
        description: of the category; None keeps what it has.
        models: that serve the category, cheapest first; None keeps what it has.
        progress: called with a step's name, what is done and the total.

    Raises:
        DataError: a text is blank or no valid Unicode, or a new category has no examples or an unusable name.
        ArtifactError: the artifact cannot be read or written.
        MissingExtraError: the extra "build" is not installed.
    """
    examples, vectors = stored_examples(artifact)
    if category not in examples.descriptions:
        category = normalize_name(category.strip())
    wanted = list(dict.fromkeys(_checked(text) for text in texts))
    held = {text for text, owner in zip(examples.texts, examples.owners, strict=True) if owner == category}
    fresh = [text for text in wanted if text not in held]
    problem = name_problem(category)
    if category not in examples.descriptions and problem is not None:
        raise DataError(f"{category!a}: {problem}")
    if category not in examples.descriptions and not fresh:
        raise DataError(f'a new category "{category}" needs examples; name at least one, better five')
    owners = dict(zip(examples.texts, examples.owners, strict=True))
    grown = Examples(
        texts=(*examples.texts, *fresh),
        owners=(*examples.owners, *[category] * len(fresh)),
        descriptions=_with(examples.descriptions, category, description, ""),
        models=_with(examples.models, category, None if models is None else tuple(models), ()),
        pinned=examples.pinned,
    )
    all_vectors = np.concatenate([vectors, embed(encoder, fresh, progress)])
    edit = Edit(category, np.arange(len(examples.texts)), len(fresh))
    changed = _rebuild(artifact, encoder, grown, all_vectors, edit, progress)
    return replace(
        changed,
        added=len(fresh),
        skipped=tuple(text for text in wanted if text in held),
        elsewhere=tuple((text, owners[text]) for text in fresh if text in owners),
    )


def remove_examples(
    artifact: Artifact, encoder: Encoder, category: str, texts: Collection[str], *, progress: Progress = _silent
) -> Changed:
    """Remove examples from a category; nothing is embedded.

    Raises:
        DataError: no such category or example, or the category would be left without any.
        ArtifactError: the artifact cannot be read or written.
        MissingExtraError: the extra "build" is not installed.
    """
    examples, vectors = stored_examples(artifact)
    category = _known(examples, category)
    wanted = {text.strip() for text in texts}
    owned = {text for text, owner in zip(examples.texts, examples.owners, strict=True) if owner == category}
    missing = sorted(wanted - owned)
    if missing:
        raise DataError(f'"{category}" has no example {missing[0]!a}; write it exactly as it is stored')
    if wanted == owned:
        raise DataError(f'these are all examples of "{category}"; remove the category instead')
    rows = zip(examples.texts, examples.owners, strict=True)
    kept = np.array([not (owner == category and text in wanted) for text, owner in rows])
    edit = Edit(category, np.flatnonzero(kept), 0)
    changed = _rebuild(artifact, encoder, _only(examples, kept), vectors[kept], edit, progress)
    return replace(changed, removed=len(wanted))


def remove_category(artifact: Artifact, encoder: Encoder, category: str, *, progress: Progress = _silent) -> Changed:
    """Remove a category with its examples; nothing is embedded.

    Raises:
        DataError: no such category, or it is the only one.
        ArtifactError: the artifact cannot be read or written.
        MissingExtraError: the extra "build" is not installed.
    """
    examples, vectors = stored_examples(artifact)
    category = _known(examples, category)
    if len(examples.descriptions) == 1:
        raise DataError(f'"{category}" is the only category; an index without any could not route')
    kept = np.array([owner != category for owner in examples.owners])
    edit = Edit(category, np.flatnonzero(kept), 0)
    changed = _rebuild(artifact, encoder, _only(examples, kept), vectors[kept], edit, progress)
    return replace(changed, removed=int((~kept).sum()))


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
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    new = continued_artifact(artifact, encoder, examples, vectors, edit, notes, progress)
    if new is None:
        # A build without a head has no figure for one; so has one of a single category, for which there was no choice.
        head = report.get("accuracy_of_head", 0.0) is not None or len(entries) == 1 or "head_left_out" in report
        new, *_ = build_artifact(
            artifact.folder,
            examples,
            vectors,
            encoder,
            head=head,
            first=stored_first_stage(artifact),
            seed=int(report.get("seed", 0)),
            notes=notes,
            replaces=artifact,
            progress=progress,
        )
    untuned = [n for n, entry in entries.items() if entry.threshold_from == "out-of-scope" and n in examples.models]
    lost = new.manifest.first_stage is None and artifact.manifest.first_stage is not None
    return Changed(new, untuned=tuple(untuned), first_stage_lost=lost)


def _only(examples: Examples, kept: NDArray[np.bool_]) -> Examples:
    owners = tuple(owner for owner, keep in zip(examples.owners, kept, strict=True) if keep)
    left = set(owners)
    return Examples(
        texts=tuple(text for text, keep in zip(examples.texts, kept, strict=True) if keep),
        owners=owners,
        descriptions={name: text for name, text in examples.descriptions.items() if name in left},
        models={name: models for name, models in examples.models.items() if name in left},
        pinned={name: threshold for name, threshold in examples.pinned.items() if name in left},
    )


def _with(values: Mapping[str, Any], category: str, value: Any, default: Any) -> dict[str, Any]:
    return {**values, category: values.get(category, default) if value is None else value}


def _known(examples: Examples, category: str) -> str:
    """The category as the index writes it."""
    if category in examples.descriptions:
        return category
    name = normalize_name(category.strip())
    if name not in examples.descriptions:
        raise DataError(f'the index has no category "{name}"; {known_categories(name, examples.categories)}')
    return name


def _checked(text: str) -> str:
    def refuse(message: str, line: int | None) -> None:
        raise DataError(message)

    good = usable(text, "an example", 0, refuse)
    assert good is not None  # `refuse` raised otherwise
    return good
