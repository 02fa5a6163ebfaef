"""JSON Lines (https://jsonlines.org): one JSON object a line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from semroute.categories.lines import Lines
from semroute.categories.notes import Report, shortened


def json_rows(lines: Lines, report: Report) -> Iterator[tuple[int, dict[str, object]]]:
    """The line number and object of every line that is not blank; a line that holds none is reported and left out."""
    for number, text in lines:
        if not text.strip():
            continue
        try:
            # Without its end: what is cut off is missed at the end of this line, and not at the start of the next.
            row = json.loads(text.rstrip("\r\n"), object_pairs_hook=_without_repeats)
        except json.JSONDecodeError as error:
            problem = f"malformed JSON at column {error.colno} ({error.msg}); write one JSON object a line"
        except RecursionError:
            problem = "malformed JSON: nested too deeply; write the query as text"
        except ValueError as error:
            problem = f"malformed JSON: {error}"
        else:
            if isinstance(row, dict):
                yield number, row
                continue
            problem = 'is not a JSON object; write rows such as {"query": "..."}'
        report(problem, number)


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        repeated = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {shortened(repeated)} is written twice; keep one of the two")
    return row
