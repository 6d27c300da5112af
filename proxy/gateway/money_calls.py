"""What an administrator does to the funds of accounts: each call is made once, however often it is sent.

What depends on the time or on the configuration is looked at only when the change is made: a call
that is repeated gets its first answer, whatever has become of them since. docs/api.md, "Funds"
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from sqlite3 import Connection
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct

from proxy.config.problems import hint
from proxy.config.schema import Config, Plan, SubscriptionOffer
from proxy.core.entities import Account, EntryKind, LedgerEntry
from proxy.core.errors import BadRequest
from proxy.core.funding import Funds, Subscription
from proxy.gateway import views
from proxy.gateway.changes import Count, Names, amount_nanos, check_printable, invalid, moment_ms
from proxy.gateway.clock import Clock
from proxy.gateway.management import Management, new_grant
from proxy.gateway.treasury import Treasury
from proxy.store import ledger
from proxy.store.funds import Change, Changed, MoneyCall
from proxy.store.ledger import Cause

Note = Annotated[str, Meta(min_length=1, max_length=500)]
#: Of money decimal text, or a whole number.
Amount = str | int

_DAY_MS = 86_400_000
# As many as a grant may have, to or fro.
_TOKENS = re.compile(r"-?[0-9]{1,15}")


class TopUp(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    amount: Amount
    note: Note | None = None


class Adjustment(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """`amount` is signed; of a grant it is a whole number of LLM tokens."""

    amount: Amount
    fund: str = ledger.WALLET
    note: Note


class TokenGift(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    tokens: Count
    models: Names | None = None
    expires_at: str | None = None
    note: Note | None = None


class PlanChoice(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    plan: str


class Asked(NamedTuple):
    """Who asks, in the ledger's word for it, and under which Idempotency-Key."""

    actor: str
    key: str


class MoneyCalls:
    """Changes balances, each time with an entry in the ledger.

    Every method raises BadRequest for a wrong value, RequestRefused for an account that is not there
    (404) and for an Idempotency-Key that another call had (409), and LedgerUnavailable when the
    database cannot be written. What failed is not remembered.
    """

    def __init__(
        self, management: Management, treasury: Treasury, clock: Clock, config: Callable[[], Config]
    ) -> None:
        self._management = management
        self._treasury = treasury
        self._clock = clock
        self._config = config

    async def top_up(self, name: str, fields: TopUp, asked: Asked) -> Changed:
        """Add money to the wallet."""
        nanos = amount_nanos(fields.amount, "amount")
        if nanos <= 0:
            raise invalid("amount", "must be above zero; `adjust` takes money back")
        _check_note(fields.note)
        cause = self._cause(name, EntryKind.TOPUP, asked, fields.note)
        return await self._make(
            "topup", cause, fields, asked, partial(ledger.top_up, cause=cause, nanos=nanos)
        )

    async def adjust(self, name: str, fields: Adjustment, asked: Asked) -> Changed:
        """Correct the balance of a fund."""
        if fields.fund.startswith(ledger.GRANT_PREFIX):
            amount = _tokens(fields.amount)
        else:
            amount = amount_nanos(fields.amount, "amount")
        if not amount:
            raise invalid("amount", "must not be zero")
        _check_note(fields.note)
        cause = self._cause(name, EntryKind.ADJUST, asked, fields.note)
        change = partial(ledger.adjust, cause=cause, fund=fields.fund, amount=amount)
        return await self._make("adjust", cause, fields, asked, change)

    async def grant_tokens(self, name: str, fields: TokenGift, asked: Asked) -> Changed:
        """Give LLM tokens."""
        expires_ms = moment_ms(fields.expires_at, "expires_at")
        _check_note(fields.note)
        cause = self._cause(name, EntryKind.GRANT, asked, fields.note)
        given = new_grant(fields.tokens, cause.at_ms, fields.models, expires_ms)

        def change(connection: Connection) -> None:
            if expires_ms is not None and expires_ms <= cause.at_ms:
                raise invalid("expires_at", "must be in the future")
            ledger.give_tokens(connection, cause, given)

        return await self._make("grant-tokens", cause, fields, asked, change)

    async def subscribe(self, name: str, fields: PlanChoice, asked: Asked) -> Changed:
        """Sell a plan: its price is taken from the wallet, and its credit holds for its days.

        Raises also InsufficientQuota (402) when the wallet is short, and RequestRefused (409
        subscription_active) while a subscription runs.
        """
        # A wait that is cancelled lets no reload take the plan away before it is sold.
        return await asyncio.shield(self._subscribe(name, fields, asked))

    async def _subscribe(self, name: str, fields: PlanChoice, asked: Asked) -> Changed:
        async with self._treasury.plan_use:
            cause = self._cause(name, EntryKind.SUBSCRIBE, asked, fields.plan)
            plans = self._config().plans

            def change(connection: Connection) -> None:
                offer = _offer(fields.plan, plans)
                expires_ms = cause.at_ms + offer.days * _DAY_MS
                credit = offer.credit_nanos
                subscription = Subscription(fields.plan, credit, credit, cause.at_ms, expires_ms)
                ledger.subscribe(connection, cause, offer.price_nanos, subscription)

            return await self._make("subscribe", cause, fields, asked, change)

    def _cause(self, name: str, kind: EntryKind, asked: Asked, note: str | None) -> Cause:
        return Cause(name, self._clock.now_ms(), kind, asked.actor, note)

    async def _make(self, verb: str, cause: Cause, fields: Struct, asked: Asked, change: Change) -> Changed:
        account = self._management.account(cause.account)
        body = msgspec.json.encode(fields).decode()
        call = MoneyCall(asked.key, f"accounts/{account.name}/{verb} {body}", cause.at_ms)
        held_nanos = self._treasury.of(account.name).held_nanos
        render = partial(_rendered, account, held_nanos, cause.at_ms)
        return await self._treasury.change(account.name, call, change, render)


def _rendered(
    account: Account, held_nanos: int, now_ms: int, funds: Funds, entries: Sequence[LedgerEntry]
) -> str:
    """Return the answer: the account as it then is, and the new entries of its ledger."""
    subscription = funds.subscription
    plan = subscription.plan if subscription is not None and subscription.runs(now_ms) else account.plan
    shown = views.account_object(account, plan, held_nanos, funds, now_ms)
    return msgspec.json.encode({**shown, "entries": list(map(views.entry_object, entries))}).decode()


def _offer(name: str, plans: Mapping[str, Plan]) -> SubscriptionOffer:
    offers = {plan.name: plan.subscription for plan in plans.values() if plan.subscription is not None}
    if name in offers:
        return offers[name]
    if name in plans:
        message = f"The plan {name} has no subscription{hint(name, offers)}."
    else:
        message = f"The configuration has no plan {name}{hint(name, offers)}."
    raise BadRequest("invalid_value", message, param="plan")


def _tokens(amount: Amount) -> int:
    text = str(amount)
    if not _TOKENS.fullmatch(text):
        raise invalid("amount", "of a grant it is a whole number of LLM tokens")
    return int(text)


def _check_note(note: str | None) -> None:
    if note is not None:
        check_printable(note, "note")
