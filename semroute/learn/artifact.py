"""Fit, build and write an index artifact from labelled examples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute import __version__
from semroute.encoders.registry import save_encoder
from semroute.index import Artifact, CategoryEntry, FirstStage, FirstStageEntry, Manifest, write_artifact
from semroute.index.artifact import FIRST, IN_MEMORY, MemoryArtifact
from semroute.index.scoring import Scorer
from semroute.learn.background import Background, with_background
from semroute.learn.few_examples import NamedRows, few_categories, fit_named, name_texts
from semroute.learn.first_stage import FirstStageFit, FirstStagePlan, fit_first_stage
from semroute.learn.fit import USUAL_ASK_BAR, USUAL_OPTIONS, FitOptions, Fitted, Split, ask_bar
from semroute.learn.near_twins import near_twins, without_boilerplate
from semroute.learn.reuse import ROLE as FIT
from semroute.learn.reuse import FitRecord, HeldOutRows, fit_digest, known_fit
from semroute.text.asks import VAGUE_ASKS
from semroute.types import Encoder, Matrix
from semroute.types.protocols import Progress, silent

PROBES = (
    "What is the capital gains tax on shares held for a year?",
    "def add(a, b): return a + b",
    "where is my parcel, it was due on monday",
)
CHUNK = 256

RECORDED_FROM = 500
"""Number of examples from which the evidence of a fit is stored for reuse: fewer are fitted in a second."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Labelled examples with the settings of their categories.

    Attributes:
        texts: the examples.
        owners: category of each.
        descriptions, models, pinned: by category; ``pinned`` holds the thresholds that the category files set.
    """

    texts: tuple[str, ...]
    owners: tuple[str, ...]
    descriptions: Mapping[str, str]
    models: Mapping[str, tuple[str, ...]]
    pinned: Mapping[str, float]

    @property
    def categories(self) -> tuple[str, ...]:
        """Return names in alphabetical order, which is the order of all arrays."""
        return tuple(sorted(self.descriptions))

    @property
    def labels(self) -> NDArray[np.int64]:
        """Return the ``(n,)`` category number of each example."""
        number = {name: index for index, name in enumerate(self.categories)}
        return np.array([number[category] for category in self.owners], dtype=np.int64)


def embed(
    encoder: Encoder,
    texts: Sequence[str],
    progress: Progress = silent,
    *,
    known_vectors: Mapping[str, Matrix] = MappingProxyType({}),
) -> Matrix:
    """Embed texts in chunks, each distinct text once.

    Args:
        encoder: computes the vectors.
        texts: texts to embed.
        progress: called after each chunk with "embedding", the texts done and their total.
        known_vectors: vectors by text that the encoder has computed before.

    Returns:
        ``(n, d)`` vectors.
    """
    vector_of = dict(known_vectors)
    missing = [text for text in dict.fromkeys(texts) if text not in vector_of]
    for start in range(0, len(missing), CHUNK):
        chunk = missing[start : start + CHUNK]
        vector_of.update(zip(chunk, encoder.encode(chunk), strict=True))
        progress("embedding", len(texts) - len(missing) + start + len(chunk), len(texts))
    vectors = np.empty((len(texts), encoder.dimensions), np.float32)
    for row, text in enumerate(texts):
        vectors[row] = vector_of[text]
    return vectors


def build_artifact(
    folder: Path | None,
    examples: Examples,
    vectors: Matrix,
    encoder: Encoder,
    *,
    groups: NDArray[np.int64] | None = None,
    options: FitOptions = USUAL_OPTIONS,
    first: FirstStagePlan | None = None,
    background: Background | None = None,
    notes: Mapping[str, Any] | None = None,
    replaces: Artifact | None = None,
    previous: Artifact | None = None,
) -> tuple[Artifact, Scorer, FirstStage | None]:
    """Fit on ``vectors`` and write everything to ``folder``, if there is one.

    Args:
        folder: the artifact's folder; None builds in memory, without a first stage.
        examples: the labelled examples.
        vectors: ``(n, d)`` their vectors.
        encoder: the encoder that made them; it goes into the artifact.
        groups: ``(n,)`` near-duplicate groups; None computes them (:func:`~semroute.learn.near_twins.near_twins`).
        options: settings of the fit.
        first: a first stage to fit as well; it is left out where it does not pay.
        background: queries of no category, by the same encoder; None compares the examples with none.
        notes: further entries of the validation report.
        replaces: the index that the examples and the encoder come from, if any; another one that replaced it in
            ``folder`` meanwhile is not overwritten.
        previous: an index from which the fit is reused if it was made from the same data.

    Returns:
        The artifact, and the scorer and first stage that it holds.

    Raises:
        ArtifactError: the folder cannot be written, or holds something else.
        MissingExtraError: the extra "build" is not installed.
    """
    groups = near_twins(examples.texts, examples.labels, vectors) if groups is None else groups
    fitted, digest = _reused_or_fitted(examples, vectors, encoder, groups, options, background, previous)
    staged, thresholds = _with_first_stage(first, examples, fitted, encoder, groups, options)
    material = Material(examples, vectors, thresholds, fit_record(fitted, digest, groups))
    bar = _ask_bar(staged.index, encoder) if replaces is None else replaces.manifest.ask_bar
    artifact: Artifact
    if folder is None:
        artifact = _in_memory(material, staged, encoder, ask_bar=bar, notes=notes or {})
    else:
        artifact = write_index(folder, material, staged, encoder, ask_bar=bar, notes=notes or {}, replaces=replaces)
    return artifact, staged.index.scorer, staged.stage


def _reused_or_fitted(
    examples: Examples,
    vectors: Matrix,
    encoder: Encoder,
    groups: NDArray[np.int64],
    options: FitOptions,
    background: Background | None,
    previous: Artifact | None,
) -> tuple[Fitted, str]:
    """Return an earlier fit of the same data or a new one, and its digest."""
    names, _ = named_texts(examples, groups)
    foreign = None if background is None else background.digest
    digest = fit_digest(vectors, examples.labels, groups, options, background=foreign, names=names)
    fitted = known_fit(previous, digest)
    if fitted is None:
        fitted = fit_examples(examples, vectors, encoder, groups, options)
        if background is not None:
            fitted = with_background(fitted, vectors, examples.labels, groups, background, options)
    return fitted, digest


def _with_first_stage(
    first: FirstStagePlan | None,
    examples: Examples,
    fitted: Fitted,
    encoder: Encoder,
    groups: NDArray[np.int64],
    options: FitOptions,
) -> tuple[FirstStageFit, NDArray[np.float64]]:
    """Fit the first stage, if one is wanted; return it with the thresholds."""
    thresholds, pinned = given_thresholds(examples, fitted)
    if first is None:
        return FirstStageFit(None, fitted, {}), thresholds
    staged = fit_first_stage(
        first,
        examples.texts,
        examples.labels,
        fitted,
        encoder,
        thresholds=thresholds,
        pinned=pinned,
        groups=groups,
        options=options,
    )
    return staged, thresholds


@dataclass(frozen=True, slots=True)
class Material:
    """Contents of an artifact besides scorers and encoders.

    Attributes:
        examples: the labelled examples.
        vectors: ``(n, d)`` their vectors.
        thresholds: ``(categories,)`` minimum scores.
        record: the evidence of the fit; None where nothing was held out.
    """

    examples: Examples
    vectors: Matrix
    thresholds: NDArray[np.float64]
    record: FitRecord | None


def fit_record(fitted: Fitted, digest: str, groups: NDArray[np.int64]) -> FitRecord | None:
    """Return the evidence of a full fit, or None.

    It is None where a fit is quick or nothing was held out. ``groups`` is ``(n,)``.
    """
    held_out = fitted.held
    if held_out is None or fitted.groups is None or len(groups) < RECORDED_FROM:
        return None
    rows = HeldOutRows.of(held_out.scores, held_out.labels, fitted.groups)
    return FitRecord(digest, groups, rows, fitted.report, {})


def write_index(
    folder: Path,
    contents: Material,
    staged: FirstStageFit,
    encoder: Encoder,
    *,
    ask_bar: float | None,
    notes: Mapping[str, Any],
    replaces: Artifact | None = None,
) -> Artifact:
    """Write a finished fit with its encoders and examples to a folder.

    Args:
        folder: the artifact's folder.
        contents: examples, vectors, thresholds and evidence.
        staged: the scorers.
        encoder: encoder to store.
        ask_bar: see :class:`~semroute.index.Manifest`.
        notes: further entries of the validation report.
        replaces: an index of the same encoder, whose files stay; see :func:`build_artifact`.

    Raises:
        ArtifactError: the folder cannot be written, or holds something else.
    """
    stage = staged.stage
    with TemporaryDirectory(prefix="semroute-") as saved:
        described, saved_files = (
            _save(encoder, Path(saved) / "encoder") if replaces is None else _unchanged_encoder(replaces)
        )
        manifest = _manifest(contents, staged, encoder, described, notes, ask_bar)
        if stage is not None:
            first_described, first_files = _save(stage.encoder, Path(saved) / "first", FIRST)
            saved_files |= first_files
            manifest = replace(manifest, first_stage=_first_entry(contents.examples, staged, first_described))

        def write(staging: Path) -> dict[str, Path]:
            files = write_scorer(staged.index.scorer, staging) | _write_contents(contents, staging) | saved_files
            if stage is not None:
                assert isinstance(stage.scorer, Scorer)
                files |= write_scorer(stage.scorer, staging, FIRST)
            return files

        return write_artifact(folder, manifest, write, replaces=None if replaces is None else replaces.manifest)


def _in_memory(
    material: Material, staged: FirstStageFit, encoder: Encoder, *, ask_bar: float | None, notes: Mapping[str, Any]
) -> MemoryArtifact:
    if staged.stage is not None:
        raise ValueError("an index in memory has no first stage")
    described = {
        "kind": "memory",
        "name": encoder.name,
        "fingerprint": encoder.fingerprint,
        "dimensions": encoder.dimensions,
    }
    manifest = _manifest(material, staged, encoder, described, notes, ask_bar)
    examples = material.examples
    return MemoryArtifact(IN_MEMORY, manifest, {}, examples.owners, examples.texts, material.vectors)


def _unchanged_encoder(artifact: Artifact) -> tuple[Mapping[str, Any], dict[str, Path]]:
    files = {role: path for role, path in artifact.files.items() if role.startswith("encoder_")}
    return artifact.manifest.encoder, files


def _write_contents(contents: Material, staging: Path) -> dict[str, Path]:
    examples, record = contents.examples, contents.record
    files = {"examples": staging / "examples.jsonl", "vectors": staging / "vectors.npy"}
    rows = zip(examples.owners, examples.texts, strict=True)
    lines = [json.dumps({"category": category, "query": text}) + "\n" for category, text in rows]
    files["examples"].write_text("".join(lines), encoding="utf-8")
    np.save(files["vectors"], contents.vectors, allow_pickle=False)
    if record is not None:
        files[FIT] = staging / "fit.npz"
        record.write(files[FIT])
    return files


def fit_examples(
    examples: Examples,
    vectors: Matrix,
    encoder: Encoder,
    groups: NDArray[np.int64],
    options: FitOptions = USUAL_OPTIONS,
) -> Fitted:
    """Fit on the examples, both with and without boilerplate around them.

    Queries come in both forms. Both forms of an example are one group, so that neither weights nor folds change. Names
    and descriptions count among few examples (:mod:`semroute.learn.few_examples`).
    """
    labels = examples.labels
    names, owners = named_texts(examples, groups)
    named = NamedRows(embed(encoder, names), np.array(owners, dtype=np.int64)) if names else None
    stripped_examples = without_boilerplate(examples.texts, labels)
    if not len(stripped_examples.rows):
        return fit_named(vectors, labels, named, groups=groups, options=options)
    texts = list(dict.fromkeys(stripped_examples.texts[row] for row in stripped_examples.rows.tolist()))
    number = {text: position for position, text in enumerate(texts)}
    stripped = embed(encoder, texts)[[number[stripped_examples.texts[row]] for row in stripped_examples.rows.tolist()]]
    position = np.full(len(labels), -1, dtype=np.int64)
    position[stripped_examples.rows] = len(labels) + np.arange(len(stripped_examples.rows))
    if options.plan is not None:
        plan = [
            Split(*(np.concatenate([rows, position[rows][position[rows] >= 0]]) for rows in astuple(split)))
            for split in options.plan
        ]
        options = replace(options, plan=plan)
    return fit_named(
        np.concatenate([vectors, stripped]),
        np.concatenate([labels, labels[stripped_examples.rows]]),
        named,
        groups=np.concatenate([groups, groups[stripped_examples.rows]]),
        options=options,
    )


def named_texts(examples: Examples, groups: NDArray[np.int64]) -> tuple[list[str], list[int]]:
    """Return names and descriptions that are examples, and their categories.

    ``groups`` is ``(n,)``, the near-duplicate groups of the examples.
    """
    few = few_categories(examples.labels, groups)
    return name_texts(examples.categories, examples.descriptions, few, examples.texts)


def _save(encoder: Encoder, folder: Path, prefix: str = "") -> tuple[Mapping[str, Any], dict[str, Path]]:
    """Save an encoder; return its description and its files by role."""
    described = save_encoder(encoder, folder)
    files = {f"{prefix}encoder_{role}": folder / name for role, name in described["files"].items()}
    return {key: value for key, value in described.items() if key != "files"}, files


def write_scorer(scorer: Scorer, staging: Path, prefix: str = "") -> dict[str, Path]:
    """Write prototypes and head into ``staging``.

    Returns:
        Their paths by role, with ``prefix`` before each role.
    """
    prototypes = staging / f"{prefix}prototypes.faiss"
    scorer.prototypes.write(prototypes)
    files = {f"{prefix}prototypes": prototypes}
    if scorer.head is not None:
        head = staging / f"{prefix}head.npz"
        scorer.head.write(head)
        files[f"{prefix}head"] = head
    if scorer.background is not None:
        background = staging / f"{prefix}background.npz"
        scorer.background.write(background)
        files[f"{prefix}background"] = background
    return files


def with_thresholds(artifact: Artifact, thresholds: Mapping[str, float], source: str, **changes: Any) -> Artifact:
    """Write new thresholds (and manifest fields) into an artifact; files stay.

    Args:
        artifact: the artifact to change, in place on disk; one in memory is left as it is.
        thresholds: new minimum score by category; the other categories keep theirs.
        source: value of ``threshold_from`` for the changed ones.
        changes: other fields of :class:`~semroute.index.Manifest`.
    """
    categories = {
        name: replace(entry, threshold=float(thresholds[name]), threshold_from=source) if name in thresholds else entry
        for name, entry in artifact.manifest.categories.items()
    }
    manifest = replace(artifact.manifest, categories=categories, **changes)
    if isinstance(artifact, MemoryArtifact):
        return replace(artifact, manifest=manifest)
    return write_artifact(artifact.folder, manifest, lambda staging: artifact.files, replaces=artifact.manifest)


def given_thresholds(examples: Examples, fitted: Fitted) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return ``(categories,)`` minimum scores, and a mask of the pinned ones.

    Pinned thresholds are those that the category files set.
    """
    pinned = [examples.pinned.get(name) for name in examples.categories]
    # A threshold of 0.0 is a threshold: only None means that the file sets none.
    rows = zip(pinned, fitted.thresholds, strict=True)
    values = [float(fitted_value) if pinned_value is None else pinned_value for pinned_value, fitted_value in rows]
    return np.array(values), np.array([pinned_value is not None for pinned_value in pinned])


def _manifest(
    contents: Material,
    staged: FirstStageFit,
    encoder: Encoder,
    described: Mapping[str, Any],
    notes: Mapping[str, Any],
    min_margin: float | None,
) -> Manifest:
    scorer, examples, thresholds = staged.index.scorer, contents.examples, contents.thresholds
    counts = np.bincount(examples.labels, minlength=len(examples.categories))
    categories = {
        name: CategoryEntry(
            description=examples.descriptions[name],
            models=examples.models[name],
            examples=int(counts[number]),
            prototypes=scorer.prototypes.counts[number],
            threshold=float(thresholds[number]),
            threshold_from="file" if name in examples.pinned else "in-scope",
        )
        for number, name in enumerate(examples.categories)
    }
    left_out = {"first_stage_left_out": staged.report} if staged.report and staged.stage is None else {}
    return Manifest(
        encoder=described,
        dimensions=encoder.dimensions,
        categories=categories,
        head=None if scorer.head is None else scorer.head.kind,
        weight=scorer.weight,
        calibration=scorer.calibration,
        ask_bar=min_margin,
        background=scorer.background_weight,
        validation={"examples": len(examples.texts), **staged.index.report, **left_out, **notes},
        probes=_probes(encoder),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        built_with=__version__,
    )


def _ask_bar(fitted: Fitted, encoder: Encoder) -> float:
    if fitted.held is None:
        return USUAL_ASK_BAR
    return ask_bar(fitted.held.scores, fitted.held.labels, fitted.scorer.scores(encoder.encode(VAGUE_ASKS)))


def _first_entry(examples: Examples, staged: FirstStageFit, described: Mapping[str, Any]) -> FirstStageEntry:
    stage = staged.stage
    assert stage is not None
    scorer = stage.scorer
    assert isinstance(scorer, Scorer)
    return FirstStageEntry(
        encoder=described,
        dimensions=stage.encoder.dimensions,
        prototypes=dict(zip(examples.categories, scorer.prototypes.counts, strict=True)),
        head=None if scorer.head is None else scorer.head.kind,
        weight=scorer.weight,
        calibration=scorer.calibration,
        bar=stage.bar,
        floor=staged.floor,
        validation=staged.report,
        probes=_probes(stage.encoder),
    )


def _probes(encoder: Encoder) -> tuple[tuple[str, tuple[float, ...]], ...]:
    vectors = encoder.encode(PROBES)
    return tuple(
        (text, tuple(round(float(value), 6) for value in vector)) for text, vector in zip(PROBES, vectors, strict=True)
    )
