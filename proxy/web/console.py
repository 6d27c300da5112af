"""The web console: the static files of the package, below `/console/`. docs/console.md

They are read once, at the start; a path is looked up in that table and never becomes a file's name.
"""

import gzip
from collections.abc import Callable, Mapping
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from proxy.config.schema import Config
from proxy.core.errors import RequestRefused
from proxy.core.quoting import quoted
from proxy.web.errors import Headers, render
from proxy.web.request_id import new_request_id

PREFIX = "/console/"
_INDEX = "index.html"

_TYPES = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}

#: Nothing inline, nothing from elsewhere, nothing that frames it; requests go to this gateway alone.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_HEADERS: Headers = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    # Kept, but asked about every time: a new version is seen at once.
    (b"cache-control", b"no-cache"),
    (b"vary", b"accept-encoding"),
]


class File(NamedTuple):
    """One file, and its gzip form."""

    media_type: bytes
    body: bytes
    packed: bytes
    etag: bytes  # weak: the same for both forms


class Console:
    """Serves the files while `console` is true in the configuration in force."""

    def __init__(self, config: Callable[[], Config]) -> None:
        self._config = config
        self._files = read_files()

    def routes(self) -> list[BaseRoute]:
        """Return the routes; `/` leads browsers here."""
        return [
            Route("/", _App(self._root)),
            Route("/console", _App(self._redirect)),
            Route("/console/{path:path}", _App(self._file)),
        ]

    def _root(self, scope: Scope) -> tuple[int, Headers, bytes]:
        if b"text/html" not in _header(scope, b"accept"):
            raise _nothing_at(scope)
        return self._redirect(scope)

    def _redirect(self, scope: Scope) -> tuple[int, Headers, bytes]:
        self._check(scope)
        return 307, [(b"location", PREFIX.encode()), (b"cache-control", b"no-cache")], b""

    def _file(self, scope: Scope) -> tuple[int, Headers, bytes]:
        self._check(scope)
        file = self._files.get(scope["path"].removeprefix(PREFIX) or _INDEX)
        if file is None:
            raise _nothing_at(scope)
        headers = [*_HEADERS, (b"etag", file.etag)]
        if file.etag in _header(scope, b"if-none-match"):
            return 304, headers, b""
        headers.append((b"content-type", file.media_type))
        if b"gzip" in _header(scope, b"accept-encoding"):
            return 200, [*headers, (b"content-encoding", b"gzip")], file.packed
        return 200, headers, file.body

    def _check(self, scope: Scope) -> None:
        if not self._config().console:
            raise _nothing_at(scope)


class _App:
    """The ASGI application of one path: whatever `respond` returns or raises."""

    def __init__(self, respond: Callable[[Scope], tuple[int, Headers, bytes]]) -> None:
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = new_request_id()
        try:
            if scope["method"] not in ("GET", "HEAD"):
                raise _wrong_method(scope["method"])
            status, headers, body = self._respond(scope)
            headers = [*headers, (b"x-request-id", request_id.encode())]
            if status != 304:
                headers.append((b"content-length", b"%d" % len(body)))
        except RequestRefused as refusal:
            status, headers, body = render(refusal, "chat", request_id)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def read_files() -> Mapping[str, File]:
    """Return the files of the package by their path below the console's address."""
    found: dict[str, File] = {}
    _collect(files("proxy.web").joinpath("console"), "", found)
    return found


def _collect(folder: Traversable, prefix: str, found: dict[str, File]) -> None:
    for item in folder.iterdir():
        if item.is_dir():
            _collect(item, f"{prefix}{item.name}/", found)
        elif media_type := _TYPES.get(item.name.rpartition(".")[2]):
            body = item.read_bytes()
            etag = b'W/"%b"' % sha256(body).hexdigest()[:20].encode()
            found[prefix + item.name] = File(media_type, body, gzip.compress(body, 6, mtime=0), etag)


def _header(scope: Scope, name: bytes) -> bytes:
    return b", ".join(value for key, value in scope["headers"] if key == name)


def _nothing_at(scope: Scope) -> RequestRefused:
    return RequestRefused("not_found", f"There is nothing at {quoted(scope['path'])}.", status=404)


def _wrong_method(method: str) -> RequestRefused:
    return RequestRefused(
        "method_not_allowed",
        f"This path takes GET, not {method}.",
        status=405,
        headers={"allow": "GET, HEAD"},
    )
