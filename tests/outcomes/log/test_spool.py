"""Outcomes of killed processes: what was spooled is in the log of the next one, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from outcomes.log.outcome_rows import outcome
from patience import PATIENCE_S

from semroute.config import Log
from semroute.errors import StateError
from semroute.outcomes.log import OutcomeLog, open_log
from semroute.outcomes.log.redaction import RedactionPolicy
from semroute.outcomes.log.schema import HEAD, Rows
from semroute.outcomes.log.spool import SUFFIX, WITHOUT_EFFORT, Spool, replay
from semroute.outcomes.log.writer import rows_of

pytest.importorskip("fcntl", reason="needs locks of files")


@pytest.fixture
def section(tmp_path: Path) -> Log:
    return Log(url=f"sqlite:///{tmp_path}/log.db", spool=tmp_path / "spool")


def opened(section: Log) -> OutcomeLog:
    return open_log(section, {}, may_be_down=True)


def files(section: Log) -> list[Path]:
    assert section.spool is not None
    return sorted(section.spool.glob(f"*{SUFFIX}"))


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from outcomes.log.outcome_rows import outcome
from semroute.config import Log
from semroute.outcomes.log import open_log
log = open_log(Log(url={url!r}, spool=Path({spool!r})), {{}}, may_be_down=True)
for number in range({count}):
    log.record(outcome(f"query {{number}}"))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 1500])
def test_a_killed_process_loses_no_outcome(section: Log, count: int) -> None:
    tests = str(Path(__file__).parents[2])
    program = KILLED.format(tests=tests, url=section.url, spool=str(section.spool), count=count)
    ended = subprocess.run([sys.executable, "-c", program], timeout=PATIENCE_S, check=False)
    assert ended.returncode == -signal.SIGKILL
    for _ in range(2):  # a second time nothing is written twice
        with opened(section) as log:
            queries = {one.query for one in log.outcomes()}
            assert log.count()[0] == count == len(queries)
    assert files(section) == []


@pytest.mark.slow
def test_an_orderly_end_leaves_nothing_behind(section: Log) -> None:
    with opened(section) as log:
        log.record(outcome("one"))
        assert [path.stat().st_size > 0 for path in files(section)].count(True) == 1
        assert log.flush()
        assert sum(path.stat().st_size for path in files(section)) == 0, "what is written is not kept twice"
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in files(section))
    assert files(section) == []
    with opened(section) as log:
        assert log.count()[0] == 1


@pytest.mark.slow
def test_the_files_of_a_running_process_are_left_alone(section: Log) -> None:
    with opened(section) as running:
        before = files(section)
        with opened(section) as other:
            running.record(outcome("one"))
            other.record(outcome("two"))
            assert set(before) < set(files(section))
        assert files(section) == before
    with opened(section) as log:
        assert log.count()[0] == 2


@pytest.mark.slow
def test_what_a_database_does_not_take_in_time_waits_for_the_next_start(section: Log, tmp_path: Path) -> None:
    log = opened(section)
    log._writer._inserter.insert = _refuse  # type: ignore[method-assign]
    log.record(outcome("one"))
    log.close()
    with opened(section) as again:
        assert [one.query for one in again.outcomes()] == ["one"]


def _refuse(rows: Rows, *, is_retry: bool = False) -> None:
    raise OSError(5, "the disk is gone")


@pytest.mark.slow
def test_outcomes_are_redacted_before_they_are_spooled(tmp_path: Path) -> None:
    for text in ("hashed", "none"):
        section = Log(url=f"sqlite:///{tmp_path}/{text}.db", spool=tmp_path / text, text=text)
        with opened(section) as log:
            log.record(outcome("a secret question"))
            spooled = b"".join(path.read_bytes() for path in files(section))
            assert spooled
            assert b"secret" not in spooled


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_a_spool_of_its_own(section: Log) -> None:
    with opened(section) as log:
        log.record(outcome("of the parent"))
        child = os.fork()
        if child == 0:
            log.record(outcome("of the child"))
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        log.record(outcome("of the parent again"))
    with opened(section) as again:
        assert sorted(one.query or "" for one in again.outcomes()) == [
            "of the child", "of the parent", "of the parent again"
        ]  # fmt: skip


def test_a_folder_that_cannot_be_written_is_a_warning(section: Log, caplog: pytest.LogCaptureFixture) -> None:
    assert section.spool is not None
    section.spool.write_text("a file")
    with opened(section) as log:
        log.record(outcome("one"))
        assert log.flush()
    assert "wait in memory alone" in caplog.text


def rows(number: int) -> Rows:
    return rows_of([outcome(f"query {number}")], RedactionPolicy())


@given(cut=st.integers(0, 6000), version=st.sampled_from([HEAD, "9999"]))
def test_a_line_that_was_cut_spoils_no_other(tmp_path_factory: pytest.TempPathFactory, cut: int, version: str) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder)
    for number in range(3):
        spool.append(rows(number))
    spool.close(is_settled=False)
    (path,) = [one for one in folder.iterdir() if one.stat().st_size]
    whole = path.read_bytes()
    cut = min(cut, len(whole))
    path.write_bytes(
        whole[:cut].replace(f'["{HEAD}"'.encode(), f'["{version}"'.encode()) + b"\n" + b"{not json\n[1, 2]\n"
    )
    found: list[object] = []
    count = replay(folder, lambda portion: found.extend(row[2] for row in portion[0]))
    complete = [f"query {number}" for number, line in enumerate(whole.split(b"\n")[1:]) if cut >= _end(whole, number)]
    assert found == (complete if version == HEAD else [])
    assert count == len(found)
    is_left = version != HEAD and cut >= _end(whole, 0)
    assert path.exists() or not is_left


def test_what_a_version_without_efforts_of_calls_spooled_is_written_too(section: Log) -> None:
    assert section.spool is not None
    spool = Spool(section.spool)
    outcomes, calls, checks, tiers = rows(0)
    spool.append((outcomes, [call[:-1] for call in calls], checks, tiers))
    spool.close(is_settled=False)
    (path,) = [one for one in files(section) if one.stat().st_size]
    path.write_bytes(path.read_bytes().replace(f'["{HEAD}"'.encode(), f'["{WITHOUT_EFFORT}"'.encode()))
    with opened(section) as log:
        (found,) = log.outcomes()
    assert found.query == "query 0"
    assert [call.effort for call in found.calls] == [None] * len(calls)


def _end(whole: bytes, number: int) -> int:
    """Return where a line ends."""
    return sum(len(line) + 1 for line in whole.split(b"\n")[: number + 2]) - 1


def test_processes_that_start_at_once_take_no_file_from_each_other(tmp_path: Path) -> None:
    made: list[Spool] = []

    def begin() -> None:
        for _ in range(20):
            spool = Spool(tmp_path)
            spool.append(rows(1))
            made.append(spool)
            replay(tmp_path, lambda _: pytest.fail("a running process' outcomes"))

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(tmp_path.iterdir())) == 160
    for spool in made:
        spool.close(is_settled=True)
    assert list(tmp_path.iterdir()) == []


def test_a_system_without_locks_has_no_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semroute.outcomes.log.spool.fcntl", None)
    with pytest.raises(StateError, match="no locks of files"):
        Spool(tmp_path)
