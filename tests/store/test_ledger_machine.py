"""Whatever happens to accounts, in whatever order: the file says what a plain model says.

The model knows nothing of SQL, of transactions or of the code under test: lists, and fractions.
"""

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from proxy.core.entities import Billing, EntryKind, Finish, Usage, UsageRecord
from proxy.core.errors import BadRequest, InsufficientQuota, RequestRefused
from proxy.core.funding import Funds, Grant, Subscription, Worst
from proxy.gateway.funds import AccountFunds
from proxy.gateway.treasury import Treasury
from proxy.store import database as database_module
from proxy.store import ledger, records
from proxy.store.committer import Committer, Job
from proxy.store.daily import Additions
from proxy.store.database import Database
from proxy.store.errors import LedgerUnavailable
from proxy.store.funds import Changed, FundStore
from proxy.store.ledger import Cause
from proxy.store.usage import Settlement, UsageStore
from tests.store.test_ledger import Work, expire_work, money_call
from tests.store.test_usage import Failing
from tests.support.keys import SetClock
from tests.support.records import admitted, record

START_MS = 1_000_000


# -- the model


@dataclass
class Given:
    id: str
    left: int
    created: int
    models: tuple[str, ...] | None
    expires: int | None

    def pays(self, model: str, at: int) -> bool:
        return (self.expires is None or at < self.expires) and (self.models is None or model in self.models)


@dataclass
class Credit:
    left: int
    expires: int


@dataclass
class Book:
    """The funds of one account, and what runs on them."""

    wallet: int = 0
    credit: Credit | None = None
    grants: list[Given] = field(default_factory=list)
    #: Tokens by grant, and nanos, that each running exchange holds.
    holds: dict[str, tuple[dict[str, int], int]] = field(default_factory=dict)

    def usable(self, model: str, at: int) -> list[Given]:
        found = [each for each in self.grants if each.left and each.pays(model, at)]
        return sorted(found, key=lambda each: (each.expires or 10**18, each.created, each.id))

    def money(self, at: int) -> int:
        return self.wallet + (self.credit.left if self.credit and at < self.credit.expires else 0)

    def held_nanos(self) -> int:
        return sum(nanos for _, nanos in self.holds.values())

    def held_tokens(self, id: str) -> int:
        return sum(tokens.get(id, 0) for tokens, _ in self.holds.values())

    def admits(self, worst: Worst, model: str, at: int, credit_limit: int) -> bool:
        unheld = [each for each in self.usable(model, at) if each.left > self.held_tokens(each.id)]
        if worst.free or (unheld and (worst.tokens or not worst.nanos)):
            return True
        available = self.money(at) - self.held_nanos()
        larger_than_all = worst.nanos > self.money(at) + credit_limit
        return available > -credit_limit and (larger_than_all or available + credit_limit >= worst.nanos)

    def pay(self, model: str, at: int, tokens: int, cost: int) -> tuple[int, int, int]:
        missing = tokens
        for each in self.usable(model, at):
            part = min(each.left, missing)
            each.left -= part
            missing -= part
        money = share(cost, tokens - missing, tokens)
        credit = self.credit if self.credit and at < self.credit.expires else None
        of_credit = min(money, credit.left) if credit else 0
        if credit:
            credit.left -= of_credit
        self.wallet -= money - of_credit
        return tokens - missing, of_credit, money - of_credit

    def expire(self, at: int) -> None:
        for each in self.grants:
            if each.expires is not None and each.expires <= at:
                each.left = 0
        if self.credit and self.credit.expires <= at:
            self.credit = None


def share(cost: int, granted: int, tokens: int) -> int:
    """Return what is paid in money, as docs/billing.md says it."""
    return floor(Fraction(cost * (tokens - granted), tokens) + Fraction(1, 2)) if tokens else cost


@dataclass
class Exchange:
    """One that was admitted. An orphan's client was told that it was not: its process knows it no more."""

    record: UsageRecord
    account: str
    orphan: bool = False
    noted: UsageRecord | None = None
    settling: UsageRecord | None = None
    settlement: Settlement | None = None


# -- the machine

AMOUNTS = st.integers(0, 3000)
MODELS = st.sampled_from(["fast", "slow"])
TIMES = st.none() | st.integers(-5, 60)
INDEX = st.integers(0, 10**6)
PRICES = st.integers(0, 300)
#: Tokens and nanos at most, model, whether it is free, credit limit.
REQUESTS = st.tuples(
    st.integers(0, 1000),
    st.integers(0, 1000),
    MODELS,
    st.sampled_from([False, False, False, True]),
    st.sampled_from([0, 0, 100]),
)
#: Tokens, cost, billing.
ENDS = st.tuples(
    st.integers(0, 1500),
    st.integers(0, 1500),
    st.sampled_from([Billing.SETTLED, Billing.SETTLED, Billing.ESTIMATED, Billing.VOID]),
)


class LedgerMachine(RuleBasedStateMachine):
    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "sluice.db"
        shutil.copyfile(self.template, self.path)
        self.loop = asyncio.new_event_loop()
        self.clock = SetClock(UTC)
        self.clock.ms = START_MS
        self.books: dict[str, Book] = {"default": Book()}
        self.funds: dict[str, AccountFunds] = {"default": AccountFunds("default", Funds())}
        self.running: dict[str, Exchange] = {}
        self.calls: list[tuple[str, str, Callable[[sqlite3.Connection], None]]] = []
        self.costs = 0
        self.count = 0
        self.fail_at: int | None = None
        self.open()

    def open(self) -> None:
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        for pragma in ("foreign_keys = ON", "journal_mode = WAL", "synchronous = OFF"):
            self.connection.execute(f"PRAGMA {pragma}")
        self.additions = Additions()
        self.committer = Committer(self.connection, self.path, self.finish)
        self.committer.companions.append(self.additions)

    def teardown(self) -> None:
        self.connection.close()
        self.loop.close()
        self.folder.cleanup()

    # -- how the parts under test are used

    def commit(self, work: Work, *, keep: bool = False) -> Job:
        """Commit a work; if a failure was drawn, SQLite fails at that step of it."""
        job = Job(work, None, keep=keep)
        step, self.fail_at = self.fail_at, None
        if step is not None:
            Failing(self.connection, step)
        self.committer.commit([job])
        self.connection.set_progress_handler(None, 0)
        return job

    def finish(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if isinstance(job.work, Settlement):
                assert job.error is None
                assert job.result is not None
                self.settled(job)

    def settled(self, job: Job) -> None:
        (exchange,) = [each for each in self.running.values() if each.settlement is job.work]
        assert exchange.settling is not None
        self.pay(exchange, exchange.settling)
        future: asyncio.Future[Any] = self.loop.create_future()
        future.set_result(job.result)
        self.funds[exchange.account].settled(exchange.record.id, future)

    def pay(self, exchange: Exchange, item: UsageRecord) -> None:
        """Let the model pay."""
        book = self.books[exchange.account]
        del self.running[item.id]
        book.holds.pop(item.id, None)
        book.pay(item.model, item.created_ms, item.usage.total_tokens, item.cost_nanos)
        self.costs += item.cost_nanos

    def change(self, account: str, change: Callable[[sqlite3.Connection], None]) -> Exception | None:
        """Make a call about money; return why it was refused. If the database fails, it is repeated."""
        self.count += 1
        key = f"call-{self.count}"
        self.calls.append((account, key, change))
        job = self.commit(money_call(account, change, request=account, key=key))
        if isinstance(job.error, LedgerUnavailable):
            job = self.commit(money_call(account, change, request=account, key=key))
        if job.error is None:
            assert isinstance(job.result, Changed)
            self.funds[account].left = job.result.funds
        else:
            self.calls.pop()
        return job.error

    def account(self, index: int) -> str:
        return list(self.books)[index % len(self.books)]

    def cause(self, account: str, kind: EntryKind) -> Cause:
        return Cause(account, self.clock.ms, kind, "admin")

    def at(self, offset: int | None) -> int | None:
        return None if offset is None else self.clock.ms + offset

    # -- what happens

    @initialize(
        count=st.integers(1, 3),
        wallet=AMOUNTS,
        credit=st.sampled_from([0, 100, 1000]),
        tokens=st.sampled_from([0, 50, 500]),
    )
    def begin(self, count: int, wallet: int, credit: int, tokens: int) -> None:
        for number in range(count - 1):
            self.make_account(number)
        self.top_up(0, wallet)
        if credit:
            self.subscribe(0, 0, credit, 60)
        if tokens:
            self.give(0, tokens, None, 90)

    def make_account(self, number: int) -> None:
        name = f"team-{number}"
        self.commit(
            lambda connection: connection.execute(
                "INSERT INTO accounts (name, enabled, created_ms) VALUES (?, 1, 0)", (name,)
            )
        )
        self.books[name] = Book()
        self.funds[name] = AccountFunds(name, Funds())

    @rule(step=st.integers(1, 400))
    def fail_soon(self, step: int) -> None:
        self.fail_at = step

    @rule(forward=st.integers(-20, 60))
    def move_the_clock(self, forward: int) -> None:
        self.clock.ms += forward

    @rule(index=INDEX, nanos=AMOUNTS)
    def top_up(self, index: int, nanos: int) -> None:
        account = self.account(index)
        why = self.cause(account, EntryKind.TOPUP)
        assert self.change(account, lambda connection: ledger.top_up(connection, why, nanos)) is None
        self.books[account].wallet += nanos

    @rule(
        index=INDEX,
        tokens=st.integers(1, 3000),
        models=st.sampled_from([None, ("fast",), ("slow",), ()]),
        expires=TIMES,
    )
    def give(self, index: int, tokens: int, models: tuple[str, ...] | None, expires: int | None) -> None:
        account = self.account(index)
        why = self.cause(account, EntryKind.GRANT)
        given = Grant(f"grt-{self.count}", tokens, tokens, self.clock.ms, models, self.at(expires))
        assert self.change(account, lambda connection: ledger.give_tokens(connection, why, given)) is None
        self.books[account].grants.append(Given(given.id, tokens, given.created_ms, models, given.expires_ms))

    @rule(index=INDEX, price=PRICES, credit=AMOUNTS, lasts=st.integers(1, 60))
    def subscribe(self, index: int, price: int, credit: int, lasts: int) -> None:
        account, now = self.account(index), self.clock.ms
        book, why = self.books[account], self.cause(account, EntryKind.SUBSCRIBE)
        bought = Subscription("pro", credit, credit, now, now + lasts)
        error = self.change(account, lambda connection: ledger.subscribe(connection, why, price, bought))
        if book.credit and now < book.credit.expires:
            assert isinstance(error, RequestRefused)
            assert error.code == "subscription_active"
        elif price and book.wallet < price:
            assert isinstance(error, InsufficientQuota)
        else:
            assert error is None
            book.wallet -= price
            book.credit = Credit(credit, now + lasts)

    @rule(index=INDEX, fund=st.integers(0, 4), amount=st.integers(-2000, 2000))
    def adjust(self, index: int, fund: int, amount: int) -> None:
        account = self.account(index)
        book, why = self.books[account], self.cause(account, EntryKind.ADJUST)
        grant = book.grants[fund % len(book.grants)] if fund > 1 and book.grants else None
        name = f"grant:{grant.id}" if grant else ("wallet", "subscription")[fund % 2]
        error = self.change(account, lambda connection: ledger.adjust(connection, why, name, amount))
        if grant and grant.left + amount >= 0:
            grant.left += amount
        elif name == "wallet":
            book.wallet += amount
        elif name == "subscription" and book.credit and book.credit.left + amount >= 0:
            book.credit.left += amount
        else:
            assert isinstance(error, BadRequest)
            return
        assert error is None

    @precondition(lambda self: self.calls)
    @rule(index=INDEX, same=st.booleans())
    def repeat_a_call(self, index: int, same: bool) -> None:
        account, key, change = self.calls[index % len(self.calls)]
        self.fail_at = None
        job = self.commit(money_call(account, change, request=account if same else "other", key=key))
        if same:
            assert isinstance(job.result, Changed)
            assert job.result.replayed
        else:
            assert isinstance(job.error, RequestRefused)
            assert job.error.code == "idempotency_conflict"

    @rule(index=INDEX, requests=st.lists(REQUESTS, min_size=1, max_size=4))
    def admit(self, index: int, requests: list[tuple[int, int, str, bool, int]]) -> None:
        for request in requests:
            self.admit_one(self.account(index), *request)

    @rule(index=INDEX, request=REQUESTS, end=ENDS)
    def run_to_the_end(
        self, index: int, request: tuple[int, int, str, bool, int], end: tuple[int, int, Billing]
    ) -> None:
        exchange = self.admit_one(self.account(index), *request)
        if exchange is not None:
            self.settle_one(exchange, *end)

    def admit_one(
        self, account: str, tokens: int, nanos: int, model: str, free: bool, credit_limit: int
    ) -> Exchange | None:
        now, book, funds = self.clock.ms, self.books[account], self.funds[account]
        worst = Worst(tokens, 0, 0 if free else nanos, free)
        allowed = book.admits(worst, model, now, credit_limit)
        try:
            hold = funds.check(
                worst, model=model, now_ms=now, credit_limit_nanos=credit_limit, currency="USD"
            )
        except InsufficientQuota:
            assert not allowed
            return None
        assert allowed
        self.count += 1
        item = msgspec.structs.replace(
            record(0, account=account, model=model, created_ms=now), id=f"req-{self.count:06}"
        )
        funds.take(item.id, now, hold)
        job = self.commit(lambda connection: records.write_hold(connection, admitted(item), hold))
        if job.error is not None:
            funds.give_back(item.id)
            if self.row(item.id) is not None:
                self.running[item.id] = Exchange(item, account, orphan=True)
            return None
        book.holds[item.id] = (dict(hold.grants), hold.nanos)
        self.running[item.id] = Exchange(item, account)
        return self.running[item.id]

    def row(self, id: str) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] | None = self.connection.execute(
            "SELECT finish FROM exchanges WHERE id = ?", (id,)
        ).fetchone()
        return found

    def alive(self) -> list[Exchange]:
        return [each for each in self.running.values() if not each.orphan and each.settling is None]

    @precondition(lambda self: self.alive())
    @rule(index=INDEX, tokens=AMOUNTS, cost=AMOUNTS)
    def note_progress(self, index: int, tokens: int, cost: int) -> None:
        exchange = self.alive()[index % len(self.alive())]
        noted = ended(exchange.record, self.clock.ms, tokens, cost, Billing.ESTIMATED, Finish.CRASH)
        self.fail_at = None
        self.commit(lambda connection: records.write_progress(connection, [noted]))
        exchange.noted = noted

    @precondition(lambda self: self.alive())
    @rule(index=INDEX, ends=st.lists(ENDS, min_size=1, max_size=4))
    def settle(self, index: int, ends: list[tuple[int, int, Billing]]) -> None:
        for end in ends:
            if there := self.alive():
                self.settle_one(there[index % len(there)], *end)

    def settle_one(self, exchange: Exchange, tokens: int, cost: int, billing: Billing) -> None:
        if billing is Billing.VOID:
            tokens = cost = 0
        exchange.settling = ended(exchange.record, self.clock.ms, tokens, cost, billing, Finish.OK)
        exchange.settlement = Settlement(exchange.settling, self.additions, paid=True)
        self.commit(exchange.settlement, keep=True)

    @rule(index=INDEX)
    def settle_again(self, index: int) -> None:
        finished = self.connection.execute(
            "SELECT id, account, created_ms, model FROM exchanges WHERE finish IS NOT NULL"
        ).fetchall()
        if not finished:
            return
        id, account, created_ms, model = finished[index % len(finished)]
        item = msgspec.structs.replace(record(0, account=account, created_ms=created_ms, model=model), id=id)
        settlement = Settlement(item, self.additions, paid=True)
        self.fail_at = None
        job = self.commit(lambda connection: settlement(connection))
        assert job.error is None

    @rule(index=INDEX)
    def expire(self, index: int) -> None:
        account, now = self.account(index), self.clock.ms
        book, funds = self.books[account], self.funds[account]
        ends = [each.expires for each in book.grants if each.left and each.expires is not None]
        ends += [book.credit.expires] if book.credit else []
        due = [end for end in ends if end <= now]
        begun = [self.running[id].record.created_ms for id in book.holds]
        assert funds.expired(now) is (bool(due) and all(created >= max(due) for created in begun))
        if funds.expired(now):
            work = expire_work(account, now)
            job = self.commit(work)
            if job.error is not None:
                job = self.commit(work)
            assert isinstance(job.result, Funds)
            funds.left = job.result
            book.expire(now)

    @rule(really=st.sampled_from([False, False, True]))
    def crash(self, really: bool) -> None:
        """The process is killed, and started again; works that waited for the disk are lost."""
        if not really:
            return
        self.fail_at = None
        for exchange in list(self.running.values()):
            row = self.row(exchange.record.id)
            if exchange.settling is not None and row != (None,):  # it was committed all the same
                self.pay(exchange, exchange.settling)
        self.connection.close()
        self.loop.run_until_complete(self.restart())
        self.open()

    async def restart(self) -> None:
        database = await Database.open(self.path)
        usage = UsageStore(database)
        assert await usage.recover() == len(self.running)
        assert await usage.recover() == 0
        treasury = Treasury(FundStore(database), self.clock)
        await treasury.load()
        treasury.close()
        await database.close()
        for id, exchange in sorted(self.running.items()):
            item = exchange.noted or exchange.record
            if exchange.noted is None:
                item = ended(exchange.record, 0, 0, 0, Billing.VOID, Finish.CRASH)
            assert item.id == id
            self.pay(exchange, item)
        for account, book in self.books.items():
            book.expire(self.clock.ms)
            self.funds[account] = treasury.of(account)

    # -- what always holds

    @invariant()
    def the_file_says_what_the_model_says(self) -> None:
        waiting = any(each.settling for each in self.running.values())
        for account, book in self.books.items():
            left = ledger.read_funds(self.connection, account)
            if waiting:
                continue
            assert left == self.funds[account].left
            assert left.wallet_nanos == book.wallet
            assert (left.subscription and left.subscription.left_nanos) == (book.credit and book.credit.left)
            there = {each.id: each.left for each in book.grants if each.left}
            assert {each.id: each.left for each in left.grants} == there
            assert self.funds[account].held_nanos == book.held_nanos()
            available = book.money(self.clock.ms) - book.held_nanos()
            assert self.funds[account].available_nanos(self.clock.ms) == available

    @invariant()
    def entries_make_a_chain_that_ends_in_the_balance(self) -> None:
        balances: dict[tuple[str, str], int] = {}
        for account, fund, amount, after in self.connection.execute(
            "SELECT account, fund, amount, balance_after FROM ledger ORDER BY id"
        ):
            balances[account, fund] = balances.get((account, fund), 0) + amount
            assert balances[account, fund] == after
            assert after >= 0 or fund == "wallet"
        there: dict[tuple[str, str], int] = {}
        for account, wallet in self.connection.execute("SELECT name, wallet_nanos FROM accounts"):
            there[account, "wallet"] = wallet
        for account, credit in self.connection.execute("SELECT account, left_nanos FROM subscriptions"):
            there[account, "subscription"] = credit
        for account, id, left in self.connection.execute("SELECT account, id, tokens_left FROM grants"):
            there[account, f"grant:{id}"] = left
        assert {key: value for key, value in balances.items() if value} == {
            key: value for key, value in there.items() if value
        }

    @invariant()
    def each_exchange_is_paid_once(self) -> None:
        charged: dict[str, list[int]] = {}
        for id, account, fund, amount in self.connection.execute(
            "SELECT exchange, account, fund, amount FROM ledger WHERE kind = 'charge'"
        ):
            sums = charged.setdefault(id, [0, 0, 0])
            sums[0 if fund.startswith("grant:") else 1 if fund == "subscription" else 2] -= amount
            assert self.connection.execute(
                "SELECT account FROM exchanges WHERE id = ?", (id,)
            ).fetchone() == (account,)
        total = 0
        for id, tokens, cost, *paid in self.connection.execute(
            "SELECT id, input_tokens + output_tokens, cost_nanos, paid_tokens, paid_subscription_nanos, "
            "paid_wallet_nanos FROM exchanges WHERE finish IS NOT NULL"
        ):
            assert charged.pop(id, [0, 0, 0]) == paid
            assert paid[1] + paid[2] == share(cost, paid[0], tokens)
            total += cost
        assert not charged
        (summed,) = self.connection.execute("SELECT coalesce(sum(cost_nanos), 0) FROM daily_sums").fetchone()
        assert summed == total
        if not any(each.settling for each in self.running.values()):
            assert total == self.costs

    @invariant()
    def what_runs_has_a_hold_and_what_ended_has_none(self) -> None:
        for id, finish, hold in self.connection.execute("SELECT id, finish, hold FROM exchanges"):
            assert (finish is None) == (hold is not None)
            exchange = self.running.get(id)
            assert exchange is not None or finish is not None
            if exchange is not None and exchange.settling is None:
                assert finish is None


def ended(
    begun: UsageRecord, at: int, tokens: int, cost: int, billing: Billing, finish: Finish
) -> UsageRecord:
    return msgspec.structs.replace(
        begun,
        ended_ms=at,
        usage=Usage(tokens // 2, tokens - tokens // 2),
        cost_nanos=cost,
        billing=billing,
        finish=finish,
    )


@pytest.fixture(scope="module", autouse=True)
def template(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("machine") / "template.db"
    connection = database_module._open_writing(path, "NORMAL")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    LedgerMachine.template = path


@pytest.mark.parametrize(
    ("examples", "steps"),
    [
        pytest.param(40, 25, id="short"),
        pytest.param(1500, 50, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    ],
)
def test_the_ledger_against_its_model(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
