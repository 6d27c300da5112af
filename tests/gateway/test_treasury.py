"""All accounts' funds: memory follows the database, and what expires is ended."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from proxy.config.schema import Plan
from proxy.core.entities import Account, EntryKind, LedgerEntry, Limits
from proxy.core.errors import InsufficientQuota
from proxy.core.funding import Funds, Grant, Hold, Subscription
from proxy.gateway import treasury as treasury_module
from proxy.gateway.keyring import new_secret
from proxy.gateway.management import blank_key
from proxy.gateway.treasury import LOOK_S, Treasury
from proxy.store import ledger
from proxy.store import writer as writer_module
from proxy.store.errors import LedgerUnavailable
from proxy.store.funds import Change, Changed, FundStore, MoneyCall
from proxy.store.ledger import Cause
from tests.support.keys import NOW_MS, Installation, installed, settings_of

PLANS = {"free": Plan("free", Limits(rpm=5)), "pro": Plan("pro", Limits(rpm=500))}


class Timer:
    """A timer of a treasury, which goes off when a test says so."""

    def __init__(self, delay_s: float, callback: Callable[[], None]) -> None:
        self.delay_s = delay_s
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Timers:
    """Takes the timers of treasuries out of the hands of the event loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._loop = asyncio.get_running_loop()
        self._call_later = self._loop.call_later
        self.set: list[Timer] = []
        monkeypatch.setattr(self._loop, "call_later", self.call_later)

    def call_later(self, delay_s: float, callback: Callable[..., Any], *arguments: Any) -> Any:
        if not isinstance(getattr(callback, "__self__", None), Treasury):
            return self._call_later(delay_s, callback, *arguments)
        self.set.append(Timer(delay_s, callback))
        return self.set[-1]

    def go_off(self) -> None:
        """Let the one timer that is set go off."""
        (timer,) = self.set
        assert (timer.delay_s, timer.cancelled) == (LOOK_S, False)
        self.set.clear()
        timer.callback()


@pytest.fixture
async def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    return Timers(monkeypatch)


@pytest.fixture
async def here(tmp_path: Path, timers: Timers) -> AsyncIterator[Installation]:
    async with installed(settings_of(tmp_path, plans=PLANS, default_plan="free")) as here:
        yield here


@pytest.fixture
def replanned(here: Installation) -> list[str]:
    """The accounts whose plan changed, in the order in which it was told."""
    told: list[str] = []
    keyring = here.treasury.on_plan_change

    def tell(account: str) -> None:
        told.append(account)
        keyring(account)

    here.treasury.on_plan_change = tell
    return told


def grant(id: str = "g", expires_ms: int | None = None, tokens: int = 10) -> Grant:
    return Grant(id, tokens, tokens, NOW_MS, None, expires_ms)


def shown(funds: Funds, new: Sequence[LedgerEntry]) -> str:
    return f"{funds.wallet_nanos}: {[entry.amount for entry in new]}"


def change(here: Installation, change: Change, key: str, account: str = "default") -> asyncio.Task[Changed]:
    call = MoneyCall(key, "the same", here.clock.ms)
    return asyncio.ensure_future(here.treasury.change(account, call, change, shown))


def top_up(here: Installation, nanos: int, key: str = "k") -> asyncio.Task[Changed]:
    cause = Cause("default", here.clock.ms, EntryKind.TOPUP, "admin")
    return change(here, lambda connection: ledger.top_up(connection, cause, nanos), key)


def subscribe(
    here: Installation, lasts_ms: int, *, price: int = 0, plan: str = "pro"
) -> asyncio.Task[Changed]:
    now_ms = here.clock.ms
    cause = Cause("default", now_ms, EntryKind.SUBSCRIBE, "admin")
    bought = Subscription(plan, 50, 50, now_ms, now_ms + lasts_ms)
    return change(
        here, lambda connection: ledger.subscribe(connection, cause, price, bought), f"s-{now_ms}-{plan}"
    )


async def committed(here: Installation) -> None:
    """Wait until all that was submitted before is committed, and told."""
    await here.database.writer.submit(lambda connection: None)
    await asyncio.sleep(0)


async def expired(here: Installation) -> list[tuple[str, int]]:
    """Return what was taken of the account `default` by expiry: the funds, and how much."""
    entries, _ = await FundStore(here.database).entries("default", limit=100)
    return [(entry.fund, entry.amount) for entry in reversed(entries) if entry.kind is EntryKind.EXPIRE]


class TestFunds:
    async def test_a_new_account_has_none_and_keeps_them(self, here: Installation) -> None:
        funds = here.treasury.of("new")
        assert (funds.account, funds.left) == ("new", Funds())
        assert here.treasury.of("new") is funds

    async def test_a_change_holds_after_its_commit(self, here: Installation, replanned: list[str]) -> None:
        made = top_up(here, 7)
        await asyncio.sleep(0)
        assert here.treasury.of("default").left.wallet_nanos == 0
        assert await made == Changed(Funds(wallet_nanos=7), "7: [7]", replayed=False)
        assert here.treasury.of("default").left.wallet_nanos == 7
        assert await top_up(here, 7) == Changed(Funds(wallet_nanos=7), "7: [7]", replayed=True)
        assert replanned == []

    async def test_a_change_is_made_also_when_nobody_waits_for_it(self, here: Installation) -> None:
        made = top_up(here, 7)
        await asyncio.sleep(0)
        made.cancel()
        await committed(here)
        assert made.cancelled()
        assert here.treasury.of("default").left.wallet_nanos == 7

    async def test_a_refused_change_changes_nothing(self, here: Installation) -> None:
        with pytest.raises(InsufficientQuota):
            await subscribe(here, 1000, price=1)
        assert here.treasury.of("default").left == Funds()

    async def test_tokens_are_given_also_when_nobody_waits_for_them(self, here: Installation) -> None:
        await here.treasury.give("default", grant("a"), "why")
        giving = asyncio.ensure_future(here.treasury.give("default", grant("b"), "why"))
        await asyncio.sleep(0)
        giving.cancel()
        await committed(here)
        assert here.treasury.of("default").left.grants == (grant("a"), grant("b"))

    async def test_without_a_database_nothing_is_given(
        self, here: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writer_module, "RETRY_S", 0.01)
        await here.database.writer.submit(lambda connection: connection.execute("PRAGMA query_only = ON"))
        with pytest.raises(LedgerUnavailable):
            await here.treasury.give("default", grant(), "why")
        with pytest.raises(LedgerUnavailable):
            await top_up(here, 7)
        assert here.treasury.of("default").left == Funds()

    async def test_grants_that_are_used_up_are_shown(self, here: Installation) -> None:
        await here.keyring.add_account(Account("other", None, enabled=True, created_ms=0))
        await here.treasury.give("default", grant("a"), "why")
        await here.treasury.give("default", grant("b"), "why")
        await top_up(here, 7)
        cause = Cause("default", 0, EntryKind.ADJUST, "admin")
        await change(here, lambda connection: ledger.adjust(connection, cause, "grant:a", -10), "a")
        other, default = await here.treasury.shown(["other", "default"])
        assert other == Funds()
        assert ([(each.id, each.left) for each in default.grants], default.wallet_nanos) == (
            [("b", 10), ("a", 0)],
            7,
        )


class TestLoading:
    async def test_what_expired_while_nothing_ran_is_ended(self, tmp_path: Path, timers: Timers) -> None:
        config = settings_of(tmp_path, plans=PLANS)
        async with installed(config) as here:
            await top_up(here, 7)
            await subscribe(here, 0)
            await here.treasury.give("default", grant("a", NOW_MS), "why")
            await here.treasury.give("default", grant("b", NOW_MS + 1), "why")
        timers.set.clear()
        async with installed(config) as here:
            assert here.treasury.of("default").left == Funds((grant("b", NOW_MS + 1),), None, 7)
            assert await expired(here) == [("grant:a", -10), ("subscription", -50)]
            assert len(timers.set) == 1

    async def test_what_cannot_expire_is_not_looked_after(self, tmp_path: Path, timers: Timers) -> None:
        config = settings_of(tmp_path)
        async with installed(config) as here:
            await top_up(here, 7)
            await here.treasury.give("default", grant(), "why")
        async with installed(config) as here:
            assert here.treasury.of("default").left == Funds((grant(),), None, 7)
        assert timers.set == []


class TestPlans:
    async def test_a_subscription_brings_its_plan_and_takes_it_along(
        self, here: Installation, timers: Timers, replanned: list[str]
    ) -> None:
        await here.keyring.change_account(
            "default", lambda account: Account("default", "free", enabled=True, created_ms=0)
        )
        key = await here.keyring.add(blank_key(NOW_MS), new_secret())
        assert (key.plan, key.limits.rpm) == ("free", 5)
        await subscribe(here, 1000)
        assert (key.plan, key.limits.rpm, replanned) == ("pro", 500, ["default"])
        here.clock.ms += 999
        timers.go_off()
        await committed(here)
        assert (key.plan, replanned) == ("pro", ["default"])
        here.clock.ms += 1
        timers.go_off()
        assert (key.plan, key.limits.rpm) == ("free", 5)  # at once, the entry follows
        await committed(here)
        assert here.treasury.of("default").left.subscription is None
        assert await expired(here) == [("subscription", -50)]

    async def test_money_and_tokens_bring_none(self, here: Installation, replanned: list[str]) -> None:
        await subscribe(here, 1000)
        replanned.clear()
        await top_up(here, 7)
        await here.treasury.give("default", grant(), "why")
        assert replanned == []

    async def test_another_term_of_a_plan_is_another(self, here: Installation, replanned: list[str]) -> None:
        await subscribe(here, 0)
        here.clock.ms += 1
        replanned.clear()
        await subscribe(here, 1000)
        assert replanned == ["default"]
        assert here.treasury.of("default").left.subscription is not None

    async def test_nobody_needs_to_listen(self, here: Installation) -> None:
        treasury = Treasury(FundStore(here.database), here.clock)
        bought = Subscription("pro", 5, 5, 0, NOW_MS + 1)
        cause = Cause("default", NOW_MS, EntryKind.SUBSCRIBE, "admin")
        work: Change = lambda connection: ledger.subscribe(connection, cause, 0, bought)  # noqa: E731  # one line
        await treasury.change("default", MoneyCall("k", "r", NOW_MS), work, shown)
        assert treasury.of("default").left.subscription == bought


class Gated(FundStore):
    """A store whose expiries end when, and as, a test says."""

    def __init__(self, here: Installation) -> None:
        super().__init__(here.database)
        self.asked: list[tuple[str, asyncio.Future[Funds]]] = []

    def expire(self, account: str, now_ms: int) -> asyncio.Future[Funds]:
        commit: asyncio.Future[Funds] = asyncio.get_running_loop().create_future()
        self.asked.append((account, commit))
        return commit


async def rich_in(here: Installation, store: FundStore, *accounts: str) -> Treasury:
    """Return a treasury over a store, in which each account has a grant that is about to expire."""
    treasury = Treasury(store, here.clock)
    for account in accounts:
        if account != "default":
            await here.keyring.add_account(Account(account, None, enabled=True, created_ms=0))
        await treasury.give(account, grant(f"of-{account}", NOW_MS + 5), "why")
    return treasury


async def turn() -> None:
    """Let the callbacks of futures run."""
    await asyncio.sleep(0)


class TestExpiry:
    async def test_it_is_looked_each_second_as_long_as_something_can_expire(
        self, here: Installation, timers: Timers
    ) -> None:
        assert timers.set == []
        await top_up(here, 7)
        await here.treasury.give("default", grant("a"), "why")
        assert timers.set == []
        await here.treasury.give("default", grant("b", NOW_MS + 2000), "why")
        await here.treasury.give("default", grant("c", NOW_MS + 1000), "why")
        for moment in (0, 999, 1999):
            here.clock.ms = NOW_MS + moment
            timers.go_off()
            await committed(here)
        assert await expired(here) == [("grant:c", -10)]
        here.clock.ms = NOW_MS + 2000
        timers.go_off()
        assert here.treasury.of("default").left.grants == (grant("b", NOW_MS + 2000), grant("a"))
        await committed(here)
        assert here.treasury.of("default").left == Funds((grant("a"),), None, 7)
        assert await expired(here) == [("grant:c", -10), ("grant:b", -10)]
        assert timers.set == []

    async def test_what_runs_is_waited_for(
        self, here: Installation, timers: Timers, replanned: list[str]
    ) -> None:
        await subscribe(here, 1000)
        funds = here.treasury.of("default")
        funds.take("exchange", here.clock.ms, Hold())
        here.clock.ms += 1000
        timers.go_off()
        await committed(here)
        assert await expired(here) == []
        assert replanned == ["default"] * 2  # its plan has ended all the same
        funds.give_back("exchange")
        timers.go_off()
        await committed(here)
        assert await expired(here) == [("subscription", -50)]

    async def test_while_it_is_being_taken_nobody_looks(self, here: Installation, timers: Timers) -> None:
        store = Gated(here)
        treasury = await rich_in(here, store, "default", "other")
        here.clock.ms = NOW_MS + 5
        timers.go_off()
        assert [account for account, _ in store.asked] == ["default", "other"]
        assert timers.set == []
        store.asked[0][1].set_result(Funds())
        await turn()
        assert treasury.of("default").left == Funds()
        assert timers.set == []
        store.asked[1][1].set_result(Funds((grant("late", NOW_MS + 9),)))
        await turn()
        assert len(timers.set) == 1

    async def test_what_could_not_be_taken_is_taken_a_second_later(
        self, here: Installation, timers: Timers, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = Gated(here)
        treasury = await rich_in(here, store, "default")
        here.clock.ms = NOW_MS + 5
        ends = (LedgerUnavailable(), None, sqlite3.IntegrityError("a bad row"))
        for count, error in enumerate(ends, 1):
            timers.go_off()
            (_, commit) = store.asked[-1]
            assert len(store.asked) == count
            if error is None:
                commit.cancel()
            else:
                commit.set_exception(error)
            await turn()
            assert len(treasury.of("default").left.grants) == 1
        assert [record.getMessage() for record in caplog.records] == [
            "what expired of default could not be taken"
        ]
        assert "a bad row" in caplog.text
        timers.go_off()
        store.asked[-1][1].set_result(Funds())
        await turn()
        assert treasury.of("default").left == Funds()
        assert timers.set == []

    async def test_after_the_end_nobody_looks(self, here: Installation, timers: Timers) -> None:
        store = Gated(here)
        treasury = await rich_in(here, store, "default")
        treasury.close()
        (timer,) = timers.set
        assert timer.cancelled
        timers.set.clear()
        await treasury.give("default", grant("late", NOW_MS + 9), "why")
        assert timers.set == []

    async def test_it_is_looked_by_itself(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(treasury_module, "LOOK_S", 0)
        async with installed(settings_of(tmp_path)) as here:
            await here.treasury.give("default", grant(expires_ms=NOW_MS + 5), "why")
            here.clock.ms += 5
            while here.treasury.of("default").left.grants:
                await asyncio.sleep(0)
            assert await expired(here) == [("grant:g", -10)]
