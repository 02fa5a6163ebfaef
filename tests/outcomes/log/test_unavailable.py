"""A database that hangs, is down, or is gone: nobody waits, what can be kept is, and what cannot is told."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from outcomes.log.black_hole import BlackHole
from outcomes.log.outcome_rows import outcome
from patience import PATIENCE_S, ends
from sqlalchemy import create_engine, event, text

from semroute.config import Log
from semroute.errors import StateError
from semroute.outcomes.log import OutcomeLog, open_log
from semroute.outcomes.log.engine import dropped, open_engine, prepare
from semroute.outcomes.log.postgres import CONNECTING
from semroute.outcomes.log.redaction import RedactionPolicy
from semroute.outcomes.log.schema import metadata
from semroute.outcomes.log.writer import Writer


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("engine", "writer"):
        monkeypatch.setattr(f"semroute.outcomes.log.{module}.WRITE_S", 0.5)
    monkeypatch.setattr("semroute.outcomes.log.postgres.READ_S", 0.5)
    monkeypatch.setattr("semroute.outcomes.log.writer.MAX_PAUSE_S", 0.5)
    monkeypatch.setitem(CONNECTING, "connect_timeout", 2)


@pytest.fixture
def network(postgres: str, _impatient: None) -> Iterator[BlackHole]:
    made = BlackHole(postgres)
    yield made
    made.close()


def until(met: Callable[[], bool], within_s: float = PATIENCE_S) -> bool:
    give_up = time.monotonic() + within_s
    while not met():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.02)
    return True


def queries(url: str) -> list[str]:
    with open_log(Log(url=url), {}) as log:
        return sorted(str(one.query) for one in log.outcomes())


def said(caplog: pytest.LogCaptureFixture, words: str) -> bool:
    return any(words in record.message for record in caplog.records)


@pytest.mark.slow
def test_a_hanging_server_is_reported_and_receives_everything_later(
    network: BlackHole, postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log(Log(url=network.url), {})
    log.record(outcome("before"))
    assert log.flush()
    network.stop()
    log.record(outcome("during"))
    assert until(lambda: said(caplog, "does not take outcomes ("))
    assert log.counts.waiting == 1
    network.go_on()
    assert until(lambda: log.counts.written == 2)
    assert said(caplog, "takes outcomes again")
    log.close()
    assert queries(postgres) == ["before", "during"]


@pytest.mark.slow
def test_a_connection_lost_in_a_transaction_does_not_block_the_next(network: BlackHole, postgres: str) -> None:
    log = open_log(Log(url=network.url, keep_days="forever"), {})
    log.record(outcome("before"))
    assert log.flush()
    network.swallow_from(b"COMMIT")
    for number in range(200):
        log.record(outcome(f"query {number}"))
    assert until(network.swallowed.is_set)
    # Rows of the lost transaction, which the server believes to go on, are the first that are written again.
    assert until(lambda: log.counts.written == 201)
    log.close()
    assert len(queries(postgres)) == 201


@pytest.mark.slow
def test_drops_are_reported_while_the_server_still_hangs(network: BlackHole, caplog: pytest.LogCaptureFixture) -> None:
    engine = open_engine(Log(url=network.url), {})
    prepare(engine)
    writer = Writer(engine, RedactionPolicy(), capacity=10)
    network.stop()
    writer.record(outcome())
    assert until(lambda: not writer._waiting)
    for _ in range(25):
        writer.record(outcome())
    assert writer.counts.dropped == 15
    assert said(caplog, "the newest are dropped, 1 so far")
    network.go_on()
    assert until(lambda: writer.counts.written == 11)
    writer.close()
    assert said(caplog, "15 outcomes were dropped before")
    with open_log(Log(url=network.url), {}) as log:
        assert log.dropped() == 15
    engine.dispose()


def test_the_queue_is_bounded_by_bytes_for_long_answers(tmp_path: Path) -> None:
    engine = open_engine(Log(url=f"sqlite:///{tmp_path}/none/log.db"), {})
    (tmp_path / "none").write_text("no folder can be made here")
    writer = Writer(engine, RedactionPolicy(), capacity_bytes=1_000_000)
    for _ in range(100):
        writer.record(outcome(text="long " * 20_000))
    assert writer.counts.dropped > 90
    writer.close(1.0)
    assert writer.counts.dropped == 100


@pytest.mark.slow
def test_closing_keeps_its_time_limit_if_the_server_hangs(
    network: BlackHole, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("semroute.outcomes.log.writer.WRITE_S", 600)
    log = open_log(Log(url=network.url), {})
    network.stop()
    for _ in range(7):
        log.record(outcome())
    assert until(lambda: not log._writer._waiting)
    assert ends(lambda: log._writer.close(1.0))  # the write may be silent for 600
    assert said(caplog, "7 outcomes are lost")
    assert (log.counts.waiting, log.counts.dropped) == (0, 7)
    log.close()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_does_not_wait_for_a_server_that_hangs(network: BlackHole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semroute.outcomes.log.writer.WRITE_S", 600)
    monkeypatch.setattr("semroute.forks.WAIT_S", 600)
    log = open_log(Log(url=network.url), {})
    network.stop()
    log.record(outcome())
    assert until(lambda: not log._writer._waiting)
    child = multiprocessing.get_context("fork").Process(target=lambda: None)
    assert ends(child.start)
    child.join()
    log._writer.close(0.1)
    log.close()


@pytest.mark.slow
def test_reading_from_a_hanging_server_is_a_state_error(network: BlackHole, monkeypatch: pytest.MonkeyPatch) -> None:
    import semroute.outcomes.log.postgres as module

    with open_log(Log(url=network.url), {}) as log, module.patience(0.5):
        network.stop()
        with pytest.raises(StateError, match=r"cannot be used: .*(did not answer|timeout)"):
            log.count()


@pytest.mark.slow
def test_a_silent_server_does_not_delay_the_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(CONNECTING, "connect_timeout", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        section = Log(url=f"postgresql://someone@127.0.0.1:{silent.getsockname()[1]}/none")
        with pytest.raises(StateError, match="cannot be opened: connection timeout"):
            open_log(section, {})
        log = open_log(section, {}, may_be_down=True)
    assert said(caplog, "outcomes wait until it can be used, 50000 at most")
    log.close()


@pytest.mark.slow
@pytest.mark.usefixtures("_impatient")
def test_a_database_that_is_down_at_the_start_is_made_when_it_comes_up(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = postgres.replace("127.0.0.1:5432", f"127.0.0.1:{port}")  # nobody listens there
    log = open_log(Log(url=url, text="hashed"), {}, may_be_down=True)
    assert said(caplog, "cannot be opened")
    log.record(outcome())
    assert not log.flush(20)
    assert log.counts.waiting == 1
    network = BlackHole(postgres, port)
    assert until(lambda: log.counts.written == 1)
    (found,) = log.newest(5)
    assert found.query is None
    assert len(found.query_hash or "") == 64
    log.close()
    network.close()


@pytest.mark.parametrize("how", ["no folder can be made", "holds something else"])
def test_opening_tolerates_only_temporary_errors(how: str, tmp_path: Path) -> None:
    section = Log(url=f"sqlite:///{tmp_path}/here/log.db")
    if how == "no folder can be made":
        (tmp_path / "here").write_text("")
        log = open_log(section, {}, may_be_down=True)
        log.record(outcome())
        assert not log.flush(20)
        (tmp_path / "here").unlink()
        assert until(log.flush)
        assert log.count()[0] == 1
        log.close()
        return
    (tmp_path / "here").mkdir()
    other = sqlite3.connect(tmp_path / "here" / "log.db")
    other.execute("CREATE TABLE outcomes (x)")
    other.close()
    with pytest.raises(StateError, match="tables of another program"):
        open_log(section, {}, may_be_down=True)


@pytest.mark.slow
@pytest.mark.usefixtures("_impatient")
def test_tables_dropped_while_in_use_are_created_again(url: str, log: OutcomeLog) -> None:
    log.record(outcome("before"))
    assert log.flush()
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        for table in (*reversed(metadata.sorted_tables), "alembic_version"):
            connection.execute(text(f"DROP TABLE {table}"))
    engine.dispose()
    for number in range(5):
        log.record(outcome(f"after {number}"))
    assert until(lambda: log.counts.written == 6)
    assert log.counts.dropped == 0
    assert [one.query for one in log.outcomes()] == [f"after {number}" for number in range(5)]


@pytest.mark.slow
@pytest.mark.usefixtures("_impatient")
def test_a_temporarily_read_only_server_receives_everything_later(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log(Log(url=postgres), {})
    name = postgres.rsplit("/", 1)[1]
    admin = create_engine(postgres.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    log._engine.dispose()  # as after a failover: new connections see it
    log.record(outcome())
    assert until(lambda: said(caplog, "does not take outcomes (cannot execute"))
    with admin.connect() as connection:
        connection.execute(text("SET default_transaction_read_only = off"))
        connection.execute(text(f"ALTER DATABASE {name} RESET default_transaction_read_only"))
    admin.dispose()
    log._engine.dispose()
    assert until(lambda: log.counts.written == 1)
    assert log.counts.dropped == 0
    log.close()


@pytest.mark.slow
def test_outcomes_behind_one_that_no_database_takes_wait_for_a_database_that_fails_meanwhile(tmp_path: Path) -> None:
    engine = open_engine(Log(url=f"sqlite:///{tmp_path}/log.db"), {})
    prepare(engine)
    writer = Writer(engine, RedactionPolicy())
    tries = iter(range(100))

    @event.listens_for(engine, "begin")
    def _fail(_: object) -> None:
        if next(tries) == 3:  # the first of the single writes, after opening (one) and the batch that fails
            raise sqlite3.OperationalError("disk I/O error")

    bad = dataclasses.replace(outcome("bad"), latency_ms=object())  # type: ignore[arg-type]
    for one in (bad, outcome("one"), outcome("two")):
        writer.record(one)
    assert until(lambda: writer.counts.waiting == 0)
    assert (writer.counts.written, writer.counts.dropped) == (2, 1)
    writer.close()
    assert dropped(engine) == 1
    engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["file", "all", "folder", "replaced"])
def test_a_deleted_or_replaced_file_is_created_again(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "logs"
    url = f"sqlite:///{folder}/log.db"
    log = open_log(Log(url=url), {})
    log.record(outcome("before"))
    assert log.flush()
    match how:
        case "file":
            (folder / "log.db").unlink()
        case "all":
            for path in folder.iterdir():
                path.unlink()
        case "folder":
            shutil.rmtree(folder)
        case _:
            with open_log(Log(url=f"sqlite:///{tmp_path}/other.db"), {}) as other:
                other.record(outcome("another's"))
            for ending in ("-wal", "-shm"):
                (folder / f"log.db{ending}").unlink()
            (tmp_path / "other.db").replace(folder / "log.db")
    for number in range(3):
        log.record(outcome(f"after {number}"))
    assert log.flush()
    assert said(caplog, "was deleted or replaced while in use")
    expected = [f"after {number}" for number in range(3)]
    assert queries(url) == sorted(expected + (["another's"] if how == "replaced" else []))
    assert log.count()[0] == len(queries(url))
    log.close()


def test_outcomes_lost_with_a_deleted_file_are_written_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    log = open_log(Log(url=url), {})

    @event.listens_for(log._engine, "commit", once=True)
    def _delete(_: object) -> None:
        (tmp_path / "log.db").unlink()

    log.record(outcome("in between"))
    assert log.flush()
    log.close()
    assert queries(url) == ["in between"]


def test_a_log_that_moves_with_its_reader_is_not_taken_for_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    log = open_log(Log(url="sqlite:///log.db"), {})
    log.record(outcome("here"))
    assert log.flush()
    monkeypatch.chdir(tmp_path / "elsewhere")
    log.record(outcome("there"))
    log.close()
    assert not said(caplog, "deleted")
    assert queries(f"sqlite:///{tmp_path}/log.db") == ["here", "there"]


@pytest.mark.slow
def test_a_locked_file_does_not_delay_closing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("semroute.outcomes.log.engine.BUSY_S", 600)  # what SQLite itself waits for
    log = open_log(Log(url=f"sqlite:///{tmp_path}/log.db"), {})
    other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    log.record(outcome())
    assert until(lambda: not log._writer._waiting)
    assert ends(lambda: log._writer.close(0.5))
    assert said(caplog, "1 outcomes are lost")
    other.close()
    log.close()
