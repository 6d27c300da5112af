"""What happened since the process began, counted for `/metrics`. docs/operations.md, "Metrics"

Everything is counted on the event loop, once for each exchange, refusal or failed attempt, in plain
dicts and lists; `web/metrics.py` reads them.
"""

import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Sequence

from proxy.core.entities import Billing, Finish, UsageRecord
from proxy.core.errors import ErrorClass
from proxy.upstream.masking import mask

logger = logging.getLogger("sluice.metrics")

#: Stands for all models that get no label of their own.
OTHER = "other"
#: Clients may write any model name after a provider's. Those of the configuration always have a label,
#: others only as long as there are no more than so many in all, `other` among them.
MOST_MODELS = 100
#: Characters; no model of any provider is called so.
LONGEST_NAME = 128

_MS = 10**6
#: Upper bounds of the buckets, inclusive: of answers that take minutes, of first bytes, and of the work of
#: the gateway, which is a millisecond or less, a commit in between, or a wait for a provider's place.
WHOLE_NS = tuple(
    ms * _MS for ms in (100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 120_000, 300_000)
)
FIRST_BYTE_NS = tuple(ms * _MS for ms in (50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000))
OVERHEAD_NS = tuple(
    us * 1000 for us in (500, 1000, 2500, 5000, 10_000, 25_000, 100_000, 1_000_000, 10_000_000)
)


class Histogram:
    """Durations by bucket; `counts` has one more than `bounds_ns`, for what is longer than all."""

    __slots__ = ("bounds_ns", "counts", "sum_ns")

    def __init__(self, bounds_ns: Sequence[int]) -> None:
        self.bounds_ns = bounds_ns
        self.counts = [0] * (len(bounds_ns) + 1)
        self.sum_ns = 0

    def add(self, duration_ns: int) -> None:
        self.counts[bisect_left(self.bounds_ns, duration_ns)] += 1
        self.sum_ns += duration_ns


class Tally:
    """The exchanges of one model at one provider."""

    __slots__ = (
        "cache_write_tokens",
        "cached_tokens",
        "cost_nanos",
        "first_byte",
        "input_tokens",
        "output_tokens",
        "reasoning_tokens",
        "statuses",
        "whole",
    )

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.whole = Histogram(WHOLE_NS)
        self.first_byte = Histogram(FIRST_BYTE_NS)
        self.input_tokens = 0
        self.output_tokens = 0
        self.cached_tokens = 0
        self.cache_write_tokens = 0
        self.reasoning_tokens = 0
        self.cost_nanos = 0


class Metrics:
    """The counters. No method of it ever fails a request."""

    def __init__(self) -> None:
        #: By model and provider; '' where no provider was asked.
        self.tallies: dict[tuple[str, str], Tally] = {}
        self.overhead = Histogram(OVERHEAD_NS)
        self.settlements: Counter[tuple[Billing, Finish]] = Counter()
        #: By error code: all are the gateway's own.
        self.refusals: Counter[str] = Counter()
        self.upstream_errors: Counter[tuple[str, ErrorClass]] = Counter()
        #: Models that have a label although the configuration does not name them.
        self._unnamed: set[str] = set()

    def refused(self, code: str) -> None:
        """A request was refused before any provider was asked."""
        self.refusals[code] += 1

    def attempt_failed(self, provider: str, error_class: ErrorClass) -> None:
        """A provider failed or refused one attempt."""
        self.upstream_errors[provider, error_class] += 1

    def ended(self, record: UsageRecord, duration_ns: int, named: Collection[str]) -> None:
        """An exchange is settled, so long after its admission; `named`: the models of its configuration."""
        try:
            self._count(record, duration_ns, named)
        except Exception:
            logger.exception("the exchange %s was not counted", record.id)

    def _count(self, record: UsageRecord, duration_ns: int, named: Collection[str]) -> None:
        provider = record.provider or ""
        tally = self.tallies.get((record.model, provider))
        if tally is None:
            tally = self._tally(self._label(record, named), provider)
        status, usage = record.status, record.usage
        tally.statuses[status] = tally.statuses.get(status, 0) + 1
        tally.whole.add(duration_ns)
        first_ms = record.timings.get("first_output_ms")
        if first_ms is not None:
            tally.first_byte.add(int(first_ms * _MS))
        tally.input_tokens += usage.input_tokens
        tally.output_tokens += usage.output_tokens
        tally.cached_tokens += usage.cached_tokens
        tally.cache_write_tokens += usage.cache_write_tokens
        tally.reasoning_tokens += usage.reasoning_tokens
        tally.cost_nanos += record.cost_nanos
        upstream_ms = 0.0
        for attempt in record.attempts:
            upstream_ms += attempt.total_ms or 0
        self.overhead.add(max(duration_ns - int(upstream_ms * _MS), 0))
        self.settlements[record.billing, record.finish] += 1

    def _tally(self, model: str, provider: str) -> Tally:
        found = self.tallies.get((model, provider))
        if found is None:
            found = self.tallies[model, provider] = Tally()
        return found

    def _label(self, record: UsageRecord, named: Collection[str]) -> str:
        """Return what a model is called here.

        Without the configuration's word for it, a name needs an answer first: what clients mistyped is
        none.
        """
        model = record.model
        if model in named or model in self._unnamed:
            return model
        if record.finish is not Finish.OK or len(self._unnamed) + len(named) >= MOST_MODELS - 1:
            return OTHER
        if not presentable(model):
            return OTHER
        self._unnamed.add(model)
        return model


def presentable(name: str) -> bool:
    """Return whether a name that a client made up may be shown: one that is short, and like no key."""
    return len(name) <= LONGEST_NAME and mask(name) == name
