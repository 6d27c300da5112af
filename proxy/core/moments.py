"""Dates, moments and durations as people and programs write them, read strictly."""

import re
from datetime import UTC, date, datetime

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
# RFC 3339, section 5.6: a date-time always has its seconds and its offset.
_DATE_TIME = re.compile(r"(\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2})(\.\d+)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_DURATION = re.compile(r"(\d{1,9})([smhdw])", re.ASCII)
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_date(text: str) -> date:
    """Return a calendar date written as `YYYY-MM-DD`. Raises ValueError, saying what is wrong."""
    if not _DATE.fullmatch(text):
        raise ValueError(f"{text!r} is not a date: write YYYY-MM-DD")
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a date: {error}") from None


def parse_moment(text: str) -> int:
    """Return an RFC 3339 date-time as Unix milliseconds. Raises ValueError, saying what is wrong."""
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time: write RFC 3339, like 2027-01-31T12:00:00Z")
    seconds, fraction, offset = match.groups()
    try:
        moment = datetime.fromisoformat(seconds + offset.upper().replace("Z", "+00:00"))
        whole_s = round(moment.astimezone(UTC).timestamp())
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a time: {error}") from None
    return whole_s * 1000 + int(((fraction or "")[1:] + "000")[:3])


def parse_duration(text: str) -> int:
    """Return a duration such as `45s`, `30m`, `1h`, `30d` or `2w` in seconds. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration: write a whole number and s, m, h, d or w, like 30d")
    number, unit = match.groups()
    return int(number) * _UNIT_S[unit]


def rfc3339(unix_ms: int) -> str:
    """Return a moment as RFC 3339 UTC with milliseconds: `2026-01-31T12:00:00.000Z`."""
    moment = datetime.fromtimestamp(unix_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{unix_ms % 1000:03d}Z"
