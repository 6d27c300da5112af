from collections import Counter
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.histogram import bucket_of, percentile

DURATIONS = st.floats(0.1, 1e7)


@given(st.lists(DURATIONS, min_size=1), st.integers(1, 100))
def test_what_is_told_is_near_the_nearest_rank(durations: list[float], percent: int) -> None:
    exact = sorted(durations)[ceil(percent * len(durations) / 100) - 1]
    told = percentile(Counter(map(bucket_of, durations)), percent)
    assert told == pytest.approx(exact, rel=0.03)


@given(DURATIONS, DURATIONS)
def test_longer_ones_are_in_no_lower_bucket(one: float, other: float) -> None:
    assert (bucket_of(one) - bucket_of(other)) * (one - other) >= 0


def test_nothing_and_no_time_at_all() -> None:
    assert percentile({}, 50) is None
    assert percentile({bucket_of(0): 1}, 50) == 0.0625
