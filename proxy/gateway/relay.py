"""What happens to an answer's bytes between the provider and the client.

A relay is fed the bytes as they arrive and returns those that may go out at once. It does no I/O:
`gateway/exchange.py` reads, sends, and decides how the exchange ended. docs/api.md, "Streaming"
"""

from typing import Any, Protocol

import msgspec

from proxy.core import sse
from proxy.core.metering import UsageMeter
from proxy.core.received import ReceivedOutput
from proxy.gateway.request import ClientRequest
from proxy.upstream.errorbody import error_in

Headers = list[tuple[bytes, bytes]]

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
# Of an answer that should be an event stream and is none, as much is read as tells why.
MAX_OTHER = 64 * 1024
# JSON answers up to this are searched for usage; those that hold images are not.
MAX_SEARCHED = 4 * 1024 * 1024
# Finish reasons by which some providers say that generation failed.
FAILED_FINISH_REASONS = frozenset({"error", "network_error"})


class Relay(Protocol):
    """Turns the bytes of an upstream answer into those for the client, and keeps the accounts."""

    #: What to send while the provider is silent; empty where nothing may be.
    keep_alive: bytes
    #: The answer reached its proper end; what the connection does afterwards does not matter.
    complete: bool
    #: Nothing more is expected; reading may stop.
    done: bool
    #: The data of the event by which the provider reported a failure.
    failure: bytes | None

    def feed(self, chunk: bytes) -> bytes:
        """Return what may be sent to the client now."""

    def close(self) -> bytes:
        """The upstream ended: return what may be sent of the rest."""

    def ending(self) -> bytes:
        """Return what is held back until the usage record is committed."""

    @property
    def has_content(self) -> bool:
        """Whether anything was generated."""


class _Chunk(msgspec.Struct):
    choices: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


def relay_for(request: ClientRequest, headers: Headers, meter: UsageMeter, output: ReceivedOutput) -> Relay:
    """Return the relay for the answer to a request."""
    if request.endpoint.generates:
        return ChatRelay(meter, output, usage_wanted=request.usage_wanted)
    content_type = next((value for name, value in headers if name == b"content-type"), b"")
    return RawRelay(meter, content_type)


class ChatRelay:
    """Chat completions and completions streams.

    Blocks of canonical frames without anything to act on are passed on as the very object that
    was received; only frames with usage, an end or an error are looked into.
    """

    __slots__ = (
        "_begun",
        "_meter",
        "_other",
        "_output",
        "_splitter",
        "_usage_wanted",
        "complete",
        "done",
        "failure",
        "keep_alive",
    )

    def __init__(self, meter: UsageMeter, output: ReceivedOutput, *, usage_wanted: bool) -> None:
        self._meter = meter
        self._output = output
        self.keep_alive = KEEP_ALIVE
        self.complete = False
        self.done = False
        self.failure: bytes | None = None
        self._usage_wanted = usage_wanted
        self._splitter = sse.FrameSplitter()
        self._begun = False
        self._other: bytearray | None = None

    @property
    def has_content(self) -> bool:
        return self._output.has_content

    def feed(self, chunk: bytes) -> bytes:
        """Return what may go to the client now; raises sse.EventTooLarge."""
        if not self._splitter.pending and sse.is_canonical_block(chunk) and _is_plain(chunk):
            self._begun = True
            self._output.keep(chunk)
            return chunk
        if (not self._begun or self._other is not None) and self._is_other(chunk):
            return b""
        return self._frames(self._splitter.feed(chunk))

    def close(self) -> bytes:
        """The upstream ended: a last frame may lack its blank line."""
        if self._other is not None:
            self.failure = bytes(self._other)
            return b""
        return self._frames(self._splitter.finish())

    def ending(self) -> bytes:
        return DONE if self.complete else b""

    def _is_other(self, chunk: bytes) -> bool:
        """Take what is no event stream at all, as its first byte shows: a JSON error, a page of HTML."""
        if self._other is None:
            start = chunk.lstrip()[:1]
            self._begun = bool(start)
            if start not in (b"{", b"[", b"<"):
                return False
            self._other = bytearray()
        if len(self._other) < MAX_OTHER:
            self._other += chunk
        return True

    def _frames(self, frames: list[bytes]) -> bytes:
        out = []
        for frame in frames:
            if self.done or self.failure is not None:
                break
            out.append(self._frame(frame))
        return b"".join(out)

    def _frame(self, frame: bytes) -> bytes:
        data = sse.parse(frame).data
        if data is None:
            return sse.canonical(frame, keep_event=False)
        if data.strip() == b"[DONE]":
            self.complete = self.done = True
            return b""
        try:
            chunk = _decode(data)
            is_error = error_in(data) is not None
        except (msgspec.MsgspecError, RecursionError):
            return sse.canonical(frame, keep_event=False)  # not ours to judge: passed on, never counted
        if is_error:
            self.failure = data
            return b""
        self._meter.feed(data)
        if not self._read_choices(chunk.choices, data):
            return b""
        if chunk.choices == [] and not self._usage_wanted:
            return b""  # clients that did not ask for usage index choices[0] of every chunk
        self._output.add_data(data)
        return sse.canonical(frame, keep_event=False)

    def _read_choices(self, choices: object, data: bytes) -> bool:
        """Note a finish reason; return False when it says that generation failed."""
        for choice in choices if isinstance(choices, list) else ():
            reason = choice.get("finish_reason") if isinstance(choice, dict) else None
            if reason in FAILED_FINISH_REASONS:
                self.failure = data
                return False
            if reason is not None:
                self.complete = True
        return True


class RawRelay:
    """Anything else: passed on unread, except that JSON and events are searched for usage.

    The last received block is held back, so that the client cannot have the end of the answer
    before its record is committed.
    """

    __slots__ = (
        "_begun",
        "_held",
        "_json",
        "_json_size",
        "_meter",
        "_splitter",
        "complete",
        "done",
        "failure",
        "keep_alive",
    )

    def __init__(self, meter: UsageMeter, content_type: bytes) -> None:
        self._meter = meter
        self.keep_alive = b""
        self.complete = False
        self.done = False
        self.failure: bytes | None = None
        self._begun = False
        self._held = b""
        self._json: list[bytes] | None = [] if b"json" in content_type else None
        self._json_size = 0
        self._splitter = sse.FrameSplitter() if b"event-stream" in content_type else None

    @property
    def has_content(self) -> bool:
        return self._begun

    def feed(self, chunk: bytes) -> bytes:
        self._begun = True
        if self._json is not None:
            self._keep(chunk)
        elif self._splitter is not None:
            for frame in self._splitter.feed(chunk):
                self._read_event(frame)
        out, self._held = self._held, chunk
        return out

    def close(self) -> bytes:
        self.complete = True
        if self._json is not None:
            self._meter.feed(b"".join(self._json))
        return b""

    def ending(self) -> bytes:
        return self._held if self.complete else b""

    def _keep(self, chunk: bytes) -> None:
        self._json_size += len(chunk)
        if self._json is not None and self._json_size <= MAX_SEARCHED:
            self._json.append(chunk)
        else:
            self._json = None

    def _read_event(self, frame: bytes) -> None:
        if b'"usage"' in frame:
            data = sse.parse(frame).data
            if data is not None:
                self._meter.feed(data)


def _is_plain(block: bytes) -> bool:
    """Return whether canonical frames hold nothing to act on: no usage, no end, no error.

    Substring counts suffice: JSON strings cannot hold an unescaped quotation mark, so a text that
    talks of "usage" does not match, and one that matches all the same is merely looked into.
    """
    return (
        _all_null(block, b'"finish_reason"')
        and _all_null(block, b'"usage"')
        # how the providers' errors in a good stream begin: `upstream/errorbody.py` knows them all
        and b'"error' not in block
        and b'"base_resp"' not in block
        and b'"code"' not in block
        and b'"choices":[]' not in block
        and b'"choices": []' not in block
    )


def _all_null(block: bytes, key: bytes) -> bool:
    count = block.count(key)
    return not count or count == block.count(key + b":null") or count == block.count(key + b": null")
