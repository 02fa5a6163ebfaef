from __future__ import annotations

import threading
import uuid

import pytest

from semroute.router import complete
from semroute.router.complete import new_id


@pytest.fixture(autouse=True)
def _own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests make of the future must not be the time of other tests' ids."""
    monkeypatch.setattr(complete, "_last", 0)


def test_an_id_is_a_version_7_uuid_of_its_time() -> None:
    made = uuid.UUID(hex=new_id(1_700_000_000.123))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    # Earlier ids of this process may lie ahead of that time, so a time of the future tells more.
    assert uuid.UUID(hex=new_id(4_000_000_000.0)).int >> 80 == 4_000_000_000_000


@pytest.mark.slow
def test_ids_increase_across_threads_and_clock_jumps() -> None:
    made: list[str] = [new_id(5_000_000_000.0 - number % 3) for number in range(10_000)]
    assert made == sorted(made)
    found: list[str] = []

    def work() -> None:
        found.extend([new_id(6_000_000_000.0) for _ in range(3000)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 12_000
