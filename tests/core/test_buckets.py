"""The limits of a key, with time handed in."""

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.buckets import KeyLimiter, Refusal, Taken, TokenBucket, Window, duration
from proxy.core.entities import Limits

S = 10**9
DAY, NEXT_DAY = "2026-01-31", "2026-02-01"
REST_S = 3600.5

LIMITS = st.integers(1, 10**6)
STEPS = st.lists(
    st.tuples(
        st.integers(0, 120 * S),  # time that passes
        st.integers(0, 2000),  # estimated
        st.integers(0, 4000),  # real
        st.sampled_from(["settle", "undo", "keep", "resize"]),
    ),
    max_size=30,
)


def limiter(now_ns: int = 0, **limits: int) -> KeyLimiter:
    return KeyLimiter(Limits(**limits), now_ns)


def refusal(key: KeyLimiter, tokens: int = 0, now_ns: int = 0, day: str = DAY) -> Refusal | None:
    return key.refusal(tokens, now_ns, day, REST_S)


def code(key: KeyLimiter, tokens: int = 0, now_ns: int = 0, day: str = DAY) -> str | None:
    refused = refusal(key, tokens, now_ns, day)
    return None if refused is None else refused.code


# One bucket


@given(LIMITS, STEPS)
def test_a_bucket_is_exact_and_never_above_its_limit(limit: int, steps: list[Any]) -> None:
    """Against the level in exact fractions, over any times, takings, returns and changes of limit."""
    bucket, level, now = TokenBucket(limit, 0), Fraction(limit), 0
    for passed, estimated, real, action in steps:
        now += passed
        level = min(level + Fraction(passed * limit, 60 * S), Fraction(limit))
        if action == "resize":
            new_limit = real + 1
            level = max(new_limit - (limit - level), min(level, Fraction(0)))
            limit = new_limit
            bucket.resize(limit, now)
        else:
            taken = estimated - real
            level = min(level - taken, Fraction(limit))
            bucket.take(taken, now)
        assert bucket.left(now) == math.floor(level) <= limit


@given(LIMITS, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**12))
def test_after_the_wait_and_not_before_it_is_enough(limit: int, taken: int, wanted: int, now: int) -> None:
    bucket = TokenBucket(limit, now)
    bucket.take(taken, now)
    wait_ns = bucket.wait_ns(wanted, now)
    if wanted > limit:
        assert wait_ns is None
        return
    assert wait_ns is not None
    if wait_ns:
        assert bucket.wait_ns(wanted, now + wait_ns - 1) == 1
    assert bucket.wait_ns(wanted, now + wait_ns) == 0
    assert bucket.left(now + wait_ns) >= wanted


@given(LIMITS, st.integers(0, 10**6))
def test_a_bucket_is_full_exactly_when_it_says(limit: int, taken: int) -> None:
    bucket = TokenBucket(limit, 0)
    bucket.take(taken, 0)
    window = bucket.window(0)
    assert window[:2] == (limit, max(limit - taken, 0))
    if window.resets_in_s:
        assert bucket.window((window.resets_in_s - 1) * S).resets_in_s == 1
    assert bucket.window(window.resets_in_s * S) == Window(limit, limit, 0)


def test_a_clock_that_stands_still_or_goes_back_adds_nothing() -> None:
    bucket = TokenBucket(60, 10 * S)
    bucket.take(60, 10 * S)
    assert bucket.left(10 * S) == bucket.left(0) == 0
    assert bucket.left(11 * S) == 1


# One key


def test_without_limits_nothing_is_refused_and_no_header_is_sent() -> None:
    key = limiter()
    for _ in range(1000):
        assert refusal(key, 10**9) is None
        key.take(10**9, 0, DAY)
    assert key.headers(0, DAY, REST_S) == []
    assert key.windows(0, DAY, REST_S) == (None, None)


@given(st.integers(1, 50), st.lists(st.integers(0, 10 * S), min_size=1, max_size=200))
def test_what_is_admitted_is_at_most_capacity_and_refill(limit: int, gaps: list[int]) -> None:
    key, now, admitted = limiter(rpm=limit), 0, 0
    for gap in gaps:
        now += gap
        if refusal(key, now_ns=now) is None:
            key.take(0, now, DAY)
            admitted += 1
        assert admitted <= limit + Fraction(limit * now, 60 * S)


@pytest.mark.parametrize(
    ("limits", "tokens", "refused", "retry_after_s", "says"),
    [
        ({"rpm": 1}, 0, "rpm_exceeded", 60.0, "limited to 1 for this key. Please try again in 1m0s."),
        ({"rpm": 600, "rpd": 1}, 0, "rpd_exceeded", REST_S, "Requests per day (rpd) are limited to 1 "),
        ({"tpm": 1000}, 600, "tpm_exceeded", 6.0, "500 are left; this request is estimated at 600. Please"),
        ({"tpd": 1000}, 600, "tpd_exceeded", REST_S, "of which 500 are left"),
        ({"tpm": 1000}, 1001, "tpm_exceeded", None, "It can never fit"),
        ({"tpd": 1000}, 1001, "tpd_exceeded", None, "It can never fit"),
        ({"concurrency": 1}, 0, "concurrency_exceeded", 1.0, "(concurrency) are limited to 1 for this key"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)  # fmt: skip
def test_refusals(
    limits: dict[str, int], tokens: int, refused: str, retry_after_s: float | None, says: str
) -> None:
    key = limiter(**limits)
    assert refusal(key, 500) is None
    key.take(500, 0, DAY)
    answer = refusal(key, tokens)
    assert answer is not None
    assert (answer.code, answer.retry_after_s) == (refused, retry_after_s)
    assert says in answer.message


def test_of_several_limits_the_one_that_lasts_longest_is_named() -> None:
    key = limiter(rpm=1, rpd=1, concurrency=1, tpm=100)
    key.take(0, 0, DAY)
    assert code(key) == "rpd_exceeded"
    assert code(key, tokens=101) == "tpm_exceeded"


def test_a_refusal_takes_nothing() -> None:
    key = limiter(rpm=1, tpm=10, rpd=5, tpd=50, concurrency=9)
    key.take(0, 0, DAY)
    before = key.windows(0, DAY, REST_S)
    for _ in range(10):
        assert code(key, tokens=11) == "tpm_exceeded"
    assert key.windows(0, DAY, REST_S) == before
    assert key.running == 1


def test_what_the_estimate_was_off_is_corrected() -> None:
    key = limiter(tpm=1000, tpd=5000)
    taken = key.take(100, 0, DAY)
    key.settle(taken, 1600, 0)
    assert code(key, tokens=0) == "tpm_exceeded"
    assert key.windows(0, DAY, REST_S)[1] == Window(1000, 0, 96)
    assert refusal(key, tokens=0, now_ns=36 * S) is None


def test_a_void_exchange_gives_its_tokens_back_but_not_its_request() -> None:
    key = limiter(rpm=10, tpm=1000, rpd=10, tpd=1000, concurrency=5)
    key.settle(key.take(700, 0, DAY), 0, 0)
    requests, tokens = key.windows(0, DAY, REST_S)
    assert requests is not None
    assert tokens is not None
    assert (requests.remaining, tokens.remaining) == (9, 1000)
    assert key.running == 0


def test_an_undone_request_leaves_no_trace() -> None:
    key = limiter(rpm=10, tpm=1000, rpd=10, tpd=1000, concurrency=1)
    before = key.windows(0, DAY, REST_S)
    key.undo(key.take(700, 0, DAY), 0)
    assert key.windows(0, DAY, REST_S) == before
    assert refusal(key) is None


def test_a_new_day_begins_empty_and_is_left_alone_by_the_old_one() -> None:
    key = limiter(rpd=2, tpd=1000)
    first, second = key.take(400, 0, DAY), key.take(400, 0, DAY)
    assert code(key) == "rpd_exceeded"
    assert refusal(key, tokens=1000, day=NEXT_DAY) is None
    key.settle(first, 5000, 0)
    key.undo(second, 0)
    assert key.windows(0, NEXT_DAY, REST_S) == (Window(2, 2, 3601), Window(1000, 1000, 3601))


def test_a_clock_set_back_brings_no_second_allowance() -> None:
    key = limiter(rpd=1)
    assert key.take(0, 0, NEXT_DAY) == Taken(0, NEXT_DAY)
    assert code(key, day=DAY) == "rpd_exceeded"
    assert key.take(0, 0, DAY) == Taken(0, NEXT_DAY)


def test_the_day_so_far_is_known_after_a_restart() -> None:
    key = limiter(rpd=10, tpd=1000)
    key.seed(DAY, 10, 300)
    assert code(key) == "rpd_exceeded"
    assert key.windows(0, DAY, REST_S)[1] == Window(1000, 700, 3601)
    assert refusal(key, day=NEXT_DAY) is None


def test_a_changed_limit_keeps_what_was_consumed() -> None:
    key = limiter(rpm=60, rpd=100, concurrency=50)
    for _ in range(50):
        key.take(0, 0, DAY)
    key.configure(Limits(rpm=100, rpd=49, concurrency=51), 0)
    assert key.running == 50
    assert key.windows(0, DAY, REST_S)[0] == Window(49, 0, 3601)
    key.configure(Limits(rpm=100), 0)
    assert key.windows(0, DAY, REST_S)[0] == Window(100, 50, 30)
    key.configure(Limits(rpm=20), 0)
    assert key.windows(0, DAY, REST_S)[0] == Window(20, 0, 60)
    key.configure(Limits(), 0)
    assert key.windows(0, DAY, REST_S)[0] is None
    key.configure(Limits(rpm=20), 0)
    assert key.windows(0, DAY, REST_S)[0] == Window(20, 20, 0)


@given(
    st.builds(
        Limits,
        rpm=st.none() | st.integers(1, 50),
        tpm=st.none() | st.integers(1, 50_000),
        rpd=st.none() | st.integers(1, 50),
        tpd=st.none() | st.integers(1, 50_000),
        concurrency=st.none() | st.integers(1, 5),
    ),
    STEPS,
)
def test_a_key_admits_what_a_plain_account_of_it_would(limits: Limits, steps: list[Any]) -> None:
    """The counters of the day and of running exchanges, kept naively beside the limiter."""
    key, now, day = KeyLimiter(limits, 0), 0, 1
    requests = tokens = 0
    running: list[Taken] = []
    for passed, estimated, real, action in steps:
        now += passed
        if now > 600 * S * day:
            day, requests, tokens = day + 1, 0, 0
        name = f"2026-01-{day:02d}"
        answer = key.refusal(estimated, now, name, 60.0)
        if limits.rpd is not None and requests + 1 > limits.rpd:
            assert answer is not None
        if limits.tpd is not None and tokens + estimated > limits.tpd:
            assert answer is not None
        if limits.concurrency is not None and len(running) >= limits.concurrency:
            assert answer is not None
        if answer is None:
            running.append(key.take(estimated, now, name))
            requests, tokens = requests + 1, tokens + estimated
        if running and action in ("settle", "undo"):
            taken = running.pop(0)
            same_day = taken.day == name
            if action == "settle":
                key.settle(taken, real, now)
                tokens += (real - taken.tokens) * same_day
            else:
                key.undo(taken, now)
                requests -= same_day
                tokens -= taken.tokens * same_day
        assert key.running == len(running)
        assert (key._day_requests, key._day_tokens) == (requests, tokens)
        if action == "resize":
            key.configure(limits, now)  # unchanged, as by most reloads: nothing may move


def headers(key: KeyLimiter, now_ns: int = 0) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in key.headers(now_ns, DAY, REST_S)}


def test_the_headers_show_the_window_with_least_left() -> None:
    key = limiter(rpm=60, rpd=100, tpm=1000, tpd=500)
    key.take(100, 0, DAY)
    assert headers(key) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "500",
        "x-ratelimit-remaining-tokens": "400",
        "x-ratelimit-reset-tokens": "1h0m1s",
    }


def test_where_both_have_as_much_the_day_is_shown() -> None:
    assert headers(limiter(rpm=60, rpd=60))["x-ratelimit-reset-requests"] == "1h0m1s"


@pytest.mark.parametrize("limits", [{"rpm": 60}, {"rpd": 60}])
def test_headers_without_a_token_limit(limits: dict[str, int]) -> None:
    assert set(headers(limiter(**limits))) == {
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
    }


@pytest.mark.parametrize("limits", [{"tpm": 60}, {"tpd": 60}])
def test_headers_without_a_request_limit(limits: dict[str, int]) -> None:
    key = limiter(**limits)
    key.settle(key.take(0, 0, DAY), 100, 0)
    assert headers(key) == {
        "x-ratelimit-limit-tokens": "60",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1m40s" if "tpm" in limits else "1h0m1s",
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (1, "1s"), (59, "59s"), (60, "1m0s"), (360, "6m0s"), (3600, "1h0m0s"), (86_399, "23h59m59s")],
)
def test_durations(seconds: int, text: str) -> None:
    assert duration(seconds) == text
