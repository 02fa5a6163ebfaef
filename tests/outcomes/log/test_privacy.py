from __future__ import annotations

from pathlib import Path

import pytest
from outcomes.log.outcome_rows import outcome

from semroute.config import Log
from semroute.outcomes.log import open_log

QUERY = "my very own secret question"


def kept(tmp_path: Path, **settings: str) -> tuple[bytes, str | None, str | None]:
    section = Log.model_validate({"url": f"sqlite:///{tmp_path}/log.db", **settings})
    with open_log(section, {}) as log:
        log.record(outcome(QUERY, text="an answer of mine"))
        log.flush()
        (found,) = log.outcomes()
    return b"".join(path.read_bytes() for path in tmp_path.glob("log.db*")), found.query, found.query_hash


def test_by_default_the_query_is_kept_and_the_answer_is_not(tmp_path: Path) -> None:
    raw, query, query_hash = kept(tmp_path)
    assert (query, query_hash) == (QUERY, None)
    assert b"an answer of mine" not in raw


@pytest.mark.slow
def test_a_query_hash_is_deterministic_and_reveals_nothing(tmp_path: Path) -> None:
    first = kept(tmp_path, text="hashed")
    assert first[1] is None
    assert first[2] is not None
    assert len(first[2]) == 64
    assert QUERY.encode() not in first[0]
    section = Log.model_validate({"url": f"sqlite:///{tmp_path}/log.db", "text": "hashed"})
    with open_log(section, {}) as log:
        log.record(outcome(QUERY))
        log.flush()
        assert {one.query_hash for one in log.outcomes()} == {first[2]}
    other = tmp_path / "other"
    other.mkdir()
    assert kept(other, text="hashed")[2] != first[2]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["hashed", "none"])
def test_redaction_of_the_query_also_redacts_texts_that_may_repeat_it(tmp_path: Path, text: str) -> None:
    raw, query, _ = kept(tmp_path, text=text)
    assert query is None
    assert QUERY.encode() not in raw
    assert b"HTTP 500" not in raw


@pytest.mark.slow
def test_answers_are_logged_if_configured(tmp_path: Path) -> None:
    assert b"an answer of mine" in kept(tmp_path, answers="full")[0]
