"""The head of a request: what HTTP/1.1 demands of it beyond what the parser checks itself."""

import re

from proxy.core.errors import BadRequest, RequestRefused
from proxy.web.addresses import HostPolicy

Headers = list[tuple[bytes, bytes]]

# Apache and nginx allow 100, too; SDKs send about 20.
MAX_HEADERS = 100

_ACTED_ON = frozenset({b"host", b"transfer-encoding", b"expect"})
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?#]*)([^?#]*)(?:\?([^#]*))?", re.IGNORECASE)


class RequestHead:
    """The request target and headers of one request, as the parser finds them."""

    __slots__ = ("chunked", "expects_continue", "headers", "host", "url")

    def __init__(self) -> None:
        self.url = b""
        self.headers: Headers = []
        self.host: bytes | None = None
        self.chunked = False
        self.expects_continue = False

    @property
    def size(self) -> int:
        """Its bytes on the wire, nearly."""
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    @property
    def path(self) -> str:
        """The path as far as it is known; for telling the dialect of a request that was refused."""
        return self.url.partition(b"?")[0].decode("latin-1")

    def add(self, name: bytes, value: bytes) -> None:
        """Take one header. Raises BadRequest, or RequestRefused (431) for one too many."""
        if len(self.headers) == MAX_HEADERS:
            raise headers_too_large(f"has more than {MAX_HEADERS} headers")
        name = name.lower()
        if name in _ACTED_ON:
            self._note(name, value)
        self.headers.append((name, value))

    def check(self, method: str, version: str, hosts: HostPolicy) -> None:
        """Check what can be judged once the head is whole. Raises BadRequest, RequestRefused (405, 421)."""
        # The parser takes GET without a version for HTTP/0.9, and knows RTSP/1.0 and HTTP/2.0.
        if version not in ("1.1", "1.0"):
            raise BadRequest("invalid_value", "This server speaks HTTP/1.1.")
        # RFC 9112, section 6.1: Transfer-Encoding in HTTP/1.0 must be treated as faulty framing.
        if self.chunked and version == "1.0":
            raise BadRequest("invalid_value", "HTTP/1.0 has no Transfer-Encoding.")
        if self.host is not None:
            hosts.check(self.host)
        elif version == "1.1":
            # RFC 9112, section 3.2: 400 to any HTTP/1.1 request that lacks a Host header field
            raise BadRequest("invalid_value", "The request has no Host header.", param="host")
        if method == "CONNECT":
            raise RequestRefused("method_not_allowed", "This server is no forward proxy.", status=405)

    def target(self, method: str, hosts: HostPolicy) -> tuple[bytes, bytes]:
        """Return path and query of the request target; RFC 9112, section 3.2. Raises like `check`."""
        url = self.url
        if url.startswith(b"/") and b"#" not in url:
            path, _, query = url.partition(b"?")
            return path, query
        if url == b"*" and method == "OPTIONS":
            return url, b""
        absolute = _ABSOLUTE_FORM.fullmatch(url)
        if absolute is None:
            raise BadRequest("invalid_value", "The request target is neither a path nor an http URL.")
        hosts.check(absolute[1])
        return absolute[2] or b"/", absolute[3] or b""

    def without_upgrade(self, method: bytes, version: str) -> bytes:
        """Return the head as it would have come without its wish for another protocol."""
        lines = [b"%b %b HTTP/%b\r\n" % (method, self.url, version.encode("ascii"))]
        for name, value in self.headers:
            if name == b"connection":
                options = (option.strip() for option in value.split(b","))
                value = b", ".join(o for o in options if o.lower() not in (b"upgrade", b"http2-settings"))
            if name not in (b"upgrade", b"http2-settings"):
                lines.append(b"%b: %b\r\n" % (name, value))
        return b"".join((*lines, b"\r\n"))

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            # RFC 9112, section 3.2: 400 to a request with more than one Host header field line
            if self.host is not None:
                raise BadRequest("invalid_value", "The request has two Host headers.", param="host")
            self.host = value
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise BadRequest("invalid_value", "The only Transfer-Encoding understood here is chunked.")
            self.chunked = True
        else:
            self.expects_continue = value.lower() == b"100-continue"


def headers_too_large(how: str) -> RequestRefused:
    """Return the refusal (431) of a head that is larger than allowed."""
    return RequestRefused("headers_too_large", f"The head of the request {how}.", status=431)
