from __future__ import annotations

import sys
from pathlib import Path

import pytest

from semroute.categories import read_labelled
from semroute.categories.notes import Notes
from semroute.categories.parquet import parquet_rows
from semroute.errors import MissingExtraError


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
