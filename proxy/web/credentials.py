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
    key = bearer_key(headers)
    if key is None:
        found = {name: value.strip() for name, value in headers if name in _KEY_HEADERS}
        key = next((found[name] for name in _KEY_HEADERS if found.get(name)), None)
    return key


def bearer_key(headers: Headers) -> bytes | None:
    """Return the key in `Authorization: Bearer`, None without one. Raises BadRequest for two such headers."""
    authorizations = [value for name, value in headers if name == b"authorization"]
    if not authorizations:
        return None
    if len(authorizations) > 1:
        raise BadRequest("invalid_value", "The request has two Authorization headers; send one.")
    scheme, _, key = authorizations[0].partition(b" ")
    return key.strip() or None if scheme.lower() == b"bearer" else None
