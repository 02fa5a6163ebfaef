from __future__ import annotations

from collections.abc import Iterator

import pytest

from semroute.testing import FakeProvider


@pytest.fixture(scope="module")
def server() -> Iterator[FakeProvider]:
    """A double that lasts for a module, whose key is "right"."""
    with FakeProvider(key="right") as running:
        yield running


@pytest.fixture
def provider(server: FakeProvider) -> FakeProvider:
    """The same one, as if it had just been started."""
    server.reset()
    return server
