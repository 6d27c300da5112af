"""The limits of one API key: token buckets per minute, counters per day, running exchanges.

Pure: time is an argument, in nanoseconds of a monotonic clock, and a day is the text that the
caller keeps for it (YYYY-MM-DD in the zone of the limits). Everything is counted in integers,
so that nothing drifts. A check takes nothing; checking and taking in one turn of the event loop
is what makes a limit exact.

Source: docs/limits.md
"""

import math
from typing import NamedTuple

from proxy.core.entities import Limits

_SECOND_NS = 10**9

# What one permit is in the units of a level: at `limit` a minute, exactly `limit` of these units
# flow in with each nanosecond.
_PERMIT = 60 * _SECOND_NS

# When a running exchange will end is not known; this is when asking again makes sense.
_CONCURRENCY_RETRY_S = 1.0


# The rate-limit headers of answers: limit, remaining and reset, of requests and of tokens.
_HEADER_NAMES = (
    (b"x-ratelimit-limit-requests", b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests"),
    (b"x-ratelimit-limit-tokens", b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens"),
)


class TokenBucket:
    """`limit` permits, at least one, refilled at `limit` / 60 per second."""

    __slots__ = ("_at_ns", "_level", "limit")

    def __init__(self, limit: int, now_ns: int) -> None:
        self.limit = limit
        self._level = limit * _PERMIT
        self._at_ns = now_ns

    def left(self, now_ns: int) -> int:
        """Return the whole permits that are left; negative after corrections."""
        return self._refilled(now_ns) // _PERMIT

    def wait_ns(self, count: int, now_ns: int) -> int | None:
        """Return how long until `count` permits are there: 0 for now, None for never."""
        if count > self.limit:
            return None
        missing = count * _PERMIT - self._refilled(now_ns)
        return -(-missing // self.limit) if missing > 0 else 0

    def window(self, now_ns: int) -> "Window":
        """Return what is left, and how long until nothing is missing."""
        level = self._refilled(now_ns)
        missing = self.limit * _PERMIT - level
        return Window(self.limit, max(level // _PERMIT, 0), -(-missing // (self.limit * _SECOND_NS)))

    def take(self, count: int, now_ns: int) -> None:
        """Take permits, whether they are there or not; a negative count gives them back."""
        self._level = min(self._refilled(now_ns) - count * _PERMIT, self.limit * _PERMIT)

    def resize(self, limit: int, now_ns: int) -> None:
        """Change the limit. What was consumed stays so, but is never more than the new limit allows."""
        level = self._refilled(now_ns)
        consumed = self.limit * _PERMIT - level
        self._level = max(limit * _PERMIT - consumed, min(level, 0))
        self.limit = limit

    def _refilled(self, now_ns: int) -> int:
        elapsed_ns = now_ns - self._at_ns
        if elapsed_ns > 0:
            self._level = min(self._level + elapsed_ns * self.limit, self.limit * _PERMIT)
            self._at_ns = now_ns
        return self._level


class Refusal(NamedTuple):
    """Why a request is refused. `retry_after_s` None: it does not fit, however long one waits."""

    code: str
    message: str
    retry_after_s: float | None


class Taken(NamedTuple):
    """What an admitted request took, to be handed back when it ends."""

    tokens: int
    day: str


class Window(NamedTuple):
    """One limit as the rate-limit headers show it."""

    limit: int
    remaining: int
    resets_in_s: int


class KeyLimiter:
    """All limits of one API key that are about flow: rpm, tpm, rpd, tpd, concurrency."""

    __slots__ = ("_day", "_day_requests", "_day_tokens", "_requests", "_tokens", "limits", "running")

    def __init__(self, limits: Limits, now_ns: int) -> None:
        self.limits = limits
        self.running = 0
        self._requests = _resized(None, limits.rpm, now_ns)
        self._tokens = _resized(None, limits.tpm, now_ns)
        self._day = ""
        self._day_requests = 0
        self._day_tokens = 0

    def configure(self, limits: Limits, now_ns: int) -> None:
        """Change the limits; what was consumed under the old ones stays consumed."""
        self.limits = limits
        self._requests = _resized(self._requests, limits.rpm, now_ns)
        self._tokens = _resized(self._tokens, limits.tpm, now_ns)

    def seed(self, day: str, requests: int, tokens: int) -> None:
        """Set what the day has consumed so far, as the database knows it after a restart."""
        self._day, self._day_requests, self._day_tokens = day, requests, tokens

    def refusal(self, tokens: int, now_ns: int, day: str, day_ends_in_s: float) -> Refusal | None:
        """Return why a request of `tokens` estimated input may not run now, or None.

        Of several limits the one that lasts longest is named. Takes nothing.
        """
        self._turn_to(day)
        limits = self.limits
        refusals = (
            self._refused_by_concurrency(limits.concurrency),
            _refused_by_minute("rpm", self._requests, 1, now_ns),
            _refused_by_minute("tpm", self._tokens, tokens, now_ns),
            _refused_by_day("rpd", limits.rpd, self._day_requests, 1, day_ends_in_s),
            _refused_by_day("tpd", limits.tpd, self._day_tokens, tokens, day_ends_in_s),
        )
        return max(filter(None, refusals), key=_lasting, default=None)

    def take(self, tokens: int, now_ns: int, day: str) -> Taken:
        """Count a request that begins, whatever is left. `settle` or `undo` it exactly once."""
        self._turn_to(day)
        self.running += 1
        self._day_requests += 1
        self._day_tokens += tokens
        if self._requests is not None:
            self._requests.take(1, now_ns)
        if self._tokens is not None:
            self._tokens.take(tokens, now_ns)
        return Taken(tokens, self._day)

    def settle(self, taken: Taken, tokens: int, now_ns: int) -> None:
        """End a request that really had `tokens`, input and output; a void one had none.

        The tokens left may go below zero. A day that has ended meanwhile is left alone.
        """
        self.running -= 1
        if taken.day == self._day:
            self._day_tokens += tokens - taken.tokens
        if self._tokens is not None:
            self._tokens.take(tokens - taken.tokens, now_ns)

    def undo(self, taken: Taken, now_ns: int) -> None:
        """Take a request back as if it had never been admitted."""
        self.settle(taken, 0, now_ns)
        if taken.day == self._day:
            self._day_requests -= 1
        if self._requests is not None:
            self._requests.take(-1, now_ns)

    def windows(self, now_ns: int, day: str, day_ends_in_s: float) -> tuple[Window | None, Window | None]:
        """Return the window with least left for requests and for tokens; None without a limit."""
        self._turn_to(day)
        limits = self.limits
        return (
            _tightest(self._requests, limits.rpd, self._day_requests, now_ns, day_ends_in_s),
            _tightest(self._tokens, limits.tpd, self._day_tokens, now_ns, day_ends_in_s),
        )

    def headers(self, now_ns: int, day: str, day_ends_in_s: float) -> list[tuple[bytes, bytes]]:
        """Return the rate-limit headers of an answer."""
        headers = []
        for window, (limit, remaining, reset) in zip(
            self.windows(now_ns, day, day_ends_in_s), _HEADER_NAMES, strict=True
        ):
            if window is not None:
                headers.append((limit, b"%d" % window.limit))
                headers.append((remaining, b"%d" % window.remaining))
                headers.append((reset, duration(window.resets_in_s).encode()))
        return headers

    def _turn_to(self, day: str) -> None:
        """Begin a new day. A clock set back never brings an ended day's allowance again."""
        if day > self._day:
            self._day, self._day_requests, self._day_tokens = day, 0, 0

    def _refused_by_concurrency(self, limit: int | None) -> Refusal | None:
        if limit is None or self.running < limit:
            return None
        message = (
            f"Requests at once (concurrency) are limited to {limit:,} for this key, and as many are running. "
            "Please try again when one of them has ended."
        )
        return Refusal("concurrency_exceeded", message, _CONCURRENCY_RETRY_S)


def duration(seconds: int) -> str:
    """Return a duration as the rate-limit headers write it: "1s", "6m0s", "23h0m5s"."""
    minutes, s = divmod(seconds, 60)
    if not minutes:
        return f"{s}s"
    h, m = divmod(minutes, 60)
    return f"{h}h{m}m{s}s" if h else f"{m}m{s}s"


def _resized(bucket: TokenBucket | None, limit: int | None, now_ns: int) -> TokenBucket | None:
    if limit is None:
        return None
    if bucket is None:
        return TokenBucket(limit, now_ns)
    bucket.resize(limit, now_ns)
    return bucket


def _refused_by_minute(
    limit_name: str, bucket: TokenBucket | None, count: int, now_ns: int
) -> Refusal | None:
    if bucket is None or (wait_ns := bucket.wait_ns(count, now_ns)) == 0:
        return None
    wait_s = None if wait_ns is None else wait_ns / _SECOND_NS
    return _refusal(limit_name, bucket.limit, max(bucket.left(now_ns), 0), count, wait_s)


def _refused_by_day(
    limit_name: str, limit: int | None, used: int, count: int, day_ends_in_s: float
) -> Refusal | None:
    if limit is None or used + count <= limit:
        return None
    wait_s = day_ends_in_s if count <= limit else None
    return _refusal(limit_name, limit, max(limit - used, 0), count, wait_s)


def _refusal(limit_name: str, limit: int, left: int, count: int, wait_s: float | None) -> Refusal:
    """Return a refusal that says which limit, how much of it is left, and when enough will be."""
    counted = "Requests" if limit_name.startswith("r") else "Tokens"
    window = "minute" if limit_name.endswith("m") else "day"
    message = f"{counted} per {window} ({limit_name}) are limited to {limit:,} for this key"
    if counted == "Tokens":
        message += f", of which {left:,} are left; this request is estimated at {count:,}"
    if wait_s is None:
        message += ". It can never fit: shorten it, or ask for a higher limit."
    else:
        message += f". Please try again in {duration(math.ceil(wait_s))}."
    return Refusal(f"{limit_name}_exceeded", message, wait_s)


def _lasting(refusal: Refusal) -> float:
    return math.inf if refusal.retry_after_s is None else refusal.retry_after_s


def _tightest(
    bucket: TokenBucket | None, day_limit: int | None, day_used: int, now_ns: int, day_ends_in_s: float
) -> Window | None:
    """Return the window with least left, the day where both have as much."""
    minute = None if bucket is None else bucket.window(now_ns)
    if day_limit is None or (minute is not None and minute.remaining < day_limit - day_used):
        return minute
    return Window(day_limit, max(day_limit - day_used, 0), math.ceil(day_ends_in_s))
