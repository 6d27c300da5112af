"""Where errors become HTTP: the envelope of the client's dialect, its headers, its stream event.

docs/errors.md describes each code and shows the envelopes.
"""

import json
import math
from collections.abc import Mapping

import msgspec

from proxy.core.errors import SluiceError

Headers = list[tuple[bytes, bytes]]

# What a client that may try again waits when nothing better is known. Many wait exactly as long as
# they are told, and some do not try again at all when they are told nothing.
_DEFAULT_RETRY_AFTER_S = 1.0

# Anthropic's names. Other statuses: invalid_request_error below 500, api_error above.
_MESSAGES_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def dialect_of(path: str) -> str:
    """Return the dialect in which the clients of a path expect its errors, unknown paths included."""
    segments = path.split("/")
    if "messages" in segments:
        return "messages"
    return "responses" if "responses" in segments else "chat"


def render(error: SluiceError, dialect: str, request_id: str) -> tuple[int, Headers, bytes]:
    """Return the status, headers and body by which a client learns of an error."""
    body = _encode(_envelope(error, dialect, request_id))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode("ascii")),
    ]
    if dialect == "messages":
        headers.append((b"request-id", request_id.encode("ascii")))
    if error.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if error.should_retry else b"false"))
    headers += _retry_headers(error)
    headers += [
        (name.lower().encode(), value.encode("latin-1", "replace")) for name, value in error.headers.items()
    ]
    return error.status, headers, body


def stream_frame(
    error: SluiceError,
    dialect: str,
    request_id: str,
    *,
    sequence_number: int = 0,
    response: Mapping[str, object] | None = None,
) -> bytes:
    """Return the event by which a client learns of an error in the middle of a stream.

    It is the last one: the connection closes after it, and chat streams get no `[DONE]`.
    Responses streams number their events, and their last one repeats the `response` begun.
    """
    if dialect == "messages":
        return b"event: error\ndata: %b\n\n" % _encode(_envelope(error, dialect, request_id))
    if dialect == "responses":
        event = _response_failed(error, request_id, sequence_number, response or {})
        return b"event: response.failed\ndata: %b\n\n" % _encode(event)
    return b"data: %b\n\n" % _encode(_envelope(error, dialect, request_id))


def _envelope(error: SluiceError, dialect: str, request_id: str) -> dict[str, object]:
    if dialect == "messages":
        described: dict[str, object] = {
            "type": _messages_type(error.status),
            "message": error.message,
            "code": error.code,
        }
        if error.param is not None:
            described["param"] = error.param
        return {"type": "error", "error": described | error.details, "request_id": request_id}
    described = {
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "code": error.code,
        "request_id": request_id,
    }
    return {"error": described | error.details}


def _response_failed(
    error: SluiceError, request_id: str, sequence_number: int, response: Mapping[str, object]
) -> dict[str, object]:
    failed = {
        "id": f"resp_{request_id}",
        "object": "response",
        "output": [],
        **response,
        "status": "failed",
        "error": {"code": error.code, "message": error.message, "type": error.type, "request_id": request_id},
    }
    return {"type": "response.failed", "sequence_number": sequence_number, "response": failed}


def _messages_type(status: int) -> str:
    return _MESSAGES_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


def _retry_headers(error: SluiceError) -> Headers:
    after_s = error.retry_after_s
    if after_s is None:
        if not (error.should_retry and error.status in (429, 503)):
            return []
        after_s = _DEFAULT_RETRY_AFTER_S
    milliseconds = max(1, math.ceil(round(after_s * 1000, 3)))
    # RFC 9110, section 10.2.3: delay-seconds is a whole number.
    seconds = -(-milliseconds // 1000)
    return [(b"retry-after", b"%d" % seconds), (b"retry-after-ms", b"%d" % milliseconds)]


def _encode(value: dict[str, object]) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # half of a surrogate pair, in text that a provider or a file name held
        return json.dumps(value, default=msgspec.to_builtins).encode("ascii")
