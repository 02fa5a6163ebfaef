from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.resilience.limits import Charge, MonthlySpending


def second(*date: int) -> float:
    return datetime(*date, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]


NOVEMBER = second(2026, 11, 14)


def wait_s(books: MonthlySpending, usd: float, budget: float, wall: float) -> float | None:
    wait = books.wait("KEY", usd, budget, wall)
    return 0.0 if wait is None else wait.wait_s


@pytest.mark.parametrize(
    ("wall", "next_month"),
    [
        (second(2026, 11, 14, 12), second(2026, 12, 1)),
        (second(2026, 12, 31, 23, 59, 59), second(2027, 1, 1)),
        (second(2028, 2, 29), second(2028, 3, 1)),
        (second(2026, 3, 1), second(2026, 4, 1)),
    ],
)
def test_a_spent_budget_waits_for_the_first_of_the_next_month_in_utc(wall: float, next_month: float) -> None:
    books = MonthlySpending(wall)
    books.reserve("KEY", 1.0, wall)
    assert wait_s(books, 0.5, 1.0, wall) == next_month - wall
    assert wait_s(books, 0.5, 1.0, next_month - 0.001) != 0.0
    assert wait_s(books, 0.5, 1.0, next_month) == 0.0
    assert books.spent(next_month) == {}


def test_a_budget_is_used_to_the_last_cent_whatever_floats_add_up_to() -> None:
    books = MonthlySpending(NOVEMBER)
    for _ in range(3):
        assert wait_s(books, 0.1, 0.3, NOVEMBER) == 0.0
        books.reserve("KEY", 0.1, NOVEMBER)
    assert wait_s(books, 1e-9, 0.3, NOVEMBER) != 0.0


@pytest.mark.slow
@given(st.lists(st.tuples(st.floats(0, 0.4), st.none() | st.floats(0, 1)), max_size=30))
def test_a_reservation_never_goes_over_the_budget(calls: list[tuple[float, float | None]]) -> None:
    books, running = MonthlySpending(NOVEMBER), []
    for usd, share in calls:
        if wait_s(books, usd, 1.0, NOVEMBER) == 0.0:
            running.append((books.reserve("KEY", usd, NOVEMBER), usd, share))
        assert books.spent_by("KEY", NOVEMBER) <= 1.0
        if share is not None and running:
            charge, reserved, _ = running.pop()
            books.settle(charge, reserved * share, NOVEMBER)
    for charge, _, _ in running:
        books.settle(charge, 0.0, NOVEMBER)


def test_what_is_given_back_whole_leaves_nothing() -> None:
    books = MonthlySpending(NOVEMBER)
    for charge in [books.reserve("KEY", 0.1 + number / 7, NOVEMBER) for number in range(100)]:
        books.settle(charge, 0.0, NOVEMBER)
    assert books.spent_by("KEY", NOVEMBER) == 0.0


def test_a_call_from_last_month_is_not_charged_to_this_one() -> None:
    books = MonthlySpending(NOVEMBER)
    charge = books.reserve("KEY", 0.5, NOVEMBER)
    books.settle(charge, 9.0, second(2026, 12, 1))
    assert books.spent(second(2026, 12, 1)) == {}


def test_a_wall_clock_that_is_set_back_opens_no_new_budget() -> None:
    books = MonthlySpending(second(2026, 12, 1))
    books.reserve("KEY", 1.0, second(2026, 12, 1))
    assert books.spent_by("KEY", second(2026, 11, 30, 23)) == 1.0
    assert books.month(second(2026, 11, 30, 23)) == "2026-12"


def test_a_budget_of_nothing_lets_free_calls_through() -> None:
    books = MonthlySpending(NOVEMBER)
    assert wait_s(books, 0.0, 0.0, NOVEMBER) == 0.0
    assert wait_s(books, 0.01, 0.0, NOVEMBER) is None


def test_saved_books_are_taken_up_only_in_their_month_and_never_lower_what_was_spent() -> None:
    books = MonthlySpending(NOVEMBER)
    books.restore("2026-10", {"KEY": 5.0}, NOVEMBER)
    assert books.spent(NOVEMBER) == {}
    books.reserve("BUSY", 3.0, NOVEMBER)
    for _ in range(2):
        books.restore("2026-11", {"KEY": 5.0, "BUSY": 2.0}, NOVEMBER)
    assert books.spent(NOVEMBER) == {"KEY": 5.0, "BUSY": 3.0}


def test_a_charge_says_who_pays_and_in_which_month() -> None:
    assert MonthlySpending(NOVEMBER).reserve("KEY", 0.5, NOVEMBER) == Charge("KEY", "2026-11", 500_000_000)
