from __future__ import annotations

import pytest

from semroute.config.cascade import Format, TierConfig
from semroute.config.load import validate
from semroute.config.schema import Config


def parsed(text: str) -> Config:
    config, problems = validate(text)
    assert problems == ()
    assert config is not None
    return config


def test_a_tier_may_be_written_as_its_name() -> None:
    cascade = parsed("cascade: {tiers: [small, {use: frontier, quality: 0.9}]}").cascade
    assert cascade.tiers == (TierConfig(use="small"), TierConfig(use="frontier", quality=0.9))


def test_format_may_be_a_switch() -> None:
    assert parsed("cascade: {accept: {format: true}}").cascade.accept.format == Format()
    assert parsed("cascade: {accept: {format: false}}").cascade.accept.format is None
    assert parsed("cascade: {accept: {format: {length: false}}}").cascade.accept.format == Format(length=False)


def test_false_is_a_cascade_without_tiers_and_none_takes_the_general_one() -> None:
    config = parsed("cascade: {tiers: [a, b]}\ncategories: {code: {cascade: false}, law: {}}")
    assert config.categories["code"].cascade is not None
    assert config.categories["code"].cascade.tiers == ()
    assert config.categories["law"].cascade is None


def test_a_confidence_of_zero_is_one() -> None:
    assert parsed("cascade: {accept: {confidence: 0.0}}").cascade.accept.confidence == 0.0


@pytest.mark.parametrize(
    ("text", "key", "line", "words"),
    [
        ("cascade:\n  tiers: small", "cascade.tiers", 2, "must be a list"),
        ("cascade:\n  accept: {confidence: 1.5}", "cascade.accept.confidence", 2, "must be at most 1"),
        ("cascade:\n  accept:\n    confidense: 0.9", "cascade.accept.confidense", 3, 'did you mean "confidence"?'),
        ("cascade:\n  tiers:\n  - {use: a, qualty: 1}", "cascade.tiers.0.qualty", 3, 'did you mean "quality"?'),
        ("cascade:\n  accept: {format: {language: english}}", "cascade.accept.format.language", 2, "ISO 639-1"),
        ("cascade:\n  accept: {format: {pattern: '(a'}}", "cascade.accept.format.pattern", 2, "RE2"),
        ("cascade:\n  max_usd: -1", "cascade.max_usd", 2, "must be at least 0"),
        ("categories:\n  code:\n    cascade: {tier: [a]}", "categories.code.cascade.tier", 3, 'did you mean "tiers"?'),
    ],
)
def test_problems_name_line_and_fix(text: str, key: str, line: int, words: str) -> None:
    config, problems = validate(text)
    assert config is None
    assert [(problem.key, problem.line) for problem in problems] == [(key, line)]
    assert words in problems[0].text
