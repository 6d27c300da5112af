"""JSON endpoints: one resource for each path, closed bodies and queries, errors in their envelope."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from proxy.core.errors import BadRequest, RequestRefused, SluiceError
from proxy.web.body import ClientDisconnected, content_type, read_body
from proxy.web.errors import Headers, render
from proxy.web.request_id import new_request_id

T = TypeVar("T")
Item = TypeVar("Item")
#: Lets a request pass, or raises the error that says why not.
Gate = Callable[[Scope], None]
Handler = Callable[[Request], Awaitable[Response]]
#: What every answer to a request that was let in carries besides.
ExtraHeaders = Callable[[Scope], Headers]

# `msgspec` says where in the value something is wrong, or which member of an object is.
_PLACE = re.compile(r" - at `\$\.?(.*)`$")
_MEMBER = re.compile(r"Object (?:contains unknown|missing required) field `(.*)`", re.DOTALL)


class Page(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The query of a list: how many, and after which."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    cursor: str | None = None


class Nothing(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A query or a body without members."""


class Resource:
    """The ASGI application of one path: `Resource(gate, GET=…, POST=…)`.

    Errors that the gate or a handler raises are answered in the client's dialect, `x-request-id` is
    on every answer, and no answer may be kept by caches.
    """

    def __init__(self, gate: Gate, extra: ExtraHeaders | None = None, **handlers: Handler) -> None:
        self._gate = gate
        self._extra = extra or _nothing
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = new_request_id()
        try:
            self._gate(scope)
            response = await self._handler(scope["method"])(Request(scope, receive))
        except ClientDisconnected:
            return
        except SluiceError as error:
            status, headers, body = render(error, _dialect(scope), request_id)
            headers += self._extra(scope)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        response.headers["x-request-id"] = request_id
        response.headers["cache-control"] = "no-store"
        response.raw_headers += self._extra(scope)
        await response(scope, receive, send)

    def _handler(self, method: str) -> Handler:
        handler = self._handlers.get("GET" if method == "HEAD" else method)
        if handler is None:
            # RFC 9110, section 15.5.6: the origin server MUST generate an Allow header field.
            allow = ", ".join(self._handlers)
            raise RequestRefused(
                "method_not_allowed",
                f"This path takes {allow}, not {method}.",
                status=405,
                headers={"allow": allow},
            )
        return handler


def _nothing(scope: Scope) -> Headers:
    return []


def answer(value: object, status: int = 200) -> Response:
    """Return a JSON answer."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def read_object(request: Request, kind: type[T], limit: int) -> T:
    """Return the body of a request as `kind`; no body counts as an empty object.

    Raises BadRequest (invalid_json, or invalid_value with the member at fault in `param`) and what
    `read_body` raises.
    """
    headers = request.scope["headers"]
    body = await read_body(request.receive, headers, limit)
    media_type, _ = content_type(headers)
    if body and media_type not in ("application/json", ""):
        raise RequestRefused(
            "unsupported_media_type", f"Send application/json, not {media_type}.", status=415
        )
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest("invalid_json", f"The request body is not valid JSON: {error}.") from None


def read_query(request: Request, kind: type[T]) -> T:
    """Return the query of a request as `kind`. Raises BadRequest with the parameter in `param`."""
    given: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise BadRequest("invalid_value", f"{name}: is given twice.", param=name)
        given[name] = value
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None


def page_of(
    items: Sequence[Item], id_of: Callable[[Item], str], page: Page
) -> tuple[Sequence[Item], str | None]:
    """Return one page of a list, and the cursor of the next, None at the end.

    Raises BadRequest for a cursor that is no item's id.
    """
    start = 0
    if page.cursor is not None:
        ids = [id_of(item) for item in items]
        if page.cursor not in ids:
            raise BadRequest("invalid_value", "cursor: not one that a list gave.", param="cursor")
        start = ids.index(page.cursor) + 1
    found = items[start : start + page.limit]
    more = start + page.limit < len(items)
    return found, id_of(found[-1]) if more else None


def _invalid(message: str) -> BadRequest:
    place = _PLACE.search(message)
    what = _PLACE.sub("", message)
    param = place[1] if place else ""
    if member := _MEMBER.match(what):
        param = f"{param}.{member[1]}".strip(".")
        what = "is not known here" if "unknown" in what else "is required"
    text = what.replace("`", "")
    return BadRequest("invalid_value", f"{param}: {text}." if param else f"{text}.", param=param or None)


def _dialect(scope: Scope) -> str:
    """Anthropic's SDKs say their version on every path, and read errors in their own envelope."""
    return "messages" if any(name == b"anthropic-version" for name, _ in scope["headers"]) else "chat"
