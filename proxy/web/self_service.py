"""What a client can ask about its key: models, usage, limits, receipts. docs/api.md, "Your key"

None of it counts against limits: coding tools ask dozens of times at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from proxy.config.schema import Config
from proxy.core.errors import RequestRefused
from proxy.gateway import views
from proxy.gateway.admission import check_address
from proxy.gateway.clock import Clock
from proxy.gateway.directory import Directory
from proxy.gateway.keyring import Keyring
from proxy.gateway.keystate import KeyState
from proxy.gateway.reports import Reports, UsageFilter, UsageQuery
from proxy.gateway.treasury import Treasury
from proxy.store.usage import UsageStore
from proxy.web.clients import ClientSetup
from proxy.web.credentials import presented_key
from proxy.web.errors import Headers
from proxy.web.protocol import client_address
from proxy.web.resources import Resource, answer, read_query
from proxy.web.routes import PREFIXES

_KEY = "sluice.key"


class KeyGate:
    """Lets in who has an API key, and leaves it in the scope."""

    def __init__(self, keyring: Keyring, clock: Clock) -> None:
        self._keyring = keyring
        self._clock = clock

    def __call__(self, scope: Scope) -> None:
        """Raise what `Keyring.find` raises, and PermissionRefused for a foreign address."""
        peer = client_address(scope)
        key = self._keyring.find(presented_key(scope["headers"]), self._clock.now_ms(), peer)
        check_address(key, peer)
        scope[_KEY] = key


class SelfService:
    """`/key`, `/usage`, `/requests/{id}`, `/models`, `/models/{id}`, `/clients`"""

    def __init__(
        self,
        treasury: Treasury,
        clock: Clock,
        reports: Reports,
        usage: UsageStore,
        directory: Directory,
        clients: ClientSetup,
        config: Callable[[], Config],
    ) -> None:
        self._treasury = treasury
        self._clock = clock
        self._reports = reports
        self._usage = usage
        self._directory = directory
        self._clients = clients
        self._config = config

    async def key(self, request: Request) -> Response:
        """The key with the limits that hold for it, what remains of them, and how the gateway bills."""
        state = _key(request)
        config = self._config()
        (funds,) = await self._treasury.shown([state.account.name])
        requests, tokens = state.limiter.windows(*self._clock.instant())
        shown = views.key_object(state, self._clock) | {
            "limits": asdict(state.limits),
            "plan": state.plan,
            "remaining": {
                "requests": requests and requests.remaining,
                "tokens": tokens and tokens.remaining,
            },
            "billing": {
                "mode": config.billing.mode,
                "currency": config.billing.currency,
                "timezone": config.limits.timezone,
            },
            **views.funds_members(funds, state.funds.held_nanos, self._clock.now_ms()),
        }
        return answer(shown)

    async def usage(self, request: Request) -> Response:
        """The sums of the key's account."""
        asked = read_query(request, UsageFilter)
        query = UsageQuery(**msgspec.structs.asdict(asked), account=_key(request).account.name)
        return answer(await self._reports.usage_report(query))

    async def request(self, request: Request) -> Response:
        """The receipt of one of this key's own requests."""
        id = request.path_params["id"]
        key = _key(request)
        record = await self._usage.get(id, key=key.key.id, account=key.account.name)
        if record is None:
            raise RequestRefused(
                "not_found", "This API key has no finished request with this id.", param="id"
            )
        return answer(views.receipt(record))

    async def models(self, request: Request) -> Response:
        """One body for OpenAI's list and for Anthropic's; other parameters, such as `limit`, are ignored."""
        query = request.query_params
        items = await self._directory.listing(_key(request), query.get("provider"), query.get("category"))
        return answer(
            {
                "object": "list",
                "data": items,
                "has_more": False,
                "first_id": items[0]["id"] if items else None,
                "last_id": items[-1]["id"] if items else None,
            }
        )

    async def model(self, request: Request) -> Response:
        return answer(self._directory.one(_key(request), request.path_params["id"]))

    async def clients(self, request: Request) -> Response:
        return self._clients.answer(request, _key(request))

    def limit_headers(self, scope: Scope) -> Headers:
        """What remains of the key's limits; nothing for a request that brought no key."""
        state: KeyState | None = scope.get(_KEY)
        return state.limiter.headers(*self._clock.instant()) if state is not None else []


def self_service_routes(
    keyring: Keyring,
    treasury: Treasury,
    clock: Clock,
    reports: Reports,
    usage: UsageStore,
    directory: Directory,
    clients: ClientSetup,
    config: Callable[[], Config],
) -> Sequence[BaseRoute]:
    """Return the routes below each prefix; those of models also without one."""
    service = SelfService(treasury, clock, reports, usage, directory, clients, config)
    gate, limits = KeyGate(keyring, clock), service.limit_headers
    models = {
        "/models": Resource(gate, limits, GET=service.models),
        "/models/{id:path}": Resource(gate, limits, GET=service.model),
    }
    prefixed = models | {
        "/key": Resource(gate, limits, GET=service.key),
        "/usage": Resource(gate, limits, GET=service.usage),
        "/requests/{id}": Resource(gate, limits, GET=service.request),
        "/clients": Resource(gate, limits, GET=service.clients),
    }
    paths = {prefix + path: resource for prefix in PREFIXES for path, resource in prefixed.items()} | models
    return [Route(path, resource) for path, resource in paths.items()]


def _key(request: Request) -> KeyState:
    state: KeyState = request.scope[_KEY]
    return state
