"""A scripted server and an honest one for the tests of the adapters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from raw_server import Raw

from semroute.testing import FakeProvider


@pytest.fixture
def raw() -> Raw:
    """A server of scripted bytes: ``async with raw.serve([...]) as server``."""
    return Raw()


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """An honest server, which fails as it is told."""
    with FakeProvider() as running:
        yield running
