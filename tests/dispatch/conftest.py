from __future__ import annotations

from collections.abc import Iterator

import pytest

from semroute.testing import FakeProvider


@pytest.fixture
def first() -> Iterator[FakeProvider]:
    """The provider that is called first."""
    with FakeProvider() as running:
        yield running


@pytest.fixture
def second() -> Iterator[FakeProvider]:
    """The provider that a call fails over to."""
    with FakeProvider() as running:
        yield running
