from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from semroute.storage import atomic_write

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="this system has no umask")


@pytest.fixture(params=[0o077, 0o027, 0o022])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield int(request.param)
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_keeps_the_umask_while_it_is_written_and_afterwards(umask: int, tmp_path: Path) -> None:
    with atomic_write(tmp_path / "file") as part:
        assert mode(part) == 0o666 & ~umask
        part.write_text("a query")
    assert mode(tmp_path / "file") == 0o666 & ~umask
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("before", [0o600, 0o640, 0o644, 0o400])
def test_a_replaced_file_is_no_more_readable_than_before(umask: int, before: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(before)
    with atomic_write(path) as part:
        assert not mode(part) & ~(before | 0o600)
        part.write_text("new")
    assert mode(path) == (0o666 & ~umask & before) | 0o600
    assert path.read_text() == "new"


@pytest.mark.slow
def test_every_file_of_a_log_and_of_what_is_exported_or_collected_keeps_the_umask(umask: int, tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from semroute.config import Log
        from semroute.outcomes.files import append_row, only_appender
        from semroute.outcomes.log import open_log
        from semroute.outcomes.log.reader import as_dict, write_jsonl, write_parquet
        from outcomes.log.outcome_rows import outcome
        log = open_log(Log(url="sqlite:///log.db"), {})
        log.record(outcome())
        log.flush()
        write_jsonl(map(as_dict, log.outcomes()), Path("export.jsonl"))
        write_parquet(log.outcomes(), Path("export.parquet"))
        with only_appender(Path("asked.jsonl")):
            append_row(Path("asked.jsonl"), {"query": "a query"})
        for path in sorted(Path(".").iterdir()):
            print(path.name, oct(path.stat().st_mode & 0o777))
        log.close()
        """
    )
    tests = str(Path(__file__).parent)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (tests, os.environ.get("PYTHONPATH"))))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    found = dict(line.split() for line in done.stdout.splitlines())
    assert {"log.db", "log.db-wal", "log.db-shm", "export.jsonl", "export.parquet", "asked.jsonl"} <= found.keys()
    # SQLite and locks never let anybody else write.
    assert {name: int(value, 8) & 0o077 & umask for name, value in found.items()} == dict.fromkeys(found, 0)
