"""How client tools are set up for this gateway: `/v1/clients`, `/admin/api/clients`. docs/api.md"""

from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from proxy.core.errors import BadRequest
from proxy.gateway.clients.address import server_url
from proxy.gateway.clients.catalog import CLIENTS, client_object
from proxy.gateway.clients.client import UnfitValue, target
from proxy.gateway.directory import first_name
from proxy.gateway.keystate import KeyState
from proxy.gateway.snapshot import Snapshot
from proxy.web.resources import answer, read_query

#: Stands in what is answered where the key belongs: the answer cannot know it, and pages put it in.
KEY_PLACE = "{{KEY}}"


class ClientsQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What is written instead of a model that can be called, and of the address that was called."""

    model: str | None = None
    base_url: str | None = None


class ClientSetup:
    """The set-up of all clients; by default for the address under which it is asked."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    async def everything(self, request: Request) -> Response:
        return self.answer(request, None)

    def answer(self, request: Request, key: KeyState | None) -> Response:
        """Answer with the first model that the key may use, unless one is asked for."""
        query = read_query(request, ClientsQuery)
        snapshot = self._snapshot()
        called = _called(request) or server_url(snapshot.config.server)
        url = called if query.base_url is None else query.base_url
        model = first_name(snapshot, key) if query.model is None else query.model
        try:
            aim = target(url, model, KEY_PLACE)
        except UnfitValue as error:
            raise BadRequest("invalid_value", f"{error.name}: {error}.", param=error.name) from None
        return answer({"data": [client_object(client, aim) for client in CLIENTS]})


def _called(request: Request) -> str | None:
    """Return scheme and host as the client sees them; what a request without Host called is not known."""
    host = request.headers.get("host")
    return f"{request.scope['scheme']}://{host}" if host else None
