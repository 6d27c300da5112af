"""Dates, moments and durations."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.moments import parse_date, parse_duration, parse_moment, rfc3339


@given(st.dates())
def test_every_date_is_read_as_it_is_written(day: date) -> None:
    assert parse_date(day.isoformat()) == day


@pytest.mark.parametrize(
    "text", ["", "2026-1-31", "20260131", "2026-W05-1", "2026-02-30", "2026-01-31 ", "٢٠٢٦-01-31", "now"]
)
def test_a_wrong_date_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a date") as raised:
        parse_date(text)
    assert repr(text) in str(raised.value)


@given(st.integers(min_value=0, max_value=253_402_300_799_999))
def test_every_moment_is_read_as_it_is_written(unix_ms: int) -> None:
    assert parse_moment(rfc3339(unix_ms)) == unix_ms


@pytest.mark.parametrize(
    "text",
    [
        "2027-01-31T12:00:00Z",
        "2027-01-31t12:00:00z",
        "2027-01-31T12:00:00.000+00:00",
        "2027-01-31T14:00:00+02:00",
        "2027-01-31T04:30:00-07:30",
    ],
)
def test_offsets_and_cases_of_one_moment(text: str) -> None:
    assert parse_moment(text) == int(datetime(2027, 1, 31, 12, tzinfo=UTC).timestamp()) * 1000


def test_what_is_below_a_millisecond_is_dropped() -> None:
    assert parse_moment("1970-01-01T00:00:00.1239Z") == 123
    assert parse_moment("1970-01-01T00:00:01.5Z") == 1500


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2027-01-31",
        "2027-01-31T12:00:00",
        "2027-01-31T12:00Z",
        "2027-01-31 12:00:00Z",
        "2027-13-31T12:00:00Z",
        "2027-01-31T24:00:01Z",
        "2027-01-31T12:00:00+25:00",
        "0001-01-01T00:00:00+01:00",
        "1800000000",
    ],
)
def test_a_wrong_moment_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_moment(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("30m", 1800), ("1h", 3600), ("30d", 2_592_000), ("2w", 1_209_600)]
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "1.5h", "-1h", "1 h", "1h30m", "1H", "٣d", "1234567890d"])
def test_a_wrong_duration_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_rfc3339_is_utc_with_milliseconds() -> None:
    moment = datetime(2026, 1, 31, 12, 0, 0, 7000, UTC)
    assert rfc3339(int(moment.timestamp() * 1000)) == "2026-01-31T12:00:00.007Z"
