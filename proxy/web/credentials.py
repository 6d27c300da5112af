"""Where clients put their key."""

from collections.abc import Iterable

from proxy.core.errors import BadRequest

Headers = Iterable[tuple[bytes, bytes]]

# In the order in which they count; SDKs differ, and some send two of them with the same key.
_KEY_HEADERS = (b"x-api-key", b"api-key", b"x-goog-api-key")


def presented_key(headers: Headers) -> bytes | None:
    """Return the key a client presents: `Authorization: Bearer`, else a key header; None without one.

    Header names are lower-case, as ASGI has them. Raises BadRequest for two Authorization headers.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name == b"authorization":
            if name in found:
                raise BadRequest("invalid_value", "The request has two Authorization headers; send one.")
            found[name] = value
        elif name in _KEY_HEADERS:
            found.setdefault(name, value)
    authorization = found.get(b"authorization")
    if authorization is not None:
        scheme, _, credentials = authorization.partition(b" ")
        if scheme.lower() == b"bearer" and credentials.strip():
            return credentials.strip()
    for name in _KEY_HEADERS:
        value = found.get(name, b"").strip()
        if value:
            return value
    return None
