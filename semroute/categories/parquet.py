"""Rows of a Parquet file (https://parquet.apache.org/docs/file-format/), through the extra "parquet"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from semroute.categories.notes import Report, shortened
from semroute.extras import require

COLUMNS = ("query", "category")


def parquet_rows(
    path: Path, report: Report, *, required: Sequence[str] = COLUMNS, optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, object]]]:
    """The 1-based number of every row and its values under ``required`` and ``optional``; no other column is read.

    A ``required`` column that is missing or repeated is reported, as is an ``optional`` one that is repeated.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    what = "reading a Parquet file"
    parquet = require("pyarrow.parquet", what=what, extra="parquet")
    arrow = require("pyarrow", what=what, extra="parquet")
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = [*required, *(name for name in optional if name in names)]
            missing = [name for name in wanted if names.count(name) != 1]
            if missing:
                columns = shortened(", ".join(names))
                message = f'must have one column "{missing[0]}" (its columns: {columns}); rename or add it'
                report(message, None)
                return
            number = 0
            for batch in file.iter_batches(columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except FileNotFoundError:
        report("no such file; check the path", None)
    except (arrow.ArrowException, OSError) as error:
        report(f"cannot be read as a Parquet file: {shortened(str(error), 200)}", None)
