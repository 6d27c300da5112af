"""One client request from admission to settlement, in a task of its own.

The task is not the HTTP server's: a client that goes away, or a server that stops, cannot cancel
it in the middle of an upstream call or of its accounting. It is told instead, by `interrupt`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

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
from proxy.gateway.bodies import upstream_body
from proxy.gateway.clock import Clock
from proxy.gateway.relay import Relay, relay_for
from proxy.gateway.settlement import Accounting, Reached
from proxy.store.usage import UsageStore
from proxy.upstream.client import UpstreamClient
from proxy.upstream.failures import failure_from, failure_in_answer, failure_in_stream
from proxy.upstream.providers import Answer, ProviderClient, UpstreamKey

Headers = list[tuple[bytes, bytes]]
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
# Silence after which a stream gets a keep-alive. docs/api.md, "Streaming"
KEEP_ALIVE_NS = 15 * 10**9


class Sink(Protocol):
    """The client's end of the answer; `web/streaming.py` has the real one."""

    started: bool

    @property
    def blocked(self) -> bool:
        """Whether the client is slow, and has to be waited for by `drain` before more is sent."""

    async def drain(self) -> None:
        """Wait for a slow client; returns at once when it is gone."""

    def start(self, headers: Headers) -> None:
        """Begin a 200 answer."""

    def write(self, data: bytes) -> None:
        """Send a part of it, if the client is still there."""

    def end(self, data: bytes = b"") -> None: ...

    def fail(self, error: SluiceError, headers: Headers) -> None:
        """Answer with the error; in a started stream send its error event, then close."""

    def abort(self) -> None:
        """Close the connection at once."""


@dataclass(frozen=True, slots=True)
class Services:
    """What every exchange works with."""

    client: UpstreamClient
    usage: UsageStore
    clock: Clock
    #: Takes the record of each exchange that ended, and the id that the client itself gave it.
    log: Callable[[UsageRecord, str | None], None]


class _Interrupted(Exception):
    """The exchange was told to end while it waited for a provider."""


class Exchange:
    """Runs the attempts, relays the answer, settles: exactly once, whichever way it ends."""

    def __init__(
        self, admitted: Admitted, sink: Sink, services: Services, on_end: Callable[["Exchange"], None]
    ) -> None:
        self.admitted = admitted
        self._sink = sink
        self._services = services
        self._on_end = on_end
        self._clock = services.clock
        self._attempts = AttemptLog(services.clock)
        self._account = Accounting(admitted, self._attempts, self._clock)
        self._interrupted: Finish | None = None
        self._cancellable = False
        self._response: Answer | None = None
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
            await self._conclude(Finish.UPSTREAM_ERROR, error)
        finally:
            self._on_end(self)
            if not self.finished.done():
                self.finished.set_result(None)

    async def _answer(self) -> None:
        failure: UpstreamFailure | None = None
        for candidate in self.admitted.candidates[:MAX_ATTEMPTS]:
            if self._interrupted is not None:
                break
            try:
                await self._attempt(candidate)
            except _Interrupted:
                break
            except UpstreamFailure as error:
                failure = error
                if not error.retryable:
                    break
            else:
                return
        if self._interrupted is not None:
            await self._conclude(self._interrupted, self._interruption())
        elif failure is not None:
            await self._conclude(Finish(failure.finish), failure)

    async def _attempt(self, candidate: Candidate) -> None:
        """Try one deployment, to the end of the exchange; raises UpstreamFailure or _Interrupted."""
        provider = self.admitted.snapshot.providers[candidate.deployment.provider]
        key = provider.next_key()
        self._attempts.begin(provider.name, candidate.deployment.model, key.masked)
        self._account.begin(candidate)
        try:
            response = await self._waiting(self._call(candidate, provider, key))
            try:
                await self._receive(response, provider)
            finally:
                self._response = None
                response.close()
        except UpstreamFailure as error:
            self._attempts.end(error.code)
            raise

    def _call(self, candidate: Candidate, provider: ProviderClient, key: UpstreamKey) -> Awaitable[Answer]:
        request = self.admitted.request
        body = upstream_body(self.admitted, candidate, provider.config)
        return provider.send(
            self._services.client, request.endpoint.path, key, request.headers, body, stream=request.stream
        )

    async def _receive(self, response: Answer, provider: ProviderClient) -> None:
        self._attempts.answered(response.status)
        if not 200 <= response.status < 300:
            body = await self._waiting(response.read_all(MAX_ERROR_BODY))
            raise failure_from(provider.config, response.status, response.headers, body)
        self._account.reached = Reached.ANSWERED
        request = self.admitted.request
        if request.endpoint.estimated and not request.stream:
            await self._whole(response, provider)
        else:
            await self._stream(response, provider)

    async def _whole(self, response: Answer, provider: ProviderClient) -> None:
        """An answer that is not streamed: had whole, recorded, then sent."""
        body = await self._waiting(response.read_all(MAX_WHOLE_ANSWER))
        failure = failure_in_answer(provider.config, body)
        if failure is not None:
            raise failure
        self._account.take_whole(body)
        self._account.reached = Reached.COMPLETE
        record = await self._settle(Finish.OK)
        headers = self._headers(provider.response_headers(response.headers))
        headers.append((b"x-sluice-cost", decimal_text(record.cost_nanos).encode()))
        headers.append((b"content-length", b"%d" % len(body)))
        self._start(headers)
        self._sink.end(body)

    async def _stream(self, response: Answer, provider: ProviderClient) -> None:
        """Pass an answer on as it comes; one that stays incomplete raises UpstreamFailure or _Interrupted."""
        relay = relay_for(self.admitted.request, response.headers, self._account.meter, self._account.output)
        failure: UpstreamFailure | None = None
        try:
            headers = provider.response_headers(response.headers)
            if relay.keep_alive:
                headers = [header for header in headers if header[0] != b"content-type"] + EVENT_STREAM
            await self._pump(response, relay, self._headers(headers))
        except UpstreamFailure as error:
            failure = error
        except sse.EventTooLarge as error:
            failure = UpstreamError("upstream_invalid_response", f"{provider.name}: {error}.")
        # Once the answer is complete, it does not matter how the upstream closed.
        if relay.complete and (relay.done or self._interrupted is None):
            self._account.reached = Reached.COMPLETE
            await self._settle(Finish.OK)
            await self._drained()
            self._sink.end(relay.ending())
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
        chunk: bytes | None = b""
        while not (chunk is None or relay.done or relay.failure is not None or self._interrupted is not None):
            chunk = await response.read()
            if chunk:
                out = relay.feed(chunk)
            elif chunk is None:
                out = relay.close()
            else:  # nudged, because the provider is silent or the exchange was interrupted
                out = relay.keep_alive if self._is_silent() else b""
            if out or relay.complete:
                if not sink.started:
                    self._start(headers)
                self._last_sent_ns = self._clock.monotonic_ns()
                if sink.blocked:
                    await self._drained()
                sink.write(out)

    # -- how it ends

    async def _conclude(self, finish: Finish, error: SluiceError | None) -> None:
        """Settle an exchange that brought no whole answer, and tell the client why if it is still there."""
        self._attempts.end(error.code if error else finish.value)
        await self._settle(finish, error)
        if error is not None:
            await self._drained()
            self._sink.fail(error, self._headers([]))
        else:
            self._sink.abort()

    async def _settle(self, finish: Finish, error: SluiceError | None = None) -> UsageRecord:
        """Close the books and wait until they are on disk, as long as patience lasts."""
        self._attempts.end()
        status = 200 if self._sink.started or error is None else error.status
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
