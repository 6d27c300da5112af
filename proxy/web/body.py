"""Request bodies, bounded."""

from typing import NoReturn

from starlette.types import Receive

from proxy.core.errors import RequestRefused

Headers = list[tuple[bytes, bytes]]


class ClientDisconnected(Exception):
    """The client went away while its request was read; there is nobody to answer."""


async def read_body(receive: Receive, headers: Headers, limit: int) -> bytes:
    """Return the whole body.

    Raises RequestRefused (413) above `limit` bytes, before reading any when the length is declared,
    and ClientDisconnected. How long it may take is the server protocol's concern.
    """
    check_length(headers, limit)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message["body"]
        if len(body) > limit:
            refuse_length(limit)
        return body
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        parts.append(message["body"])
        size += len(message["body"])
        if size > limit:
            refuse_length(limit)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


def check_length(headers: Headers, limit: int) -> None:
    """Raise RequestRefused (413) when the declared length is above `limit` bytes."""
    for name, value in headers:
        if name == b"content-length" and int(value) > limit:
            refuse_length(limit)


def content_type(headers: Headers) -> tuple[str, bytes | None]:
    """Return the media type, lower-case and empty when absent, and a multipart boundary.

    Raises RequestRefused (415) for a charset other than UTF-8: RFC 8259 knows no other for JSON.
    """
    for name, value in headers:
        if name == b"content-type":
            kind, _, rest = value.partition(b";")
            parameters = _parameters(rest) if rest else {}
            charset = parameters.get(b"charset", b"utf-8").lower()
            if charset not in (b"utf-8", b"utf8"):
                raise RequestRefused("unsupported_media_type", "The request body must be UTF-8.", status=415)
            return kind.strip().lower().decode("latin-1"), parameters.get(b"boundary")
    return "", None


def _parameters(text: bytes) -> dict[bytes, bytes]:
    parameters = {}
    for part in text.split(b";"):
        name, equals, value = part.partition(b"=")
        if equals:
            parameters[name.strip().lower()] = value.strip().strip(b'"')
    return parameters


def refuse_length(limit: int) -> NoReturn:
    """Raise the error for a body of more than `limit` bytes."""
    raise RequestRefused(
        "body_too_large",
        f"The request body is larger than {limit // 1024**2} MiB, the limit of this gateway "
        "(server.max_body_mib in its configuration).",
        status=413,
    )
