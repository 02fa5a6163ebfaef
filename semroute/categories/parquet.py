"""Rows of a Parquet file (https://parquet.apache.org/docs/file-format/), through the extra "parquet".

Encodings repeat a value for a few bits a row, so a file of some kilobytes may stand for gigabytes. Text stays in its
dictionary while a batch is in memory, and is counted before it is written out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from semroute.categories.lines import MOST_BYTES, too_long
from semroute.categories.notes import Report, shortened
from semroute.extras import require

COLUMNS = ("query", "category")
BATCH = 4096
"""Rows that are decoded at once, their text in its dictionary."""
LEAST_BYTES = 256 << 20
"""Decoded values that any file may have."""
MOST_RATIO = 100
"""Decoded values for each byte of a larger file: text compresses to a tenth, and repeated queries to a fiftieth."""
ROW_BYTES = 64
"""What a row counts beside its text."""
_MOST_METADATA = 64 << 20


class _TooLargeError(Exception):
    """The file stands for more than it may."""


def parquet_rows(
    path: Path, report: Report, *, required: Sequence[str] = COLUMNS, optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, object]]]:
    """The 1-based number of every row and its values under ``required`` and ``optional``; no other column is read.

    A ``required`` column that is missing or repeated is reported, as is an ``optional`` one that is repeated. So is a
    file that is damaged, or decodes to more than :data:`LEAST_BYTES` and :data:`MOST_RATIO` times its own size, or has
    a row of more than :data:`~semroute.categories.lines.MOST_BYTES`; what came before has been yielded then.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    what = "reading a Parquet file"
    parquet = require("pyarrow.parquet", what=what, extra="parquet")
    arrow = require("pyarrow", what=what, extra="parquet")
    try:
        # A string's bytes may be no UTF-8, a time out of range: pyarrow decodes values when they are asked for.
        yield from _rows(path, parquet, report, required, optional)
    except FileNotFoundError:
        report("no such file; check the path", None)
    except _TooLargeError as error:
        report(str(error), None)
    except (arrow.ArrowException, OSError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError) as error:
        report(f"cannot be read as a Parquet file: {shortened(str(error), 200)}", None)


def _rows(
    path: Path, parquet: Any, report: Report, required: Sequence[str], optional: Sequence[str]
) -> Iterator[tuple[int, dict[str, object]]]:
    limits = {"thrift_string_size_limit": _MOST_METADATA, "thrift_container_size_limit": 1_000_000}
    with parquet.ParquetFile(path, **limits) as file:
        names, metadata = file.schema_arrow.names, file.metadata
    wanted = [*required, *(name for name in optional if name in names)]
    missing = [name for name in wanted if names.count(name) != 1]
    if missing:
        message = f'must have one column "{missing[0]}" (its columns: {shortened(", ".join(names))}); rename or add it'
        report(message, None)
        return
    room = max(LEAST_BYTES, MOST_RATIO * path.stat().st_size)
    texts = _checked_sizes(metadata, set(wanted), room)
    number = 0
    with parquet.ParquetFile(path, read_dictionary=texts, **limits) as file:
        # One by one: Arrow cannot join the dictionaries that two row groups have for a nested column.
        groups = range(metadata.num_row_groups)
        batches = (file.iter_batches(batch_size=BATCH, row_groups=[group], columns=wanted) for group in groups)
        for batch in chain.from_iterable(batches):
            sizes = _sizes(batch)
            room -= int(sizes.sum())
            if room < 0:
                raise _TooLargeError(_too_large(number))
            for start, stop in _slices(sizes):
                if sizes[start] > MOST_BYTES:
                    report(too_long("row"), number + 1)
                    return
                for row in batch.slice(start, stop - start).to_pylist():
                    number += 1
                    yield number, row


def _checked_sizes(metadata: Any, wanted: set[str], room: int) -> list[str]:
    """The paths of the wanted columns that hold text, once their declared sizes fit into ``room``.

    Raises:
        _TooLargeError: they do not.
    """
    if metadata.num_rows * ROW_BYTES > room:
        raise _TooLargeError(f"holds {metadata.num_rows:,} rows, too many for its size; is it damaged?")
    texts: dict[str, None] = {}
    total = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for place in range(row_group.num_columns):
            column = row_group.column(place)
            if column.path_in_schema.split(".")[0] in wanted:
                total += column.total_uncompressed_size
                if column.physical_type == "BYTE_ARRAY":
                    texts[column.path_in_schema] = None
    if total > room:
        raise _TooLargeError(_too_large(0))
    return list(texts)


def _too_large(row: int) -> str:
    where = f", from row {row + 1:,} on" if row else ""
    return f"decodes to more than {MOST_RATIO} times its size{where}; is it damaged? If not, write it as JSONL"


def _sizes(batch: Any) -> Any:
    """``(rows,)`` int64: what each row of a batch takes as Python values, about."""
    import numpy as np

    sizes = np.full(len(batch), ROW_BYTES, np.int64)
    for column in batch.columns:
        sizes += _column_sizes(column)
    return sizes


def _column_sizes(column: Any) -> Any:
    """``(rows,)`` int64 of one column; nested ones are added up."""
    import numpy as np
    import pyarrow as arrow
    import pyarrow.compute as compute

    kind = column.type
    if arrow.types.is_dictionary(kind):
        lengths = _filled(compute.binary_length(column.dictionary))
        places = _filled(column.indices)
        # A row without a value has the place 0, which an empty dictionary lacks.
        return lengths[places] if len(lengths) else np.zeros(len(column), np.int64)
    if arrow.types.is_struct(kind):
        parts = [_column_sizes(column.field(place)) for place in range(kind.num_fields)]
        return sum(parts, np.zeros(len(column), np.int64)) + 8 * kind.num_fields
    if arrow.types.is_list(kind) or arrow.types.is_large_list(kind) or arrow.types.is_map(kind):
        items = (
            arrow.StructArray.from_arrays([column.keys, column.items], ["k", "v"])
            if arrow.types.is_map(kind)
            else column.values
        )
        ends = np.concatenate([[0], np.cumsum(_column_sizes(items) + 8)])
        offsets = np.asarray(column.offsets, np.int64)
        return ends[offsets[1:]] - ends[offsets[:-1]]
    if kind.num_buffers == 3:  # text or bytes without a dictionary
        return _filled(compute.binary_length(column))
    return np.full(len(column), 8, np.int64)


def _filled(values: Any) -> Any:
    import numpy as np

    return np.asarray(values.fill_null(0), np.int64)


def _slices(sizes: Any) -> Iterator[tuple[int, int]]:
    """Runs of rows of :data:`~semroute.categories.lines.MOST_BYTES` together, a longer row alone."""
    start, total = 0, 0
    for place, size in enumerate(sizes.tolist()):
        if place > start and total + size > MOST_BYTES:
            yield start, place
            start, total = place, 0
        total += size
    if start < len(sizes):
        yield start, len(sizes)
