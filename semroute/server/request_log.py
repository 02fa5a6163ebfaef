"""Request log: one line a request, without prompts, keys or headers."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, TextIO, TypeAlias, get_args

from semroute.server.records import ServedRecord

LogFormat: TypeAlias = Literal["json", "text", "none"]
LOG_FORMATS: tuple[str, ...] = get_args(LogFormat)
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""Routes that a machine asks every few seconds: their successes have no line."""

_CONTROL = dict.fromkeys((*range(32), *range(127, 160), 8232, 8233), "?")


class RequestLog:
    """Writer of a line a request.

    Args:
        format: ``json``, ``text`` or ``none``.
        stream: where to; None takes standard error.
    """

    def __init__(self, format: LogFormat = "none", stream: TextIO | None = None) -> None:
        lines: dict[str, Callable[[ServedRecord, float], str]] = {"json": json_line, "text": text_line}
        self._line = lines.get(format)
        self._stream = stream

    def write(self, record: ServedRecord, elapsed_s: float) -> None:
        """Write the line of a request that has ended."""
        if self._line is None or (record.route in QUIET and record.status < 400):
            return
        stream = self._stream or sys.stderr
        try:
            # One call for one line: those of several threads or processes are not mixed up.
            stream.write(self._line(record, elapsed_s) + "\n")
            stream.flush()
        except (OSError, ValueError):
            pass  # nobody reads the log any more; that is no reason to fail a request


def log_fields(record: ServedRecord, elapsed_s: float) -> dict[str, object]:
    """Return the fields of a request's line, without unknown ones.

    ``time`` is UTC in ISO 8601, ``ms`` the time until the last byte, ``first_token_ms`` until the first piece.
    """
    usage, decision, completion = record.usage, record.decision, record.completion
    fields: dict[str, object | None] = {
        "time": datetime.fromtimestamp(record.at, UTC).isoformat(timespec="milliseconds"),
        "request_id": record.id,
        "route": record.route,
        "method": record.method if record.method in ("GET", "POST", "PUT", "HEAD") else "other",
        "status": record.status,
        "ms": round(elapsed_s * 1000, 1),
        "first_token_ms": None if record.first_token_s is None else round(record.first_token_s * 1000, 1),
        "streaming": record.streaming or None,
        "model": record.model,
        "deployment": None if completion is None else completion.deployment,
        "category": None if decision is None else decision.category,
        "strategy": None if decision is None else decision.strategy,
        "input_tokens": None if usage is None else usage.input_tokens,
        "output_tokens": None if usage is None else usage.output_tokens,
        "cached_tokens": (usage.cached_tokens or None) if usage is not None else None,
        "usd": None if record.usd is None else round(record.usd, 9),
        "key": record.key,
        "outcome_id": None if completion is None else completion.outcome_id,
        "error": record.error,
        "rejection": record.rejection,
    }
    return {name: value for name, value in fields.items() if value is not None}


def json_line(record: ServedRecord, elapsed_s: float) -> str:
    """Return a request's line as a JSON object."""
    return json.dumps(log_fields(record, elapsed_s), ensure_ascii=True, separators=(",", ":"))


def text_line(record: ServedRecord, elapsed_s: float) -> str:
    """Return a request's line for people.

    It has time, status, route and milliseconds, then ``name=value``.
    """
    fields = log_fields(record, elapsed_s)
    first = " ".join(str(fields.pop(name)) for name in ("time", "status", "method", "route", "ms"))
    rest = " ".join(f"{name}={value}" for name, value in fields.items())
    return f"{first} ms {rest}".translate(_CONTROL)


class _JsonLines(logging.Formatter):
    """Formatter of log records as JSON lines."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=True, separators=(",", ":"))


def log_as_json(*names: str) -> None:
    """Write these loggers' warnings as JSON lines on standard error only."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines())
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
