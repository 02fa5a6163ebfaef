from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from semroute.cli.console import stdout
from semroute.cli.layout import Column, excerpt, folded
from semroute.cli.tables import DataTable, RowPrinter, plain_table

NAMES = st.text(st.sampled_from("abz_-./ é漢9"), max_size=40)


@pytest.mark.slow
@given(name=NAMES, width=st.integers(2, 50))
def test_a_folded_name_fits_and_loses_nothing(name: str, width: int) -> None:
    lines = folded(name, width)
    assert max(map(cell_len, lines)) <= width
    assert re.sub(" ", "", "".join(lines)) == re.sub(" ", "", name)


def test_a_name_is_cut_between_its_parts() -> None:
    assert folded("high_school_microeconomics", 25) == ["high_school_", "  microeconomics"]
    assert folded("high_school_microeconomics", 26) == ["high_school_microeconomics"]
    assert folded("llama-3.1-nemotron-51b-instruct", 20) == ["llama-3.1-nemotron-", "  51b-instruct"]
    assert folded("antidisestablishmentarianism", 20) == ["antidisestablishment", "  arianism"]


def test_in_a_table_without_room_the_name_yields_and_no_number_is_cut() -> None:
    table = plain_table("quality", "interval", first="task")
    table.add_row("high_school_government_and_politics[b]", "0.500", "-0.952 to -0.998")
    console = Console(width=44, highlight=False)
    with console.capture() as capture:
        console.print(table)
    shown = capture.get()
    assert "0.500  -0.952 to -0.998" in shown
    assert "politics[b]" in shown
    assert max(map(len, shown.splitlines())) <= 44


WORDS = st.text(st.sampled_from("ab é漢🚚-_/."), max_size=50)
NUMBERS = st.sampled_from(["1", "0.123", "12,345", "-0.952 to -0.998", "+0.119\n+.100, +.138", "-"])


def _shown(table: DataTable, width: int) -> list[str]:
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().splitlines()


@pytest.mark.slow
@given(
    rows=st.lists(st.tuples(WORDS, NUMBERS, WORDS, NUMBERS, NUMBERS), min_size=1, max_size=4),
    width=st.integers(24, 130),
    header=st.sampled_from(["category", "a header of several words"]),
)
def test_no_line_is_wider_than_its_room_and_no_number_is_cut(
    rows: list[tuple[str, ...]], width: int, header: str
) -> None:
    table = DataTable(
        Column(header, "name"), Column("USD for 1,000"), Column("note", "words"), Column("quality"), Column("n")
    )
    for row in rows:
        table.add_row(*row)
    lines = _shown(table, width)
    assert max(map(cell_len, lines), default=0) <= width
    words = " ".join(lines).split()
    for row in rows:
        for number in (row[1], row[3], row[4]):
            assert set(number.split()) <= set(words)


def test_headers_give_way_before_words_and_words_before_names() -> None:
    table = DataTable(Column("deployment", "name"), Column("USD for 1,000"), Column("capabilities", "words"))
    table.add_row("azure-openai-europe-west-01", "0.5", "tools, images, a JSON schema, log probabilities")
    assert _shown(table, 100)[0] == "deployment                   USD for 1,000  capabilities"
    assert _shown(table, 85)[1:] == [
        "deployment                     1,000  capabilities",
        "azure-openai-europe-west-01      0.5  tools, images, a JSON schema, log probabilities",
    ]
    assert _shown(table, 64)[3].startswith("azure-openai-europe-west-01    0.5  tools, images, a JSON")
    assert [line.split("  ")[0] for line in _shown(table, 44)[3:5]] == ["azure-openai-", ""]


def test_where_no_columns_fit_each_row_is_a_block_that_names_them() -> None:
    table = plain_table("quality", "USD for 1,000", first="model")
    table.add_row("a-model-with-a-very-long-name", "0.500", "12,345.6789")
    table.add_row("b", "0.250", "1.0")
    assert _shown(table, 20) == [
        "model: a-model-", "  with-a-very-long-", "  name", "quality: 0.500", "USD for 1,000:", "  12,345.6789", "",
        "model: b", "quality: 0.250", "USD for 1,000: 1.0",
    ]  # fmt: skip


def test_elsewhere_than_at_a_terminal_a_row_is_a_line_however_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    table = DataTable(Column("name", "name"), Column("AIQ"), Column("why", "words", most=20))
    table.add_row("high_school " * 20, "0.846\n.810, .875", "because " * 30)
    stdout().print(table)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert len(lines[1]) > 400
    assert "0.846 .810, .875" in lines[1]
    assert all(line == line.rstrip() for line in lines)


def test_rows_that_come_one_by_one_are_lines_without_a_header_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    rows = RowPrinter(Column("category", "name"), Column("score"), Column("query", "excerpt"), likely=(["billing"],))
    for text in ("why " * 30, "short"):
        rows.print("code", "0.5", rows.excerpt(text))
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith('code     0.5  "why why')
    assert len(first) > 60
    assert second == 'code     0.5  "short"'


def test_an_excerpt_ends_between_words() -> None:
    text = '"the courier says that my parcel was delivered"'
    assert excerpt(text, 60) == text
    assert excerpt(text, 30) == '"the courier says that my ..."'
    assert excerpt(text, 29) == '"the courier says that ..."'
    assert cell_len(excerpt('"注文をキャンセルしたい"', 16)) <= 16
    assert excerpt('"antidisestablishmentarianism"', 16).endswith('..."')


def test_control_characters_in_cells_are_counted_as_they_are_shown() -> None:
    table = DataTable(Column("name", "words"), Column("n"))
    table.add_row("soup \x1b]52;c;ZXZpbA==\x07 and more words", "1")
    lines = _shown(table, 24)
    assert max(map(len, lines)) <= 24
    assert "^[" in "".join(lines)
