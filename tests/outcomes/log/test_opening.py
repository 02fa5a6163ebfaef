from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from outcomes.log.outcome_rows import outcome
from sqlalchemy import create_engine, inspect, text

from semroute.config import Log
from semroute.errors import StateError
from semroute.outcomes.log import open_log
from semroute.outcomes.log.schema import HEAD, metadata


def test_a_missing_folder_is_created(tmp_path: Path) -> None:
    with open_log(Log(url=f"sqlite:///{tmp_path}/a/b/log.db"), {}):
        assert (tmp_path / "a" / "b" / "log.db").exists()


@pytest.mark.slow
def test_the_migrations_make_the_tables_of_the_schema(url: str) -> None:
    with open_log(Log(url=url), {}):
        pass
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    found = inspect(engine)
    for table in metadata.sorted_tables:
        assert [column["name"] for column in found.get_columns(table.name)] == [c.name for c in table.columns]
        assert {c["name"] for c in found.get_columns(table.name) if not c["nullable"]} == {
            c.name for c in table.columns if not c.nullable
        }
        assert {index["name"] for index in found.get_indexes(table.name)} == {index.name for index in table.indexes}
    engine.dispose()


@pytest.mark.slow
def test_written_outcomes_survive_reopening(url: str) -> None:
    for _ in range(2):
        with open_log(Log(url=url), {}) as log:
            log.record(outcome())
    with open_log(Log(url=url), {}) as log:
        assert log.count()[0] == 2


@pytest.mark.slow
def test_a_log_of_the_first_schema_is_migrated_without_loss(url: str) -> None:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with open_log(Log(url=url, answers="full"), {}) as log:
        log.record(outcome())
    with engine.begin() as connection:
        for column in ("logprobs", "effort"):
            connection.execute(text(f"ALTER TABLE trials DROP COLUMN {column}"))
        connection.execute(text("ALTER TABLE calls DROP COLUMN effort"))
        connection.execute(text("DROP TABLE comparisons"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    engine.dispose()
    with open_log(Log(url=url, answers="full"), {}) as log:
        log.record(outcome())
        log.flush()
        old, new = log.outcomes()
    assert [tier.answer for tier in old.tiers] == ["perhaps", "eight minutes"]
    assert old.tiers[0].logprobs is None
    assert (old.tiers[0].effort, new.tiers[0].effort) == (None, "low")
    assert new.tiers[0].candidate == "small"
    assert {call.effort for call in old.calls} == {None}


@pytest.mark.slow
def test_a_database_of_a_newer_semroute_is_left_alone(url: str) -> None:
    with open_log(Log(url=url), {}):
        pass
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(StateError, match=f"newer semroute .schema 9999, this version has {HEAD}"):
        open_log(Log(url=url), {})


def test_tables_of_something_else_are_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "log.db")
    connection.execute("CREATE TABLE outcomes (x)")
    connection.close()
    with pytest.raises(StateError, match="tables of another program"):
        open_log(Log(url=f"sqlite:///{tmp_path}/log.db"), {})


def test_a_file_that_is_no_database_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_text("not a database, but long enough to be taken for one" * 100)
    with pytest.raises(StateError, match=r"log\.db cannot be opened"):
        open_log(Log(url=f"sqlite:///{tmp_path}/log.db"), {})


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="folder cannot be made"):
        open_log(Log(url=f"sqlite:///{tmp_path}/file/log.db"), {})


def test_a_server_that_is_not_there_is_an_error_without_the_password() -> None:
    section = Log(url="postgresql://someone@127.0.0.1:1/none", password_env="PASSWORD")
    with pytest.raises(StateError, match="cannot be opened") as caught:
        open_log(section, {"PASSWORD": "hunter2-secret"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.slow
def test_several_processes_may_open_it_for_the_first_time_at_once(url: str) -> None:
    code = "import sys; from semroute.config import Log; from semroute.outcomes.log import open_log; " \
           "open_log(Log(url=sys.argv[1]), {}).close()"  # fmt: skip
    running = [subprocess.Popen([sys.executable, "-c", code, url]) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0] * 4
    with open_log(Log(url=url), {}) as log:
        assert log.count()[0] == 0


def test_a_required_log_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="there is no log yet"):
        open_log(Log(url=f"sqlite:///{tmp_path}/log.db"), {}, must_exist=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_opening_waits_for_another_process_that_opens_the_database(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE x (y)")  # a new database, not yet with a write-ahead log
    other.execute("BEGIN IMMEDIATE")  # SQLite does not wait for such a lock when the mode is to change, but fails
    release = threading.Timer(0.3, other.close)
    release.start()
    with open_log(Log(url=f"sqlite:///{path}"), {}) as log:
        log.record(outcome())
        assert log.flush()
    release.join()
