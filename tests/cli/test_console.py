from __future__ import annotations

import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.cli.console import print_json, print_note, print_text
from semroute.storage import json_line


class Output(io.TextIOWrapper):
    """A standard output of a given encoding whose bytes can be read."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, newline="")

    def text(self) -> str:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode(self.encoding)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.slow
@given(VALUES, st.sampled_from(["utf-8", "ascii", "cp1252"]))
def test_json_is_one_line_that_reads_back_in_every_encoding(value: object, encoding: str) -> None:
    output = Output(encoding)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", output)
        print_json(value)
    (line,) = output.text().split("\n")[:-1]
    assert json.loads(line) == value


@pytest.mark.slow
@given(VALUES)
def test_json_is_one_line_for_whatever_ends_lines(value: object) -> None:
    assert len(json_line(value).splitlines()) == 1
    assert json.loads(json_line(value)) == value


def test_ends_of_lines_beyond_ascii_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"query": "a\x85b\u2028c\u2029d\u6c47"})
    assert capsys.readouterr().out == '{"query": "a\\u0085b\\u2028c\\u2029d\u6c47"}\n'


def test_json_of_other_scripts_stays_readable(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"query": "汇率"})
    assert capsys.readouterr().out == '{"query": "汇率"}\n'


@pytest.mark.slow
@given(st.text(), st.sampled_from(["utf-8", "ascii"]))
def test_any_text_can_be_printed_in_any_encoding(text: str, encoding: str) -> None:
    output = Output(encoding)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", output)
        print_text(text)
    assert output.text() == text.encode(encoding, "replace").decode(encoding) + "\n"


def test_a_note_is_one_line_on_standard_error_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_note("[bold]" + "word " * 60)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("[bold]word")
    assert captured.err.count("\n") == 1
