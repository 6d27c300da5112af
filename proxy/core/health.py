"""Whether a deployment or a provider key may be asked: rests, breakers, and the trials that end them.

Pure: time is an argument, in nanoseconds of a monotonic clock. docs/providers.md, "Resting"
"""

from collections import Counter, deque
from enum import StrEnum
from typing import NamedTuple

from proxy.core.errors import ErrorClass, UpstreamFailure
from proxy.core.histogram import bucket_of, percentile

_SECOND_NS = 10**9
_MINUTE_NS = 60 * _SECOND_NS
_HOUR_NS = 60 * _MINUTE_NS


class Condition(StrEnum):
    """How something that can be asked stands."""

    READY = "ready"
    BUSY = "busy"  # over its own rpm or concurrency
    RESTING = "resting"  # a key, after a failure that was its own
    OPEN = "open"  # a deployment's breaker, after failures of the provider
    TRYING = "trying"  # its rest is over, and one request tries it
    DISABLED = "disabled"  # by hand


class Backoff(NamedTuple):
    """How long a rest is: longer after each failure that follows a trial."""

    first_ns: int
    most_ns: int

    def length_ns(self, strikes: int) -> int:
        """Return the length after so many failures in a row, 1 for the first."""
        return min(self.first_ns << min(strikes - 1, 32), self.most_ns)


#: The rests of a key, by the class of its failure.
REST = {
    ErrorClass.AUTH: Backoff(10 * _MINUTE_NS, 6 * _HOUR_NS),
    ErrorClass.QUOTA: Backoff(_HOUR_NS, _HOUR_NS),
    ErrorClass.RATE: Backoff(5 * _SECOND_NS, 300 * _SECOND_NS),
}
#: The rest of the last key that a provider has left: if all of them fail, it is hardly their fault.
LAST_KEY_REST = Backoff(30 * _SECOND_NS, 10 * _MINUTE_NS)
#: How long a breaker stays open.
OPEN = Backoff(30 * _SECOND_NS, 10 * _MINUTE_NS)

# A breaker opens on so many failures in a row, or if half of at least so many calls fail in a minute.
_IN_A_ROW = 5
_LEAST_CALLS = 10


class Minute:
    """Two counts over the last minute, in slices of five seconds."""

    __slots__ = ("_slices",)

    _SLICE_NS = 5 * _SECOND_NS
    _SLICES = _MINUTE_NS // _SLICE_NS

    def __init__(self) -> None:
        # (number of the slice, first count, second count), oldest first
        self._slices: deque[tuple[int, int, int]] = deque(maxlen=self._SLICES)

    def add(self, now_ns: int, first: int, second: int) -> None:
        number = now_ns // self._SLICE_NS
        if self._slices and self._slices[-1][0] == number:
            _, before_first, before_second = self._slices.pop()
            first, second = first + before_first, second + before_second
        self._slices.append((number, first, second))

    def sums(self, now_ns: int) -> tuple[int, int]:
        oldest = now_ns // self._SLICE_NS - self._SLICES
        recent = [(first, second) for number, first, second in self._slices if number > oldest]
        return sum(first for first, _ in recent), sum(second for _, second in recent)

    def clear(self) -> None:
        self._slices.clear()


class Slice(NamedTuple):
    """The attempts that ended in five minutes. `first_byte_ms`: the median of those that were answered."""

    begin_ns: int
    attempts: int
    failed: int
    first_byte_ms: float | None


class LastHour:
    """The attempts of the last hour, in slices of five minutes."""

    __slots__ = ("_slices",)

    SLICE_NS = 5 * _MINUTE_NS
    SLICES = _HOUR_NS // SLICE_NS

    def __init__(self) -> None:
        # By number of the slice, oldest first: attempts, failed, and the others by their bucket.
        self._slices: dict[int, tuple[list[int], Counter[int]]] = {}

    def add(self, now_ns: int, failed: bool, first_byte_ms: float | None) -> None:
        number = now_ns // self.SLICE_NS
        found = self._slices.get(number)
        if found is None:
            if len(self._slices) >= self.SLICES:
                del self._slices[next(iter(self._slices))]
            found = self._slices[number] = ([0, 0], Counter())
        counts, times = found
        counts[0] += 1
        counts[1] += failed
        if not failed and first_byte_ms is not None:
            times[bucket_of(first_byte_ms)] += 1

    def slices(self, now_ns: int) -> list[Slice]:
        """Return all slices up to the one of `now_ns`, those without any attempt too, oldest first."""
        last = now_ns // self.SLICE_NS
        shown = []
        for number in range(last - self.SLICES + 1, last + 1):
            (attempts, failed), times = self._slices.get(number, ((0, 0), {}))
            shown.append(Slice(number * self.SLICE_NS, attempts, failed, percentile(times, 50)))
        return shown


class Rest:
    """Closed for a time; then one request is let through, and its outcome decides.

    Requests go by the time at which they began. What was on its way when it closed, or is forced
    through while it is closed, is no trial: its failure changes nothing, and only an answer to a
    request that began after the closing opens.
    """

    __slots__ = ("_since_ns", "_trial_ns", "cause", "strikes", "until_ns")

    def __init__(self) -> None:
        self.until_ns = 0
        #: Failures in a row; 0: it is open to all.
        self.strikes = 0
        #: What closed it.
        self.cause: UpstreamFailure | None = None
        self._since_ns = 0
        self._trial_ns: int | None = None

    @property
    def trying(self) -> bool:
        """Whether the one request that tries it is on its way."""
        return self._trial_ns is not None

    def rests(self, now_ns: int) -> bool:
        """Return whether nobody may pass now, not even to try."""
        return bool(self.strikes) and now_ns < self.until_ns

    def begin(self, now_ns: int) -> None:
        """A request passes; after a rest, it is the one that tries."""
        if self.strikes:
            self._trial_ns = now_ns

    def strike(
        self,
        begun_ns: int,
        now_ns: int,
        backoff: Backoff,
        failure: UpstreamFailure,
        asked_ns: int | None = None,
    ) -> None:
        """Close after a failure: for as long as was asked, else longer each time.

        Of one that is no trial, only what was asked counts.
        """
        if self.strikes and begun_ns < self.until_ns:
            if asked_ns is not None:
                self.until_ns = max(self.until_ns, now_ns + asked_ns)
            return
        self.strikes += 1
        self.cause = failure
        self._since_ns, self._trial_ns = now_ns, None
        self.until_ns = now_ns + (backoff.length_ns(self.strikes) if asked_ns is None else asked_ns)

    def answer(self, begun_ns: int) -> None:
        """A request was answered: it works, unless that had begun before the failure."""
        if begun_ns >= self._since_ns:
            self.open()

    def open(self) -> None:
        """It works, or is said to: forget all failures."""
        self.until_ns = self.strikes = self._since_ns = 0
        self.cause = self._trial_ns = None

    def leave(self, begun_ns: int) -> None:
        """A request is over; if it was the one that tries, and told nothing, another one may try."""
        if self._trial_ns == begun_ns:
            self._trial_ns = None


class Breaker(Rest):
    """A rest that begins after several failures: five in a row, or half of a minute's calls."""

    __slots__ = ("_calls", "_in_a_row")

    def __init__(self) -> None:
        super().__init__()
        self._in_a_row = 0
        self._calls = Minute()  # and of them, failures

    def succeed(self, now_ns: int) -> None:
        """A call ended well."""
        self._in_a_row = 0
        self._calls.add(now_ns, 1, 0)

    def fail(self, begun_ns: int, now_ns: int, failure: UpstreamFailure) -> None:
        self._calls.add(now_ns, 1, 1)
        self._in_a_row += 1
        if self.strikes or self._is_too_much(now_ns):
            self.strike(begun_ns, now_ns, OPEN, failure)

    def open(self) -> None:
        """Forget everything, if it was closed."""
        if self.strikes:
            self.reset()

    def reset(self) -> None:
        """Forget everything."""
        super().open()
        self._in_a_row = 0
        self._calls.clear()

    def _is_too_much(self, now_ns: int) -> bool:
        calls, failures = self._calls.sums(now_ns)
        return self._in_a_row >= _IN_A_ROW or (calls >= _LEAST_CALLS and 2 * failures >= calls)


class RetryBudget:
    """Retries of the last minute: at most a fifth of its requests, and ten in any case."""

    LEAST = 10
    SHARE = 5

    def __init__(self) -> None:
        self._counts = Minute()  # requests, retries

    def request(self, now_ns: int) -> None:
        """A request begins."""
        self._counts.add(now_ns, 1, 0)

    def take(self, now_ns: int) -> bool:
        """Return whether one more retry fits, and count it if it does."""
        requests, retries = self._counts.sums(now_ns)
        if retries >= self.LEAST and (retries + 1) * self.SHARE > requests:
            return False
        self._counts.add(now_ns, 0, 1)
        return True
