"""Build an index from category files or a labelled file (``build-index``)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from semroute._optional import require
from semroute.config import Config
from semroute.data.examples import CategorySet, Finding, LabelledQuery
from semroute.data.importing.writing import read_source
from semroute.encoders import universal
from semroute.encoders.cache import CachedEncoder
from semroute.encoders.export import DEFAULT_MODEL
from semroute.errors import EncoderError
from semroute.index import Artifact, Scorer, exclusive
from semroute.index.artifact import STAGING
from semroute.learn.artifact import Examples, build_artifact, embed
from semroute.learn.background import background_for
from semroute.learn.encoder import TuningPlan, tune_encoder
from semroute.learn.first_stage import FirstStagePlan, ValidationRows
from semroute.learn.fit import FitOptions, Split, splits
from semroute.learn.near_twins import example_findings, near_twins
from semroute.learn.reuse import known_vectors, previous_artifact
from semroute.learn.thresholds import RejectionTarget
from semroute.learn.tune import TuneReport, label_numbers, tune_artifact
from semroute.plugins import Plugins
from semroute.types import Encoder, Matrix
from semroute.types.protocols import Progress, silent

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


REMEMBERED = 32
"""Cache size beyond the validation rows: vectors of probes and of vague questions."""

EncoderKind = Literal["onnx", "torch", "static", "multilingual", "joined", "remote", "plugin"]


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """Encoder to build an index with.

    Attributes:
        kind: ``onnx`` (int8, exported here), ``torch``, ``static`` (distilled here), ``multilingual``, ``joined`` (that
            and the built-in one), ``remote`` or ``plugin``.
        model: a sentence-transformers model by name or folder; the server's name of it where remote; ``name:argument``
            of a plugin; without effect where multilingual or joined.
        base_url: of the remote endpoint.
        api_key_env: environment variable with the remote endpoint's key.
        plugins: plugins that may be named.
    """

    kind: EncoderKind = "onnx"
    model: str = DEFAULT_MODEL
    base_url: str | None = None
    api_key_env: str | None = None
    plugins: Plugins = field(default_factory=Plugins)

    @classmethod
    def of(cls, config: Config | None) -> EncoderChoice:
        """Return the encoder that a configuration names.

        By default the built-in one as int8 ONNX.
        """
        configured = None if config is None else config.encoder
        if configured is None:
            return cls()
        return cls(configured.kind, configured.model, configured.base_url, configured.api_key_env, configured.plugins)

    @classmethod
    def for_index(cls, config: Config | None, *, english: bool = False) -> EncoderChoice:
        """Return the encoder of a new index: the configured or the default one.

        The default is ``joined``, where the extra "multilingual" is installed, and else ``onnx``.

        Args:
            config: configuration that may name an encoder.
            english: whether the default is to be ``onnx`` in any case, as for tuning and a first stage, which know
                English alone.
        """
        if (config is not None and config.encoder is not None) or english or not universal.is_installed():
            return cls.of(config)
        return cls(kind="joined")


@dataclass(frozen=True, slots=True)
class Built:
    """A finished build: artifact, findings, and tuning with labelled queries.

    The findings are on the files and examples.
    """

    artifact: Artifact
    findings: Sequence[Finding]
    tuned: TuneReport | None


def build_index(
    source: Path,
    folder: Path,
    *,
    encoder: EncoderChoice | None = None,
    tune: TuningPlan | None = None,
    head: bool = True,
    first_stage: bool = False,
    background: bool = True,
    validation: Sequence[LabelledQuery] | None = None,
    target: RejectionTarget | None = None,
    config: Config | None = None,
    seed: int = 0,
    fresh: bool = False,
    progress: Progress = silent,
) -> Built:
    """Build an artifact: read category files, embed, validate, fit and write.

    Where ``folder`` holds an index of the same encoder, its vectors of known texts are reused, and so is its fit if
    examples and settings are the same: the result is that of a build into an empty folder.

    Args:
        source: folder of category files, or one labelled file in any format that is imported.
        folder: where the artifact goes.
        encoder: which encoder; None takes that of :meth:`EncoderChoice.for_index`.
        tune: settings for contrastive tuning of the encoder on the examples; None leaves the encoder as it is.
        head: whether validation may choose a trained head.
        first_stage: also distil a static encoder from the model (from the built-in one for remote and plugins), which
            decides queries that it is confident of; it is left out where that does not pay.
        background: whether validation may choose a background head (:mod:`semroute.learn.background`).
        validation: labelled queries, out-of-scope ones among them, to set thresholds and calibration from.
        target: target of the thresholds with ``validation``.
        config: its models of categories take precedence over those of the category files.
        seed: of everything drawn; the same input and seed give the same artifact on one machine.
        fresh: reuse nothing of the index that is replaced.
        progress: called with a step's name, the number done and the total.

    Raises:
        DataError: a category file cannot be used; every problem is named with file and line.
        EncoderError: no such model, or a first stage for an encoder that is static already.
        ArtifactError: the folder cannot be written, holds something else, or another build is writing there.
        MissingExtraError: the extra "build" is not installed, or "static" where ``first_stage`` needs it.
    """
    choice = encoder or EncoderChoice.for_index(config, english=tune is not None or first_stage)
    _check_first_stage(choice, first_stage)
    read = read_source(source)
    examples = collect(read, config or Config())
    known = None if validation is None else _Validation(validation, target or RejectionTarget())
    # From the start: a folder is refused before minutes are spent. Its next build removes what a killed one left.
    with exclusive(folder), TemporaryDirectory(prefix=STAGING, dir=folder) as work, ExitStack() as stack:
        made = _make(choice, tune, examples, Path(work), seed, progress)
        stack.callback(getattr(made.encoder, "close", lambda: None))  # a remote encoder holds connections
        previous = None if fresh else previous_artifact(folder)
        vectors, groups = _embedded(made.encoder, examples, previous, progress)
        stage = _first_stage(made.source, Path(work), examples, known, progress) if first_stage else None
        options = FitOptions(head, made.plan, seed, progress)
        parts = _Parts(examples, vectors, groups, made.encoder, made.notes, options, background, stage)
        artifact, _, report = _fit_and_tune(folder, parts, known, previous)
    findings = [*read.findings, *example_findings(read.categories, examples.labels, groups, vectors)]
    return Built(artifact, findings, report)


@dataclass(frozen=True, slots=True)
class _Validation:
    """Labelled queries outside the examples, and the target of thresholds."""

    rows: Sequence[LabelledQuery]
    target: RejectionTarget


@dataclass(frozen=True, slots=True)
class _Parts:
    """Embedded examples with all that a fit of them needs.

    Attributes:
        examples, vectors, groups: the examples, ``(n, d)`` their vectors, and ``(n,)`` their near-duplicate groups.
        encoder: made the vectors.
        notes: on the encoder, for the report.
        options: settings of the fit.
        background: whether queries of no category may be used.
        stage: encoder and validation data of a first stage; None for none.
    """

    examples: Examples
    vectors: Matrix
    groups: NDArray[np.int64]
    encoder: Encoder
    notes: Mapping[str, Any]
    options: FitOptions
    background: bool
    stage: FirstStagePlan | None = None


def _embedded(
    encoder: Encoder, examples: Examples, previous: Artifact | None, progress: Progress
) -> tuple[Matrix, NDArray[np.int64]]:
    """Embed examples without stored vectors, and group near twins."""
    vectors = embed(encoder, examples.texts, progress, known_vectors=known_vectors(previous, encoder))
    return vectors, near_twins(examples.texts, examples.labels, vectors)


def _fit_and_tune(
    folder: Path | None, parts: _Parts, validation: _Validation | None, previous: Artifact | None
) -> tuple[Artifact, Scorer, TuneReport | None]:
    """Fit, write the artifact, and tune its thresholds on validation rows.

    Nothing is written without a folder.
    """
    # The validation rows are needed twice, for the bar and for the thresholds, so their vectors are cached.
    remembering = CachedEncoder(parts.encoder, REMEMBERED + (0 if validation is None else len(validation.rows)))
    options = parts.options
    background, left_out = background_for(parts.encoder, parts.background, parts.stage is not None, options.progress)
    artifact, scorer, first = build_artifact(
        folder,
        parts.examples,
        parts.vectors,
        remembering,
        groups=parts.groups,
        options=options,
        first=parts.stage,
        background=background,
        notes={**parts.notes, **left_out},
        previous=previous,
    )
    if validation is None:
        return artifact, scorer, None
    report = tune_artifact(
        artifact, remembering, scorer, validation.rows, validation.target, first=first, seed=options.seed
    )
    return report.artifact, scorer, report


@dataclass(frozen=True, slots=True)
class MemoryIndex:
    """Index that was built in memory: artifact, its scorer, and findings."""

    artifact: Artifact
    scorer: Scorer
    findings: Sequence[Finding]


def build_in_memory(
    read: CategorySet,
    encoder: Encoder,
    *,
    validation: Sequence[LabelledQuery] | None = None,
    target: RejectionTarget | None = None,
    config: Config | None = None,
    background: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> MemoryIndex:
    """Build an index as :func:`build_index` does, without a folder.

    Args:
        read: the categories with their examples.
        encoder: embeds the examples, and later the queries.
        validation: labelled queries to set thresholds and calibration from, out-of-scope ones among them.
        target: target of the thresholds with ``validation``.
        config: its models of categories take precedence over those of ``read``.
        background: as for :func:`build_index`.
        seed: of everything drawn.
        progress: called with a step's name, the number done and the total.

    Raises:
        DataError: a label of ``validation`` is not a category.
        MissingExtraError: the extra "build" is not installed.
    """
    examples = collect(read, config or Config())
    _learn_languages(encoder, examples)
    vectors, groups = _embedded(encoder, examples, None, progress)
    options = FitOptions(seed=seed, progress=progress)
    parts = _Parts(examples, vectors, groups, encoder, {"encoder_tuned": False}, options, background)
    known = None if validation is None else _Validation(validation, target or RejectionTarget())
    artifact, scorer, tuned = _fit_and_tune(None, parts, known, None)
    if tuned is not None:
        scorer = replace(scorer, calibration=artifact.manifest.calibration)
    findings = example_findings(read.categories, examples.labels, groups, vectors)
    return MemoryIndex(artifact, scorer, [*read.findings, *findings])


def collect(read: CategorySet, config: Config) -> Examples:
    """Collect the examples of all categories in alphabetical order.

    Models of the configuration take precedence over those of the category files.
    """
    categories = sorted(read.categories, key=lambda category: category.name)
    models = {}
    for category in categories:
        override = config.categories.get(category.name)
        models[category.name] = (override and override.models) or category.models
    return Examples(
        texts=tuple(text for category in categories for text in category.examples),
        owners=tuple(category.name for category in categories for _ in category.examples),
        descriptions={category.name: category.description for category in categories},
        models=models,
        pinned={category.name: category.threshold for category in categories if category.threshold is not None},
    )


@dataclass(frozen=True, slots=True)
class _Made:
    """An encoder with its model, held-out split and notes for the report.

    The split is that of its tuning; None untuned.
    """

    encoder: Encoder
    source: str | SentenceTransformer
    plan: list[Split] | None
    notes: Mapping[str, Any]


def _make(
    choice: EncoderChoice, tune: TuningPlan | None, examples: Examples, work_folder: Path, seed: int, progress: Progress
) -> _Made:
    progress("encoder", 0, 1)
    if tune is not None:
        made = _tuned(choice, tune, examples, work_folder, seed, progress)
    else:
        source = DEFAULT_MODEL if choice.kind in ("remote", "plugin") else choice.model
        made = _Made(make_encoder(choice, work_folder), source, None, {"encoder_tuned": False})
        _learn_languages(made.encoder, examples)
    progress("encoder", 1, 1)
    return made


def _learn_languages(encoder: Encoder, examples: Examples) -> None:
    """Count the languages of the examples among those that the encoder knows."""
    learn = getattr(encoder, "learn_languages", None)
    if learn is not None:
        learn(examples.texts)


def _check_first_stage(choice: EncoderChoice, wanted: bool) -> None:
    """Refuse a first stage that an encoder cannot have, before long work."""
    if not wanted:
        return
    if choice.kind == "static":
        raise EncoderError("a static encoder is a first stage already; leave out --first-stage or --encoder")
    require("model2vec.distill", what="distilling a first stage", extra="static")


def _first_stage(
    source: str | SentenceTransformer,
    work_folder: Path,
    examples: Examples,
    validation: _Validation | None,
    progress: Progress,
) -> FirstStagePlan:
    from semroute.encoders.static import distill_static

    progress("first stage", 0, 1)
    encoder = distill_static(source, work_folder / "first")
    progress("first stage", 1, 1)
    if validation is None or not validation.rows:
        return FirstStagePlan(encoder)
    labels = label_numbers(validation.rows, examples.categories)
    rows = ValidationRows([row.query for row in validation.rows], labels, validation.target)
    return FirstStagePlan(encoder, rows)


def make_encoder(choice: EncoderChoice, work_folder: Path, env: Mapping[str, str] = os.environ) -> Encoder:
    """Create an encoder of the wanted kind, its files in ``work_folder``.

    ``env`` holds the key of a remote one.
    """
    if choice.kind == "onnx":
        from semroute.encoders.export import export_onnx

        return export_onnx(choice.model, work_folder / "onnx").load()
    if choice.kind == "multilingual":
        from semroute.encoders.export import export_multilingual

        return export_multilingual(work_folder / "onnx")
    if choice.kind == "joined":
        from semroute.encoders.export import export_joined

        return export_joined(work_folder / "onnx")
    if choice.kind == "torch":
        from semroute.encoders.torch import TorchEncoder

        return TorchEncoder(choice.model)
    if choice.kind == "static":
        from semroute.encoders.static import distill_static

        return distill_static(choice.model, work_folder / "static")
    if choice.kind == "plugin":
        from semroute.encoders.plugin import open_plugin_encoder

        return open_plugin_encoder(choice.model, choice.plugins)
    if choice.base_url is None:
        raise EncoderError("a remote encoder needs its address: --base-url https://…/v1")
    from semroute.encoders.remote import RemoteEncoder

    return RemoteEncoder(choice.base_url, choice.model, api_key_env=choice.api_key_env, env=env)


def _tuned(
    choice: EncoderChoice, plan: TuningPlan, examples: Examples, work_folder: Path, seed: int, progress: Progress
) -> _Made:
    from semroute.encoders.export import export_onnx, load, name_of

    if choice.kind != "onnx":
        raise EncoderError(f"only an onnx encoder can be tuned, not a {choice.kind} one; leave out --encoder")
    labels = examples.labels
    # The tuned encoder has seen its examples, so these cannot validate it: a tenth is held out of tuning.
    held_out = held_tenth(labels, seed, near_twins(examples.texts, labels))
    rows = np.setdiff1d(np.arange(len(labels)), held_out)
    sentence = load(choice.model, purpose="tuning the encoder")
    texts = [examples.texts[row] for row in rows]
    vectors: Matrix = sentence.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    tuned = tune_encoder(
        sentence, texts, labels[rows], vectors, plan, lambda done, total: progress("tuning the encoder", done, total)
    )
    exported = export_onnx(tuned, work_folder / "onnx", name=f"{name_of(choice.model)} (tuned)")
    notes = {"encoder_tuned": True, "tuning_steps": plan.steps_for(len(texts)), "tuned_on": len(texts)}
    return _Made(exported.load(), tuned, [Split(rows, held_out)] if len(held_out) else [], notes)


def held_tenth(labels: NDArray[np.int64], seed: int, groups: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Return rows of a stratified tenth to hold out.

    It is half of the first fifth that :func:`~semroute.learn.fit.splits` holds out.
    """
    first = splits(labels, groups, seed=seed)
    if not first:
        return np.zeros(0, dtype=np.int64)
    first_fifth = first[0].held
    return (
        first_fifth[::2]
        if groups is None
        else first_fifth[np.isin(groups[first_fifth], np.unique(groups[first_fifth])[::2])]
    )
