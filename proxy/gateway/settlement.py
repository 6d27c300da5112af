"""How an exchange ends: the settlement contract as one pure function, and the record it yields.

The contract is the table in docs/billing.md; `settle` is that table.
"""

from collections.abc import Callable
from enum import Enum, auto
from functools import lru_cache
from typing import NamedTuple, Protocol

import msgspec

from proxy.core import money
from proxy.core.entities import Billing, Finish, Usage, UsageRecord
from proxy.core.metering import ReportedUsage, UsageMeter
from proxy.gateway.admission import Admitted
from proxy.gateway.attempts import AttemptLog
from proxy.gateway.clock import Clock
from proxy.gateway.costing import Candidate

Headers = list[tuple[bytes, bytes]]


class Reached(Enum):
    """How far the answer of an exchange got."""

    NOTHING = auto()  # no 2xx from any provider
    ANSWERED = auto()  # a 2xx, and no content yet
    CONTENT = auto()  # streamed content
    COMPLETE = auto()  # the whole answer


class Settlement(NamedTuple):
    """The row of the contract in which an exchange ends."""

    billing: Billing
    finish: Finish
    usage: Usage

    @property
    def estimated(self) -> bool:
        return self.billing is Billing.ESTIMATED


#: Ends for which the provider is to blame: without content nothing is charged.
_PROVIDER_FAULTS = frozenset({Finish.UPSTREAM_ERROR, Finish.TRUNCATED, Finish.TIMEOUT})
#: Ends that were not the provider's: a report in the middle of an answer is not its final one.
_BROKEN_OFF = frozenset({Finish.CLIENT_GONE, Finish.SHUTDOWN, Finish.REVOKED, Finish.CRASH})


def settle(
    finish: Finish,
    reached: Reached,
    reported: ReportedUsage | None,
    estimate: Callable[[], tuple[int, int]],
) -> Settlement:
    """Return the row of the contract: what is charged, and under which words.

    What the provider reported counts; only what it left out is taken from `estimate`, which gives
    input and output tokens and is called only when needed. Of an answer that was broken off all
    output that was received is charged, also what came after the last report.
    """
    if reached is Reached.NOTHING or (reached is Reached.ANSWERED and finish in _PROVIDER_FAULTS):
        return Settlement(Billing.VOID, finish, Usage())
    reported = reported or ReportedUsage()
    cut_off = finish in _BROKEN_OFF and reached is not Reached.COMPLETE
    estimated = (0, 0) if reported.complete and not cut_off else estimate()
    usage = reported.completed(*estimated)
    if cut_off and estimated[1] > usage.output_tokens:  # more came after the report
        usage = msgspec.structs.replace(usage, output_tokens=estimated[1])
    settled = reported.complete and not cut_off
    return Settlement(Billing.SETTLED if settled else Billing.ESTIMATED, finish, usage)


class Received(Protocol):
    """What was received of an answer: a relay, or a whole answer."""

    @property
    def tokens(self) -> int:
        """The estimate of the output, in LLM tokens."""


class Accounting:
    """Keeps what an exchange is charged for, and closes its books once.

    Each attempt begins anew: only the one that answered is charged.
    """

    __slots__ = (
        "_admitted",
        "_attempts",
        "_candidate",
        "_clock",
        "_record",
        "first_output_ns",
        "meter",
        "reached",
        "received",
    )

    def __init__(self, admitted: Admitted, attempts: AttemptLog, clock: Clock) -> None:
        self._admitted = admitted
        self._attempts = attempts
        self._clock = clock
        self._candidate = admitted.candidates[0]
        self.reached = Reached.NOTHING
        self.meter = UsageMeter()
        #: What was received of the answer, for its estimate.
        self.received: Received | None = None
        self._record: UsageRecord | None = None
        #: When the client was sent the first of the answer, on the monotonic clock.
        self.first_output_ns: int | None = None

    def begin(self, candidate: Candidate) -> None:
        """An attempt at this deployment begins."""
        self._candidate = candidate
        self.reached = Reached.NOTHING
        self.meter = UsageMeter()
        self.received = None

    @property
    def provider(self) -> str:
        """The provider of the attempt."""
        return self._candidate.deployment.provider

    @property
    def closed(self) -> bool:
        return self._record is not None

    def headers(self) -> Headers:
        """Return the headers that say who answered, and what the key's limits leave."""
        admitted = self._admitted
        deployment = self._candidate.deployment
        return [
            (b"x-request-id", admitted.id.encode()),
            (b"x-sluice-provider", _header_text(deployment.provider)),
            (b"x-sluice-model", _header_text(self._candidate.served_name or deployment.model)),
            (b"x-sluice-attempts", b"%d" % self._attempts.count),
            *admitted.key.limiter.headers(*self._clock.instant()),
        ]

    def close(self, finish: Finish, status: int, error_code: str | None) -> UsageRecord:
        """Return the record of an exchange that ended so, and give the key's limits their due.

        Only the first call counts; later ones return the same record.
        """
        if self._record is None:
            self._record = self._close(finish, status, error_code)
        return self._record

    def _close(self, finish: Finish, status: int, error_code: str | None) -> UsageRecord:
        settlement = settle(finish, self.reached, self._reported(), self._estimate)
        record = self._recorded(settlement, status, error_code)
        now_ns = self._clock.monotonic_ns()
        self._admitted.settle(settlement.usage.total_tokens, record.cost_nanos, now_ns)
        return record

    def progress(self) -> UsageRecord:
        """Return what is to be recorded if the process dies now, with content already streamed."""
        settlement = settle(Finish.CRASH, Reached.CONTENT, self._reported(), self._estimate)
        return self._recorded(settlement, 200, None)

    def _recorded(self, settlement: Settlement, status: int, error_code: str | None) -> UsageRecord:
        admitted, request, candidate = self._admitted, self._admitted.request, self._candidate
        void = settlement.billing is Billing.VOID
        asked = self._attempts.count > 0
        return UsageRecord(
            id=admitted.id,
            created_ms=admitted.created_ms,
            ended_ms=self._clock.now_ms(),
            day=admitted.taken.day,
            key_id=admitted.key.key.id,
            account=admitted.account,
            dialect=request.endpoint.dialect,
            endpoint=request.endpoint.path,
            stream=request.stream,
            model=request.model,
            provider=candidate.deployment.provider if asked else None,
            upstream_model=candidate.deployment.model if asked else None,
            status=status,
            billing=settlement.billing,
            finish=settlement.finish,
            error_code=error_code,
            usage=settlement.usage,
            estimated=settlement.estimated,
            cost_nanos=0 if void else candidate.cost_nanos(settlement.usage),
            discount=money.ratio_text(admitted.discount),
            price=candidate.terms(settlement.usage),
            attempts=self._attempts.attempts(),
            timings=self._timings(),
        )

    def _reported(self) -> ReportedUsage | None:
        reported = self.meter.reported
        if self._admitted.request.endpoint.estimated:
            return reported
        # Of what is passed through, only reported usage counts: what is missing is nothing.
        known = (reported or ReportedUsage()).completed(0, 0)
        return ReportedUsage(
            known.input_tokens,
            known.output_tokens,
            known.cached_tokens,
            known.cache_write_tokens,
            known.reasoning_tokens,
        )

    def _estimate(self) -> tuple[int, int]:
        return self._admitted.estimated_input(), self.received.tokens if self.received else 0

    def _timings(self) -> dict[str, float]:
        """Return milliseconds from the admission on."""
        timings = {"total_ms": self._elapsed_ms(self._clock.monotonic_ns())}
        if self.first_output_ns is not None:
            timings["first_output_ms"] = self._elapsed_ms(self.first_output_ns)
        return timings

    def _elapsed_ms(self, now_ns: int) -> float:
        return (now_ns - self._admitted.started_ns) // 1000 / 1000


@lru_cache(maxsize=1024)
def _header_text(text: str) -> bytes:
    """Return a name as a header value: names may hold anything, header lines may not."""
    shown = (char if " " <= char <= "~" else repr(char)[1:-1] for char in text[:128])
    return "".join(shown).encode("ascii", "backslashreplace")
