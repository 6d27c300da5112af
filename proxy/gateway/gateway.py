"""Holds the exchanges that run, and begins and ends them."""

import asyncio
from typing import Any

from proxy.config.schema import Config
from proxy.core.entities import Finish
from proxy.core.errors import BadRequest, SluiceError, Unavailable, UpstreamFailure, UpstreamRefused
from proxy.gateway.admission import Admitted, candidates_of, check, fallbacks_of
from proxy.gateway.counting import count_upstream
from proxy.gateway.dryrun import report
from proxy.gateway.exchange import Exchange, Services
from proxy.gateway.explaining import left_out, tried_in_order
from proxy.gateway.keystate import KeyState
from proxy.gateway.passages import Prepared, prepare
from proxy.gateway.planning import Plan, options_of
from proxy.gateway.request import CHAT, ClientRequest
from proxy.gateway.router import Route
from proxy.gateway.sink import Sink
from proxy.gateway.snapshot import Snapshot
from proxy.store.errors import LedgerUnavailable
from proxy.store.writer import Writer
from proxy.upstream.modellist import list_models
from proxy.upstream.providers import ProviderClient

TICK_S = 1.0


class Gateway:
    """The running exchanges over the configuration in force.

    Its tick is the only timer that looks after silent providers and stalled clients; it runs while
    exchanges do.
    """

    def __init__(self, snapshot: Snapshot, services: Services, writer: Writer) -> None:
        self.snapshot = snapshot
        self.services = services
        self.stopping = False
        self._writer = writer
        self._running: set[Exchange] = set()
        self._ticking: asyncio.TimerHandle | None = None

    def current(self) -> Snapshot:
        """Return the configuration in force, ready for use."""
        return self.snapshot

    def config(self) -> Config:
        """Return the configuration in force."""
        return self.snapshot.config

    @property
    def running(self) -> int:
        return len(self._running)

    def admit(
        self, request: ClientRequest, key: KeyState, request_id: str
    ) -> tuple[Admitted, Route, Prepared]:
        """Let a request in; return it with its way, and what the first on it is sent.

        The key is looked at once more: it may have been revoked while the body was read.

        Raises what `check_open`, `KeyState.check`, `admission.check` and `passages.prepare` raise;
        then nothing was taken.
        """
        admitted = self._checked(request, key, request_id)
        route = self.services.router.route(admitted)
        prepared = self._prepare_first(admitted, route.plan)
        admitted.take()
        return admitted, route, prepared

    def dry_run(self, request: ClientRequest, key: KeyState, request_id: str) -> dict[str, Any]:
        """Return, as JSON values, what would become of a request; it is neither let in nor sent.

        Raises what `admit` raises.
        """
        admitted = self._checked(request, key, request_id)
        services = self.services
        plan = services.router.route(admitted).plan
        return report(admitted, plan, services.router.fleet, services.passing, services.clock)

    def explain(self, model: str, provider: str | None, key: KeyState) -> dict[str, Any]:
        """Return who would be asked for a model by a key, as things stand. Raises as `candidates_of`."""
        request = ClientRequest(CHAT, [], model, False, provider)
        resolution, candidates = candidates_of(request, key, self.snapshot)
        router = self.services.router
        others = fallbacks_of(request, key, self.snapshot, resolution, self.snapshot.config.fallbacks)
        options = options_of((*candidates, *others), self.snapshot, router.chance)
        return {
            "model": model,
            "names": resolution.names,
            "candidates": [
                *tried_in_order(options, {}, router.fleet, self.services.clock),
                *left_out(resolution, options, key, CHAT),
            ],
        }

    def _checked(self, request: ClientRequest, key: KeyState, request_id: str) -> Admitted:
        self.check_open()
        key.check(self.services.clock.now_ms())
        return check(request, key, self.snapshot, self.services.clock, request_id)

    def _prepare_first(self, admitted: Admitted, plan: Plan) -> Prepared:
        """Prepare for the first deployment that can be asked at all; those before it are left out."""
        refused: SluiceError | None = None
        for candidate in plan.candidates:
            try:
                return prepare(admitted, candidate, self.services.passing)
            except (BadRequest, UpstreamRefused) as refusal:
                refused = refused or refusal
                plan.leave_out(candidate)
        assert refused is not None, "there is at least one candidate"
        raise refused

    def check_open(self) -> None:
        """Raise Unavailable when no exchange may begin: stopping, or nothing can be recorded."""
        if self.stopping:
            raise Unavailable("shutting_down", "The gateway is shutting down.", retry_after_s=5)
        if not self._writer.healthy:
            raise LedgerUnavailable()

    async def list_models(self, provider: ProviderClient) -> list[str]:
        """Return what a provider says when asked for its models. Raises UpstreamFailure."""
        return await list_models(provider, self.services.client)

    async def count_tokens(self, request: ClientRequest, key: KeyState) -> int:
        """Return the input tokens of a Messages request: the provider's count, else our estimate.

        Neither limited nor recorded. Raises what `admission.candidates_of` raises, and UpstreamRefused
        for a request that the provider refuses.
        """
        deployment = candidates_of(request, key, self.snapshot)[1][0].deployment
        provider = self.snapshot.providers[deployment.provider]
        services = self.services
        ours = services.router.fleet.ready_key(provider, deployment, services.clock.monotonic_ns())
        if ours is None or not provider.supports(request.endpoint.path):
            return request.estimated_input(deployment.model)
        try:
            return await count_upstream(request, deployment.model, provider, ours, services.client)
        except UpstreamFailure as failure:
            if failure.status == 400:
                raise
            return request.estimated_input(deployment.model)

    def begin(self, admitted: Admitted, route: Route, first: Prepared, sink: Sink) -> Exchange:
        """Start the exchange of an admitted request."""
        exchange = Exchange(admitted, route, first, sink, self.services, self._ended)
        self._running.add(exchange)
        admitted.key.running.add(exchange)
        if self._ticking is None:
            self._schedule_tick()
        return exchange

    def stop(self) -> None:
        """Refuse new requests from now on; running ones go on."""
        self.stopping = True

    def end_all(self) -> None:
        """The grace is over: end what still runs. Each is settled as broken off here."""
        for exchange in list(self._running):
            exchange.interrupt(Finish.SHUTDOWN)

    async def drained(self) -> None:
        """Wait until no exchange runs."""
        while self._running:
            await asyncio.wait([exchange.finished for exchange in self._running])

    def _ended(self, exchange: Exchange) -> None:
        self._running.discard(exchange)
        exchange.admitted.key.running.discard(exchange)

    def _schedule_tick(self) -> None:
        self._ticking = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._ticking = None
        now_ns = self.services.clock.monotonic_ns()
        noted = []
        for exchange in list(self._running):
            exchange.tick(now_ns)
            progress = exchange.progress(now_ns)
            if progress is not None:
                noted.append(progress)
        if noted:
            self.services.usage.note(noted)
        if self._running:
            self._schedule_tick()
