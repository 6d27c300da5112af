"""One answer on its way from the provider to the client: whole, or as it comes."""

from collections.abc import Awaitable, Callable

from proxy.core import sse
from proxy.core.entities import UsageRecord
from proxy.core.errors import UpstreamError, UpstreamFailure, UpstreamTruncated
from proxy.core.money import decimal_text
from proxy.gateway.admission import Admitted
from proxy.gateway.clock import Clock
from proxy.gateway.interruption import Interrupted, Interruption
from proxy.gateway.passages import Prepared
from proxy.gateway.relay import Relay
from proxy.gateway.settlement import Accounting, Reached
from proxy.gateway.sink import Headers, Sink
from proxy.upstream.failures import failure_from, failure_in_answer, failure_in_stream
from proxy.upstream.providers import Answer

# What must be had whole before its end may be sent is bounded; no provider answers that much.
MAX_WHOLE_ANSWER = 64 * 1024 * 1024
MAX_ERROR_BODY = 64 * 1024
EVENT_STREAM: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would collect the events otherwise
]
JSON: Headers = [(b"content-type", b"application/json")]
# Silence after which a stream gets a keep-alive. docs/api.md, "Streaming"
KEEP_ALIVE_NS = 15 * 10**9
# How long what comes before any content is held: until then another provider can still be asked.
# It is looked at each second, which makes five at most.
HELD_NS = 4 * 10**9
# More than the longest lifecycle events, which repeat a request's instructions and tools.
MOST_HELD = 1024 * 1024


#: Records an exchange that has its whole answer. It is handed in with each answer and not kept:
#: a cycle of objects for each request would be left to the garbage collector.
Settle = Callable[[], Awaitable[UsageRecord]]


class Delivery:
    """Passes answers on to the client of one exchange, attempt by attempt, until one is complete."""

    def __init__(
        self,
        admitted: Admitted,
        sink: Sink,
        account: Accounting,
        interruption: Interruption,
        clock: Clock,
    ) -> None:
        self._admitted = admitted
        self._sink = sink
        self._account = account
        self._interruption = interruption
        self._clock = clock
        self._response: Answer | None = None
        self._is_waiting_for_client = False
        self._last_sent_ns = 0
        self._held_since_ns: int | None = None
        self._on_answer = _nobody_cares
        self._is_answered = False
        #: What passes the answer of the present attempt on, once it streams.
        self.relay: Relay | None = None

    def begin(self, on_answer: Callable[[], None]) -> None:
        """An attempt begins; `on_answer` is told when its answer has content, or is complete."""
        self.relay = None
        self._held_since_ns = None
        self._on_answer = on_answer
        self._is_answered = False

    def wake(self) -> None:
        """Look at the interruption: neither a silent provider nor a slow client may keep it waiting."""
        if self._response is not None:
            self._response.nudge()
        if self._is_waiting_for_client:
            self._sink.abort()

    def tick(self, now_ns: int) -> None:
        """Called about once a second: wake the relay of a provider that is silent, or holds something."""
        held_since_ns = self._held_since_ns
        if self._response is not None and (
            now_ns - self._last_sent_ns >= KEEP_ALIVE_NS
            or (held_since_ns is not None and now_ns - held_since_ns >= HELD_NS)
        ):
            self._response.nudge()

    async def receive(self, response: Answer, prepared: Prepared, settle: Settle) -> None:
        """Pass an answer on, `settle` when it is complete, then send its end.

        Raises UpstreamFailure or Interrupted.
        """
        try:
            if not 200 <= response.status < 300:
                body = await self._interruption.waiting(_read_some(response, MAX_ERROR_BODY))
                raise failure_from(prepared.crossing.provider.config, response.status, response.headers, body)
            self._account.reached = Reached.ANSWERED
            request = self._admitted.request
            if not request.stream and (request.endpoint.estimated or _is_small(response.headers)):
                await self._whole(response, prepared, settle)
            else:
                await self._stream(response, prepared, settle)
        finally:
            self._response = None

    async def _whole(self, response: Answer, prepared: Prepared, settle: Settle) -> None:
        """An answer that is not streamed: had whole, recorded, then sent."""
        provider, passage = prepared.crossing.provider, prepared.passage
        body = await self._interruption.waiting(response.read_all(MAX_WHOLE_ANSWER))
        headers = provider.response_headers(response.headers)
        if self._admitted.request.endpoint.estimated and not prepared.crossing.assembles:
            failure = failure_in_answer(provider.config, body)
            if failure is not None:
                raise failure
        answer = passage.whole(body, self._account.meter)
        self._account.received = answer
        self._account.reached = Reached.COMPLETE
        self._on_answer()
        record = await settle()
        body = answer.as_sent(record.usage)
        if not passage.native:
            headers = [header for header in headers if header[0] != b"content-type"] + JSON
        headers += self._account.headers()
        headers.append((b"x-sluice-cost", decimal_text(record.cost_nanos).encode()))
        headers.append((b"content-length", b"%d" % len(body)))
        self._start(headers)
        self._sink.end(body)

    async def _stream(self, response: Answer, prepared: Prepared, settle: Settle) -> None:
        """Pass an answer on as it comes; one that stays incomplete raises UpstreamFailure or Interrupted."""
        provider = prepared.crossing.provider
        relay = self.relay = prepared.passage.relay(response.headers, self._account.meter)
        self._account.received = relay
        failure: UpstreamFailure | None = None
        try:
            headers = provider.response_headers(response.headers)
            if relay.events:
                headers = [header for header in headers if header[0] != b"content-type"] + EVENT_STREAM
            await self._pump(response, relay, headers + self._account.headers())
        except UpstreamFailure as error:
            failure = error
        except sse.EventTooLarge as error:
            failure = UpstreamError("upstream_invalid_response", f"{provider.name}: {error}.")
        # Once the answer is complete, it does not matter how the upstream closed.
        if relay.complete and (relay.done or self._interruption.finish is None):
            self._account.reached = Reached.COMPLETE
            self._on_answer()
            record = await settle()
            await self.drained()
            self._sink.end(relay.ending(record.usage))
            return
        if relay.has_content:
            self._account.reached = Reached.CONTENT
        if self._interruption.finish is not None:
            raise Interrupted
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
        sink, interruption = self._sink, self._interruption
        self._response = response
        self._last_sent_ns = self._clock.monotonic_ns()
        begun = not relay.events
        held = b""
        chunk: bytes | None = b""
        while not (
            chunk is None or relay.done or relay.failure is not None or interruption.finish is not None
        ):
            chunk, is_silent = await response.read(), False
            if chunk:
                if not begun:
                    begun = await self._check_events(response, chunk)
                held += relay.feed(chunk)
            elif chunk is None:
                held += relay.close()
            elif is_silent := self._is_silent():  # nudged, because of that
                held += relay.keep_alive()
            if not self._is_answered and (relay.complete or relay.has_content):
                self._is_answered = True
                self._on_answer()
            if (held or relay.complete) and (is_silent or self._may_start(len(held))):
                if not sink.started:
                    self._start(headers)
                self._last_sent_ns = self._clock.monotonic_ns()
                if sink.blocked:
                    await self.drained()
                sink.write(held)
                held = b""

    def _may_start(self, held: int) -> bool:
        """Return whether what came may be sent: a role alone waits for content, but not for long.

        `held`: the bytes that wait.
        """
        if self._sink.started or self._is_answered:
            return True
        now_ns = self._clock.monotonic_ns()
        if self._held_since_ns is None:
            self._held_since_ns = now_ns
        return held > MOST_HELD or now_ns - self._held_since_ns >= HELD_NS

    async def _check_events(self, response: Answer, chunk: bytes) -> bool:
        """Return True once events have begun; raises UpstreamFailure for a JSON error or a page of HTML."""
        start = chunk.lstrip()[:1]
        if start not in (b"{", b"[", b"<"):
            return bool(start)
        config = self._admitted.snapshot.config.providers[self._account.provider]
        body = chunk + await self._interruption.waiting(_read_some(response, MAX_ERROR_BODY))
        raise failure_in_answer(config, body) or UpstreamError(
            "upstream_invalid_response",
            f"{config.name} answered with a whole answer where a stream was asked for.",
        )

    async def drained(self) -> None:
        """Wait for a client that may be slow, in a way that `wake` can break off."""
        if self._sink.blocked:
            self._is_waiting_for_client = True
            await self._sink.drain()
            self._is_waiting_for_client = False

    def _start(self, headers: Headers) -> None:
        self._account.first_output_ns = self._clock.monotonic_ns()
        self._sink.start(headers)

    def _is_silent(self) -> bool:
        silent_ns = self._clock.monotonic_ns() - self._last_sent_ns
        return self._interruption.finish is None and silent_ns >= KEEP_ALIVE_NS


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


def _nobody_cares() -> None:
    """Be told of an answer before any attempt."""
