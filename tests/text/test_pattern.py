"""Patterns that cannot hang, whatever they and their text are made of."""

from __future__ import annotations

import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.errors import MissingExtraError
from semroute.text.patterns import MAX_WORK, LinearPattern, PatternError

HOSTILE = [
    r"(x+x+)+y",
    r"(a|aa)+$",
    r"^(.*?,){20}P",
    r"(.*)(.*)(.*)(.*)(.*)[^a-z,]",
    r"(a?){300}a{300}!",
    r".{0,200}!",
    r"(?:a.{0,100}){2}!",
    r"(?:(?:a|b|x|.){0,12}){12}!",
    r"(?:[a-z]?){300}[0-9]",
]


def test_a_pattern_is_found_anywhere_and_across_scripts() -> None:
    assert LinearPattern(r"\d{4}-\d{2}").found_in("due 2026-11")
    assert LinearPattern(r"(?i)\p{Greek}+").found_in("ΑΒΓ")
    assert not LinearPattern(r"^a$").found_in("ba")


@pytest.mark.parametrize(
    "pattern", ["(", "(?<=a)b", r"(a)\1", "[z-a]", "a{2000}", "x" * 5000, "(?i)\\p{L}{1,500}", "\ud800"]
)
def test_invalid_or_too_large_patterns_are_refused_with_the_reason(pattern: str) -> None:
    with pytest.raises(PatternError, match=r"RE2|too large|surrogate"):
        LinearPattern(pattern)


@pytest.mark.parametrize("pattern", HOSTILE)
@pytest.mark.parametrize("piece", ["a", "x,", "aaab", "ä"])
def test_a_hostile_pattern_on_a_megabyte_ends_at_once(pattern: str, piece: str) -> None:
    compiled, text = LinearPattern(pattern), piece * (1_000_000 // len(piece))
    start = time.thread_time()
    compiled.found_in(text)
    assert time.thread_time() - start < 1.0  # without the bound of work, up to 18 s


def test_a_long_text_is_read_at_both_ends_as_far_as_the_bound_of_work_allows() -> None:
    pattern = LinearPattern("needle")
    assert pattern.reads <= MAX_WORK
    padding = "hay " * pattern.reads
    assert pattern.found_in("needle" + padding)
    assert pattern.found_in(padding + "needle")


def test_a_cut_through_a_character_does_no_harm() -> None:
    pattern = LinearPattern("needle")
    assert not pattern.found_in("日" * pattern.reads)


@pytest.mark.slow
@given(st.text(), st.text())
def test_a_pattern_either_is_refused_or_works_on_every_text(pattern: str, text: str) -> None:
    try:
        compiled = LinearPattern(pattern)
    except PatternError:
        return
    assert compiled.found_in(text) in (True, False)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(MissingExtraError, match=r"semroute-router\[rules\]"):
        LinearPattern("a")
