"""The HTTP/1.1 server's side of one client connection.

uvicorn's protocol has no deadlines, no limits, no Host check, and stops reading at `Upgrade: h2c`;
this one adds them. Whatever it refuses, it answers in the client's dialect and then closes, and no
byte that follows is ever taken for a request. docs/operations.md, "Clients"
"""

import asyncio
import logging
from typing import Any, Protocol
from urllib.parse import unquote

import httptools
from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from proxy.core.errors import BadRequest, RequestRefused, SluiceError, Unavailable
from proxy.web.addresses import forwarded_client, forwarded_scheme
from proxy.web.cycle import HIGH_WATER, Cycle, answer_head
from proxy.web.deadline import Deadline
from proxy.web.errors import dialect_of, render
from proxy.web.head import RequestHead, headers_too_large
from proxy.web.listener import SharedState
from proxy.web.request_id import new_request_id

logger = logging.getLogger("sluice.http")

# What chunk sizes, extensions and trailers may add to a body: this much, and an eighth of the body.
# A body in chunks of one byte costs a hundred times the work of the same body whole.
MAX_FRAMING = 128 * 1024
# Connections beyond the limit that are being told so; any more are closed without a word.
MAX_REFUSING = 32

# What is expected of the client. Plain numbers, as each request passes through them all.
IDLE = 0  # a request, or none
HEAD = 1  # the rest of a request's head
BODY = 2  # the rest of its body
ANSWER = 3  # nothing: its request is being answered
CLOSED = 4  # nothing: our side is closed, what still arrives is discarded


class ClientConnection(Protocol):
    """What apps find in `scope["extensions"]["sluice.connection"]`, beyond ASGI."""

    @property
    def gone(self) -> bool:
        """Whether the client closed the connection, or its sending side."""

    @property
    def unsent(self) -> int:
        """Bytes of the answer that the system has not taken yet."""

    def abort(self) -> None:
        """Close the connection at once, dropping what is unsent."""


def client_address(scope: Scope) -> str:
    """Return the address of the client that a request came from, through trusted proxies or directly."""
    return scope["client"][0] if scope["client"] else ""


class _Surplus(Exception):
    """A second request arrived before the first was answered."""


class ClientProtocol(HttpToolsProtocol):
    """One client connection; its requests are answered one after the other."""

    def __init__(
        self,
        config: Config,
        server_state: SharedState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.shared = server_state
        self.policy = server_state.policy
        self.deadline = Deadline(self.loop, self._expired)
        self.stage = IDLE
        #: Whose answer is due; uvicorn's own `cycle` stays unused.
        self.current: Cycle | None = None
        self.head = RequestHead()
        #: Bytes that arrived in this stage, and of the body among them.
        self._arrived = 0
        self._body_size = 0
        self._line_seen = False
        #: What waited for a slow client when last looked at.
        self._unsent = 0
        self._linger_end = 0.0

    @property
    def date(self) -> bytes:
        return self.shared.date

    @property
    def stopping(self) -> bool:
        return self.shared.stopping

    # -- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        # uvloop's own low mark is nearly zero: the client would run dry before it is sent more.
        transport.set_write_buffer_limits(high=HIGH_WATER, low=HIGH_WATER // 2)
        if len(self.connections) > self.policy.max_connections:
            self._refuse_connection()
        else:
            self.deadline.put_off(self.policy.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self.deadline.cancel()
        if self.current is not None and not self.current.complete:
            self.current.leave()
        self.current = None
        self.shared.refusing.discard(self)
        super().connection_lost(exc)
        self.shared.connection_lost.set()

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's always returns None
        """The client closed its sending side: it counts as gone, though an answer may still go out."""
        if self.current is not None and not self.current.complete:
            self.current.depart()
            self.flow.resume_writing()
        return self.stage == ANSWER

    def data_received(self, data: bytes) -> None:
        if self.stage >= ANSWER:
            self._discard(len(data))
            return
        self._arrived += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parse_without_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._stop_parsing(error)
            return
        if self.stage < ANSWER:
            self._bound_input(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.stage == ANSWER:
            self._watch_unsent()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.stage == ANSWER:
            self.deadline.clear()

    def shutdown(self) -> None:
        """Close the connection, delivering what was already sent; ends an answer that is not complete."""
        if self.current is not None and not self.current.complete:
            self.current.leave()
        self._close()

    # -- the parser's callbacks; what they raise ends the parsing, in `_stop_parsing`

    def on_message_begin(self) -> None:
        if self.stage == ANSWER:
            raise _Surplus
        self.stage = HEAD
        self.policy = self.shared.policy
        self.head = RequestHead()
        self._line_seen = False

    def on_url(self, url: bytes) -> None:
        self.head.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # RFC 9110, section 6.5.1: trailers are not merged into the headers; nobody here wants them.
        if self.stage == HEAD:
            self.head.add(name, value)

    def on_headers_complete(self) -> None:
        method = self.parser.get_method().decode("ascii")
        version = self.parser.get_http_version()
        head, policy = self.head, self.policy
        if self._arrived > policy.max_header_bytes and head.size > policy.max_header_bytes:
            raise self._head_too_large()
        head.check(method, version, policy.hosts)
        if self.parser.should_upgrade():
            return  # the parser stops here; see `_parse_without_upgrade`
        raw_path, query = head.target(method, policy.hosts)
        path = raw_path.decode("ascii")
        is_http10 = version == "1.0"
        cycle = Cycle(
            self,
            is_head=method == "HEAD",
            is_http10=is_http10,
            keep_alive=not is_http10 and self.parser.should_keep_alive(),
            expects_continue=head.expects_continue and not is_http10,
        )
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self._client(),
            "scheme": self._scheme(),
            "root_path": "",
            "method": method,
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": head.headers,
            "extensions": {"sluice.connection": cycle},
        }
        self.current = cycle
        self.stage = BODY
        self._arrived = self._body_size = self._unsent = 0
        self.deadline.clear()
        task = self.loop.create_task(cycle.run(self.app, scope))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def on_body(self, body: bytes) -> None:
        cycle = self.current
        if cycle is not None:
            cycle.feed(body)
            self._body_size += len(body)
            if cycle.size > HIGH_WATER:
                self.flow.pause_reading()

    def on_message_complete(self) -> None:
        if self.stage == BODY and self.current is not None:
            self.stage = ANSWER
            self._arrived = 0
            self.deadline.clear()
            self.current.end_body()

    # -- the answer

    def on_response_complete(self) -> None:
        """The app's answer is written: await the next request, or close."""
        self.server_state.total_requests += 1
        cycle = self.current
        if cycle is None or self.transport.is_closing():
            return
        if (self.stage == BODY or self._arrived) and not cycle.gone:
            self._linger(self.policy.body_timeout_s)
        elif not cycle.keep_alive or cycle.gone or self.shared.stopping:
            self._close()
        else:
            self.stage = IDLE
            self.deadline.put_off(self.policy.keep_alive_s)

    # -- reading a request

    def _client(self) -> tuple[str, int] | None:
        trusted = self.policy.trusted_proxies
        if not trusted or self.client is None:
            return self.client
        address = forwarded_client(self.client[0], self.head.headers, trusted)
        return self.client if address == self.client[0] else (address, 0)

    def _scheme(self) -> str:
        peer = self.client[0] if self.client is not None else ""
        return forwarded_scheme(peer, self.head.headers, self.policy.trusted_proxies)

    def _parse_without_upgrade(self, rest: bytes) -> None:
        """Read the request again without its wish for another protocol; RFC 9110, section 7.8, allows it.

        The parser stopped behind the head, as if what follows were that protocol. Java's HttpClient
        and `curl --http2` ask for h2c on every http URL and send their body at once.
        """
        head = self.head.without_upgrade(self.parser.get_method(), self.parser.get_http_version())
        self.parser = httptools.HttpRequestParser(self)
        self._arrived = 0
        self.data_received(head + rest)

    def _stop_parsing(self, error: httptools.HttpParserError) -> None:
        cause = error.__context__
        if self.stage == ANSWER:
            self._discard(1)  # nonsense, or a request too early, behind one that is being answered
        elif isinstance(cause, SluiceError):
            self._refuse(cause)
        elif isinstance(error, httptools.HttpParserCallbackError):
            raise error
        else:
            self._refuse(BadRequest("invalid_value", f"The request is not valid HTTP/1.1: {error}."))

    def _bound_input(self, data: bytes) -> None:
        """Hold a request that came only in part to its size and its deadline."""
        if self.stage == BODY:
            if self._arrived - self._body_size > MAX_FRAMING + self._body_size // 8:
                message = "The body is chopped too finely: send it in chunks of at least 64 bytes."
                self._refuse(RequestRefused("body_too_large", message, status=413))
            else:
                self.deadline.draw_near(self.policy.body_timeout_s)
        elif self._arrived > self.policy.max_header_bytes:
            self._refuse(self._head_too_large())
        else:
            self._line_seen = self._line_seen or (bool(self.head.url) and b"\n" in data)
            self.deadline.draw_near(self.policy.header_timeout_s)

    def _discard(self, size: int) -> None:
        """Drop what no request may be made of.

        Behind a request that is being answered that is a pipelined one. RFC 9112, section 9.3.2:
        clients retry those when the connection closes after an answer. Queueing them would mean to
        stop reading now and then, and so to miss that the client is gone.
        """
        self._arrived += size
        if self._arrived > self.policy.max_discarded_bytes:
            self.transport.abort()
        elif self.stage == CLOSED:
            self.deadline.set(min(self._linger_end, self.loop.time() + self.policy.linger_s))
        elif self.current is not None:
            self.current.keep_alive = False

    # -- refusing and closing

    def _refuse(self, error: SluiceError) -> None:
        """Answer a request that the app gets no say in, and close."""
        if self.transport.is_closing():
            return
        self.shared.refused[error.code] += 1
        logger.debug("refused a request from %s: %s", self.client, error)
        cycle = self.current
        if cycle is not None and not cycle.complete:
            cycle.leave()
            if cycle.started:
                self.transport.abort()
                return
        self._answer_refused(error)
        self._linger(self.policy.body_timeout_s)

    def _refuse_connection(self) -> None:
        self.connections.discard(self)
        if len(self.shared.refusing) >= MAX_REFUSING:
            self.transport.abort()
            return
        self.shared.refusing.add(self)
        self.shared.refused["overloaded"] += 1
        message = f"All {self.policy.max_connections} connections of this server are taken."
        self._answer_refused(Unavailable("overloaded", message))
        self._linger(self.policy.linger_s)

    def _answer_refused(self, error: SluiceError) -> None:
        status, headers, body = render(error, dialect_of(self.head.path), new_request_id())
        lines = [b"%b: %b\r\n" % header for header in headers]
        self.transport.write(answer_head(status, [*lines, b"connection: close\r\n"], self.shared.date) + body)

    def _linger(self, total_s: float) -> None:
        """Close our side, and wait a little for the client's.

        RFC 9112, section 9.6: a socket closed with unread bytes resets the connection, and the reset
        can overtake the answer.
        """
        self.stage = CLOSED
        self._arrived = 0
        self.flow.resume_reading()
        self.transport.write_eof()
        self._linger_end = self.loop.time() + total_s
        self.deadline.set(min(self._linger_end, self.loop.time() + self.policy.linger_s))

    def _close(self) -> None:
        """Close once what is unsent has gone out; a client that does not take it is watched."""
        self.stage = CLOSED
        self._linger_end = 0.0
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._watch_unsent()

    def _watch_unsent(self) -> None:
        self._unsent = self.transport.get_write_buffer_size()
        self.deadline.put_off(self.policy.stall_s)

    def _expired(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if self.stage == HEAD and self._line_seen:
            self._refuse(_request_timeout("headers", self.policy.header_timeout_s))
        elif self.stage == BODY:
            self._refuse(_request_timeout("body", self.policy.body_timeout_s))
        elif self._linger_end:
            self.transport.abort()
        elif unsent and (not self._unsent or unsent < self._unsent):
            self._watch_unsent()  # it takes some
        elif unsent:
            self.transport.abort()
        else:
            self._close()

    def _head_too_large(self) -> RequestRefused:
        return headers_too_large(f"is longer than {self.policy.max_header_bytes} bytes")


def _request_timeout(part: str, limit_s: float) -> RequestRefused:
    message = f"The request's {part} did not arrive whole within {limit_s:g} s."
    return RequestRefused("request_timeout", message, status=408, should_retry=True)
