"""What an error body says, whichever of the providers' many shapes it has.

Known shapes: `{"error": {…}}`, the same in an array (Gemini), `{"error": "text"}` (xAI, Ollama),
`{"base_resp": {…}}` (MiniMax), flat `{"code", "message"}` (Spark, SiliconFlow, vLLM, Cerebras),
`{"error_code", "error_msg"}` (Baidu), `{"detail": …}` (FastAPI), HTML and plain text (whatever
stands in front of a provider). docs/providers.md, "Errors"
"""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from proxy.core.answerjson import decoded, without_halves

# Codes go into our own `error.code`, so that they stay short and plain.
_CODE = re.compile(r"[\w.:/ -]{1,64}")
_TITLE = re.compile(r"<title[^<>]*>([^<]*)</title>", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
# Four times what is ever shown of a message; more is not searched for words either.
MAX_MESSAGE_CHARS = 8192

# Members that only describe an error. An answer with a good status that has no others is one.
_DESCRIPTION = frozenset(
    (
        *("code", "message", "msg", "detail", "type", "param", "status", "data", "object"),
        *("id", "request_id", "requestId", "sid", "timestamp", "path"),
    )
)
_GOOD_CODES = (0, 200, "0", "200")
_NOTHING = (b"null", b"[]", b"{}", b'""')


@dataclass(frozen=True, slots=True)
class ErrorFacts:
    """An error in one shape. `status` is an HTTP status that the body itself names.

    `base_resp` tells MiniMax's numbers from everybody else's; `retry_delay` is Google's RetryInfo.
    """

    message: str = ""
    code: str | None = None
    type: str | None = None
    param: str | None = None
    status: int | None = None
    base_resp: bool = False
    retry_delay: str | None = None


class _Envelope(msgspec.Struct):
    """The members by which an answer with a good status shows that it is an error."""

    error: Any = None
    base_resp: Any = None
    code: Any = None
    error_code: Any = None
    object: Any = None
    type: Any = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    message: Any = None
    msg: Any = None
    detail: Any = None


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def read_error(body: bytes) -> ErrorFacts:
    """Return what the body of an answer with an error status says.

    Messages are cut after `MAX_MESSAGE_CHARS`, here and in `error_in`.
    """
    try:
        value = decoded(_ANY, body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ErrorFacts(_plain_text(body))
    return _from_value(value)


def error_in(body: bytes) -> ErrorFacts | None:
    """Return the error that a JSON answer, or a stream event, with a good status carries, if any.

    Raises:
        msgspec.DecodeError: The body is not JSON.
    """
    try:
        return _error_in(body)
    except msgspec.DecodeError:
        whole = without_halves(body)
        if whole == body:
            raise
    return _error_in(whole)


def _error_in(body: bytes) -> ErrorFacts | None:
    if body.lstrip()[:1] != b"{":
        first = _first_of(msgspec.json.decode(body))
        return _from_value(first) if isinstance(first, dict) and first.get("error") else None
    envelope = _decode_envelope(body)
    if _shows_error(envelope) or (_may_be_bare(envelope) and _is_bare(body)):
        return _from_value(msgspec.json.decode(body))
    return None


def _shows_error(envelope: _Envelope) -> bool:
    return bool(
        envelope.error
        or envelope.object == "error"
        or envelope.type == "error"
        or envelope.error_code
        or (type(envelope.code) is int and envelope.code not in _GOOD_CODES)
        or (isinstance(envelope.base_resp, dict) and envelope.base_resp.get("status_code"))
    )


def _may_be_bare(envelope: _Envelope) -> bool:
    says = envelope.message or envelope.msg or envelope.detail
    return bool(says) and bytes(envelope.data) in _NOTHING and envelope.code not in _GOOD_CODES


def _is_bare(body: bytes) -> bool:
    return _DESCRIPTION.issuperset(msgspec.json.decode(body, type=dict[str, msgspec.Raw]))


def _from_value(value: object) -> ErrorFacts:
    if isinstance(value, list):
        value = _first_of(value)
    if isinstance(value, dict):
        return _from_object(value)
    return ErrorFacts(value[:MAX_MESSAGE_CHARS] if isinstance(value, str) else "")


def _from_object(body: Mapping[str, Any]) -> ErrorFacts:
    base = body.get("base_resp")
    if isinstance(base, dict) and base.get("status_code"):
        return ErrorFacts(
            _text(base.get("status_msg"))[:MAX_MESSAGE_CHARS], _code(base["status_code"]), base_resp=True
        )
    error = body.get("error") or _first_of(body.get("errors"))
    if isinstance(error, dict) and error:
        return _from_members(error)
    if isinstance(error, str):
        return _from_members({**body, "message": error})
    detail = body.get("detail")
    return _from_members(detail if isinstance(detail, dict) else body)


def _from_members(error: Mapping[str, Any]) -> ErrorFacts:
    raw_code = _first(error, "code", "error_code")
    code, status = _code(raw_code), None
    if isinstance(raw_code, int) and 400 <= raw_code < 600:
        code, status = None, raw_code  # OpenRouter and Gemini repeat the HTTP status there
    delay = reason = None
    for detail in _dicts(error.get("details")):
        delay = delay or _text(detail.get("retryDelay"))
        reason = reason or _code(detail.get("reason"))
    type = _first(error, "type", "status")
    return ErrorFacts(
        _message(error)[:MAX_MESSAGE_CHARS],
        code or reason,
        _code(type) if isinstance(type, str) else None,
        _text(error.get("param")) or None,
        status,
        retry_delay=delay,
    )


def _message(error: Mapping[str, Any]) -> str:
    message = _text(_first(error, "message", "msg", "error_msg", "detail"))
    metadata = error.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("raw"), str):
        return f"{message}: {metadata['raw']}"  # OpenRouter quotes the provider behind it there
    return message


def _text(value: object) -> str:
    """Return a message member as text; FastAPI's list of findings as `place: finding`."""
    if value is None or isinstance(value, str):
        return value or ""
    findings = [item for item in _dicts(value) if isinstance(item.get("msg"), str)]
    if findings:
        return "; ".join(f"{_place(item.get('loc'))}: {item['msg']}" for item in findings)
    return msgspec.json.encode(value).decode()


def _place(loc: object) -> str:
    return ".".join(str(part) for part in loc) if isinstance(loc, list) else str(loc)


def _code(value: object) -> str | None:
    """Return a code as text when it is one: neither empty nor a sentence, nor a flag."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return str(value) if _CODE.fullmatch(str(value)) else None


def _first(members: Mapping[str, Any], *names: str) -> object:
    return next((members[name] for name in names if members.get(name)), None)


def _first_of(value: object) -> object:
    return value[0] if isinstance(value, list) and value else None


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _plain_text(body: bytes) -> str:
    text = body[:MAX_MESSAGE_CHARS].decode("utf-8", "replace").strip()
    if not text.startswith("<"):
        return text
    title = _TITLE.search(text)
    return " ".join(html.unescape(_TAG.sub(" ", title[1] if title else text)).split())
