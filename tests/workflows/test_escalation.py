from __future__ import annotations

import pytest

from semroute.errors import InputError
from semroute.workflows.bill import parse_escalation


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("20%", (0.1, 0.2, 0.4)),
        ("0.2", (0.1, 0.2, 0.4)),
        ("80%", (0.4, 0.8, 1.0)),
        ("0", (0.0, 0.0, 0.0)),
        ("10%-30%", (0.1, 0.2, 0.3)),
        ("10-30%", (0.1, 0.2, 0.3)),
        ("0.1..0.3", (0.1, 0.2, 0.3)),
        (" 10% \u2013 30% ", (0.1, 0.2, 0.3)),
    ],
)
def test_a_rate_has_a_range_and_a_range_a_middle(text: str, rates: tuple[float, float, float]) -> None:
    found = parse_escalation(text)
    assert (found.low, found.expected, found.high) == pytest.approx(rates)


@pytest.mark.parametrize("text", ["20", "a few", "", "-20%", "120%", "30%-10%", "nan", "10%-"])
def test_what_is_no_share_is_refused_with_the_way_to_write_it(text: str) -> None:
    with pytest.raises(InputError, match="write a share such as 20%"):
        parse_escalation(text)
