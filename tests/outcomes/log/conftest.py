from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text

from semroute.config import Log
from semroute.outcomes.log import OutcomeLog, open_log

POSTGRES = os.environ.get("SEMROUTE_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")


@pytest.fixture
def postgres() -> Iterator[str]:
    """The address of an empty database of the test's own on a real server."""
    name = f"semroute_{uuid4().hex[:12]}"
    admin = create_engine(POSTGRES.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
    try:
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
    except Exception as error:
        if os.environ.get("SEMROUTE_REQUIRE_SERVICES"):
            raise
        admin.dispose()
        pytest.skip(f"no PostgreSQL at {POSTGRES}: {error}")
    yield POSTGRES.rsplit("/", 1)[0] + f"/{name}"
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    return f"sqlite:///{tmp_path}/log.db" if request.param == "sqlite" else str(request.getfixturevalue("postgres"))


@pytest.fixture
def log(url: str) -> Iterator[OutcomeLog]:
    with open_log(Log(url=url, keep_days="forever"), {}) as opened:
        yield opened
