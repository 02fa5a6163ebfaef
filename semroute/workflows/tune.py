"""Tuning of an index's thresholds, and queries that go wrong under them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from semroute.data.examples import LabelledQuery
from semroute.data.importing.records import ImportOptions
from semroute.data.importing.writing import read_queries
from semroute.errors import InputError
from semroute.evaluate.routing import Mistake
from semroute.index import Artifact
from semroute.learn.thresholds import FALSE_REJECTION, RejectionTarget
from semroute.learn.tune import TuneReport, label_numbers, tune_artifact
from semroute.router.load import nearest_to_each, open_encoder, open_first_stage, open_scorer
from semroute.storage import atomic_write, json_line
from semroute.types import Encoder
from semroute.workflows.workspace import Warn, Workspace, unheard

OOS_RECALL = 0.9
"""Default share of out-of-scope queries to reject."""

# Misrouted queries, with the nearest examples.


@dataclass(frozen=True)
class WrongQueries:
    """Misrouted queries of a labelled file.

    Attributes:
        mistakes: the misrouted queries.
        rows: all labelled queries.
        artifact: the index, whose examples are looked up.
        encoder: of the index.
    """

    mistakes: Sequence[Mistake]
    rows: Sequence[LabelledQuery]
    artifact: Artifact
    encoder: Encoder

    def __len__(self) -> int:
        return len(self.mistakes)

    @cached_property
    def _all(self) -> list[dict[str, Any]]:
        return self._described(self.mistakes)

    def to_dicts(self, most: int | None = None) -> list[dict[str, Any]]:
        """Return the first ``most`` as JSON-ready values; None returns all.

        Each has its nearest example; a category of None stands for out of scope. All are looked up once.

        Raises:
            ArtifactError: the stored examples cannot be read.
        """
        return self._all if most is None else self._described(self.mistakes[:most])

    def _described(self, mistakes: Sequence[Mistake]) -> list[dict[str, Any]]:
        found = nearest_to_each(self.artifact, self.encoder, [self.rows[mistake.row].query for mistake in mistakes])
        return [
            {
                "line": self.rows[mistake.row].line,
                "query": self.rows[mistake.row].query,
                "true": mistake.true,
                "decided": mistake.decided,
                "score": mistake.score,
                "threshold": mistake.threshold,
                "nearest": asdict(nearest[0]),
            }
            for mistake, nearest in zip(mistakes, found, strict=True)
        ]


def write_wrong_queries(path: Path, wrong: Iterable[Mapping[str, Any]]) -> None:
    """Write misrouted queries atomically, one per line.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        with atomic_write(path) as part:
            part.write_text("".join(json_line(one) + "\n" for one in wrong), encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


def read_labelled_queries(path: Path, options: ImportOptions | None, warn: Warn) -> list[LabelledQuery]:
    """Read a file of labelled queries.

    Args:
        path: rows with ``query`` and ``category``, or any file that an import reads.
        options: names of its columns; None guesses.
        warn: receives findings in the file.

    Raises:
        DataError: the file cannot be used.
    """
    return read_queries(path, options, lambda finding: warn(str(finding)))


# Thresholds for a stated target.


@dataclass(frozen=True, slots=True)
class TuneResult:
    """Thresholds of an index before and after tuning.

    Attributes:
        report: thresholds and figures.
        wrong: queries that go wrong under thresholds chosen without them.
        is_written: whether the index has the new thresholds.
        overridden: categories whose threshold the configuration sets, over the index.
    """

    report: TuneReport
    wrong: WrongQueries
    is_written: bool
    overridden: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {
            "path": str(self.report.artifact.folder),
            "written": self.is_written,
            **tune_report_dict(self.report),
            "errors": self.wrong.to_dicts(),
        }


def tune_report_dict(report: TuneReport) -> dict[str, object]:
    """Return a tuning as JSON-ready values; ``after`` is cross-fitted."""
    return {
        "before": report.before.to_dict(),
        "after": report.after.to_dict(),
        "thresholds": {name: {"old": old, "new": new} for name, (old, new) in report.thresholds.items()},
        "pinned": list(report.pinned),
        "calibrated": report.calibrated,
    }


def tune_thresholds(
    labelled: Path,
    workspace: Workspace,
    *,
    oos_recall: float = OOS_RECALL,
    false_rejection: float = FALSE_REJECTION,
    options: ImportOptions | None = None,
    write: bool = True,
    warn: Warn = unheard,
) -> TuneResult:
    """Choose thresholds on labelled queries, and write them into the index.

    Args:
        labelled: file of labelled queries that are not among the examples.
        workspace: the user's index.
        oos_recall: share of out-of-scope queries to reject, where the file has some.
        false_rejection: share of in-scope queries to reject, where it has none.
        options: names of the file's columns; None guesses.
        write: False changes nothing.
        warn: receives findings in the file.

    Raises:
        DataError: the file cannot be used, or a label is not in the index.
        ArtifactError: there is no index, or it cannot be used.
    """
    rows = read_labelled_queries(labelled, options, warn)
    config = workspace.config
    artifact = workspace.own_index()
    label_numbers(rows, tuple(artifact.manifest.categories), labelled)
    target = RejectionTarget(oos_recall=oos_recall, false_rejection=false_rejection)
    encoder, scorer, first = open_encoder(artifact, config.encoder), open_scorer(artifact), open_first_stage(artifact)
    report = tune_artifact(artifact, encoder, scorer, rows, target, first=first, write=write)
    overridden = tuple(name for name, category in config.categories.items() if category.threshold is not None)
    return TuneResult(report, WrongQueries(report.mistakes, rows, artifact, encoder), write, overridden)
