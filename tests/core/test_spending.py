"""Sums by period, against a plain list of what was spent on which day."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.periods import PERIODS, period_of
from proxy.core.spending import Spending, period_starts

DAYS = st.dates(date(2026, 11, 20), date(2027, 2, 10)).map(date.isoformat)
SPENT = st.lists(st.tuples(DAYS, st.integers(0, 10**12)), max_size=40)


def test_the_periods_that_hold_a_day() -> None:
    assert period_starts("2027-01-01") == ("2027-01-01", "2026-12-28", "2027-01-01", "0001-01-01")


def total(spent: list[tuple[str, int]], period: str, today: str) -> int:
    held = period_of(period, date.fromisoformat(today))
    return sum(nanos for day, nanos in spent if held.first <= date.fromisoformat(day) <= held.last)


def sums(spending: Spending, today: str) -> dict[str, int]:
    return {period: spending.spent(period, today) for period in PERIODS}


@given(SPENT, DAYS, DAYS)
def test_sums_are_those_of_a_plain_list(spent: list[tuple[str, int]], today: str, later: str) -> None:
    """Exchanges of earlier days may settle late; the clock of the question is never behind them."""
    spending = Spending()
    for day, nanos in spent:
        spending.add(day, nanos)
    now = max([today, *(day for day, _ in spent)])
    for moment in (now, max(now, later)):
        assert sums(spending, moment) == {period: total(spent, period, moment) for period in PERIODS}


@given(SPENT, SPENT, DAYS)
def test_seeded_sums_go_on_as_if_the_process_had_never_ended(
    before: list[tuple[str, int]], after: list[tuple[str, int]], today: str
) -> None:
    now = max([today, *(day for day, _ in before)])
    spending = Spending()
    spending.seed(now, [total(before, period, now) for period in PERIODS])
    assert sums(spending, now) == {period: total(before, period, now) for period in PERIODS}
    for day, nanos in after:
        spending.add(day, nanos)
    end = max([now, *(day for day, _ in after)])
    assert sums(spending, end) == {period: total([*before, *after], period, end) for period in PERIODS}


def test_a_seed_is_not_shared() -> None:
    spent = [1, 2, 3, 4]
    spending = Spending()
    spending.seed("2026-12-02", spent)
    spending.add("2026-12-02", 10)
    assert spent == [1, 2, 3, 4]
    assert sums(spending, "2026-12-02") == {"day": 11, "week": 12, "month": 13, "total": 14}


@pytest.mark.parametrize(
    ("today", "expected"),
    [
        ("2026-12-30", [7, 7, 7, 7]),
        ("2026-12-31", [0, 7, 7, 7]),
        ("2027-01-01", [0, 7, 0, 7]),  # the same week, another month
        ("2027-01-04", [0, 0, 0, 7]),
    ],
)
def test_each_period_begins_anew_at_its_own_end(today: str, expected: list[int]) -> None:
    spending = Spending()
    spending.add("2026-12-30", 7)
    assert list(sums(spending, today).values()) == expected
    assert spending.running_nanos == 0


def test_what_ends_late_counts_for_its_own_day() -> None:
    spending = Spending()
    spending.add("2026-12-31", 1)
    spending.add("2027-01-01", 2)
    spending.add("2026-12-31", 4)  # ran over midnight
    assert sums(spending, "2027-01-01") == {"day": 2, "week": 7, "month": 2, "total": 7}


def test_a_clock_that_went_back_forgets_nothing_that_was_spent() -> None:
    spending = Spending()
    spending.add("2027-01-02", 5)
    assert spending.spent("day", "2027-01-01") == 5


def test_nothing_is_spent_at_first() -> None:
    assert sums(Spending(), "2026-12-31") == dict.fromkeys(PERIODS, 0)
