"""An index and a log that an earlier version wrote serve as they are: nobody builds anew for a rename."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from semroute.config import Log
from semroute.index import open_artifact
from semroute.outcomes.log import open_log
from semroute.router import Router

KEPT = Path(__file__).parent / "samples" / "kept"
"""Written at commit 0e9200e: a tiny index with a head and a first stage, and a log of three outcomes."""


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return Path(shutil.copytree(KEPT / "index", tmp_path / "index"))


def test_an_index_of_before_routes_as_it_did(index: Path) -> None:
    with_first_stage = open_artifact(index)
    assert with_first_stage.manifest.first_stage is not None
    decision = Router.load(index).route("fix the python loop")
    assert (decision.category, decision.model, decision.is_fallback) == ("code", "small", False)
    assert decision.score == pytest.approx(0.7019392251968384, abs=1e-5)
    assert decision.confidence == pytest.approx(0.7395815936167618, abs=1e-5)
    assert {one.category: round(one.score, 4) for one in decision.categories} == {"code": 0.7019, "cooking": 0.3601}


def test_a_log_of_before_is_read_and_added_to(tmp_path: Path) -> None:
    path = Path(shutil.copyfile(KEPT / "log.db", tmp_path / "log.db"))
    with open_log(Log(url=f"sqlite:///{path}", keep_days="forever"), {}) as log:
        outcomes = list(log.outcomes())
        assert sorted(outcome.query for outcome in outcomes if outcome.query is not None) == [
            f"query number {number}" for number in range(3)
        ]
        assert all(outcome.opinions for outcome in outcomes)
    with sqlite3.connect(path) as connection:
        assert connection.execute("select count(*) from outcomes").fetchone() == (3,)
    connection.close()
