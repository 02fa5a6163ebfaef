from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from outcomes.log.outcome_rows import outcome
from patience import PATIENCE_S, ends
from sqlalchemy import Engine, event

from semroute.config import Log
from semroute.outcomes.log import OutcomeLog, open_log
from semroute.outcomes.log.engine import open_engine, prepare
from semroute.outcomes.log.redaction import RedactionPolicy
from semroute.outcomes.log.writer import BATCH, FLUSH_S, Writer
from semroute.types import Outcome


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_engine(Log(url=f"sqlite:///{tmp_path}/log.db"), {})
    prepare(made)
    yield made
    made.dispose()


def count(url: str) -> int:
    with open_log(Log(url=url), {}) as log:
        return log.count()[0]


@pytest.mark.slow
def test_many_threads_lose_nothing(log: OutcomeLog) -> None:
    def work() -> None:
        for number in range(500):
            log.record(outcome(f"query {number}"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.flush()
    assert (log.counts.written, log.counts.dropped, log.count()[0]) == (2000, 0, 2000)


@pytest.mark.slow
def test_closing_writes_waiting_outcomes(url: str) -> None:
    log = open_log(Log(url=url), {})
    for _ in range(BATCH + 1):
        log.record(outcome())
    log.close()
    assert count(url) == BATCH + 1


@pytest.mark.slow
def test_program_exit_writes_waiting_outcomes(url: str) -> None:
    code = textwrap.dedent(
        """
        import sys
        from outcomes.log.outcome_rows import outcome
        from semroute.config import Log
        from semroute.outcomes.log import open_log
        log = open_log(Log(url=sys.argv[1]), {})
        for _ in range(50):
            log.record(outcome())
        if sys.argv[2] == "raise":
            raise SystemExit(3)
        """
    )
    for how in ("return", "raise"):
        done = subprocess.run([sys.executable, "-c", code, url, how], env=_env(), check=False, timeout=60)
        assert done.returncode == (3 if how == "raise" else 0)
    assert count(url) == 100


def _env() -> dict[str, str]:
    tests = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (tests, os.environ.get("PYTHONPATH"))))}


@pytest.mark.slow
def test_after_a_kill_the_database_opens_and_little_is_missing(url: str) -> None:
    code = textwrap.dedent(
        """
        import sys, time
        from outcomes.log.outcome_rows import outcome
        from semroute.config import Log
        from semroute.outcomes.log import open_log
        log = open_log(Log(url=sys.argv[1]), {})
        number = 0
        while True:
            log.record(outcome(f"query {number}"))
            number += 1
            print(number, flush=True)
            time.sleep(0.001)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", code, url], env=_env(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    recorded = 0
    for line in process.stdout:
        recorded = int(line)
        if recorded == 1500:
            break
    process.send_signal(signal.SIGKILL)
    rest = re.findall(r"^\d+$", process.communicate()[0], re.MULTILINE)
    recorded = int(rest[-1]) if rest else recorded
    found = count(url)
    # At most what came within one wait and one transaction: about 200 + some at 1,000 a second or less.
    assert recorded - found <= 1000 * (FLUSH_S + 1.0)
    assert 0 < found <= recorded


@pytest.mark.slow
def test_two_processes_write_at_once(url: str) -> None:
    code = textwrap.dedent(
        """
        import sys
        from outcomes.log.outcome_rows import outcome
        from semroute.config import Log
        from semroute.outcomes.log import open_log
        with open_log(Log(url=sys.argv[1]), {}) as log:
            for _ in range(3000):
                log.record(outcome())
        """
    )
    running = [subprocess.Popen([sys.executable, "-c", code, url], env=_env()) for _ in range(2)]
    assert [process.wait(120) for process in running] == [0, 0]
    assert count(url) == 6000


@pytest.mark.slow
def test_outcomes_beyond_the_capacity_are_dropped_and_counted(engine: Engine) -> None:
    holding, let_go = threading.Event(), list[bool]()

    @event.listens_for(engine, "begin")
    def _wait(_: object) -> None:
        let_go.append(holding.wait(PATIENCE_S))

    writer = Writer(engine, RedactionPolicy(), capacity=10)
    writer.record(outcome())
    while writer._waiting:  # the thread has it, and stands still
        time.sleep(0.01)
    for _ in range(25):
        writer.record(outcome())
    assert (writer.counts.dropped, writer.counts.waiting) == (15, 11)
    holding.set()
    assert writer.flush(PATIENCE_S)
    assert all(let_go)  # by the callers, none of whom waited for it
    assert writer.counts.written == 11
    writer.close()


@pytest.mark.slow
def test_a_full_disk_blocks_no_caller_and_is_reported_and_recovered_from(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    pages = {"most": 60}
    recorded, let_go = threading.Event(), list[bool]()

    @event.listens_for(engine, "checkout")
    def _limit(connection: object, *_: object) -> None:
        let_go.append(recorded.wait(PATIENCE_S))
        connection.execute(f"PRAGMA max_page_count = {pages['most']}")  # type: ignore[attr-defined]

    writer = Writer(engine, RedactionPolicy())
    with caplog.at_level(logging.WARNING, "semroute"):
        for _ in range(1000):
            writer.record(outcome())
        recorded.set()
        assert not writer.flush(PATIENCE_S)
    assert all(let_go)  # by the caller, who waited for nothing
    assert any("does not take outcomes (database or disk is full)" in record.message for record in caplog.records)
    assert writer.counts.dropped == 0
    pages["most"] = 1_000_000
    assert _settled(writer, 1000)
    writer.close()


def _settled(writer: Writer, wanted: int, within_s: float = PATIENCE_S) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        writer.flush(1)
        if writer.counts.written == wanted:
            return True
        time.sleep(0.1)
    return False


class Gate:
    """A TCP connection to PostgreSQL that can be cut and mended.

    Attributes:
        answers: while it is unset, who connects to the cut one hears nothing, and later that it is cut.
        let_go: whether that waited for the event, or in vain, for each who connected.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._open: list[socket.socket] = []
        self._is_cut = False
        self.answers, self.let_go = threading.Event(), list[bool]()
        self.answers.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._is_cut:
                self.let_go.append(self.answers.wait(PATIENCE_S))
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._target))
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    @staticmethod
    def _pump(one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        finally:
            for end in (one, other):
                with contextmanager(_closing)(end):
                    pass

    def cut(self) -> None:
        self._is_cut = True
        for end in self._open:
            with contextmanager(_closing)(end):
                pass

    def mend(self) -> None:
        self._is_cut = False

    def close(self) -> None:
        self.cut()
        self._listener.close()


def _closing(end: socket.socket) -> Iterator[None]:
    try:
        yield
    finally:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@pytest.mark.slow
def test_an_outage_of_the_database_blocks_no_caller_and_loses_nothing(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate(int(postgres.split(":")[2].split("/", maxsplit=1)[0]))
    try:
        log = open_log(Log(url=postgres.replace(":5432/", f":{gate.port}/")), {})
        log.record(outcome("before"))
        assert log.flush()
        gate.answers.clear()
        gate.cut()
        with caplog.at_level(logging.WARNING, "semroute"):
            for number in range(500):
                log.record(outcome(f"while it is away {number}"))
            gate.answers.set()
            assert not log.flush(PATIENCE_S)
        assert all(gate.let_go)  # by the caller, who waited for nothing
        assert any("does not take outcomes" in record.message for record in caplog.records)
        assert log.counts.dropped == 0
        gate.mend()
        assert _settled(log._writer, 501)
        log.close()
    finally:
        gate.close()
    assert count(postgres) == 501


@pytest.mark.slow
def test_closing_waits_briefly_for_an_absent_database_and_reports_losses(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate(int(postgres.split(":")[2].split("/", maxsplit=1)[0]))
    log = open_log(Log(url=postgres.replace(":5432/", f":{gate.port}/")), {})
    gate.close()
    for _ in range(7):
        log.record(outcome())
    with caplog.at_level(logging.WARNING, "semroute"):
        assert ends(lambda: log._writer.close(600))
        log.close()
    assert any("7 outcomes are lost" in record.message for record in caplog.records)


def test_an_unwritable_outcome_does_not_block_the_others(engine: Engine) -> None:
    import dataclasses

    writer = Writer(engine, RedactionPolicy())
    good = outcome()
    bad: Outcome = dataclasses.replace(outcome(), latency_ms=object())  # type: ignore[arg-type]
    for one in (good, bad, outcome()):
        writer.record(one)
    assert writer.flush()
    assert (writer.counts.written, writer.counts.dropped) == (2, 1)
    writer.close()


def _child(log: OutcomeLog, report: multiprocessing.connection.Connection) -> None:
    log.record(outcome("child"))
    log.flush()
    report.send((log.counts.written, log.counts.waiting))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_writes_its_own_and_leaves_its_parents(url: str) -> None:
    log = open_log(Log(url=url), {})
    log.record(outcome("parent"))
    near, far = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_child, args=(log, far))
    child.start()
    assert near.poll(PATIENCE_S)
    assert near.recv() == (1, 0)
    child.join(PATIENCE_S)
    log.close()
    with open_log(Log(url=url), {}) as again:
        assert sorted(str(one.query) for one in again.outcomes()) == ["child", "parent"]
