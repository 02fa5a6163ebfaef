from __future__ import annotations

import sys
from pathlib import Path

import pytest

from semroute.categories import read_labelled
from semroute.errors import MissingExtraError


def test_without_pyarrow_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # None in sys.modules makes an import fail as it does where the package is not installed.
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r'Parquet file needs the extra "parquet": pip install'):
        read_labelled(tmp_path / "l.parquet")
