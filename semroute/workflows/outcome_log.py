"""Contents of the outcome log: export, description, new outcomes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from semroute.errors import InputError
from semroute.outcomes.log import OutcomeLog
from semroute.outcomes.log.reader import as_dict, as_labelled, write_jsonl, write_parquet
from semroute.types import LoggedOutcome
from semroute.workflows.workspace import Workspace

FOLLOW_S = 0.5
"""Seconds between two reads of new outcomes."""

FORMATS = (".jsonl", ".parquet")
"""File suffixes of exports."""

Format: TypeAlias = Literal["jsonl", "parquet"]


@dataclass(frozen=True, slots=True)
class LogDescription:
    """Address, size and redaction of a log.

    Attributes:
        place: address, without a password.
        outcomes: number of stored outcomes.
        dropped: number of outcomes that could not be stored.
        first: time of the first; None without any.
        last: time of the last; None without any.
        text: redaction of queries.
        answers: redaction of answers.
        keep_days: age at which an outcome is deleted, or ``forever``.
    """

    place: str
    outcomes: int
    dropped: int
    first: datetime | None
    last: datetime | None
    text: str
    answers: str
    keep_days: float | Literal["forever"]

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {
            "log": self.place,
            "outcomes": self.outcomes,
            "dropped": self.dropped,
            "first": None if self.first is None else self.first.isoformat(timespec="seconds"),
            "last": None if self.last is None else self.last.isoformat(timespec="seconds"),
            "text": self.text,
            "answers": self.answers,
            "keep_days": self.keep_days,
        }


def describe_log(workspace: Workspace, log_url: str | None = None) -> LogDescription:
    """Return address, size and redaction of the log.

    Raises:
        StateError: there is no log, or it cannot be read.
    """
    section = workspace.config.log
    with workspace.open_log(log_url) as opened:
        count, first, last = opened.count()
        place, dropped = opened.place, opened.dropped()
    return LogDescription(
        place, count, dropped, _time(first), _time(last), section.text, section.answers, section.keep_days
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def export_format(out: Path) -> Format:
    """Return the format that a file's name asks for.

    Raises:
        InputError: it has neither suffix of :data:`FORMATS`.
    """
    suffix = out.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"{out}: an export is one of {', '.join(FORMATS)}; name it so, or give --format")
    return "parquet" if suffix == ".parquet" else "jsonl"


def export_log(
    workspace: Workspace,
    out: Path,
    *,
    kind: Format | None = None,
    labelled: bool = False,
    since: datetime | None = None,
    until: datetime | None = None,
    log_url: str | None = None,
) -> int:
    """Write outcomes to a file atomically; return their number.

    Args:
        workspace: configuration with the log.
        out: the file.
        kind: its format; None takes that of its name.
        labelled: whether only judged answers are written, as rows to train on; JSONL only.
        since: beginning; None takes all.
        until: end; None takes all.
        log_url: address of the log; None takes the configured one.

    Raises:
        InputError: the format does not fit, or the file cannot be written.
        StateError: there is no log, or it cannot be read.
    """
    kind = kind or export_format(out)
    if labelled and kind == "parquet":
        raise InputError("judged answers are written as JSONL: name a .jsonl file")
    with workspace.open_log(log_url) as opened:
        found = opened.outcomes(since, until)
        if labelled:
            return write_jsonl(filter(None, map(as_labelled, found)), out)
        return write_parquet(found, out) if kind == "parquet" else write_jsonl(map(as_dict, found), out)


def later_outcomes(log: OutcomeLog, shown: Sequence[LoggedOutcome]) -> Iterator[LoggedOutcome]:
    """Yield outcomes newer than those already shown, as they come; never end."""
    seen = {outcome.id for outcome in shown}
    last = shown[-1].at if shown else datetime.now(UTC)
    while True:
        time.sleep(FOLLOW_S)
        for outcome in log.outcomes(since=last):
            if outcome.id not in seen:
                seen = {*seen, outcome.id} if outcome.at == last else {outcome.id}
                last = outcome.at
                yield outcome
