"""Holds the exchanges that run, and begins and ends them."""

import asyncio

from proxy.config.schema import Config
from proxy.core.entities import Finish
from proxy.core.errors import BadRequest, SluiceError, Unavailable, UpstreamFailure, UpstreamRefused
from proxy.gateway.admission import Admitted, candidates_of, check
from proxy.gateway.counting import count_upstream
from proxy.gateway.exchange import Exchange, Services
from proxy.gateway.keystate import KeyState
from proxy.gateway.passages import Prepared, prepare
from proxy.gateway.request import ClientRequest
from proxy.gateway.sink import Sink
from proxy.gateway.snapshot import Snapshot
from proxy.store.errors import LedgerUnavailable
from proxy.store.writer import Writer
from proxy.upstream.modellist import list_models

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

    def admit(self, request: ClientRequest, key: KeyState, request_id: str) -> tuple[Admitted, Prepared]:
        """Let a request in; return it with what the first candidate is sent.

        The key is looked at once more: it may have been revoked while the body was read.

        Raises what `check_open`, `KeyState.check`, `admission.check` and `passages.prepare` raise;
        then nothing was taken.
        """
        self.check_open()
        key.check(self.services.clock.now_ms())
        admitted = check(request, key, self.snapshot, self.services.clock, request_id)
        prepared = self._prepare_first(admitted)
        admitted.take()
        return admitted, prepared

    def _prepare_first(self, admitted: Admitted) -> Prepared:
        """Prepare for the first candidate that can be asked at all; those before it are left out."""
        refused: SluiceError | None = None
        for position, candidate in enumerate(admitted.candidates):
            try:
                prepared = prepare(admitted, candidate, self.services.passing)
            except (BadRequest, UpstreamRefused) as refusal:
                refused = refused or refusal
            else:
                admitted.candidates = admitted.candidates[position:]
                return prepared
        assert refused is not None, "there is at least one candidate"
        raise refused

    def check_open(self) -> None:
        """Raise Unavailable when no exchange may begin: stopping, or nothing can be recorded."""
        if self.stopping:
            raise Unavailable("shutting_down", "The gateway is shutting down.", retry_after_s=5)
        if not self._writer.healthy:
            raise LedgerUnavailable()

    async def list_models(self, provider: str) -> list[str]:
        """Return what a provider says when asked for its models. Raises UpstreamFailure."""
        return await list_models(self.snapshot.providers[provider], self.services.client)

    async def count_tokens(self, request: ClientRequest, key: KeyState) -> int:
        """Return the input tokens of a Messages request: the provider's count, else our estimate.

        Neither limited nor recorded. Raises what `admission.candidates_of` raises, and UpstreamRefused
        for a request that the provider refuses.
        """
        deployment = candidates_of(request, key, self.snapshot)[1][0].deployment
        provider = self.snapshot.providers[deployment.provider]
        if not provider.supports(request.endpoint.path):
            return request.estimated_input(deployment.model)
        try:
            return await count_upstream(request, deployment.model, provider, self.services.client)
        except UpstreamFailure as failure:
            if failure.status == 400:
                raise
            return request.estimated_input(deployment.model)

    def begin(self, admitted: Admitted, first: Prepared, sink: Sink) -> Exchange:
        """Start the exchange of an admitted request."""
        self.services.usage.admit(admitted.row())
        exchange = Exchange(admitted, first, sink, self.services, self._ended)
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
        for exchange in list(self._running):
            exchange.tick(now_ns)
        if self._running:
            self._schedule_tick()
