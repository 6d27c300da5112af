"""Durations counted in buckets, so that their percentiles can be told without keeping each.

A bucket is the 16th part of a doubling: what is told of it is at most 2.2 % off.
"""

from collections.abc import Mapping
from math import ceil, log2

_PER_DOUBLING = 16
#: Milliseconds; what is shorter counts as so long.
_SHORTEST = 1 / 16


def bucket_of(milliseconds: float) -> int:
    """Return the number of a duration's bucket; longer durations have higher ones."""
    return round(_PER_DOUBLING * log2(max(milliseconds, _SHORTEST)))


def percentile(counts: Mapping[int, int], percent: int) -> float | None:
    """Return the duration that so many per cent did not exceed (nearest rank); None of none.

    `counts` has the number of durations by bucket. Milliseconds, to three digits.
    """
    rank = ceil(percent * sum(counts.values()) / 100)
    for bucket in sorted(counts):
        rank -= counts[bucket]
        if rank <= 0:
            return float(f"{2 ** (bucket / _PER_DOUBLING):.3g}")
    return None
