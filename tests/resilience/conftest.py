from __future__ import annotations

from collections.abc import Iterator

import pytest
from resilience.redis_server import OwnRedis, own_redis


@pytest.fixture(scope="module")
def redis() -> Iterator[OwnRedis]:
    """A Redis for all tests of a module, which leave it running."""
    with own_redis() as running:
        yield running
