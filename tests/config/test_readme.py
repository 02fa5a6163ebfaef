from __future__ import annotations

import re
from pathlib import Path

import pytest

from semroute.config.load import validate

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_readme_shows_a_configuration() -> None:
    assert any("deployments:" in block for block in BLOCKS)


@pytest.mark.parametrize("block", BLOCKS)
def test_the_configuration_that_the_readme_shows_is_valid(block: str) -> None:
    config, problems = validate(block)
    assert not problems
    assert config is not None
