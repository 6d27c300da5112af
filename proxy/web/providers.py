"""The admin API's part about providers: their states, and who would be asked for a model."""

from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from proxy.gateway.gateway import Gateway
from proxy.gateway.keystate import KeyState
from proxy.gateway.management import Management
from proxy.gateway.provider_states import Json, ProviderStates
from proxy.web.resources import Handler, Nothing, answer, read_object, read_query

MAX_BODY_BYTES = 1024


class ExplainQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`key` is the id of an API key; None: one without any restriction."""

    model: str
    provider: str | None = None
    key: str | None = None


class ProvidersApi:
    """`/providers` and what is below it, `/explain`"""

    def __init__(self, states: ProviderStates, gateway: Gateway, management: Management) -> None:
        self._states = states
        self._gateway = gateway
        self._management = management

    async def list(self, request: Request) -> Response:
        read_query(request, Nothing)
        return answer({"data": self._states.all(), "next_cursor": None})

    async def show(self, request: Request) -> Response:
        return answer(self._states.one(request.path_params["name"]))

    async def probe(self, request: Request) -> Response:
        await read_object(request, Nothing, MAX_BODY_BYTES)
        return answer(await self._states.probe(request.path_params["name"]))

    @property
    def reset(self) -> Handler:
        return _changing(self._states.reset)

    @property
    def disable(self) -> Handler:
        return _changing(lambda name: self._states.set_disabled(name, True))

    @property
    def enable(self) -> Handler:
        return _changing(lambda name: self._states.set_disabled(name, False))

    async def explain(self, request: Request) -> Response:
        query = read_query(request, ExplainQuery)
        key: KeyState = (
            self._management.unrestricted_key() if query.key is None else self._management.key(query.key)
        )
        return answer(self._gateway.explain(query.model, query.provider, key))


def _changing(change: Callable[[str], Json]) -> Handler:
    async def handle(request: Request) -> Response:
        await read_object(request, Nothing, MAX_BODY_BYTES)
        return answer(change(request.path_params["name"]))

    return handle
