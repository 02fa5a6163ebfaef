from __future__ import annotations

import pytest

from semroute.config.load import validate
from semroute.config.schema import Log


def test_an_address_may_name_a_file_or_a_server() -> None:
    for url in ("sqlite:///log.db", "sqlite:////var/log.db", "postgresql://semroute@db.internal:5432/semroute"):
        config, problems = validate(f'log: {{url: "{url}"}}')
        assert problems == ()
        assert config is not None
        assert config.log.url == url


def test_an_age_may_be_for_ever() -> None:
    config, _ = validate("log: {keep_days: forever}")
    assert config is not None
    assert config.log.keep_days == "forever"
    assert Log().keep_days == 90


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://me:hunter2@host/db", "must not hold a password"),
        ("postgresql://me@host/db?password=hunter2", "must not hold a password"),
        ("mysql://me@host/db", "is neither a sqlite:// nor a postgresql:// address"),
        ("sqlite://", "names no file"),
        ("a b", "must not hold spaces"),
        ("http://[", "is not an address"),
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(url: str, words: str) -> None:
    config, problems = validate(f'log:\n  url: "{url}"')
    assert config is None
    assert [(problem.key, problem.line) for problem in problems] == [("log.url", 2)]
    assert words in problems[0].text
    assert "hunter2" not in problems[0].text
