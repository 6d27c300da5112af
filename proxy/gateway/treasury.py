"""All accounts' funds: loads them, makes the changes that are not an exchange's, ends what expires."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from proxy.core.funding import Funds, Grant, Subscription
from proxy.gateway.clock import Clock
from proxy.gateway.funds import AccountFunds
from proxy.store.errors import LedgerUnavailable
from proxy.store.funds import Change, Changed, FundStore, MoneyCall, Render

logger = logging.getLogger("sluice.funds")

#: How often it is looked whether anything has expired, once something can.
LOOK_S = 1.0


class Treasury:
    """The funds of every account. Memory follows the database: a change holds once it is committed."""

    def __init__(self, store: FundStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._accounts: dict[str, AccountFunds] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._expiring: set[asyncio.Future[Funds]] = set()
        self._closed = False
        #: Held while an account takes a plan, and while a reload looks which plans are in use.
        self.plan_use = asyncio.Lock()
        #: Told the name of an account whose plan may be another one from now on.
        self.on_plan_change: Callable[[str], None] = _nobody_cares

    async def load(self) -> None:
        """Load all funds, and end what expired while nothing ran."""
        for name, funds in (await self._store.load()).items():
            self._accounts[name] = AccountFunds(name, funds)
        now_ms = self._clock.now_ms()
        for account in self._accounts.values():
            if account.expired(now_ms):
                account.left = await self._store.expire(account.account, now_ms)
        self._schedule()

    def of(self, account: str) -> AccountFunds:
        """Return the funds of an account; a new one has none."""
        found = self._accounts.get(account)
        if found is None:
            found = self._accounts[account] = AccountFunds(account, Funds())
        return found

    async def shown(self, accounts: Sequence[str]) -> list[Funds]:
        """Return the funds of accounts as people want to see them: with grants that are used up, too."""
        grants = await self._store.grants(accounts, self._clock.now_ms())
        return [
            msgspec.structs.replace(self.of(account).left, grants=tuple(grants[account]))
            for account in accounts
        ]

    async def change(self, account: str, call: MoneyCall, change: Change, render: Render) -> Changed:
        """Make a change, as `FundStore.change`; it is made also when nobody waits for it any more."""
        commit = self._store.change(account, call, change, render)
        commit.add_done_callback(partial(self._changed, account))
        return await asyncio.shield(commit)

    async def give(self, account: str, grant: Grant, note: str) -> None:
        """Give LLM tokens that nobody asked for, such as a new account's."""
        commit = self._store.give(account, grant, note)
        commit.add_done_callback(partial(self._left, account))
        await asyncio.shield(commit)

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _changed(self, account: str, commit: asyncio.Future[Changed]) -> None:
        if not commit.cancelled() and commit.exception() is None:
            self._apply(account, commit.result().funds)

    def _left(self, account: str, commit: asyncio.Future[Funds]) -> None:
        if not commit.cancelled() and commit.exception() is None:
            self._apply(account, commit.result())

    def _apply(self, account: str, funds: Funds) -> None:
        before = self.of(account).left.subscription
        self.of(account).left = funds
        if _term_of(before) != _term_of(funds.subscription):
            self.on_plan_change(account)
        self._schedule()

    # -- what expires

    def _schedule(self) -> None:
        can_expire = any(
            account.left.subscription is not None
            or any(grant.expires_ms is not None for grant in account.left.grants)
            for account in self._accounts.values()
        )
        if can_expire and self._timer is None and not self._expiring and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = None
        now_ms = self._clock.now_ms()
        for name, account in self._accounts.items():
            subscription = account.left.subscription
            if subscription is not None and not subscription.runs(now_ms):
                self.on_plan_change(name)
            if account.expired(now_ms):
                commit = self._store.expire(name, now_ms)
                self._expiring.add(commit)
                commit.add_done_callback(partial(self._expired, name))
        self._schedule()

    def _expired(self, account: str, commit: asyncio.Future[Funds]) -> None:
        self._expiring.discard(commit)
        error = None if commit.cancelled() else commit.exception()
        if error is not None and not isinstance(error, LedgerUnavailable):
            logger.error("what expired of %s could not be taken", account, exc_info=error)
        self._left(account, commit)
        self._schedule()


def _term_of(subscription: Subscription | None) -> tuple[str, int] | None:
    """Return which subscription it is: another term of the same plan is another one."""
    return None if subscription is None else (subscription.plan, subscription.started_ms)


def _nobody_cares(account: str) -> None:
    """Keep quiet until a keyring listens."""
