"""How guessing keys is slowed down."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import RateLimited
from proxy.gateway.guessing import MAX_PEERS, WINDOW_MS, WRONG_KEYS_PER_WINDOW, WrongKeys

NOW_MS = 1_800_000_000_000


def _exhaust(wrong: WrongKeys, peer: str, now_ms: int = NOW_MS) -> None:
    for _ in range(WRONG_KEYS_PER_WINDOW):
        wrong.count(peer, now_ms)


def test_the_thirty_first_wrong_key_of_a_minute_is_refused() -> None:
    wrong = WrongKeys()
    _exhaust(wrong, "10.0.0.1")
    with pytest.raises(RateLimited) as raised:
        wrong.count("10.0.0.1", NOW_MS + 15_000)
    assert raised.value.code == "too_many_invalid_keys"
    assert raised.value.retry_after_s == 45
    assert raised.value.should_retry is False


def test_peers_are_counted_apart() -> None:
    wrong = WrongKeys()
    _exhaust(wrong, "10.0.0.1")
    wrong.count("10.0.0.2", NOW_MS)


def test_a_minute_later_guesses_count_anew() -> None:
    wrong = WrongKeys()
    _exhaust(wrong, "10.0.0.1")
    wrong.count("10.0.0.1", NOW_MS + WINDOW_MS)


def test_a_clock_set_back_does_not_prolong_the_refusal() -> None:
    wrong = WrongKeys()
    _exhaust(wrong, "10.0.0.1")
    wrong.count("10.0.0.1", NOW_MS - 1)


def test_the_peer_longest_silent_is_forgotten_first() -> None:
    wrong = WrongKeys()
    _exhaust(wrong, "old")
    _exhaust(wrong, "busy")
    for number in range(MAX_PEERS - 2):
        wrong.count(f"peer {number}", NOW_MS)
    with pytest.raises(RateLimited):
        wrong.count("busy", NOW_MS)
    wrong.count("one more", NOW_MS)
    wrong.count("old", NOW_MS)
    with pytest.raises(RateLimited):
        wrong.count("busy", NOW_MS)


@given(st.lists(st.integers(min_value=0, max_value=20_000), max_size=120))
def test_no_minute_holds_more_than_thirty_guesses(steps_ms: list[int]) -> None:
    wrong = WrongKeys()
    now_ms = NOW_MS
    accepted = []
    for step_ms in steps_ms:
        now_ms += step_ms
        try:
            wrong.count("peer", now_ms)
        except RateLimited:
            continue
        accepted.append(now_ms)
    for start_ms in accepted:
        within = [at for at in accepted if start_ms <= at < start_ms + WINDOW_MS]
        assert len(within) <= WRONG_KEYS_PER_WINDOW
