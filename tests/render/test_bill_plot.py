from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from semroute.errors import InputError
from semroute.evaluate.log_report import Bill
from semroute.render.plots import plot_bill

BILL = Bill(500_000, 6000.0, 0.75, 5.0, 0.15)


@pytest.mark.slow
def test_both_points_where_a_cascade_stops_paying_are_marked(tmp_path: Path) -> None:
    plot_bill(BILL, 0.25, tmp_path / "bill.svg")
    text = (tmp_path / "bill.svg").read_text()
    ElementTree.fromstring(text)
    assert "<!-- 97.0% -->" in text
    assert "<!-- 24.2% -->" in text


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.png, \.svg"):
        plot_bill(BILL, 0.25, tmp_path / "bill.pdf")


@pytest.mark.slow
def test_a_full_disk_keeps_the_old_picture(
    tmp_path: Path, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "bill.svg"
    plot_bill(BILL, 0.25, path)
    before = path.read_bytes()
    with full_disk(), pytest.raises(InputError, match="cannot be written"):
        plot_bill(BILL, 0.5, path)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"bill.svg": before}
