"""Days of a zone."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.days import day_at

ZONES = ["UTC", "Asia/Shanghai", "America/New_York", "Australia/Lord_Howe"]


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("zone", "moment", "name", "hours"),
    [
        ("UTC", "2026-01-31T23:59:59+00:00", "2026-01-31", 24),
        ("Asia/Shanghai", "2026-01-31T16:00:00+00:00", "2026-02-01", 24),
        ("America/New_York", "2026-03-08T12:00:00+00:00", "2026-03-08", 23),
        ("America/New_York", "2026-11-01T12:00:00+00:00", "2026-11-01", 25),
    ],
)
def test_day_names_and_lengths(zone: str, moment: str, name: str, hours: int) -> None:
    day = day_at(at(moment), ZoneInfo(zone))
    assert (day.name, (day.end_s - day.start_s) / 3600) == (name, hours)


@given(st.floats(0, 4e9), st.sampled_from(ZONES))
def test_every_moment_lies_in_its_day_and_days_follow_each_other(moment: float, zone: str) -> None:
    day = day_at(moment, ZoneInfo(zone))
    assert day.start_s <= moment < day.end_s
    assert day_at(day.end_s, ZoneInfo(zone)).start_s == day.end_s
