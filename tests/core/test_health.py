"""Rests, breakers and budgets, against plain models of what they promise."""

from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import ErrorClass, UpstreamError
from proxy.core.health import LAST_KEY_REST, OPEN, REST, Backoff, Breaker, LastHour, Minute, Rest, RetryBudget

S = 10**9
MINUTE = 60 * S
HOUR = 60 * MINUTE
WHY = UpstreamError("upstream_error", "It failed.")
RATE = REST[ErrorClass.RATE]


@pytest.mark.parametrize(
    ("backoff", "lengths_s"),
    [
        (REST[ErrorClass.AUTH], [600, 1200, 2400, 4800, 9600, 19200, 21600, 21600]),
        (REST[ErrorClass.QUOTA], [3600, 3600, 3600]),
        (RATE, [5, 10, 20, 40, 80, 160, 300, 300]),
        (LAST_KEY_REST, [30, 60, 120, 240, 480, 600, 600]),
        (OPEN, [30, 60, 120, 240, 480, 600, 600]),
    ],
    ids=["auth", "quota", "rate", "last key", "breaker"],
)
def test_a_rest_is_longer_each_time_up_to_a_limit(backoff: Backoff, lengths_s: list[int]) -> None:
    assert [backoff.length_ns(strikes) // S for strikes in range(1, len(lengths_s) + 1)] == lengths_s
    assert backoff.length_ns(10**9) == backoff.most_ns


# A rest


def trials(rest: Rest, backoff: Backoff, count: int) -> Iterator[int]:
    """Yield the lengths of rests of which each trial fails."""
    now = 0
    for _ in range(count):
        rest.begin(now)
        rest.strike(now, now, backoff, WHY)
        yield rest.until_ns - now
        now = rest.until_ns


def test_each_failed_trial_doubles_the_rest_and_an_answered_one_ends_it() -> None:
    rest = Rest()
    assert [length // S for length in trials(rest, RATE, 3)] == [5, 10, 20]
    now = rest.until_ns
    assert rest.rests(now - 1)
    assert not rest.rests(now)
    rest.begin(now)
    assert rest.trying
    rest.answer(now)
    assert (rest.strikes, rest.trying, rest.cause, rest.rests(now)) == (0, False, None, False)
    assert next(trials(rest, RATE, 1)) == 5 * S


def test_what_is_asked_outranks_the_backoff() -> None:
    rest = Rest()
    rest.strike(0, 0, RATE, WHY, 3600 * S)
    assert rest.until_ns == HOUR
    rest.strike(HOUR, HOUR, RATE, WHY)
    assert rest.until_ns == HOUR + 10 * S


@given(st.lists(st.integers(0, 4 * S), min_size=1, max_size=20))
def test_failures_of_requests_under_way_count_as_one(moments: list[int]) -> None:
    rest = Rest()
    for now in sorted(moments):
        rest.strike(0, now, RATE, WHY)
    assert (rest.strikes, rest.until_ns) == (1, min(moments) + 5 * S)


@pytest.mark.parametrize("begun", [0, 3 * S], ids=["before it closed", "forced while it rested"])
@pytest.mark.parametrize("ended", [4 * S, 50 * S], ids=["while it rests", "after"])
def test_a_late_failure_changes_nothing_but_what_is_asked(begun: int, ended: int) -> None:
    rest = Rest()
    rest.strike(0, S, RATE, WHY)
    rest.strike(begun, ended, RATE, WHY)
    assert (rest.strikes, rest.until_ns) == (1, 6 * S)
    rest.strike(begun, ended, RATE, WHY, 100 * S)
    assert (rest.strikes, rest.until_ns) == (1, ended + 100 * S)
    rest.strike(begun, ended, RATE, WHY, S)
    assert rest.until_ns == ended + 100 * S


def test_only_an_answer_to_what_began_after_it_closed_opens_it() -> None:
    rest = Rest()
    rest.strike(0, 2 * S, RATE, WHY)
    rest.answer(S)
    assert rest.rests(3 * S)
    rest.answer(3 * S)  # forced
    assert not rest.rests(3 * S)


def test_one_request_tries_and_only_its_own_end_lets_another_try() -> None:
    rest = Rest()
    rest.begin(0)
    assert not rest.trying
    rest.strike(0, 0, RATE, WHY)
    rest.begin(5 * S)
    rest.leave(0)
    assert rest.trying
    rest.leave(5 * S)
    assert not rest.trying
    assert rest.strikes == 1


# A minute


@given(st.lists(st.tuples(st.integers(0, 20 * S), st.integers(0, 5), st.integers(0, 5)), max_size=60))
def test_a_minute_has_what_the_last_55_seconds_had_and_nothing_older_than_60(
    steps: list[tuple[int, int, int]],
) -> None:
    minute, now, added = Minute(), 0, []
    for passed, first, second in steps:
        now += passed
        minute.add(now, first, second)
        added.append((now, first, second))
        for place, value in enumerate(minute.sums(now), 1):
            least, most = (
                sum(item[place] for item in added if item[0] > now - span) for span in (55 * S, 60 * S)
            )
            assert least <= value <= most
    assert minute.sums(now + 60 * S) == (0, 0)
    minute.clear()
    assert minute.sums(now) == (0, 0)


# The last hour


@given(
    st.lists(
        st.tuples(st.integers(0, 10 * MINUTE), st.booleans(), st.none() | st.floats(1, 1e5)), max_size=60
    )
)
def test_an_hour_has_all_attempts_of_its_twelve_slices(steps: list[tuple[int, bool, float | None]]) -> None:
    hour, now, added = LastHour(), 0, []
    for passed, failed, first_byte_ms in steps:
        now += passed
        hour.add(now, failed, first_byte_ms)
        added.append((now, failed, first_byte_ms))
    slices = hour.slices(now)
    assert len(slices) == 12
    assert slices[-1].begin_ns <= now < slices[-1].begin_ns + 5 * MINUTE
    for part in slices:
        own = [item for item in added if 0 <= item[0] - part.begin_ns < 5 * MINUTE]
        assert (part.attempts, part.failed) == (len(own), sum(failed for _, failed, _ in own))
        times = sorted(ms for _, failed, ms in own if ms is not None and not failed)
        middle = times[(len(times) - 1) // 2] if times else None
        assert part.first_byte_ms == (None if middle is None else pytest.approx(middle, rel=0.03))


def test_an_hour_later_nothing_is_left() -> None:
    hour = LastHour()
    hour.add(0, False, 5.0)
    assert {part.attempts for part in hour.slices(HOUR)} == {0}


# A breaker


def fail(breaker: Breaker, now: int, times: int = 1) -> None:
    for _ in range(times):
        breaker.begin(now)
        breaker.fail(now, now, WHY)


def succeed(breaker: Breaker, now: int, times: int = 1) -> None:
    for _ in range(times):
        breaker.begin(now)
        breaker.answer(now)
        breaker.succeed(now)


def test_five_failures_in_a_row_open() -> None:
    breaker = Breaker()
    fail(breaker, 0, 4)
    succeed(breaker, 0)
    fail(breaker, 0, 4)
    assert not breaker.rests(0)
    fail(breaker, 0)
    assert breaker.rests(30 * S - 1)
    assert not breaker.rests(30 * S)
    assert breaker.cause is WHY


def test_half_of_ten_calls_of_a_minute_open() -> None:
    breaker = Breaker()
    for now in range(4):
        succeed(breaker, now * S)
        fail(breaker, now * S)
    succeed(breaker, 4 * S)
    assert not breaker.rests(4 * S)
    fail(breaker, 5 * S)
    assert breaker.rests(5 * S)


def test_less_than_half_does_not_open() -> None:
    breaker = Breaker()
    for _ in range(20):
        succeed(breaker, 0, 2)
        fail(breaker, 0)
    assert not breaker.rests(0)


def test_calls_older_than_a_minute_do_not_count() -> None:
    breaker = Breaker()
    for _ in range(4):
        succeed(breaker, 0)
        fail(breaker, 0)
    succeed(breaker, 60 * S)
    fail(breaker, 60 * S)
    assert not breaker.rests(60 * S)


def test_one_trial_after_30_seconds_doubling_to_10_minutes() -> None:
    breaker, now = Breaker(), 0
    fail(breaker, now, 5)
    lengths = []
    for _ in range(7):
        lengths.append((breaker.until_ns - now) // S)
        now = breaker.until_ns
        fail(breaker, now)
    assert lengths == [30, 60, 120, 240, 480, 600, 600]


def test_an_answered_trial_closes_and_forgets() -> None:
    breaker = Breaker()
    fail(breaker, 0, 9)
    assert breaker.strikes == 1  # the other four were on their way
    succeed(breaker, 30 * S)
    assert (breaker.strikes, breaker.trying) == (0, False)
    fail(breaker, 30 * S, 4)
    assert not breaker.rests(30 * S)


def test_an_answer_while_closed_forgets_no_failures() -> None:
    breaker = Breaker()
    fail(breaker, 0, 4)
    breaker.answer(0)  # and breaks off later: that was no success
    fail(breaker, 0)
    assert breaker.rests(0)


def test_a_reset_forgets_everything() -> None:
    breaker = Breaker()
    fail(breaker, 0, 4)
    breaker.reset()
    fail(breaker, 0, 4)
    assert not breaker.rests(0)


CALLS = st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60)


@given(CALLS)
def test_a_breaker_opens_exactly_by_its_two_rules(calls: list[tuple[int, bool]]) -> None:
    """Within one minute, so that the slices do not matter."""
    breaker, now, row, ends = Breaker(), 0, 0, []
    for passed, fails in calls:
        now = min(now + passed, 54)
        ends.append(fails)
        if not fails:
            row = 0
            succeed(breaker, now * S)
            assert not breaker.strikes
            continue
        row += 1
        fail(breaker, now * S)
        opens = row >= 5 or (len(ends) >= 10 and Fraction(sum(ends), len(ends)) >= Fraction(1, 2))
        assert breaker.rests(now * S) is opens
        if opens:
            return


# The budget of retries


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40), st.integers(0, 30)), max_size=30))
def test_retries_are_ten_or_a_fifth_of_the_last_minute(steps: list[tuple[int, int, int]]) -> None:
    budget, counts, now = RetryBudget(), Minute(), 0
    for passed, requests, wanted in steps:
        now += passed * S
        for _ in range(requests):
            budget.request(now)
        counts.add(now, requests, 0)
        for _ in range(wanted):
            asked, retried = counts.sums(now)
            fits = retried + 1 <= 10 or retried + 1 <= Fraction(asked, 5)
            assert budget.take(now) is fits
            counts.add(now, 0, fits)
