"""The admin API's part that is about money: funds of accounts, their ledger, its statements and its proof."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from proxy.core.errors import BadRequest
from proxy.gateway import views
from proxy.gateway.adminkey import AdminKey
from proxy.gateway.management import Management
from proxy.gateway.money_calls import Adjustment, Asked, MoneyCalls, PlanChoice, TokenGift, TopUp
from proxy.gateway.statements import Statements
from proxy.store.funds import Changed, FundStore
from proxy.store.proof import Prover
from proxy.web.credentials import bearer_key
from proxy.web.resources import Nothing, Page, answer, read_object, read_query

Fields = TypeVar("Fields")

KEY_HEADER = "Idempotency-Key"
# A list of a thousand globs fits.
_MAX_BODY_BYTES = 1 << 20
_KEY = re.compile(r"[ -~]{1,255}")
_ENTRY_ID = re.compile(r"[1-9][0-9]{0,17}")


class StatementQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`month` is YYYY-MM; None: the current one."""

    month: str | None = None


class MoneyApi:
    """What is below `/accounts/{name}`, and `/ledger/verify`."""

    def __init__(
        self,
        admin: AdminKey,
        management: Management,
        calls: MoneyCalls,
        store: FundStore,
        statements: Statements,
        prover: Prover,
    ) -> None:
        self._admin = admin
        self._management = management
        self._calls = calls
        self._store = store
        self._statements = statements
        self._prover = prover

    async def top_up(self, request: Request) -> Response:
        return await self._make(request, TopUp, self._calls.top_up)

    async def adjust(self, request: Request) -> Response:
        return await self._make(request, Adjustment, self._calls.adjust)

    async def grant_tokens(self, request: Request) -> Response:
        return await self._make(request, TokenGift, self._calls.grant_tokens)

    async def subscribe(self, request: Request) -> Response:
        return await self._make(request, PlanChoice, self._calls.subscribe)

    async def ledger(self, request: Request) -> Response:
        account = self._management.account(request.path_params["name"])
        page = read_query(request, Page)
        if page.cursor is not None and not _ENTRY_ID.fullmatch(page.cursor):
            raise BadRequest("invalid_value", "cursor: not one that a list gave.", param="cursor")
        before = None if page.cursor is None else int(page.cursor)
        entries, cursor = await self._store.entries(account.name, limit=page.limit, before=before)
        data = list(map(views.entry_object, entries))
        return answer({"data": data, "next_cursor": None if cursor is None else str(cursor)})

    async def statement(self, request: Request) -> Response:
        account = self._management.account(request.path_params["name"])
        month = self._statements.month(read_query(request, StatementQuery).month)
        pages = self._statements.csv(account.name, month)
        first = await anext(pages)  # what fails at once is answered as an error
        headers = {"content-disposition": f'attachment; filename="statement-{month}.csv"'}
        return StreamingResponse(_with_first(first, pages), headers=headers, media_type="text/csv")

    async def verify(self, request: Request) -> Response:
        read_query(request, Nothing)
        return answer(await self._prover.prove())

    async def _make(
        self,
        request: Request,
        kind: type[Fields],
        make: Callable[[str, Fields, Asked], Awaitable[Changed]],
    ) -> Response:
        account = self._management.account(request.path_params["name"])
        presented = bearer_key(request.scope["headers"]) or b""
        asked = Asked(self._admin.actor(presented), _idempotency_key(request))
        made = await make(account.name, await read_object(request, kind, _MAX_BODY_BYTES), asked)
        headers = {"idempotent-replayed": "true"} if made.replayed else {}
        return Response(made.answer, headers=headers, media_type="application/json")


def _idempotency_key(request: Request) -> str:
    """Return what a call about money must bring, so that one that is sent twice is made once."""
    given = request.headers.getlist(KEY_HEADER)
    if len(given) != 1 or not _KEY.fullmatch(given[0]):
        raise BadRequest(
            "invalid_value",
            f"{KEY_HEADER}: calls about money need this header, once: printable ASCII, at most 255 "
            "characters, a new one for each call and the same one when it is repeated.",
            param=KEY_HEADER,
        )
    return given[0]


async def _with_first(first: str, pages: AsyncIterator[str]) -> AsyncIterator[str]:
    yield first
    async for page in pages:
        yield page
