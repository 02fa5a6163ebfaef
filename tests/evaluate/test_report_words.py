from __future__ import annotations

import pytest

from semroute.evaluate.log_report import moment, ms, percent, usd


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (0.0, "0.00"), (1234.5, "1,234.50"), (-2.0, "-2.00"), (0.0123, "0.0123"), (4.5e-6, "0.0000045")],
)
def test_usd_has_significant_digits_only(value: float | None, shown: str) -> None:
    assert usd(value) == shown


def test_times_and_shares_are_formatted_for_reading() -> None:
    assert (ms(None), ms(3.14159), ms(1234.5)) == ("-", "3.1", "1,234")
    assert (percent(None), percent(float("nan")), percent(0.1234)) == ("-", "-", "12.3%")
    assert moment(0.0) == "1970-01-01 00:00"
