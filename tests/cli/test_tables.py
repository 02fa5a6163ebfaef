from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from semroute.cli.tables import plain_table
from semroute.cli.wrapping import folded

NAMES = st.text(st.sampled_from("abz_-./ é漢9"), max_size=40)


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
