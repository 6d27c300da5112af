"""One client request from admission to settlement, in a task of its own.

The task is not the HTTP server's: a client that goes away, or a server that stops, cannot cancel
it in the middle of an upstream call or of its accounting. It is told instead, by `interrupt`.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from proxy.core.entities import Finish, UsageRecord
from proxy.core.errors import AuthenticationFailed, InternalError, SluiceError, Unavailable, UpstreamFailure
from proxy.gateway.admission import Admitted
from proxy.gateway.attempts import AttemptLog
from proxy.gateway.books import Books
from proxy.gateway.clock import Clock
from proxy.gateway.costing import Candidate
from proxy.gateway.crossing import Crossing, Passing
from proxy.gateway.delivery import Delivery
from proxy.gateway.interruption import Interrupted, Interruption
from proxy.gateway.metrics import Metrics
from proxy.gateway.passages import Prepared, prepare
from proxy.gateway.planning import Choice
from proxy.gateway.router import Route, Router
from proxy.gateway.settlement import Accounting, Reached
from proxy.gateway.sink import Sink
from proxy.store.errors import LedgerUnavailable
from proxy.store.usage import UsageStore
from proxy.upstream.client import UpstreamClient

logger = logging.getLogger("sluice.exchange")

# What is recorded as the status of a client that was gone before one was sent; nginx's word for it.
CLIENT_GONE = 499
# How long, and in how many exchanges at once, the answer for a client that is gone is read on.
READ_ON_NS = 60 * 10**9
MOST_READ_ON = 100
# A running stream is noted so often; the tick of a second and the commit come on top, which makes
# less than five seconds of output that a crash can lose. docs/billing.md, "After a crash"
PROGRESS_NS = 3 * 10**9

#: Takes the record of each exchange that ended, and the id that the client itself gave it.
ExchangeLog = Callable[[UsageRecord, str | None], None]


@dataclass(slots=True)
class Services:
    """What every exchange works with."""

    client: UpstreamClient
    usage: UsageStore
    clock: Clock
    log: ExchangeLog
    passing: Passing
    router: Router
    metrics: Metrics = field(default_factory=Metrics)
    #: How many answers are being read on for clients that are gone.
    read_on: int = 0


class Exchange:
    """Runs the attempts, relays the answer, settles: exactly once, whichever way it ends."""

    def __init__(
        self,
        admitted: Admitted,
        route: Route,
        first: Prepared,
        sink: Sink,
        services: Services,
        on_end: Callable[["Exchange"], None],
    ) -> None:
        """`first` is what the candidate is sent that comes first as things stand."""
        self.admitted = admitted
        self._route = route
        self._prepared = first
        self._sink = sink
        self._services = services
        self._on_end = on_end
        self._clock = services.clock
        self._attempts = AttemptLog(services.clock)
        self._account = Accounting(admitted, self._attempts, self._clock)
        self._books = Books(admitted, services.usage, self._clock)
        self._interruption = Interruption()
        self._delivery = Delivery(admitted, sink, self._account, self._interruption, self._clock)
        self._reads_on_when_gone = False
        # Set while the answer is read on for a client that is gone: until when, and its status.
        self._read_on_until_ns: int | None = None
        self._status_when_gone = CLIENT_GONE
        self._noted_ns = self._clock.monotonic_ns()
        self._noted_tokens = 0
        loop = asyncio.get_running_loop()
        self.finished = loop.create_future()
        self._task = loop.create_task(self._run())

    def interrupt(self, finish: Finish) -> None:
        """End the exchange for a reason of ours or of the client; the first reason holds.

        A client that goes away may leave its answer to be read on, for its usage.
        """
        if self._interruption.finish is not None or self.finished.done():
            return
        if self._read_on_until_ns is not None:
            finish = Finish.CLIENT_GONE
        elif finish is Finish.CLIENT_GONE and self._may_read_on():
            self._read_on()
            return
        if not self._interruption.set(finish):
            self._delivery.wake()

    def revoke(self) -> None:
        """The key was revoked or disabled."""
        self.interrupt(Finish.REVOKED)

    def tick(self, now_ns: int) -> None:
        """Called about once a second: end what has its time, wake what is silent."""
        self._books.tick(now_ns)
        self._delivery.tick(now_ns)
        if self._read_on_until_ns is not None and now_ns >= self._read_on_until_ns:
            self.interrupt(Finish.CLIENT_GONE)

    def progress(self, now_ns: int) -> UsageRecord | None:
        """Return, every few seconds, what is to be recorded of a stream if the process dies now."""
        relay = self._delivery.relay
        if relay is None or now_ns - self._noted_ns < PROGRESS_NS or self._account.closed:
            return None
        self._noted_ns = now_ns
        if not relay.has_content or relay.tokens == self._noted_tokens:
            return None
        self._noted_tokens = relay.tokens
        return self._account.progress()

    # -- the life of the exchange

    async def _run(self) -> None:
        try:
            if await self._open():
                await self._answer()
        except Exception:
            logger.exception("exchange %s broke", self.admitted.id)
            if self._account.closed:  # the books are right; only the answer is not whole
                self._sink.abort()
                return
            error = InternalError("internal_error", "The gateway failed; its log has the details.")
            self._account.reached = Reached.NOTHING
            try:
                await self._conclude(Finish.UPSTREAM_ERROR, error)
            except Exception:
                logger.exception("exchange %s could not be answered", self.admitted.id)
                self._sink.abort()
        finally:
            self._services.read_on -= self._read_on_until_ns is not None
            self._on_end(self)
            if not self.finished.done():
                self.finished.set_result(None)

    async def _open(self) -> bool:
        """Wait until the hold is on disk; return False if it cannot be written: then nothing was taken."""
        opening = self._books.open()
        if opening is None:
            return True
        try:
            await self._interruption.waiting(opening)
        except Interrupted:
            return True
        except LedgerUnavailable as error:  # there is no row to be withdrawn
            self._refuse(error)
            return False
        return True

    def _refuse(self, error: SluiceError) -> None:
        """Take everything back, and answer as if the request had never been let in."""
        self._services.metrics.refused(error.code)
        self.admitted.give_back(self._clock.monotonic_ns())
        self._sink.fail(error, self.admitted.key.limiter.headers(*self._clock.instant()))

    async def _answer(self) -> None:
        error: SluiceError | None = None
        while not self._is_over():
            try:
                choice = await self._route.choose(self._interruption)
            except Interrupted:
                break
            except SluiceError as nobody:
                if error is None or nobody.code != "no_available_provider":
                    error = nobody
                if not self._attempts.count and not isinstance(error, UpstreamFailure):
                    self._services.usage.withdraw(self.admitted.id)
                    self._refuse(error)  # by the gateway itself: nothing is counted
                    return
                break
            option = choice.option
            try:
                prepared = self._prepare(option.candidate)
            except SluiceError as refusal:  # what cannot be said in this provider's dialect
                self._route.leave_out(option)
                error = error or refusal
                continue
            try:
                await self._try(choice, prepared)
            except Interrupted:
                break
            except UpstreamFailure as failure:
                error = failure
                if self._sink.started or not self._route.goes_on(option, failure):
                    break
            else:
                return
        if self._is_over():
            finish = self._interruption.finish or Finish.CLIENT_GONE
            await self._conclude(finish, _told(finish))
        elif error is not None:
            await self._conclude(Finish(getattr(error, "finish", Finish.UPSTREAM_ERROR)), error)

    def _prepare(self, candidate: Candidate) -> Prepared:
        """Return what a deployment is sent; a deployment that is tried with another key, the same."""
        if self._prepared.crossing.candidate is not candidate:
            self._prepared = prepare(self.admitted, candidate, self._services.passing)
        return self._prepared

    async def _try(self, choice: Choice, prepared: Prepared) -> None:
        """Make one attempt; once more, in another way, if the deployment turns out to refuse this one."""
        passing, candidate = self._services.passing, choice.option.candidate
        try:
            await self._attempt(choice, prepared)
        except UpstreamFailure as failure:
            crossing = prepared.crossing
            if self._sink.started or not passing.quirks.learn(
                failure,
                candidate.deployment,
                asked_usage=self._asked_usage(crossing),
                streamed=crossing.streams_up,
            ):
                raise
            self._prepared = prepare(self.admitted, candidate, passing)
            await self._attempt(choice, self._prepared)

    def _asked_usage(self, crossing: Crossing) -> bool:
        """Return whether `stream_options` were the gateway's own idea, not the client's."""
        return crossing.asks_usage and "stream_options" not in self.admitted.request.members

    async def _attempt(self, choice: Choice, prepared: Prepared) -> None:
        """Call a deployment and pass its answer on; raises UpstreamFailure or Interrupted."""
        candidate, provider, key = option = choice.option
        self._attempts.begin(provider.name, candidate.deployment.model, key.masked)
        self._account.begin(candidate)
        self._delivery.begin(partial(self._route.answered, option))
        self._reads_on_when_gone = provider.config.on_disconnect == "drain"
        request = self.admitted.request
        self._route.begin(choice)
        try:
            call = provider.send(
                self._services.client,
                prepared.passage.endpoint,
                key,
                request.headers,
                prepared.body,
                stream=prepared.crossing.streams_up,
                query=request.query,
            )
            response = await self._interruption.waiting(call)
            try:
                self._attempts.answered(response.status)
                await self._delivery.receive(response, prepared, self._settle_complete)
            finally:
                response.close()
        except UpstreamFailure as failure:
            failure.tell_provider(provider.name)
            self._attempts.end(failure.code)
            self._services.metrics.attempt_failed(provider.name, failure.error_class)
            self._route.failed(option, failure)
            raise
        finally:
            self._route.end(option, self._attempts.first_byte_ms)

    # -- how it ends

    async def _conclude(self, finish: Finish, error: SluiceError | None) -> None:
        """Settle an exchange that brought no whole answer, and tell the client why if it is still there."""
        self._attempts.end(error.code if error else finish.value)
        await self._settle(finish, error)
        if error is None:
            self._sink.abort()
            return
        await self._delivery.drained()
        relay = self._delivery.relay
        ending = relay.fail(error, self.admitted.id) if relay and self._sink.started else None
        self._sink.fail(error, self._account.headers(), ending)

    async def _settle_complete(self) -> UsageRecord:
        """Settle an exchange that has its whole answer."""
        return await self._settle(Finish.OK if self._read_on_until_ns is None else Finish.CLIENT_GONE)

    async def _settle(self, finish: Finish, error: SluiceError | None = None) -> UsageRecord:
        """Close the books and wait until they are on disk, as long as patience lasts."""
        self._attempts.end()
        if self._read_on_until_ns is not None:
            status = self._status_when_gone
        elif self._sink.started or finish is Finish.OK:
            status = 200
        else:
            status = error.status if error is not None else CLIENT_GONE
        record = self._account.close(finish, status, error.code if error else None)
        await self._books.close(record)
        duration_ns = self._clock.monotonic_ns() - self.admitted.started_ns
        self._services.metrics.ended(record, duration_ns, self.admitted.snapshot.config.models)
        self._services.log(record, self.admitted.request.client_request_id)
        return record

    def _is_over(self) -> bool:
        """Return whether nobody waits for an answer any more."""
        return self._interruption.finish is not None or self._read_on_until_ns is not None

    def _may_read_on(self) -> bool:
        return (
            self._reads_on_when_gone
            and self._account.reached is Reached.ANSWERED
            and self._services.read_on < MOST_READ_ON
        )

    def _read_on(self) -> None:
        """Let the answer come to its end although its client is gone."""
        self._read_on_until_ns = self._clock.monotonic_ns() + READ_ON_NS
        self._services.read_on += 1
        if self._sink.started:
            self._status_when_gone = 200
        self._sink.abort()


def _told(finish: Finish) -> SluiceError | None:
    """Return what the client is told about an exchange that was broken off here."""
    if finish is Finish.REVOKED:
        return AuthenticationFailed("revoked_api_key", "This API key was revoked while the answer ran.")
    if finish is Finish.SHUTDOWN:
        return Unavailable("shutting_down", "The gateway is shutting down.", retry_after_s=5)
    return None
