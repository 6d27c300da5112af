"""The endpoints that call models: read the request, admit it, hand it to its exchange."""

from starlette.types import Receive, Scope, Send

from proxy.core.entities import Finish
from proxy.core.errors import RequestRefused, SluiceError
from proxy.gateway.admission import check_address
from proxy.gateway.gateway import Gateway
from proxy.gateway.keyring import Keyring
from proxy.gateway.keystate import KeyState
from proxy.gateway.request import COUNT_TOKENS, ClientRequest, Endpoint, read_form, read_json
from proxy.web.body import ClientDisconnected, content_type, read_body
from proxy.web.credentials import presented_key
from proxy.web.errors import render
from proxy.web.multipart import read_multipart
from proxy.web.protocol import client_address
from proxy.web.request_id import RequestIds
from proxy.web.streaming import ClientSink, merged


class Inference:
    """One ASGI application for all inference endpoints; the router says which one it is."""

    def __init__(self, gateway: Gateway, keyring: Keyring) -> None:
        self._gateway = gateway
        self._keyring = keyring
        self._ids = RequestIds()

    async def __call__(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; every error is answered in the dialect of the endpoint."""
        clock = self._gateway.services.clock
        request_id = self._ids.new()
        key: KeyState | None = None
        try:
            key = self._authenticate(scope, clock.now_ms())
            self._gateway.check_open()
            request = await self._read(endpoint, scope, receive)
            if endpoint is COUNT_TOKENS:
                await self._count(request, key, request_id, send)
                return
            admitted, first = self._gateway.admit(request, key, request_id)
        except ClientDisconnected:
            return
        except SluiceError as error:
            status, headers, body = render(error, endpoint.dialect, request_id)
            if key is not None:
                headers = merged(headers, key.limiter.headers(*clock.instant()))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        cycle = scope["extensions"]["sluice.connection"]
        exchange = self._gateway.begin(admitted, first, ClientSink(cycle, endpoint.dialect, request_id))
        # Until the answer is complete, all that can come is that the client is gone.
        while (await receive())["type"] != "http.disconnect":
            pass
        exchange.interrupt(Finish.CLIENT_GONE)
        await exchange.finished

    async def _count(self, request: ClientRequest, key: KeyState, request_id: str, send: Send) -> None:
        """Answer `count_tokens`."""
        body = b'{"input_tokens":%d}' % await self._gateway.count_tokens(request, key)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
            (b"request-id", request_id.encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

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
