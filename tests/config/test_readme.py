from __future__ import annotations

import pytest
from pages import blocks

from semroute.config.load import validate

BLOCKS = blocks("yaml")


def test_the_pages_show_a_configuration() -> None:
    assert any("deployments:" in block for block in BLOCKS.values())
    assert len(BLOCKS) >= 4


@pytest.mark.parametrize("name", BLOCKS)
def test_the_configuration_that_a_page_shows_is_valid(name: str) -> None:
    config, problems = validate(BLOCKS[name])
    assert not problems
    assert config is not None
