"""A file of outcomes that grows line by line, and may be gone on with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from semroute.errors import InputError


def written_rows(path: Path) -> list[dict[str, Any]]:
    """The rows that a file holds already; none where it is not there.

    A last line that is only begun was being written when the program was stopped: it is cut off. One that is whole but
    for the end of the line, as some editors leave it, gets that.

    Raises:
        InputError: the file cannot be read, or a line is no JSON object.
    """
    try:
        raw = path.read_bytes() if path.exists() else b""
        whole, last = raw[: raw.rfind(b"\n") + 1], raw[raw.rfind(b"\n") + 1 :]
        if isinstance(_parsed(last), dict):
            with path.open("ab") as file:
                file.write(b"\n")
            whole = raw + b"\n"
        elif last:
            with path.open("r+b") as file:
                file.truncate(len(whole))
    except OSError as error:
        raise InputError(f"{path}: cannot be used ({error.strerror or error})") from error
    rows = []
    for number, line in enumerate(whole.splitlines(), 1):
        row = _parsed(line)
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number}: not a line of outcomes; name another file, or remove the line")
        rows.append(row)
    return rows


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def known_cells(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, Mapping[str, Any]]]:
    """What rows tell of each model, by query and task: the same query of two tasks is two rows of outcomes.

    Args:
        rows: of a file of outcomes, a query with all its models or with one; what is neither tells nothing. The
            empty string is no task.
    """
    known: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        outcomes = row.get("outcomes", {str(row.get("model")): row} if "model" in row else {})
        cells = known.setdefault((str(row.get("query")).strip(), str(row.get("task") or "").strip()), {})
        if isinstance(outcomes, dict):
            cells |= {model.strip(): cell for model, cell in outcomes.items() if isinstance(cell, dict)}
    return known


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line, whole.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        with path.open("ab") as file:
            file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
