"""Relays for streams of Messages and Responses, and for those that are translated."""

import re
from typing import Any, Protocol

import msgspec

from proxy.core import sse
from proxy.core.entities import Usage
from proxy.core.errors import SluiceError
from proxy.core.metering import UsageMeter
from proxy.gateway.client_dialects import ChunkTarget
from proxy.gateway.sources import ChunkSource

_encode = msgspec.json.encode
_SEQUENCE = re.compile(rb'"sequence_number": ?(\d+)')


class Watch(Protocol):
    """Watches the events of one protocol: `dialects/watch.py` has one for each."""

    complete: bool
    failure: bytes | None

    def feed(self, data: bytes) -> None: ...

    @property
    def has_content(self) -> bool: ...

    @property
    def tokens(self) -> int: ...


class _Begun(msgspec.Struct):
    """The event that begins a Responses stream."""

    response: dict[str, Any] = {}


class NativeRelay:
    """A stream of Messages or Responses in the client's own dialect: frames pass unchanged.

    The last event is held back until the usage record is committed.
    """

    __slots__ = ("_begun", "_ending", "_last_sequence", "_meter", "_responses", "_splitter", "_watch", "done")
    events = True

    def __init__(self, meter: UsageMeter, watch: Watch, *, responses: bool) -> None:
        self.done = False
        self._meter = meter
        self._watch = watch
        self._responses = responses
        self._splitter = sse.FrameSplitter()
        self._ending = b""
        self._begun = b"{}"
        self._last_sequence = -1

    @property
    def complete(self) -> bool:
        return self._watch.complete

    @property
    def failure(self) -> bytes | None:
        return self._watch.failure

    @property
    def has_content(self) -> bool:
        return self._watch.has_content

    @property
    def tokens(self) -> int:
        return self._watch.tokens

    def feed(self, chunk: bytes) -> bytes:
        return self._frames(self._splitter.feed(chunk))

    def close(self) -> bytes:
        return self._frames(self._splitter.finish())

    def ending(self, usage: Usage) -> bytes:
        return self._ending

    def keep_alive(self) -> bytes:
        """Return an event that changes nothing: some clients count the time between events, not bytes."""
        if not self._responses:
            return b'event: ping\ndata: {"type":"ping"}\n\n'
        if self._last_sequence < 0:
            return b": keep-alive\n\n"  # SDKs take no other event before the first one
        # Numbers repeat, since those of the provider's own events are not ours to change.
        return b'event: keepalive\ndata: {"type":"keepalive","sequence_number":%d}\n\n' % self._last_sequence

    def fail(self, error: SluiceError, request_id: str) -> bytes | None:
        if not self._responses:
            return None
        try:
            begun = msgspec.json.decode(self._begun, type=_Begun).response
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            begun = {}
        failed = {
            "id": f"resp_{request_id}",
            "object": "response",
            "output": [],
            **begun,
            "status": "failed",
            "error": {
                "code": error.code,
                "message": error.message,
                "type": error.type,
                "request_id": request_id,
            },
        }
        event = {"type": "response.failed", "sequence_number": self._last_sequence + 1, "response": failed}
        return b"event: response.failed\ndata: %b\n\n" % _encode(event)

    def _frames(self, frames: list[bytes]) -> bytes:
        out = []
        for frame in frames:
            if self.done or self.failure is not None:
                break
            passed = sse.canonical(frame, keep_event=True)
            data = sse.parse(frame).data
            if data is not None:
                self._watch.feed(data)
                if b'"usage"' in data:
                    self._meter.feed(data)
                if self._watch.failure is not None:
                    break  # told in our own words
                if self._watch.complete:
                    self._ending, self.done = passed, True
                    break
                if self._responses and (match := _SEQUENCE.search(data)):
                    if self._last_sequence < 0:
                        self._begun = data
                    self._last_sequence = int(match[1])
            out.append(passed)
        return b"".join(out)


class TranslatingRelay:
    """A stream of one dialect as a stream of another, by way of chat chunks."""

    __slots__ = ("_source", "_target", "fail", "keep_alive")
    events = True

    def __init__(self, source: ChunkSource, target: ChunkTarget) -> None:
        self._source = source
        self._target = target
        self.keep_alive = target.keep_alive
        self.fail = target.fail

    @property
    def complete(self) -> bool:
        return self._source.complete

    @property
    def done(self) -> bool:
        return self._source.done

    @property
    def failure(self) -> bytes | None:
        return self._source.failure

    @property
    def has_content(self) -> bool:
        return self._source.has_content

    @property
    def tokens(self) -> int:
        return self._source.tokens

    def feed(self, chunk: bytes) -> bytes:
        return b"".join(map(self._target.feed, self._source.feed(chunk)))

    def close(self) -> bytes:
        return b"".join(map(self._target.feed, self._source.close()))

    def ending(self, usage: Usage) -> bytes:
        return self._target.ending(usage)
