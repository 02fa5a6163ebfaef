from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path

import numpy as np
import pytest

from semroute.data.examples import Notes, stop_at_first
from semroute.data.queries import read_labelled
from semroute.data.rows import parquet_rows
from semroute.errors import DataError, MissingExtraError
from semroute.outcomes.files import read_outcomes


def test_without_pyarrow_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # None in sys.modules makes an import fail as it does where the package is not installed.
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r'Parquet file needs the extra "parquet": pip install'):
        read_labelled(tmp_path / "l.parquet")


def test_optional_columns_are_read_where_the_file_has_them(tmp_path: Path) -> None:
    path = tmp_path / "l.parquet"
    pyarrow = pytest.importorskip("pyarrow", reason='needs the extra "parquet"')
    parquet = pytest.importorskip("pyarrow.parquet", reason='needs the extra "parquet"')
    parquet.write_table(pyarrow.table({"query": ["a"], "task": ["t"], "other": [1]}), path)
    rows = parquet_rows(path, Notes(path).problem, required=("query",), optional=("task", "absent"))
    assert list(rows) == [(1, {"query": "a", "task": "t"})]


def test_a_small_file_that_decodes_to_gigabytes_is_refused(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason='needs the extra "parquet"')
    parquet = pytest.importorskip("pyarrow.parquet", reason='needs the extra "parquet"')
    zeros = pyarrow.array([0] * 65_536, pyarrow.int32())
    long = pyarrow.DictionaryArray.from_arrays(zeros, pyarrow.array(["x" * 65_536]))
    label = pyarrow.DictionaryArray.from_arrays(zeros, pyarrow.array(["a"]))
    answers = pyarrow.StructArray.from_arrays([long, pyarrow.array([1.0] * 65_536)], ["response", "quality"])
    outcomes = pyarrow.StructArray.from_arrays([answers], ["small"])
    flat, nested = tmp_path / "flat.parquet", tmp_path / "nested.parquet"
    parquet.write_table(pyarrow.table({"query": long, "category": label}), flat)
    parquet.write_table(pyarrow.table({"query": label, "outcomes": outcomes}), nested)
    assert flat.stat().st_size < 10_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path, read in ((flat, read_labelled), (nested, read_outcomes)):
        with pytest.raises(DataError, match=f"^{path}: decodes to more than 100 times its size"):
            read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_more_rows_than_a_file_of_its_size_can_hold_are_refused_before_they_are_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason='needs the extra "parquet"')
    parquet = pytest.importorskip("pyarrow.parquet", reason='needs the extra "parquet"')
    path = tmp_path / "l.parquet"
    nothing = pyarrow.nulls(5_000_000, pyarrow.string())
    parquet.write_table(pyarrow.table({"query": nothing, "category": nothing}), path)
    with pytest.raises(DataError, match=r"l.parquet: holds 5,000,000 rows, too many for its size"):
        read_labelled(path)


@pytest.mark.slow
def test_a_row_that_is_too_long_is_named(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason='needs the extra "parquet"')
    parquet = pytest.importorskip("pyarrow.parquet", reason='needs the extra "parquet"')
    path = tmp_path / "l.parquet"
    parquet.write_table(pyarrow.table({"query": ["a", "x" * (9 << 20)], "category": ["c", "c"]}), path)
    with pytest.raises(DataError, match="row 2: the row is longer than 8 MiB"):
        read_labelled(path)


@pytest.mark.slow
def test_rows_of_nested_columns_come_whole_over_several_batches(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason='needs the extra "parquet"')
    parquet = pytest.importorskip("pyarrow.parquet", reason='needs the extra "parquet"')
    path = tmp_path / "o.parquet"
    cells = [
        None if n % 7 == 0 else {"small": {"quality": 0.5, "response": f"r{n}", "logprobs": [-0.5] * (n % 3)}}
        for n in range(10_000)
    ]
    queries = [None if n % 11 == 0 else f"q{n}" for n in range(10_000)]
    parquet.write_table(pyarrow.table({"query": queries, "outcomes": cells}), path, row_group_size=3000)
    rows = list(parquet_rows(path, stop_at_first(path), required=("query",), optional=("outcomes",)))
    assert [number for number, _ in rows] == list(range(1, 10_001))
    assert [row for _, row in rows] == [{"query": q, "outcomes": c} for q, c in zip(queries, cells, strict=True)]


def test_what_pyarrow_makes_of_a_damaged_file_is_our_error(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason='needs the extra "parquet"')
    parquet = pytest.importorskip("pyarrow.parquet", reason='needs the extra "parquet"')
    path = tmp_path / "l.parquet"
    broken = pyarrow.array([b"\xff\xfe"] * 3, pyarrow.binary()).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"query": broken, "category": ["a"] * 3}), path)
    with pytest.raises(DataError, match=r"l.parquet: cannot be read as a Parquet file"):
        read_labelled(path)
    parquet.write_table(pyarrow.table({"query": ["a question"] * 50, "category": ["a"] * 50}), path)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole[: random.integers(1, len(whole) + 1)])
        for place in random.integers(0, len(damaged), 4):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(DataError):
            read_labelled(path)
