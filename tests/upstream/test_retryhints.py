"""Every way in which a provider says how long to wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.retryhints import MAX_WAIT_S, retry_after_s

NOW_S = 1_800_000_000.0  # 2027-01-15T08:00:00Z


def wait_s(
    headers: dict[str, str] | None = None, message: str = "", delay: str | None = None
) -> float | None:
    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return retry_after_s(raw, message, delay, now_s=NOW_S)


HEADERS: dict[str, tuple[dict[str, str], float | None]] = {
    "seconds": ({"retry-after": "20"}, 20),
    "fraction": ({"retry-after": "1.5"}, 1.5),
    "milliseconds": ({"retry-after-ms": "1500"}, 1.5),
    "milliseconds are the more exact": ({"retry-after": "2", "retry-after-ms": "1500"}, 1.5),
    "date": ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, 30),
    "date of the past": ({"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0),
    "date without zone": ({"retry-after": "Fri, 15 Jan 2027 08:00:30"}, 30),
    "nonsense": ({"retry-after": "soon", "retry-after-ms": "-1"}, None),
    "empty": ({"retry-after": ""}, None),
    "a year": ({"retry-after": "31536000"}, MAX_WAIT_S),
    "openai": ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-reset-tokens": "90ms"}, 0.09),
    "openai, what is used up": (
        {
            "x-ratelimit-reset-requests": "6m0s",
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-tokens": "90ms",
            "x-ratelimit-remaining-tokens": "100",
        },
        360,
    ),
    "anthropic": (
        {
            "anthropic-ratelimit-tokens-reset": "2027-01-15T08:01:00Z",
            "anthropic-ratelimit-tokens-remaining": "0",
            "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:01Z",
            "anthropic-ratelimit-requests-remaining": "9",
        },
        60,
    ),
    "openrouter": ({"x-ratelimit-reset": "1800000012000", "x-ratelimit-remaining": "0"}, 12),
    "epoch seconds": ({"x-ratelimit-reset": "1800000012"}, 12),
    "cerebras": (
        {"x-ratelimit-reset-tokens-minute": "42.5", "x-ratelimit-remaining-tokens-minute": "0"},
        42.5,
    ),
    "a reset that is no moment": ({"x-ratelimit-reset": "Tomorrow"}, None),
    "a reset that is no duration": ({"x-ratelimit-reset": "later"}, None),
    "none": ({"x-ratelimit-limit": "5"}, None),
}


@pytest.mark.parametrize(("headers", "expected"), HEADERS.values(), ids=HEADERS)
def test_headers(headers: dict[str, str], expected: float | None) -> None:
    assert wait_s(headers) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Rate limit reached. Please try again in 20s. Visit …", 20),
        ("Please try again in 6m0s.", 360),
        ("try again in 1h2m3.5s", 3723.5),
        ("Please try again in 250ms", 0.25),
        ("Try again in 250 milliseconds.", 0.25),
        ("Please retry in 34.074824224s.", 34.074824224),
        ("Retry after 12 seconds", 12),
        ("please wait 2 minutes", 120),
        ("Retry your request after 1 day", 86_400),
        ("请求过快,请在 5 秒后重试", 5),
        ("请10s后重试", 10),
        ("try again later", None),
        ("try again in 5", None),
        ("try again with 3 models", None),
        ("limit 20s", None),
        ("", None),
    ],
)
def test_words(message: str, expected: float | None) -> None:
    assert wait_s(message=message) == (None if expected is None else pytest.approx(expected))


def test_googles_delay() -> None:
    assert wait_s(delay="34s") == 34
    assert wait_s(delay="34.5s", message="retry in 99s") == 34.5
    assert wait_s(delay="soon", message="retry in 99s") == 99


def test_headers_outrank_words() -> None:
    assert wait_s({"retry-after": "1"}, "try again in 99s", "50s") == 1
    assert wait_s({"x-ratelimit-reset-tokens": "1s"}, "try again in 99s") == 99


names = st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset", "x-ratelimit-remaining"])
values = st.text(st.sampled_from("0123456789.:-+TZsmhd GMTFri,Jan"), max_size=20)


@given(st.dictionaries(names, values), st.text(max_size=50), st.none() | values)
def test_any_hint_gives_a_bounded_wait(headers: dict[str, str], message: str, delay: str | None) -> None:
    wait = wait_s(headers, message, delay)
    assert wait is None or 0 <= wait <= MAX_WAIT_S
