"""The route table: every path of the gateway leads from here to its handler.

Inference paths are looked up in a dictionary before anything else; all others are Starlette's.
"""

from collections.abc import Awaitable, Callable, Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.config.schema import Config
from proxy.core.errors import RequestRefused, SluiceError
from proxy.core.quoting import quoted
from proxy.gateway.request import (
    CHAT,
    COMPLETIONS,
    COUNT_TOKENS,
    EMBEDDINGS,
    MESSAGES,
    PASSED_THROUGH,
    RESPONSES,
    Endpoint,
)
from proxy.web.errors import dialect_of, render
from proxy.web.inference import Inference
from proxy.web.request_id import new_request_id

#: All client endpoints are below both of these.
PREFIXES = ("/v1", "/api/v1")
#: These are served without a prefix too.
_BARE = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES)


class Routes:
    """The ASGI application: inference endpoints, and beside them whatever routes are given."""

    def __init__(self, inference: Inference, routes: Sequence[BaseRoute]) -> None:
        self._inference = inference
        self._endpoints = _inference_paths()
        self._others: ASGIApp = Router(routes, redirect_slashes=False, default=_not_found)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get(scope["path"])
        if endpoint is None:
            await self._others(scope, receive, send)
        elif scope["method"] == "POST":
            await self._inference(endpoint, scope, receive, send)
        else:
            await _refuse(_wrong_method(scope["method"]), scope, send)


def _inference_paths() -> dict[str, Endpoint]:
    endpoints = (*_BARE, COUNT_TOKENS, *PASSED_THROUGH)
    paths = {f"{prefix}/{endpoint.path}": endpoint for endpoint in endpoints for prefix in PREFIXES}
    return paths | {f"/{endpoint.path}": endpoint for endpoint in _BARE}


def _wrong_method(method: str) -> RequestRefused:
    return RequestRefused(
        "method_not_allowed", f"This path takes POST, not {method}.", status=405, headers={"allow": "POST"}
    )


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    error = RequestRefused("not_found", f"There is nothing at {quoted(scope['path'])}.", status=404)
    await _refuse(error, scope, send)


async def _refuse(error: SluiceError, scope: Scope, send: Send) -> None:
    status, headers, body = render(error, dialect_of(scope["path"]), new_request_id())
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Cors:
    """Lets web pages of the configured origins call the API; none, unless the configuration names them."""

    def __init__(self, app: ASGIApp, config: Callable[[], Config]) -> None:
        self._app = app
        self._config = config
        self._origins: Sequence[str] = ()
        self._answers: ASGIApp = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        origins = self._config().server.cors_origins
        if origins != self._origins:
            self._origins = origins
            self._answers = _with_cors(self._app, origins) if origins else self._app
        return self._answers(scope, receive, send)


def _with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST", "PATCH", "DELETE"),
        allow_headers=("*",),
        expose_headers=("*",),
        max_age=600,
    )
