"""`GET /metrics` in Prometheus' text format. docs/operations.md, "Metrics"

It is rendered here, in parts between which the event loop serves others: prometheus-client renders
everything in one go.
https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import asyncio
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from proxy import __version__
from proxy.core.errors import ErrorClass
from proxy.core.health import Rest
from proxy.core.money import decimal_text
from proxy.gateway.adminkey import AdminKey
from proxy.gateway.clock import Clock
from proxy.gateway.fleet import KeyHealth
from proxy.gateway.gateway import Gateway
from proxy.gateway.metrics import MOST_MODELS, OTHER, Histogram, Tally, presentable
from proxy.store.writer import Writer
from proxy.web.admin import AdminGate
from proxy.web.resources import Resource

MEDIA_TYPE = "text/plain; version=0.0.4"
# Samples, a histogram being one of them, that are rendered before others have their turn: half a millisecond.
SAMPLES_AT_ONCE = 50
CLOSED, HALF_OPEN, OPEN = 0, 1, 2

#: The labels as they are written, and the value.
Sample = tuple[str, int | str]


def metrics_routes(gateway: Gateway, writer: Writer, admin: AdminKey) -> list[BaseRoute]:
    """Return the route: for who has the admin key, or for everybody where the configuration says so."""
    clock = gateway.services.clock
    gate = AdminGate(admin, clock)

    def unless_public(scope: Scope) -> None:
        if not gateway.config().metrics.public:
            gate(scope)

    page = MetricsPage(gateway, writer, clock)
    return [Route("/metrics", Resource(unless_public, GET=page.show))]


class MetricsPage:
    """What was counted, and how things stand."""

    def __init__(self, gateway: Gateway, writer: Writer, clock: Clock) -> None:
        self._gateway = gateway
        self._metrics = gateway.services.metrics
        self._fleet = gateway.services.router.fleet
        self._writer = writer
        self._clock = clock
        self._started_s = clock.time_s()

    async def show(self, request: Request) -> Response:
        body = bytearray()
        parts = self._parts()
        while some := "".join(islice(parts, SAMPLES_AT_ONCE)):
            body += some.encode("utf-8", "replace")
            await asyncio.sleep(0)
        return Response(bytes(body), media_type=MEDIA_TYPE)

    def _parts(self) -> Iterator[str]:
        """Yield the text in parts; between two of them anything may be counted."""
        yield from self._exchanges()
        yield from self._troubles()
        yield from self._standing()
        yield from self._process()

    def _exchanges(self) -> Iterator[str]:
        metrics, currency = self._metrics, self._gateway.config().billing.currency
        tallies = [(_series(model, provider), tally) for (model, provider), tally in metrics.tallies.items()]
        yield from _family(
            "sluice_requests_total",
            "counter",
            "Exchanges that ended, by the HTTP status that the client saw.",
            (
                (f'{labels},status="{status}"', count)
                for labels, tally in tallies
                for status, count in tuple(tally.statuses.items())
            ),
        )
        yield from _histograms(
            "sluice_request_seconds",
            "From the admission of a request until its answer is recorded, and its end may be sent.",
            ((labels, tally.whole) for labels, tally in tallies),
        )
        yield from _histograms(
            "sluice_first_byte_seconds",
            "From the admission of a request until the first byte of a streamed answer was sent on.",
            ((labels, tally.first_byte) for labels, tally in tallies),
        )
        yield from _histograms(
            "sluice_overhead_seconds",
            "What request_seconds has beyond the attempts at providers.",
            [("", metrics.overhead)],
        )
        yield from _family(
            "sluice_tokens_total",
            "counter",
            "LLM tokens; cached and cache_write are parts of input, reasoning is a part of output.",
            (
                (f'{labels},class="{name}"', count)
                for labels, tally in tallies
                for name, count in _tokens(tally)
            ),
        )
        yield from _family(
            "sluice_cost_total",
            "counter",
            "What exchanges cost.",
            (
                (f'{labels},currency="{currency}"', decimal_text(tally.cost_nanos))
                for labels, tally in tallies
            ),
        )
        yield from _family(
            "sluice_settlements_total",
            "counter",
            "Exchanges that ended, by how they were charged and how they ended.",
            [
                (_labels(billing=billing, finish=finish), count)
                for (billing, finish), count in metrics.settlements.items()
            ],
        )

    def _troubles(self) -> Iterator[str]:
        yield from _family(
            "sluice_refusals_total",
            "counter",
            "Requests refused before any provider was asked, by the code of the error.",
            [(_labels(code=code), count) for code, count in self._metrics.refusals.items()],
        )
        yield from _family(
            "sluice_upstream_errors_total",
            "counter",
            "Attempts that failed at a provider, or that it refused, by the class of the error.",
            [
                (_labels({"class": kind}, provider=provider), count)
                for (provider, kind), count in self._metrics.upstream_errors.items()
            ],
        )

    def _standing(self) -> Iterator[str]:
        yield from _gauge("sluice_in_flight", "Exchanges that run.", self._gateway.running)
        yield from _family(
            "sluice_breaker_state",
            "gauge",
            f"{CLOSED}: closed; {HALF_OPEN}: its rest is over, and one request tries it; {OPEN}: open.",
            [
                (_labels(provider=provider, model=model), state)
                for (provider, model), state in self._breakers().items()
            ],
        )
        keys, resting = self._provider_keys()
        yield from _family("sluice_provider_keys", "gauge", "Keys that a provider may be called with.", keys)
        yield from _family(
            "sluice_provider_keys_resting",
            "gauge",
            "Of these, those that rest after an error of a class; of class rate, for at least one model.",
            resting,
        )

    def _breakers(self) -> dict[tuple[str, str], int]:
        """Return the state of every deployment that a route names, and of others as far as one is not closed.

        Clients can name any number of those: what goes beyond the bound is one by provider, the worst.
        """
        snapshot, now_ns = self._gateway.snapshot, self._clock.monotonic_ns()
        states = {
            (deployment.provider, deployment.model): CLOSED
            for model in snapshot.config.models.values()
            for deployment in model.deployments
            if "*" not in deployment.model
        }
        most = len(states) + MOST_MODELS
        for name, breaker in self._fleet.breakers().items():
            provider, model = name
            if provider not in snapshot.providers:
                continue
            if name not in states and (len(states) >= most or not presentable(model)):
                name = provider, OTHER
            states[name] = max(states.get(name, CLOSED), OPEN if breaker.rests(now_ns) else HALF_OPEN)
        return states

    def _provider_keys(self) -> tuple[list[Sample], list[Sample]]:
        """Return how many keys the providers have that can be called, and how many of them rest."""
        keys: list[Sample] = []
        resting: list[Sample] = []
        now_ns = self._clock.monotonic_ns()
        for provider in self._gateway.snapshot.providers.values():
            if not provider.config.active:
                continue
            healths = [self._fleet.key(provider, key) for key in provider.keys]
            keys.append((_labels(provider=provider.name), len(healths)))
            for kind in (ErrorClass.AUTH, ErrorClass.QUOTA, ErrorClass.RATE):
                count = sum(_rests(health, kind, now_ns) for health in healths)
                resting.append((_labels({"class": kind}, provider=provider.name), count))
        return keys, resting

    def _process(self) -> Iterator[str]:
        yield from _gauge(
            "sluice_commit_queue", "Works that the database has not committed yet.", self._writer.depth
        )
        yield from _gauge(
            "sluice_database_writable",
            "1 if the database could be written when last tried.",
            int(self._writer.healthy),
        )
        yield from _family(
            "sluice_build_info", "gauge", "1, with the version.", [(_labels(version=__version__), 1)]
        )
        yield from _gauge(
            "sluice_start_time_seconds", "When the process began, in Unix time.", f"{self._started_s:.3f}"
        )
        resident = resident_bytes()
        if resident is not None:
            yield from _gauge("sluice_resident_memory_bytes", "Memory that the process holds.", resident)


def _tokens(tally: Tally) -> tuple[tuple[str, int], ...]:
    return (
        ("input", tally.input_tokens),
        ("output", tally.output_tokens),
        ("cached", tally.cached_tokens),
        ("cache_write", tally.cache_write_tokens),
        ("reasoning", tally.reasoning_tokens),
    )


def _rests(health: KeyHealth, kind: ErrorClass, now_ns: int) -> bool:
    """Return whether a key rests after an error of this class."""

    def is_it(rest: Rest) -> bool:
        return rest.rests(now_ns) and rest.cause is not None and rest.cause.error_class is kind

    return any(map(is_it, health.paces.values())) if kind is ErrorClass.RATE else is_it(health.rest)


def resident_bytes() -> int | None:
    """Return the memory that the process holds; None where the system does not tell it so (only Linux)."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


# -- the format


def _family(name: str, kind: str, about: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield _head(name, kind, about)
    for labels, value in samples:
        yield f"{name}{{{labels}}} {value}\n" if labels else f"{name} {value}\n"


def _gauge(name: str, about: str, value: int | str) -> Iterator[str]:
    return _family(name, "gauge", about, [("", value)])


def _histograms(name: str, about: str, samples: Iterable[tuple[str, Histogram]]) -> Iterator[str]:
    yield _head(name, "histogram", about)
    for labels, histogram in samples:
        yield _histogram(name, labels, histogram)


def _histogram(name: str, labels: str, histogram: Histogram) -> str:
    """Return the lines of one histogram: each bucket counts those below it, too."""
    lines = []
    count = 0
    before = f"{name}_bucket{{{labels}," if labels else f"{name}_bucket{{"
    bounds = [*(f"{bound_ns / 10**9:g}" for bound_ns in histogram.bounds_ns), "+Inf"]
    for bound, within in zip(bounds, histogram.counts, strict=True):
        count += within
        lines.append(f'{before}le="{bound}"}} {count}\n')
    braced = f"{{{labels}}}" if labels else ""
    lines.append(f"{name}_sum{braced} {histogram.sum_ns / 10**9:.9f}\n{name}_count{braced} {count}\n")
    return "".join(lines)


def _head(name: str, kind: str, about: str) -> str:
    return f"# HELP {name} {about}\n# TYPE {name} {kind}\n"


@lru_cache(maxsize=4096)
def _series(model: str, provider: str) -> str:
    return _labels(model=model, provider=provider)


def _labels(more: dict[str, str] | None = None, **labels: str) -> str:
    """Return labels as they are written; `more` has those whose names Python keeps to itself."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in {**labels, **(more or {})}.items())


def _escaped(value: str) -> str:
    """Return a label's value as the format wants it: backslash, double quote and line feed are escaped."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
