"""The admin API: keys, accounts, money, reports, models, configuration. docs/api.md, "Admin API" """

import re
from collections.abc import Callable, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Scope

from proxy.config.schema import Config
from proxy.core.entities import Account, Finish
from proxy.core.errors import AuthenticationFailed, BadRequest, RequestRefused
from proxy.gateway import keyring, views
from proxy.gateway.adminkey import AdminKey
from proxy.gateway.changes import AccountChange, KeyChange, NewAccount, NewKey, Rotation
from proxy.gateway.clock import Clock
from proxy.gateway.configview import config_object
from proxy.gateway.directory import Directory
from proxy.gateway.guessing import WrongKeys
from proxy.gateway.keyring import Keyring
from proxy.gateway.management import Management
from proxy.gateway.reports import Reports, StatsQuery, UsageQuery
from proxy.gateway.treasury import Treasury
from proxy.store.usage import UsageStore
from proxy.web.backup import BackupApi
from proxy.web.clients import ClientSetup
from proxy.web.credentials import bearer_key
from proxy.web.key_chat import KeyChat
from proxy.web.money import MoneyApi
from proxy.web.price_imports import PricesApi
from proxy.web.protocol import client_address
from proxy.web.providers import ProvidersApi
from proxy.web.reload import ReloadApi
from proxy.web.resources import Page, Resource, answer, page_of, read_object, read_query

PREFIX = "/admin/api"
# Key objects with a thousand globs fit; nothing that the admin API takes is larger.
MAX_BODY_BYTES = 1 << 20
_STATUS = re.compile("|".join((*Finish, "[1-5][0-9][0-9]")))


class AdminGate:
    """Lets in who has the admin key, or the secret of this start."""

    def __init__(self, admin: AdminKey, clock: Clock) -> None:
        self._admin = admin
        self._clock = clock
        self._wrong_keys = WrongKeys()

    def __call__(self, scope: Scope) -> None:
        """Raise AuthenticationFailed for any other key, RateLimited after too many of them."""
        presented = bearer_key(scope["headers"])
        if presented is None:
            raise AuthenticationFailed(
                "missing_api_key", "The admin API takes the admin key: `Authorization: Bearer sk-admin-…`."
            )
        if self._admin.accepts(presented):
            return
        self._wrong_keys.count(client_address(scope), self._clock.now_ms())
        if presented.startswith(keyring.PREFIX.encode()):
            raise AuthenticationFailed(
                "invalid_api_key", "This is an API key; the admin API takes the admin key (sk-admin-…)."
            )
        raise AuthenticationFailed(
            "invalid_api_key", "This is not the admin key; `python -m proxy reset-admin-key` makes a new one."
        )


class RequestsQuery(Page, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The filters of the list of exchanges. `status`: an HTTP status, or how an exchange ended."""

    account: str | None = None
    key: str | None = None
    model: str | None = None
    provider: str | None = None
    status: str | None = None


class KeysApi:
    """`/keys`"""

    def __init__(self, keyring: Keyring, management: Management, clock: Clock) -> None:
        self._keyring = keyring
        self._management = management
        self._clock = clock

    async def list(self, request: Request) -> Response:
        page = read_query(request, Page)
        states, cursor = page_of(self._keyring.states(), lambda state: state.key.id, page)
        data = [views.key_object(state, self._clock) for state in states]
        return answer({"data": data, "next_cursor": cursor})

    async def create(self, request: Request) -> Response:
        fields = await read_object(request, NewKey, MAX_BODY_BYTES)
        state, secret = await self._management.create_key(fields)
        return answer(views.key_object(state, self._clock) | {"key": secret.reveal()}, 201)

    async def show(self, request: Request) -> Response:
        return answer(views.key_object(self._management.key(request.path_params["id"]), self._clock))

    async def change(self, request: Request) -> Response:
        fields = await read_object(request, KeyChange, MAX_BODY_BYTES)
        state = await self._management.change_key(request.path_params["id"], fields)
        return answer(views.key_object(state, self._clock))

    async def revoke(self, request: Request) -> Response:
        state = await self._management.revoke_key(request.path_params["id"])
        return answer(views.key_object(state, self._clock))

    async def rotate(self, request: Request) -> Response:
        rotation = await read_object(request, Rotation, MAX_BODY_BYTES)
        state, secret = await self._management.rotate_key(request.path_params["id"], rotation.grace_s)
        return answer(views.key_object(state, self._clock) | {"key": secret.reveal()})


class AccountsApi:
    """`/accounts`"""

    def __init__(self, keyring: Keyring, management: Management, treasury: Treasury, clock: Clock) -> None:
        self._keyring = keyring
        self._management = management
        self._treasury = treasury
        self._clock = clock

    async def list(self, request: Request) -> Response:
        page = read_query(request, Page)
        accounts, cursor = page_of(self._keyring.accounts(), lambda account: account.name, page)
        return answer({"data": await self._shown(accounts), "next_cursor": cursor})

    async def create(self, request: Request) -> Response:
        fields = await read_object(request, NewAccount, MAX_BODY_BYTES)
        (shown,) = await self._shown([await self._management.create_account(fields)])
        return answer(shown, 201)

    async def show(self, request: Request) -> Response:
        (shown,) = await self._shown([self._management.account(request.path_params["name"])])
        return answer(shown)

    async def change(self, request: Request) -> Response:
        fields = await read_object(request, AccountChange, MAX_BODY_BYTES)
        account = await self._management.change_account(request.path_params["name"], fields)
        (shown,) = await self._shown([account])
        return answer(shown)

    async def _shown(self, accounts: Sequence[Account]) -> Sequence[views.Json]:
        funds = await self._treasury.shown([account.name for account in accounts])
        now_ms = self._clock.now_ms()
        return [
            views.account_object(
                account,
                self._keyring.plan_of(account),
                self._treasury.of(account.name).held_nanos,
                left,
                now_ms,
            )
            for account, left in zip(accounts, funds, strict=True)
        ]


class ReportsApi:
    """`/usage`, `/stats`, `/requests`, `/models`, `/config`"""

    def __init__(
        self, reports: Reports, usage: UsageStore, directory: Directory, config: Callable[[], Config]
    ) -> None:
        self._reports = reports
        self._usage = usage
        self._directory = directory
        self._config = config

    async def usage(self, request: Request) -> Response:
        return answer(await self._reports.usage_report(read_query(request, UsageQuery)))

    async def stats(self, request: Request) -> Response:
        return answer(await self._reports.stats(read_query(request, StatsQuery)))

    async def requests(self, request: Request) -> Response:
        query = read_query(request, RequestsQuery)
        if query.status is not None and not _STATUS.fullmatch(query.status):
            known = ", ".join(Finish)
            raise BadRequest(
                "invalid_value", f"status: must be an HTTP status or one of {known}.", param="status"
            )
        records, cursor = await self._usage.list(**msgspec.structs.asdict(query))
        return answer({"data": list(map(views.receipt, records)), "next_cursor": cursor})

    async def request(self, request: Request) -> Response:
        record = await self._usage.get(request.path_params["id"])
        if record is None:
            raise RequestRefused("not_found", f"There is no finished request {request.path_params['id']}.")
        return answer(views.receipt(record))

    async def models(self, request: Request) -> Response:
        return answer({"data": await self._directory.entries(), "next_cursor": None})

    async def config(self, request: Request) -> Response:
        return answer(config_object(self._config()))


def admin_routes(
    admin: AdminKey,
    clock: Clock,
    keys: KeysApi,
    chat: KeyChat,
    accounts: AccountsApi,
    money: MoneyApi,
    reports: ReportsApi,
    prices: PricesApi,
    reload: ReloadApi,
    backup: BackupApi,
    providers: ProvidersApi,
    clients: ClientSetup,
) -> list[BaseRoute]:
    """Return the routes of the admin API."""

    async def reset_admin_key(request: Request) -> Response:
        key = await admin.reset()
        return answer({"key": key.reveal()}, 201)

    gate = AdminGate(admin, clock)
    resources: dict[str, ASGIApp] = {
        "/keys": Resource(gate, GET=keys.list, POST=keys.create),
        "/keys/{id}": Resource(gate, GET=keys.show, PATCH=keys.change, DELETE=keys.revoke),
        "/keys/{id}/rotate": Resource(gate, POST=keys.rotate),
        "/keys/{id}/chat": chat.behind(gate),
        "/accounts": Resource(gate, GET=accounts.list, POST=accounts.create),
        "/accounts/{name}": Resource(gate, GET=accounts.show, PATCH=accounts.change),
        "/accounts/{name}/topup": Resource(gate, POST=money.top_up),
        "/accounts/{name}/adjust": Resource(gate, POST=money.adjust),
        "/accounts/{name}/grant-tokens": Resource(gate, POST=money.grant_tokens),
        "/accounts/{name}/subscribe": Resource(gate, POST=money.subscribe),
        "/accounts/{name}/ledger": Resource(gate, GET=money.ledger),
        "/accounts/{name}/statement": Resource(gate, GET=money.statement),
        "/ledger/verify": Resource(gate, GET=money.verify),
        "/usage": Resource(gate, GET=reports.usage),
        "/stats": Resource(gate, GET=reports.stats),
        "/requests": Resource(gate, GET=reports.requests),
        "/requests/{id}": Resource(gate, GET=reports.request),
        "/models": Resource(gate, GET=reports.models),
        "/prices": Resource(gate, GET=prices.show, POST=prices.replace, DELETE=prices.clear),
        "/config": Resource(gate, GET=reports.config),
        "/reload": Resource(gate, GET=reload.list, POST=reload.reload),
        "/backup": Resource(gate, POST=backup.make),
        "/providers": Resource(gate, GET=providers.list),
        "/providers/{name}": Resource(gate, GET=providers.show),
        "/providers/{name}/reset": Resource(gate, POST=providers.reset),
        "/providers/{name}/disable": Resource(gate, POST=providers.disable),
        "/providers/{name}/enable": Resource(gate, POST=providers.enable),
        "/providers/{name}/probe": Resource(gate, POST=providers.probe),
        "/explain": Resource(gate, GET=providers.explain),
        "/clients": Resource(gate, GET=clients.everything),
        "/admin-key": Resource(gate, POST=reset_admin_key),
    }
    return [Route(PREFIX + path, resource) for path, resource in resources.items()]
