"""How long a provider asks to be left alone: the headers, members and words by which it says so.

docs/providers.md, "Waiting"
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# A longer wait is a mistake or a spent quota; either way it is worth a new question the next day.
MAX_WAIT_S = 86_400.0

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
# All repetitions have bounds: the texts are not ours, and nested open ones take quadratic time.
_AMOUNT = (
    r"(\d{1,12}(?:\.\d{1,12})?)\s{0,2}"
    r"(milliseconds?|minutes?|mins?|ms|m|seconds?|secs?|s|秒钟?|hours?|hrs?|h|days?|d)(?![a-z])"
)
_UNIT_S = {"s": 1.0, "秒": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}  # by initial; ms apart
_SEVERAL = rf"(?:{_AMOUNT}\s{{0,2}}){{1,4}}"
_AMOUNTS = re.compile(_AMOUNT, re.IGNORECASE)
_DURATION = re.compile(_SEVERAL, re.IGNORECASE)
_WORDS = re.compile(
    rf"(?:try again|retry(?:ing)?|wait)\b\D{{0,30}}?({_SEVERAL})|({_SEVERAL})[后後]", re.IGNORECASE
)


def retry_after_s(
    headers: Iterable[tuple[bytes, bytes]], message: str, retry_delay: str | None, *, now_s: float
) -> float | None:
    """Return the seconds to wait, 0 to `MAX_WAIT_S`, or None when the provider does not say.

    `headers` have lower-case names; `message` is the error's text and `retry_delay` Google's
    `RetryInfo`; `now_s` is Unix time, for the hints that are moments. The most explicit hint holds.
    """
    values = {name.decode("latin-1"): value.decode("latin-1").strip() for name, value in headers}
    for hint in (
        _milliseconds(values.get("retry-after-ms")),
        _number(values.get("retry-after")),
        _http_date(values.get("retry-after"), now_s),
        _duration(retry_delay),
        _in_words(message),
        _resets(values, now_s),
    ):
        if hint is not None:
            return min(max(hint, 0.0), MAX_WAIT_S)
    return None


def _number(text: str | None) -> float | None:
    return float(text) if text and _NUMBER.fullmatch(text) else None


def _milliseconds(text: str | None) -> float | None:
    number = _number(text)
    return None if number is None else number / 1000


def _duration(text: str | None) -> float | None:
    """Read `6m0s`, `90ms`, `34.07s`, `5 minutes`."""
    if not text or not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _unit_s(unit) for number, unit in _AMOUNTS.findall(text))


def _unit_s(unit: str) -> float:
    unit = unit.lower()
    return 1e-3 if unit.startswith(("ms", "milli")) else _UNIT_S[unit[0]]


def _in_words(message: str) -> float | None:
    found = _WORDS.search(message)
    return None if found is None else _duration((found[1] or found[4]).strip())


def _http_date(text: str | None, now_s: float) -> float | None:
    try:
        return None if not text else _since(parsedate_to_datetime(text), now_s)
    except ValueError:
        return None


def _resets(values: Mapping[str, str], now_s: float) -> float | None:
    """Read the rate-limit headers: when what is used up comes back, else what comes back first.

    OpenAI's `x-ratelimit-reset-tokens: 6m0s`, Anthropic's `anthropic-ratelimit-tokens-reset` with
    a moment, OpenRouter's `x-ratelimit-reset` with epoch milliseconds, Cerebras' with seconds.
    """
    used_up: list[float] = []
    others: list[float] = []
    for name, value in values.items():
        if "ratelimit" not in name or "reset" not in name:
            continue
        wait_s = _reset(value, now_s)
        if wait_s is not None:
            remaining = _number(values.get(name.replace("reset", "remaining")))
            (used_up if remaining == 0 else others).append(wait_s)
    return max(used_up) if used_up else min(others, default=None)


def _reset(value: str, now_s: float) -> float | None:
    number = _number(value)
    if number is None:
        return _moment(value, now_s) if "T" in value else _duration(value)
    if number >= 1e12:
        return number / 1000 - now_s
    return number - now_s if number >= 1e9 else number


def _moment(value: str, now_s: float) -> float | None:
    try:
        return _since(datetime.fromisoformat(value), now_s)
    except ValueError:
        return None


def _since(moment: datetime, now_s: float) -> float:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp() - now_s
