"""Days, weeks and months of quotas."""

from datetime import UTC, date, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.moments import rfc3339
from proxy.core.periods import Period, period_of

DAYS = st.dates(min_value=date(1970, 1, 1), max_value=date(9000, 1, 1))


@pytest.mark.parametrize(
    ("kind", "first", "end"),
    [
        ("day", date(2026, 12, 31), date(2027, 1, 1)),
        ("week", date(2026, 12, 28), date(2027, 1, 4)),
        ("month", date(2026, 12, 1), date(2027, 1, 1)),
        ("total", date.min, None),
    ],
)
def test_the_periods_that_hold_the_last_day_of_a_year(kind: str, first: date, end: date | None) -> None:
    assert period_of(kind, date(2026, 12, 31)) == Period(first, end)


@given(DAYS, st.sampled_from(["day", "week", "month"]))
def test_periods_follow_each_other_without_gap_or_overlap(day: date, kind: str) -> None:
    period = period_of(kind, day)
    assert period.end is not None
    assert period.first <= day <= period.last < period.end
    assert period_of(kind, period.end - timedelta(days=1)) == period
    assert period_of(kind, period.end).first == period.end


@given(DAYS)
def test_weeks_begin_on_monday_and_months_on_the_first(day: date) -> None:
    assert period_of("week", day).first.isoweekday() == 1
    assert period_of("month", day).first.day == 1


def test_a_period_ends_at_midnight_of_the_zone() -> None:
    period = period_of("month", date(2026, 10, 5))
    resets_ms = period.resets_ms(UTC)
    assert resets_ms is not None
    assert rfc3339(resets_ms) == "2026-11-01T00:00:00.000Z"
    in_zone_ms = period.resets_ms(ZoneInfo("Asia/Shanghai"))
    assert in_zone_ms is not None
    assert rfc3339(in_zone_ms) == "2026-10-31T16:00:00.000Z"


def test_the_total_never_resets() -> None:
    period = period_of("total", date(2026, 1, 1))
    assert period.resets_ms(UTC) is None
    assert period.first < period.last == date.max
