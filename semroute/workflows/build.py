"""Build of an index from categories."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from semroute.config import Config
from semroute.data.categories import shipped_folder
from semroute.data.examples import Finding, LabelledQuery
from semroute.data.importing.writing import read_queries, read_source
from semroute.encoders.registry import config_line, is_named
from semroute.index import Artifact
from semroute.learn.build import Built, EncoderChoice, build_index
from semroute.learn.encoder import TuningPlan
from semroute.learn.near_twins import template_key
from semroute.learn.thresholds import RejectionTarget
from semroute.learn.tune import label_numbers
from semroute.types.protocols import Progress, silent
from semroute.workflows.index import artifact_dict
from semroute.workflows.tune import OOS_RECALL, tune_report_dict
from semroute.workflows.workspace import Warn, unheard

OF_A_KIND = 10
"""Warnings listed of one kind: a thousand categories of four examples have a thousand."""


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """Settings of a build.

    Attributes:
        encoder: encoder of the index; None takes that of the configuration, else the default.
        tune_encoder: whether the encoder is tuned on the examples first.
        head: whether a head is trained beside the prototypes.
        first_stage: whether a static encoder is to answer what it is sure of.
        background: whether queries of no category may be used.
        validation: file of labelled queries for thresholds and confidence; None uses held-out examples.
        oos_recall: share of out-of-scope queries to reject, with ``validation``.
        fresh: whether vectors and fit of the replaced index are ignored.
        seed: seed of everything drawn.
    """

    encoder: EncoderChoice | None = None
    tune_encoder: bool = False
    head: bool = True
    first_stage: bool = False
    background: bool = True
    validation: Path | None = None
    oos_recall: float = OOS_RECALL
    fresh: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class BuildResult:
    """Index that was built.

    Attributes:
        built: the artifact, its findings, and its tuning if there was a validation file.
        source: folder or file of the categories.
        seconds: wall time.
        lacks_first_stage: True if a first stage was requested and left out.
        encoder_line: line that the configuration needs for this index to serve; None if none is missing.
        lacks_languages: True if English was chosen only because the extra "multilingual" is not installed.
    """

    built: Built
    source: Path
    seconds: float
    lacks_first_stage: bool = False
    encoder_line: str | None = None
    lacks_languages: bool = False

    @property
    def artifact(self) -> Artifact:
        """Return the artifact."""
        return self.built.artifact

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {
            **artifact_dict(self.artifact),
            "source": str(self.source),
            "seconds": self.seconds,
            "findings": [str(finding) for finding in self.built.findings],
            "tuned": None if self.built.tuned is None else tune_report_dict(self.built.tuned),
        }


def default_source(folder: Path = Path("categories")) -> Path:
    """Return the folder of categories, else that of the shipped ones."""
    return folder if folder.is_dir() else shipped_folder()


def build(
    source: Path,
    config: Config,
    out: Path | None = None,
    plan: BuildPlan | None = None,
    *,
    progress: Progress = silent,
    warn: Warn = unheard,
) -> BuildResult:
    """Build an index.

    An existing index serves until the new one is complete.

    Args:
        source: folder of category files, or a file of labelled texts.
        config: encoder, and thresholds of categories.
        out: folder to write; None takes that of the configuration.
        plan: settings; None takes the defaults.
        progress: called with a step's name, the number done and the total.
        warn: receives findings in the validation file.

    Raises:
        DataError: the categories or the validation file cannot be used.
        ArtifactError: the folder cannot be written.
        MissingExtraError: the build needs packages that are not installed.
    """
    plan = plan or BuildPlan()
    english = plan.tune_encoder or plan.first_stage
    choice = EncoderChoice.for_index(config, english=english) if plan.encoder is None else plan.encoder
    rows = None if plan.validation is None else _validation(plan.validation, source, warn)
    started = time.perf_counter()
    built = build_index(
        source,
        out or config.index,
        encoder=choice,
        tune=TuningPlan(seed=plan.seed) if plan.tune_encoder else None,
        head=plan.head,
        first_stage=plan.first_stage,
        background=plan.background,
        validation=rows,
        target=RejectionTarget(oos_recall=plan.oos_recall),
        config=config,
        seed=plan.seed,
        fresh=plan.fresh,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    manifest = built.artifact.manifest
    line = config_line(manifest.encoder)
    return BuildResult(
        built,
        source,
        seconds,
        lacks_first_stage=plan.first_stage and manifest.first_stage is None,
        encoder_line=None if line is None or is_named(manifest.encoder, config.encoder) else line,
        lacks_languages=plan.encoder is None and config.encoder is None and not english and choice.kind == "onnx",
    )


def _validation(path: Path, source: Path, warn: Warn) -> list[LabelledQuery]:
    """Read the validation queries.

    A label without a category file is rejected now, not after the build.
    """
    rows = read_queries(path, None, lambda finding: warn(str(finding)))
    label_numbers(rows, [category.name for category in read_source(source).categories], path)
    return rows


def capped(findings: Sequence[Finding]) -> list[str]:
    """Return the findings as lines, at most :data:`OF_A_KIND` of one kind.

    Findings are of one kind if they differ only in names, quotations and numbers.
    """
    kinds: dict[str, list[str]] = {}
    for finding in findings:
        kinds.setdefault(template_key(finding.message), []).append(str(finding))
    lines = []
    for kind in kinds.values():
        lines += kind[:OF_A_KIND]
        if len(kind) > OF_A_KIND:
            lines.append(f"... and {len(kind) - OF_A_KIND} more of this kind; --json lists all")
    return lines
