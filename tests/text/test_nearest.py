from __future__ import annotations

import pytest

from semroute.text.names import did_you_mean, known_names, nearest


@pytest.mark.parametrize(
    ("word", "meant"), [("smal", "small"), ("LARGE", "large"), ("Coder ", "coder"), ("zzz", None), ("", None)]
)
def test_the_name_that_was_meant_is_found_whatever_its_case(word: str, meant: str | None) -> None:
    assert nearest(word, ["small", "large", "coder"]) == meant


def test_a_message_lists_what_there_is_and_asks_for_what_was_meant() -> None:
    assert known_names("smal", ["small", "large"], "they hold") == 'they hold small, large; did you mean "small"?'
    assert known_names("zzz", ["small"], "there are") == "there are small"
    assert known_names("zzz", [], "there are") == "there are none"
    assert known_names("zzz", [f"n{n}" for n in range(30)], "it has").endswith("n19, …")


def test_a_name_that_does_not_print_is_quoted() -> None:
    assert did_you_mean("evil", ["evil\x1b"]) == "did you mean \"'evil\\x1b'\"?"
