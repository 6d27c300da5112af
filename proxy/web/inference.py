"""The endpoints that call models: read the request, admit it, hand it to its exchange."""

from collections.abc import Callable

import msgspec
from starlette.types import Receive, Scope, Send

from proxy.core.entities import Finish
from proxy.core.errors import BadRequest, RequestRefused, SluiceError, UpstreamFailure
from proxy.gateway.admission import check_address
from proxy.gateway.gateway import Gateway
from proxy.gateway.keyring import Keyring
from proxy.gateway.keystate import KeyState
from proxy.gateway.request import COUNT_TOKENS, ClientRequest, Endpoint, read_form, read_json
from proxy.web.body import ClientDisconnected, content_type, read_body
from proxy.web.credentials import presented_key
from proxy.web.errors import Headers, render
from proxy.web.multipart import read_multipart
from proxy.web.protocol import client_address
from proxy.web.request_id import RequestIds
from proxy.web.streaming import ClientSink, merged

#: Returns the key as which a request runs, given the time in Unix milliseconds.
FindKey = Callable[[Scope, int], KeyState]


class Inference:
    """One ASGI application for all inference endpoints; the router says which one it is."""

    def __init__(self, gateway: Gateway, keyring: Keyring) -> None:
        self._gateway = gateway
        self._keyring = keyring
        self._ids = RequestIds()

    async def __call__(
        self,
        endpoint: Endpoint,
        scope: Scope,
        receive: Receive,
        send: Send,
        find_key: FindKey | None = None,
    ) -> None:
        """Answer one request; every error is answered in the dialect of the endpoint.

        `find_key` says whose it is, or raises why it is nobody's; by default that of the key it brings.
        """
        clock = self._gateway.services.clock
        request_id = self._ids.new()
        key: KeyState | None = None
        dry_run = False
        try:
            key = (find_key or self._authenticate)(scope, clock.now_ms())
            self._gateway.check_open()
            dry_run = endpoint is not COUNT_TOKENS and _wants_dry_run(scope["headers"])
            request = await self._read(endpoint, scope, receive)
            if endpoint is COUNT_TOKENS:
                await self._count(request, key, request_id, send)
                return
            if dry_run:
                await self._dry_run(request, key, request_id, send)
                return
            admitted, route, first = self._gateway.admit(request, key, request_id)
        except ClientDisconnected:
            return
        except SluiceError as error:
            was_asked = endpoint is COUNT_TOKENS and isinstance(error, UpstreamFailure)
            if not (dry_run or was_asked):
                self._gateway.services.metrics.refused(error.code)
            status, headers, body = render(error, endpoint.dialect, request_id)
            if key is not None:
                headers = merged(headers, key.limiter.headers(*clock.instant()))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        cycle = scope["extensions"]["sluice.connection"]
        exchange = self._gateway.begin(
            admitted, route, first, ClientSink(cycle, endpoint.dialect, request_id)
        )
        # Until the answer is complete, all that can come is that the client is gone.
        while (await receive())["type"] != "http.disconnect":
            pass
        exchange.interrupt(Finish.CLIENT_GONE)
        await exchange.finished

    async def _count(self, request: ClientRequest, key: KeyState, request_id: str, send: Send) -> None:
        """Answer `count_tokens`."""
        body = b'{"input_tokens":%d}' % await self._gateway.count_tokens(request, key)
        await _send_json(send, body, request_id, [(b"request-id", request_id.encode())])

    async def _dry_run(self, request: ClientRequest, key: KeyState, request_id: str, send: Send) -> None:
        """Answer what would become of a request."""
        body = msgspec.json.encode(self._gateway.dry_run(request, key, request_id))
        limits = key.limiter.headers(*self._gateway.services.clock.instant())
        await _send_json(send, body, request_id, limits)

    def _authenticate(self, scope: Scope, now_ms: int) -> KeyState:
        """Return the key that the request presents; before its body is read."""
        peer = client_address(scope)
        key = self._keyring.find(presented_key(scope["headers"]), now_ms, peer)
        check_address(key, peer)
        return key

    async def _read(self, endpoint: Endpoint, scope: Scope, receive: Receive) -> ClientRequest:
        limit = self._gateway.snapshot.config.server.max_body_mib * 1024 * 1024
        headers = scope["headers"]
        kind, boundary = content_type(headers)
        if kind == "multipart/form-data" and endpoint.takes_forms:
            return read_form(endpoint, headers, await read_multipart(receive, headers, boundary, limit))
        if kind not in ("application/json", ""):
            raise RequestRefused(
                "unsupported_media_type",
                f"This endpoint takes application/json, not {kind}; set the content-type header.",
                status=415,
            )
        body = await read_body(receive, headers, limit)
        return read_json(endpoint, headers, body, scope["query_string"])


def _wants_dry_run(headers: Headers) -> bool:
    """Return whether a request is only to be looked at. Raises BadRequest for what is neither yes nor no."""
    given = [value.strip() for name, value in headers if name == b"x-sluice-dry-run"]
    if not all(value in (b"", b"0", b"1") for value in given) or len(set(given)) > 1:
        raise BadRequest(
            "invalid_value",
            "The header x-sluice-dry-run is 1 for a dry run, else 0 or empty.",
            param="x-sluice-dry-run",
        )
    return b"1" in given


async def _send_json(send: Send, body: bytes, request_id: str, more: Headers) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        *more,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
