from __future__ import annotations

from pathlib import Path

from semroute.data.examples import MAX_LISTED, Finding, combined, shortened


def test_one_error_lists_every_problem_with_its_place() -> None:
    error = combined([Finding("first", Path("a.yaml"), 3), Finding("second", Path("b.txt")), Finding("third")])
    assert str(error) == "a.yaml:3: first\nb.txt: second\nthird"
    assert (error.path, error.line) == (Path("a.yaml"), 3)


def test_a_file_of_the_wrong_kind_does_not_flood_the_terminal() -> None:
    lines = str(combined([Finding("bad", Path("a"), n) for n in range(1, 1001)])).splitlines()
    assert len(lines) == MAX_LISTED + 1
    assert lines[-1] == f"... and {1000 - MAX_LISTED} more problems"


def test_exactly_the_limit_is_listed_whole() -> None:
    assert len(str(combined([Finding("bad", Path("a"), n) for n in range(MAX_LISTED)])).splitlines()) == MAX_LISTED


def test_text_in_a_message_is_one_short_line_that_prints() -> None:
    assert shortened("a\n  b") == '"a b"'
    assert shortened("\x1b[31mred\ud800") == '"\\x1b[31mred\\ud800"'
    assert shortened("x" * 100, 10) == '"xxxxxxx..."'
    assert len(shortened("y" * 1_000_000)) == 62
