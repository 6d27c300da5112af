"""Bytes of an HTTP/1.1 answer in, an inbox filled; no input or output of its own.

llhttp, by httptools, does the grammar (RFC 9112) in its strict mode: it refuses Content-Length
beside Transfer-Encoding, two Content-Lengths, bare line feeds, folded headers and control
characters. What it leaves open is decided here.
"""

import httptools

from proxy.core.errors import Progress
from proxy.upstream.inbox import Inbox

# What an answer may have of status line, headers, chunk headers and trailers without a byte of body
# between them. Providers send 1 to 3 KiB; nginx takes 8 KiB of headers, Node 16 KiB.
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 256
MAX_INTERIM_ANSWERS = 10


class InvalidAnswer(Exception):
    """What was received is not an HTTP/1.1 answer, or breaks a limit of ours."""


class AnswerParser:
    """Parses the answers of one connection, one after the other."""

    __slots__ = ("_headers", "_http", "_inbox", "_interim", "_overhead", "received", "reusable")

    def __init__(self) -> None:
        self._http = httptools.HttpResponseParser(self)

    def expect(self, inbox: Inbox) -> None:
        """Prepare for an answer; feed() must not be called before."""
        self._inbox = inbox
        self._headers: list[tuple[bytes, bytes]] = []
        self._interim = 0
        self._overhead = 0
        self.received = False
        #: Whether, after the end of this answer, the connection can be used for another.
        self.reusable = False

    def feed(self, data: bytes) -> None:
        """Put into the inbox what the data says.

        Raises:
            InvalidAnswer: and nothing after this data can be understood.
        """
        self.received = True
        self._overhead += len(data)
        try:
            self._http.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._inbox.complete:
                raise InvalidAnswer(str(error.__context__ or error)) from None
            self.reusable = False  # bytes after the end of the answer
        if self._overhead > MAX_HEAD_BYTES and not self._inbox.complete:
            raise InvalidAnswer(f"more than {MAX_HEAD_BYTES} bytes of headers")

    def ends_with_connection(self) -> bool:
        """Return whether the body received so far has no other end than the connection's.

        RFC 9112 6.3: without Transfer-Encoding and Content-Length "the message body length is
        determined by the number of octets received prior to the server closing the connection".
        """
        return self._inbox.status > 0 and not any(
            name in (b"content-length", b"transfer-encoding") for name, _ in self._inbox.headers
        )

    def close(self) -> None:
        """Let go of the C parser, which refers back to this."""
        del self._http

    # httptools' callbacks

    def on_message_begin(self) -> None:
        if self._inbox.complete:
            raise InvalidAnswer("bytes after the end of the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self._headers
        if len(headers) >= MAX_HEADERS:
            raise InvalidAnswer(f"more than {MAX_HEADERS} headers")
        headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._http.get_status_code()
        headers, self._headers = self._headers, []  # what comes after these are trailers
        # What was received may be much of the body, too: look closer before refusing it.
        if self._overhead > MAX_HEAD_BYTES and _size(headers) > MAX_HEAD_BYTES:
            raise InvalidAnswer(f"more than {MAX_HEAD_BYTES} bytes of headers")
        self._overhead = 0
        if not 100 <= status < 600 or status == 101:
            raise InvalidAnswer(f"status {status}")
        if self._http.get_http_version() not in ("1.1", "1.0"):
            raise InvalidAnswer(f"version HTTP/{self._http.get_http_version()}")
        if status < 200:
            self._interim += 1
            if self._interim > MAX_INTERIM_ANSWERS:
                raise InvalidAnswer(f"more than {MAX_INTERIM_ANSWERS} interim answers")
            return
        codings = [value for name, value in headers if name == b"transfer-encoding"]
        if codings and (len(codings) > 1 or codings[0].lower() != b"chunked"):
            raise InvalidAnswer(f"transfer-encoding {codings[0].decode('latin-1')[:50]}")
        inbox = self._inbox
        inbox.headers = headers
        inbox.status = status
        inbox.progress = Progress.HEADERS
        self.reusable = self._http.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        inbox = self._inbox
        inbox.parts.append(data)
        inbox.unread += len(data)
        inbox.progress = Progress.BODY
        self._overhead = 0

    def on_message_complete(self) -> None:
        if self._inbox.status:  # not an interim answer
            self._inbox.complete = True


def _size(headers: list[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) for name, value in headers)
