"""One client request from admission to settlement, in a task of its own.

The task is not the HTTP server's: a client that goes away, or a server that stops, cannot cancel
it in the middle of an upstream call or of its accounting. It is told instead, by `interrupt`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from proxy.core import sse
from proxy.core.entities import Finish, UsageRecord
from proxy.core.errors import (
    AuthenticationFailed,
    InternalError,
    SluiceError,
    Unavailable,
    UpstreamError,
    UpstreamFailure,
    UpstreamTruncated,
)
from proxy.core.money import decimal_text
from proxy.gateway.admission import Admitted, Candidate
from proxy.gateway.attempts import AttemptLog
from proxy.gateway.clock import Clock
from proxy.gateway.crossing import Passing
from proxy.gateway.passages import Prepared, prepare
from proxy.gateway.relay import Relay
from proxy.gateway.settlement import Accounting, Reached
from proxy.gateway.sink import Headers, Sink
from proxy.store.usage import UsageStore
from proxy.upstream.client import UpstreamClient
from proxy.upstream.failures import failure_from, failure_in_answer, failure_in_stream
from proxy.upstream.providers import Answer

T = TypeVar("T")

logger = logging.getLogger("sluice.exchange")

MAX_ATTEMPTS = 3
# What must be had whole before its end may be sent is bounded; no provider answers that much.
MAX_WHOLE_ANSWER = 64 * 1024 * 1024
MAX_ERROR_BODY = 64 * 1024
# How long the end of an answer waits for a disk that cannot be written. It is looked at each second,
# which makes five at most. docs/billing.md
COMMIT_PATIENCE_NS = 4 * 10**9
EVENT_STREAM: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would collect the events otherwise
]
JSON: Headers = [(b"content-type", b"application/json")]
# What is recorded as the status of a client that was gone before one was sent; nginx's word for it.
CLIENT_GONE = 499
# Silence after which a stream gets a keep-alive. docs/api.md, "Streaming"
KEEP_ALIVE_NS = 15 * 10**9


#: Takes the record of each exchange that ended, and the id that the client itself gave it.
ExchangeLog = Callable[[UsageRecord, str | None], None]


@dataclass(frozen=True, slots=True)
class Services:
    """What every exchange works with."""

    client: UpstreamClient
    usage: UsageStore
    clock: Clock
    log: ExchangeLog
    passing: Passing


class _Interrupted(Exception):
    """The exchange was told to end while it waited for a provider."""


class Exchange:
    """Runs the attempts, relays the answer, settles: exactly once, whichever way it ends."""

    def __init__(
        self,
        admitted: Admitted,
        first: Prepared,
        sink: Sink,
        services: Services,
        on_end: Callable[["Exchange"], None],
    ) -> None:
        """`first` is what the first candidate is sent."""
        self.admitted = admitted
        self._first = first
        self._sink = sink
        self._services = services
        self._on_end = on_end
        self._clock = services.clock
        self._attempts = AttemptLog(services.clock)
        self._account = Accounting(admitted, self._attempts, self._clock)
        self._interrupted: Finish | None = None
        self._cancellable = False
        self._response: Answer | None = None
        self._relay: Relay | None = None
        self._is_draining = False
        self._last_sent_ns = 0
        self._commit: asyncio.Future[bool] | None = None
        self._commit_by_ns = 0
        self._is_out_of_patience = False
        loop = asyncio.get_running_loop()
        self.finished = loop.create_future()
        self._task = loop.create_task(self._run())

    def interrupt(self, finish: Finish) -> None:
        """End the exchange for a reason of ours or of the client; the first reason holds."""
        if self._interrupted is not None or self.finished.done():
            return
        self._interrupted = finish
        if self._cancellable:
            self._task.cancel()
        elif self._response is not None:
            self._response.nudge()
        if self._is_draining:
            self._sink.abort()

    def revoke(self) -> None:
        """The key was revoked or disabled."""
        self.interrupt(Finish.REVOKED)

    def tick(self, now_ns: int) -> None:
        """Called about once a second: wake the relay of a provider that has long been silent.

        Also gives up waiting for a commit; the store tries until it succeeds, the client need not wait.
        """
        if self._commit is not None and now_ns >= self._commit_by_ns:
            self._is_out_of_patience = self._commit.cancel()
        if self._response is not None and now_ns - self._last_sent_ns >= KEEP_ALIVE_NS:
            self._response.nudge()

    # -- the life of the exchange

    async def _run(self) -> None:
        try:
            await self._answer()
        except Exception:
            logger.exception("exchange %s broke", self.admitted.id)
            error = InternalError("internal_error", "The gateway failed; its log has the details.")
            self._account.reached = Reached.NOTHING
            try:
                await self._conclude(Finish.UPSTREAM_ERROR, error)
            except Exception:
                logger.exception("exchange %s could not be answered", self.admitted.id)
                self._sink.abort()
        finally:
            self._on_end(self)
            if not self.finished.done():
                self.finished.set_result(None)

    async def _answer(self) -> None:
        error: SluiceError | None = None
        prepared: Prepared | None = self._first
        for candidate in self.admitted.candidates[:MAX_ATTEMPTS]:
            if self._interrupted is not None:
                break
            try:
                await self._try(candidate, prepared)
            except _Interrupted:
                break
            except UpstreamFailure as failure:
                error, prepared = failure, None
                if not failure.retryable:
                    break
            except SluiceError as refusal:  # what cannot be said in this provider's dialect
                error, prepared = error or refusal, None
            else:
                return
        if self._interrupted is not None:
            await self._conclude(self._interrupted, self._interruption())
        elif error is not None:
            await self._conclude(Finish(getattr(error, "finish", Finish.UPSTREAM_ERROR)), error)

    async def _try(self, candidate: Candidate, prepared: Prepared | None) -> None:
        """Try one deployment; once more, in another way, if it turns out to refuse the first one."""
        passing = self._services.passing
        prepared = prepared or prepare(self.admitted, candidate, passing)
        try:
            await self._attempt(candidate, prepared)
        except UpstreamFailure as failure:
            crossing = prepared.crossing
            if self._sink.started or not passing.quirks.learn(
                failure, candidate.deployment, asked_usage=crossing.asks_usage, streamed=crossing.streams_up
            ):
                raise
            await self._attempt(candidate, prepare(self.admitted, candidate, passing))

    async def _attempt(self, candidate: Candidate, prepared: Prepared) -> None:
        """Call a deployment and pass its answer on; raises UpstreamFailure or _Interrupted."""
        provider = prepared.crossing.provider
        key = provider.next_key()
        self._attempts.begin(provider.name, candidate.deployment.model, key.masked)
        self._account.begin(candidate)
        self._relay = None
        request = self.admitted.request
        call = provider.send(
            self._services.client,
            prepared.passage.endpoint,
            key,
            request.headers,
            prepared.body,
            stream=prepared.crossing.streams_up,
            query=request.query,
        )
        try:
            response = await self._waiting(call)
            try:
                await self._receive(response, prepared)
            finally:
                self._response = None
                response.close()
        except UpstreamFailure as error:
            self._attempts.end(error.code)
            raise

    async def _receive(self, response: Answer, prepared: Prepared) -> None:
        self._attempts.answered(response.status)
        if not 200 <= response.status < 300:
            body = await self._waiting(_read_some(response, MAX_ERROR_BODY))
            raise failure_from(prepared.crossing.provider.config, response.status, response.headers, body)
        self._account.reached = Reached.ANSWERED
        request = self.admitted.request
        if not request.stream and (request.endpoint.estimated or _is_small(response.headers)):
            await self._whole(response, prepared)
        else:
            await self._stream(response, prepared)

    async def _whole(self, response: Answer, prepared: Prepared) -> None:
        """An answer that is not streamed: had whole, recorded, then sent."""
        provider, passage = prepared.crossing.provider, prepared.passage
        body = await self._waiting(response.read_all(MAX_WHOLE_ANSWER))
        headers = provider.response_headers(response.headers)
        if self.admitted.request.endpoint.estimated and not prepared.crossing.assembles:
            failure = failure_in_answer(provider.config, body)
            if failure is not None:
                raise failure
        answer = passage.whole(body, self._account.meter)
        self._account.received = answer
        self._account.reached = Reached.COMPLETE
        record = await self._settle(Finish.OK)
        body = answer.as_sent(record.usage)
        if not passage.native:
            headers = [header for header in headers if header[0] != b"content-type"] + JSON
        headers = self._headers(headers)
        headers.append((b"x-sluice-cost", decimal_text(record.cost_nanos).encode()))
        headers.append((b"content-length", b"%d" % len(body)))
        self._start(headers)
        self._sink.end(body)

    async def _stream(self, response: Answer, prepared: Prepared) -> None:
        """Pass an answer on as it comes; one that stays incomplete raises UpstreamFailure or _Interrupted."""
        provider = prepared.crossing.provider
        relay = self._relay = prepared.passage.relay(response.headers, self._account.meter)
        self._account.received = relay
        failure: UpstreamFailure | None = None
        try:
            headers = provider.response_headers(response.headers)
            if relay.events:
                headers = [header for header in headers if header[0] != b"content-type"] + EVENT_STREAM
            await self._pump(response, relay, self._headers(headers))
        except UpstreamFailure as error:
            failure = error
        except sse.EventTooLarge as error:
            failure = UpstreamError("upstream_invalid_response", f"{provider.name}: {error}.")
        # Once the answer is complete, it does not matter how the upstream closed.
        if relay.complete and (relay.done or self._interrupted is None):
            self._account.reached = Reached.COMPLETE
            record = await self._settle(Finish.OK)
            await self._drained()
            self._sink.end(relay.ending(record.usage))
            return
        if relay.has_content:
            self._account.reached = Reached.CONTENT
        if self._interrupted is not None:
            raise _Interrupted
        if relay.failure is not None:
            failure = failure_in_stream(provider.config, relay.failure)
        failure = failure or UpstreamTruncated(
            "upstream_stream_truncated", f"{provider.name} closed the stream before the answer was complete."
        )
        if self._sink.started:
            failure.retryable = False  # what the client has cannot be taken back
        raise failure

    async def _pump(self, response: Answer, relay: Relay, headers: Headers) -> None:
        """Pass the stream on until it ends, fails, or the exchange is interrupted."""
        sink = self._sink
        self._response = response
        self._last_sent_ns = self._clock.monotonic_ns()
        begun = not relay.events
        chunk: bytes | None = b""
        while not (chunk is None or relay.done or relay.failure is not None or self._interrupted is not None):
            chunk = await response.read()
            if chunk:
                if not begun:
                    begun = await self._check_events(response, chunk)
                out = relay.feed(chunk)
            elif chunk is None:
                out = relay.close()
            else:  # nudged, because the provider is silent or the exchange was interrupted
                out = relay.keep_alive() if self._is_silent() else b""
            if out or relay.complete:
                if not sink.started:
                    self._start(headers)
                self._last_sent_ns = self._clock.monotonic_ns()
                if sink.blocked:
                    await self._drained()
                sink.write(out)

    async def _check_events(self, response: Answer, chunk: bytes) -> bool:
        """Return True once events have begun; raises UpstreamFailure for a JSON error or a page of HTML."""
        start = chunk.lstrip()[:1]
        if start not in (b"{", b"[", b"<"):
            return bool(start)
        config = self.admitted.snapshot.config.providers[self._account.provider]
        body = chunk + await self._waiting(_read_some(response, MAX_ERROR_BODY))
        raise failure_in_answer(config, body) or UpstreamError(
            "upstream_invalid_response",
            f"{config.name} answered with a whole answer where a stream was asked for.",
        )

    # -- how it ends

    async def _conclude(self, finish: Finish, error: SluiceError | None) -> None:
        """Settle an exchange that brought no whole answer, and tell the client why if it is still there."""
        self._attempts.end(error.code if error else finish.value)
        await self._settle(finish, error)
        if error is not None:
            await self._drained()
            ending = self._relay.fail(error, self.admitted.id) if self._relay and self._sink.started else None
            self._sink.fail(error, self._headers([]), ending)
        else:
            self._sink.abort()

    async def _settle(self, finish: Finish, error: SluiceError | None = None) -> UsageRecord:
        """Close the books and wait until they are on disk, as long as patience lasts."""
        self._attempts.end()
        if self._sink.started or finish is Finish.OK:
            status = 200
        else:
            status = error.status if error is not None else CLIENT_GONE
        record = self._account.close(finish, status, error.code if error else None)
        self._commit = self._services.usage.settle(record)
        self._commit_by_ns = self._clock.monotonic_ns() + COMMIT_PATIENCE_NS
        try:
            await self._commit
        except asyncio.CancelledError:
            if not self._is_out_of_patience:
                raise
        except Exception:  # the store tells what a record's own fault was: the answer is not to blame
            logger.exception("a usage record was refused by the database")
        self._services.log(record, self.admitted.request.client_request_id)
        return record

    def _interruption(self) -> SluiceError | None:
        """Return what the client is told about an exchange that was broken off here."""
        if self._interrupted is Finish.REVOKED:
            return AuthenticationFailed("revoked_api_key", "This API key was revoked while the answer ran.")
        if self._interrupted is Finish.SHUTDOWN:
            return Unavailable("shutting_down", "The gateway is shutting down.", retry_after_s=5)
        return None

    # -- small tools

    async def _waiting(self, call: Awaitable[T]) -> T:
        """Wait for a provider in a way that `interrupt` can break off; raises _Interrupted then."""
        self._cancellable = True
        try:
            return await call
        except asyncio.CancelledError:
            if self._interrupted is None:
                raise
            self._task.uncancel()
            raise _Interrupted from None
        finally:
            self._cancellable = False

    def _start(self, headers: Headers) -> None:
        self._account.first_output_ns = self._clock.monotonic_ns()
        self._sink.start(headers)

    async def _drained(self) -> None:
        """Wait for a client that may be slow, in a way that `interrupt` can break off."""
        if self._sink.blocked:
            self._is_draining = True
            await self._sink.drain()
            self._is_draining = False

    def _is_silent(self) -> bool:
        silent_ns = self._clock.monotonic_ns() - self._last_sent_ns
        return self._interrupted is None and silent_ns >= KEEP_ALIVE_NS

    def _headers(self, headers: Headers) -> Headers:
        """Return a provider's headers that may pass, with ours."""
        return headers + self._account.headers()


async def _read_some(response: Answer, limit: int) -> bytes:
    """Return as much of a body as tells what went wrong."""
    body = bytearray()
    while len(body) < limit and (part := await response.read()) is not None:
        body += part
    return bytes(body)


def _is_small(headers: Headers) -> bool:
    """Return whether an answer that is passed through can be had whole, to tell its cost in a header."""
    length = next((value for name, value in headers if name == b"content-length"), b"")
    is_json = any(name == b"content-type" and b"json" in value for name, value in headers)
    return is_json or (length.isdigit() and int(length) <= MAX_WHOLE_ANSWER)
