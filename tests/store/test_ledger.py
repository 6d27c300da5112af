"""The ledger: what every change of a balance leaves behind, and what can never be changed again."""

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from proxy.core.entities import Billing, EntryKind, Finish, Usage, UsageRecord
from proxy.core.errors import BadRequest, InsufficientQuota, RequestRefused
from proxy.core.funding import Funds, Grant, Hold, Payment, Subscription
from proxy.store import database as database_module
from proxy.store import ledger, records
from proxy.store.committer import Committer, Job
from proxy.store.database import Database
from proxy.store.errors import LedgerUnavailable
from proxy.store.funds import FundStore, MoneyCall
from proxy.store.ledger import MOST, Cause
from proxy.store.usage import Additions, Settled, Settlement, UsageStore
from tests.store.test_usage import Failing
from tests.support.records import FIRST_MS, admitted, record, record_id

Rows = Callable[..., list[tuple[Any, ...]]]
Work = Callable[[sqlite3.Connection], object]

ACCOUNT = "default"
ENTRIES = "SELECT kind, fund, amount, balance_after FROM ledger ORDER BY id"
APPEND_ONLY = "the ledger is append-only"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    connection = database_module._open_writing(path, "NORMAL")
    yield connection
    connection.close()


def cause(kind: EntryKind = EntryKind.ADJUST, at_ms: int = 1000, account: str = ACCOUNT) -> Cause:
    return Cause(account, at_ms, kind, "admin", "why")


def grant(id: str = "g", tokens: int = 100, **fields: Any) -> Grant:
    return msgspec.structs.replace(Grant(id, tokens, tokens, 0), **fields)


def subscription(credit: int = 50, expires_ms: int = 2000, plan: str = "pro") -> Subscription:
    return Subscription(plan, credit, credit, 1000, expires_ms)


def top_up(connection: sqlite3.Connection, nanos: int, account: str = ACCOUNT) -> None:
    ledger.top_up(connection, cause(EntryKind.TOPUP, account=account), nanos)


def give(connection: sqlite3.Connection, *grants: Grant, account: str = ACCOUNT) -> None:
    for each in grants:
        ledger.give_tokens(connection, cause(EntryKind.GRANT, account=account), each)


def subscribe(connection: sqlite3.Connection, price: int = 0, at_ms: int = 1000, **fields: Any) -> None:
    ledger.subscribe(connection, cause(EntryKind.SUBSCRIBE, at_ms), price, subscription(**fields))


def funds(connection: sqlite3.Connection, account: str = ACCOUNT) -> Funds:
    return ledger.read_funds(connection, account)


def entries(connection: sqlite3.Connection) -> list[tuple[str, str, int, int]]:
    return connection.execute(ENTRIES).fetchall()


def add_account(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("INSERT INTO accounts (name, enabled, created_ms) VALUES (?, 1, 0)", (name,))


def charged(number: int, tokens: int, cost_nanos: int, **changes: Any) -> UsageRecord:
    return record(number, usage=Usage(tokens), cost_nanos=cost_nanos, **changes)


class TestNothingIsEverChanged:
    @pytest.fixture
    def written(self, connection: sqlite3.Connection) -> tuple[Any, ...]:
        top_up(connection, 9)
        ledger.charge(connection, funds(connection), Payment((), 0, 2), record(1))
        return cast(
            tuple[Any, ...], connection.execute("SELECT * FROM ledger WHERE kind = 'charge'").fetchone()
        )

    COLUMNS = "created_ms, account, kind, fund, amount, balance_after, exchange, actor, note"

    @pytest.mark.parametrize("outside", [False, True], ids=["the writer", "another program"])
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE ledger SET amount = 1",
            "UPDATE ledger SET note = 'nobody looks at this' WHERE id = 1",
            "UPDATE OR REPLACE ledger SET id = 1 WHERE id = 2",
            "DELETE FROM ledger",
            "DELETE FROM ledger WHERE id = 1",
            f"INSERT OR REPLACE INTO ledger SELECT 2, {COLUMNS} FROM ledger WHERE id = 1",
            f"INSERT OR REPLACE INTO ledger ({COLUMNS}) SELECT {COLUMNS} FROM ledger WHERE id = 2",
            f"REPLACE INTO ledger ({COLUMNS}) SELECT {COLUMNS} FROM ledger WHERE id = 2",
            f"INSERT OR IGNORE INTO ledger ({COLUMNS}) SELECT {COLUMNS} FROM ledger WHERE id = 2",
            f"INSERT INTO ledger ({COLUMNS}) SELECT {COLUMNS} FROM ledger WHERE id = 2",
            f"INSERT INTO ledger SELECT id, {COLUMNS} FROM ledger WHERE id = 2 "
            "ON CONFLICT (id) DO UPDATE SET amount = 0",
        ],
    )
    def test_an_entry_stays_as_it_is(
        self,
        connection: sqlite3.Connection,
        path: Path,
        written: tuple[Any, ...],
        statement: str,
        outside: bool,
    ) -> None:
        before = connection.execute("SELECT * FROM ledger").fetchall()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            with pytest.raises(sqlite3.IntegrityError, match=APPEND_ONLY):
                (other if outside else connection).execute(statement)
        assert connection.execute("SELECT * FROM ledger").fetchall() == before
        assert written in before

    def test_one_exchange_charges_a_fund_once_and_may_charge_several(
        self, connection: sqlite3.Connection, written: tuple[Any, ...]
    ) -> None:
        with pytest.raises(sqlite3.IntegrityError, match=APPEND_ONLY):
            ledger.charge(connection, funds(connection), Payment((), 0, 2), record(1))
        give(connection, grant())
        ledger.charge(connection, funds(connection), Payment((("g", 2),)), record(1))
        ledger.charge(connection, funds(connection), Payment((), 0, 2), record(2))

    def test_without_its_trigger_the_index_refuses_a_second_charge(
        self, connection: sqlite3.Connection, written: tuple[Any, ...]
    ) -> None:
        connection.execute("DROP TRIGGER ledger_is_never_replaced")
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            ledger.charge(connection, funds(connection), Payment((), 0, 2), record(1))

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE accounts SET wallet_nanos = 0.5",
            "UPDATE accounts SET wallet_nanos = 'all'",
            "UPDATE accounts SET wallet_nanos = 9223372036854775807 + 1",  # SQLite makes a REAL of it
            "UPDATE grants SET tokens_left = -1",
            "UPDATE subscriptions SET left_nanos = -1",
            "INSERT INTO ledger (created_ms, account, kind, fund, amount, balance_after, actor) "
            "VALUES (0, 'default', 'gift', 'wallet', 1, 1, 'me')",
            "INSERT INTO ledger (created_ms, account, kind, fund, amount, balance_after, actor) "
            "VALUES (0, 'default', 'topup', 'wallet', 0.5, 1, 'me')",
        ],
    )
    def test_the_tables_take_no_nonsense(
        self, connection: sqlite3.Connection, written: tuple[Any, ...], statement: str
    ) -> None:
        give(connection, grant())
        subscribe(connection)
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(statement)


class TestReading:
    def test_a_new_account_has_nothing(self, connection: sqlite3.Connection) -> None:
        assert funds(connection) == Funds()

    def test_an_account_must_exist(self, connection: sqlite3.Connection) -> None:
        with pytest.raises(LookupError, match="no such account: nobody"):
            funds(connection, "nobody")

    def test_all_funds(self, connection: sqlite3.Connection) -> None:
        top_up(connection, 7)
        subscribe(connection)
        given = [
            grant("late", models=("a*", "b"), expires_ms=9000),
            grant("never", created_ms=1),
            grant("soon", expires_ms=3000),
            grant("older", created_ms=0),
            grant("b", created_ms=1),
            grant("none", models=()),
        ]
        give(connection, *given)
        give(connection, grant("empty"))
        ledger.adjust(connection, cause(), "grant:empty", -100)
        found = funds(connection)
        assert (found.wallet_nanos, found.subscription) == (7, subscription())
        assert [each.id for each in found.grants] == ["soon", "late", "none", "older", "b", "never"]
        assert sorted(found.grants, key=str) == sorted(given, key=str)


class TestCharging:
    def test_each_fund_that_pays_gets_an_entry(self, connection: sqlite3.Connection) -> None:
        top_up(connection, 10)
        subscribe(connection, credit=50)
        give(connection, grant("a", 5), grant("b", 5), grant("c", 5))
        before = funds(connection)
        payment = Payment((("a", 5), ("b", 2)), 50, 11)
        left = ledger.charge(connection, before, payment, record(1))
        assert left == funds(connection)
        assert left.grants == (grant("b", 5, left=3), grant("c", 5))
        assert left.subscription == msgspec.structs.replace(subscription(50), left_nanos=0)
        assert left.wallet_nanos == -1
        assert entries(connection)[-4:] == [
            ("charge", "grant:a", -5, 0),
            ("charge", "grant:b", -2, 3),
            ("charge", "subscription", -50, 0),
            ("charge", "wallet", -11, -1),
        ]

    def test_an_entry_says_when_who_and_why(self, connection: sqlite3.Connection) -> None:
        ledger.charge(connection, funds(connection), Payment((), 0, 3), record(1))
        rows = connection.execute("SELECT * FROM ledger").fetchall()
        assert rows == [
            (1, record(1).ended_ms, ACCOUNT, "charge", "wallet", -3, -3, record_id(1), "gateway", "fast")
        ]
        top_up(connection, 5)
        (row,) = connection.execute("SELECT * FROM ledger WHERE id = 2")
        assert row == (2, 1000, ACCOUNT, "topup", "wallet", 5, 2, None, "admin", "why")

    def test_what_pays_nothing_gets_none(self, connection: sqlite3.Connection) -> None:
        subscribe(connection)
        give(connection, grant())
        before, there = funds(connection), entries(connection)
        assert ledger.charge(connection, before, Payment(), record(1)) == before == funds(connection)
        assert entries(connection) == there

    def test_a_debt_may_be_as_large_as_an_exchange_can_make_it(self, connection: sqlite3.Connection) -> None:
        """A person's correction stops long before: no exchange fails for a balance out of range."""
        ledger.adjust(connection, cause(), "wallet", -MOST)
        left = ledger.charge(connection, funds(connection), Payment((), 0, MOST), record(1))
        assert left.wallet_nanos == -2 * MOST
        with pytest.raises(BadRequest):
            ledger.charge(connection, left, Payment((), 0, 1), record(2))
        top_up(connection, 5)
        assert funds(connection).wallet_nanos == 5 - 2 * MOST
        with pytest.raises(BadRequest, match="the debt would be too large"):
            ledger.adjust(connection, cause(), "wallet", -1)


class TestChangesByPeople:
    def test_top_up(self, connection: sqlite3.Connection) -> None:
        top_up(connection, 5)
        top_up(connection, 6)
        assert funds(connection).wallet_nanos == 11
        assert entries(connection) == [("topup", "wallet", 5, 5), ("topup", "wallet", 6, 11)]

    def test_tokens(self, connection: sqlite3.Connection) -> None:
        given = grant(models=("fast", "gpt-*"), expires_ms=5000)
        give(connection, given)
        assert funds(connection).grants == (given,)
        assert entries(connection) == [("grant", "grant:g", 100, 100)]

    @pytest.mark.parametrize(
        ("fund", "amount", "after"),
        [
            ("wallet", 5, 12),
            ("wallet", -8, -1),
            ("wallet", 0, 7),
            ("subscription", 5, 55),
            ("subscription", -50, 0),
            ("grant:g", 5, 105),
            ("grant:g", -100, 0),
        ],
    )
    def test_a_correction(self, connection: sqlite3.Connection, fund: str, amount: int, after: int) -> None:
        top_up(connection, 7)
        subscribe(connection)
        give(connection, grant())
        sent = msgspec.json.decode(msgspec.json.encode(fund))  # as from a client: equal, not the same
        ledger.adjust(connection, cause(), sent, amount)
        assert entries(connection)[-1] == ("adjust", fund, amount, after)
        left = funds(connection)
        assert left.subscription is not None
        by_fund = {
            "wallet": left.wallet_nanos,
            "subscription": left.subscription.left_nanos,
            "grant:g": sum(each.left for each in left.grants),
        }
        assert by_fund == {"wallet": 7, "subscription": 50, "grant:g": 100} | {fund: after}

    @pytest.mark.parametrize(
        ("fund", "amount", "param", "message"),
        [
            ("subscription", -51, "amount", "the fund would go below zero"),
            ("grant:g", -101, "amount", "the fund would go below zero"),
            ("grant:other", 1, "fund", f"the account {ACCOUNT} has no fund grant:other"),
            ("g", 1, "fund", f"the account {ACCOUNT} has no fund g"),
            ("purse", 1, "fund", f"the account {ACCOUNT} has no fund purse"),
            ("wallet2", 1, "fund", f"the account {ACCOUNT} has no fund wallet2"),
            ("subscriptions", 1, "fund", f"the account {ACCOUNT} has no fund subscriptions"),
            ("", 1, "fund", f"the account {ACCOUNT} has no fund "),
            ("wallet", MOST + 1, "amount", "the balance would be too large"),
            ("wallet", -MOST - 1, "amount", "the debt would be too large"),
            ("subscription", MOST, "amount", "the balance would be too large"),
            ("grant:g", MOST, "amount", "the balance would be too large"),
        ],
    )
    def test_a_correction_that_is_refused_changes_nothing(
        self, connection: sqlite3.Connection, fund: str, amount: int, param: str, message: str
    ) -> None:
        subscribe(connection)
        give(connection, grant())
        add_account(connection, "other")
        give(connection, grant("other"), account="other")
        before, there = funds(connection), entries(connection)
        with pytest.raises(BadRequest) as refused:
            ledger.adjust(connection, cause(), fund, amount)
        assert (refused.value.code, refused.value.param) == ("invalid_value", param)
        assert refused.value.message == f"{param}: {message}."
        assert (funds(connection), entries(connection)) == (before, there)

    def test_there_must_be_a_subscription_to_correct_it(self, connection: sqlite3.Connection) -> None:
        with pytest.raises(BadRequest, match="the account default has no subscription") as refused:
            ledger.adjust(connection, cause(), "subscription", 1)
        assert refused.value.param == "fund"

    def test_balances_stay_within_their_bounds(self, connection: sqlite3.Connection) -> None:
        top_up(connection, MOST)
        with pytest.raises(BadRequest, match="too large"):
            top_up(connection, 1)
        ledger.adjust(connection, cause(), "wallet", -2 * MOST)
        assert funds(connection).wallet_nanos == -MOST
        give(connection, grant(tokens=MOST))
        assert funds(connection).grants[0].left == MOST
        assert 2 * MOST == 8 * 10**18 < 2**63

    @pytest.mark.parametrize("tokens", [0, -1])
    def test_a_grant_has_tokens(self, connection: sqlite3.Connection, tokens: int) -> None:
        with pytest.raises(sqlite3.IntegrityError):
            give(connection, grant(tokens=tokens))

    def test_one_id_is_one_grant(self, connection: sqlite3.Connection) -> None:
        give(connection, grant())
        with pytest.raises(sqlite3.IntegrityError):
            give(connection, grant())


class TestSubscribing:
    def test_it_takes_the_price_and_brings_credit(self, connection: sqlite3.Connection) -> None:
        top_up(connection, 30)
        subscribe(connection, price=30, credit=50)
        assert funds(connection) == Funds((), subscription(), 0)
        assert entries(connection)[1:] == [
            ("subscribe", "wallet", -30, 0),
            ("subscribe", "subscription", 50, 50),
        ]
        row = connection.execute("SELECT DISTINCT created_ms, actor, note FROM ledger").fetchall()
        assert row == [(1000, "admin", "why")]

    def test_the_rest_of_the_wallet_stays(self, connection: sqlite3.Connection) -> None:
        top_up(connection, 100)
        subscribe(connection, price=30)
        assert funds(connection).wallet_nanos == 70

    def test_with_too_little_in_the_wallet_it_is_refused(self, connection: sqlite3.Connection) -> None:
        top_up(connection, 29)
        with pytest.raises(InsufficientQuota) as refused:
            subscribe(connection, price=30)
        assert (refused.value.status, refused.value.code) == (402, "insufficient_balance")
        assert refused.value.message == (
            "The plan pro costs 0.000000030, and the wallet of the account default has 0.000000029."
        )
        assert funds(connection).subscription is None

    def test_credit_does_not_buy_another_subscription(self, connection: sqlite3.Connection) -> None:
        subscribe(connection, credit=50, expires_ms=2000)
        with pytest.raises(InsufficientQuota):
            subscribe(connection, price=1, at_ms=2000)

    def test_one_that_costs_nothing_is_to_be_had_with_debts(self, connection: sqlite3.Connection) -> None:
        ledger.adjust(connection, cause(), "wallet", -5)
        subscribe(connection, price=0)
        assert funds(connection) == Funds((), subscription(), -5)

    def test_while_one_runs_another_is_refused(self, connection: sqlite3.Connection) -> None:
        subscribe(connection, expires_ms=2000)
        with pytest.raises(RequestRefused) as refused:
            subscribe(connection, at_ms=1999, plan="max")
        assert (refused.value.status, refused.value.code) == (409, "subscription_active")
        assert refused.value.message == (
            "The account default is subscribed to pro until 1970-01-01T00:00:02.000Z."
        )
        assert funds(connection).subscription == subscription()

    def test_one_that_has_expired_ends_by_the_next(self, connection: sqlite3.Connection) -> None:
        subscribe(connection, credit=50, expires_ms=2000)
        subscribe(connection, at_ms=2000, credit=70, expires_ms=9000, plan="max")
        assert funds(connection).subscription == subscription(70, 9000, "max")
        assert entries(connection)[-2:] == [
            ("expire", "subscription", -50, 0),
            ("subscribe", "subscription", 70, 70),
        ]
        (row,) = connection.execute("SELECT created_ms, actor, note FROM ledger WHERE kind = 'expire'")
        assert row == (2000, "gateway", "pro")


class TestExpiring:
    @pytest.fixture
    def rich(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        top_up(connection, 3)
        subscribe(connection, credit=50, expires_ms=2000)
        give(connection, grant("a", 10, expires_ms=2000), grant("b", 20, expires_ms=2001), grant("c", 30))
        add_account(connection, "other")
        give(connection, grant("o", 40, expires_ms=10), account="other")
        return connection

    def test_nothing_ends_before_its_time(self, rich: sqlite3.Connection) -> None:
        before, there = funds(rich), entries(rich)
        ledger.expire(rich, ACCOUNT, 1999)
        assert (funds(rich), entries(rich)) == (before, there)

    def test_what_has_expired_is_taken_once(self, rich: sqlite3.Connection) -> None:
        there = len(entries(rich))
        for _ in range(3):
            ledger.expire(rich, ACCOUNT, 2000)
            assert funds(rich) == Funds((grant("b", 20, expires_ms=2001), grant("c", 30)), None, 3)
            assert entries(rich)[there:] == [
                ("expire", "grant:a", -10, 0),
                ("expire", "subscription", -50, 0),
            ]
        assert [each.id for each in funds(rich, "other").grants] == ["o"]
        rows = rich.execute("SELECT DISTINCT created_ms, account, actor FROM ledger WHERE kind = 'expire'")
        assert rows.fetchall() == [(2000, ACCOUNT, "gateway")]

    def test_a_clock_that_goes_back_revives_nothing(self, rich: sqlite3.Connection) -> None:
        ledger.expire(rich, ACCOUNT, 5000)
        ledger.expire(rich, ACCOUNT, 1000)
        assert funds(rich) == Funds((grant("c", 30),), None, 3)

    def test_what_is_used_up_needs_no_end(self, rich: sqlite3.Connection) -> None:
        ledger.adjust(rich, cause(), "grant:a", -10)
        there = len(entries(rich))
        ledger.expire(rich, ACCOUNT, 2000)
        assert entries(rich)[there:] == [("expire", "subscription", -50, 0)]


# -- settlement


def settle(connection: sqlite3.Connection, item: UsageRecord) -> Settled:
    additions = Additions()
    outcome = Settlement(item, additions, paid=True)(connection)
    additions.flush(connection)
    return outcome


def paid(connection: sqlite3.Connection, id: str) -> tuple[Any, ...]:
    return cast(
        tuple[Any, ...],
        connection.execute(
            "SELECT paid_tokens, paid_subscription_nanos, paid_wallet_nanos FROM exchanges WHERE id = ?",
            (id,),
        ).fetchone(),
    )


class TestSettlement:
    def test_the_record_says_who_paid(self, connection: sqlite3.Connection) -> None:
        subscribe(connection, credit=50, expires_ms=FIRST_MS + 10)
        give(connection, grant("a", 100))
        records.write_hold(connection, admitted(record(1)), Hold((("a", 100),), 70))
        outcome = settle(connection, charged(1, 200, 140))
        assert outcome == Settled(True, funds(connection))
        assert paid(connection, record_id(1)) == (100, 50, 20)
        assert entries(connection)[-3:] == [
            ("charge", "grant:a", -100, 0),
            ("charge", "subscription", -50, 0),
            ("charge", "wallet", -20, -20),
        ]
        assert connection.execute("SELECT hold, progress FROM exchanges").fetchall() == [(None, None)]

    def test_what_expired_while_it_ran_still_pays(self, connection: sqlite3.Connection) -> None:
        give(connection, grant("a", 100, expires_ms=FIRST_MS + 2))
        settle(connection, charged(1, 60, 60))
        settle(connection, charged(2, 60, 60))
        assert (paid(connection, record_id(1)), paid(connection, record_id(2))) == ((60, 0, 0), (0, 0, 60))

    def test_a_void_one_takes_nothing(self, connection: sqlite3.Connection) -> None:
        give(connection, grant())
        before, there = funds(connection), entries(connection)
        outcome = settle(connection, charged(1, 0, 0, billing=Billing.VOID, finish=Finish.TIMEOUT))
        assert outcome == Settled(True, before)
        assert entries(connection) == there

    def test_a_second_one_charges_nothing_more(self, connection: sqlite3.Connection) -> None:
        top_up(connection, 100)
        first = settle(connection, charged(1, 10, 30))
        there = entries(connection)
        second = settle(connection, charged(1, 99, 99, finish=Finish.TIMEOUT))
        assert (first.written, second.written) == (True, False)
        assert first.funds == second.funds == funds(connection)
        assert entries(connection) == there
        assert connection.execute("SELECT sum(requests), sum(cost_nanos) FROM daily_sums").fetchone() == (
            1,
            30,
        )

    async def test_what_a_crash_left_is_charged_once(self, path: Path, rows: Rows) -> None:
        """By what was noted of it last; a second recovery, or the lost settlement itself, adds nothing."""
        with closing(database_module._open_writing(path, "NORMAL")) as connection:
            top_up(connection, 100)
            give(connection, grant("a", 10))
            for number in (1, 2, 3):
                records.write_hold(connection, admitted(record(number)), Hold((), 30))
            records.write_running(connection, [admitted(record(4))])
            crashed = {"billing": Billing.ESTIMATED, "finish": Finish.CRASH}
            progress = [charged(1, 5, 5, **crashed), charged(2, 20, 40, **crashed)]
            records.write_progress(connection, progress)
            settle(connection, charged(3, 0, 7))
        for _ in range(2):
            database = await Database.open(path)
            usage = UsageStore(database)
            await usage.recover()
            outcome = await usage.settle(charged(2, 99, 99), paid=True)
            assert not outcome.written
            await database.close()
        columns = "id, billing, finish, paid_tokens, paid_wallet_nanos, hold"
        assert rows(f"SELECT {columns} FROM exchanges ORDER BY id") == [
            (record_id(1), "estimated", "crash", 5, 0, None),
            (record_id(2), "estimated", "crash", 5, 30, None),
            (record_id(3), "settled", "ok", 0, 7, None),
            (record_id(4), "void", "crash", 0, 0, None),
        ]
        assert rows("SELECT fund, sum(amount) FROM ledger WHERE kind = 'charge' GROUP BY 1") == [
            ("grant:a", -10),
            ("wallet", -37),
        ]
        assert rows("SELECT wallet_nanos FROM accounts") == [(63,)]


# -- any step may fail


class Caught:
    """Stands where a writer would, and keeps the work."""

    def __init__(self) -> None:
        self.writer = self
        self.work: Work | None = None

    def submit(self, work: Work) -> None:
        self.work = work


def money_call(account: str, change: Work, *, request: str = "topup", key: str | None = None) -> Work:
    """Return the work of a call about money, as the store submits it."""

    def change_only(connection: sqlite3.Connection) -> None:
        change(connection)

    def render(left: Funds, new: Any) -> str:
        return msgspec.json.encode([left.wallet_nanos, [entry.amount for entry in new]]).decode()

    caught = Caught()
    call = MoneyCall(key or f"key-{account}", request, 1000)
    FundStore(cast(Database, caught)).change(account, call, change_only, render)
    assert caught.work is not None
    return caught.work


def expire_work(account: str, now_ms: int) -> Work:
    caught = Caught()
    FundStore(cast(Database, caught)).expire(account, now_ms)
    assert caught.work is not None
    return caught.work


def state(reader: sqlite3.Connection, account: str) -> str:
    """Return all that the file says about an account, in words that are the same for each account."""
    found = [
        reader.execute(sql, (account,)).fetchall()
        for sql in (
            "SELECT wallet_nanos FROM accounts WHERE name = ?",
            "SELECT * FROM grants WHERE account = ? ORDER BY id",
            "SELECT * FROM subscriptions WHERE account = ?",
            "SELECT created_ms, kind, fund, amount, balance_after, exchange, actor, note FROM ledger "
            "WHERE account = ? ORDER BY id",
            "SELECT * FROM exchanges WHERE id = 'req-' || ?",
            "SELECT * FROM daily_sums WHERE account = ?",
            "SELECT request, answer FROM money_calls WHERE key = 'key-' || ?",
        )
    ]
    return str(found).replace(account, "ACCOUNT")


def of_account(account: str) -> UsageRecord:
    """Return a record of an exchange that all three kinds of funds pay for."""
    return msgspec.structs.replace(charged(1, 200, 200, account=account), id=f"req-{account}")


def hold_work(account: str, additions: Additions) -> Work:
    exchange = admitted(of_account(account))
    return lambda connection: records.write_hold(connection, exchange, Hold(((f"{account}-a", 5),), 7))


def settlement_work(account: str, additions: Additions) -> Work:
    return Settlement(of_account(account), additions, paid=True)


def top_up_work(account: str, additions: Additions) -> Work:
    return money_call(account, lambda connection: top_up(connection, 9, account))


def subscribe_work(account: str, additions: Additions) -> Work:
    why = cause(EntryKind.SUBSCRIBE, FIRST_MS + 50, account)
    bought = Subscription("max", 10, 10, FIRST_MS + 50, FIRST_MS + 90)
    return money_call(account, lambda connection: ledger.subscribe(connection, why, 30, bought))


def expiry_work(account: str, additions: Additions) -> Work:
    return expire_work(account, FIRST_MS + 50)


def fill(connection: sqlite3.Connection, account: str, *, running: bool) -> None:
    add_account(connection, account)
    top_up(connection, 60, account)
    why = cause(EntryKind.SUBSCRIBE, account=account)
    ledger.subscribe(connection, why, 0, subscription(40, FIRST_MS + 20))
    give(connection, grant(f"{account}-a", 100, expires_ms=FIRST_MS + 40), account=account)
    give(connection, grant(f"{account}-b", 20), account=account)
    if running:
        hold_work(account, Additions())(connection)


@pytest.mark.parametrize(
    ("make", "keep"),
    [
        (hold_work, False),
        (settlement_work, True),
        (top_up_work, False),
        (subscribe_work, False),
        (expiry_work, False),
    ],
)
def test_a_change_that_fails_at_any_step_has_its_whole_effect_or_none(
    connection: sqlite3.Connection,
    path: Path,
    make: Callable[[str, Additions], Work],
    keep: bool,
) -> None:
    reader = sqlite3.connect(path, isolation_level=None)
    additions = Additions()
    committer = Committer(connection, path, lambda jobs: None)
    committer.companions.append(additions)
    fill(connection, "account-0", running=keep)
    none = state(reader, "account-0")
    committer.commit([Job(make("account-0", additions), None, keep=False)])
    whole = state(reader, "account-0")
    assert none != whole
    failures = 0
    for step in itertools.count(1):
        account = f"account-{step}"
        fill(connection, account, running=keep)
        failing = Failing(connection, step)
        job = Job(make(account, additions), None, keep=keep)
        committer.commit([job])
        connection.set_progress_handler(None, 0)
        if not failing.failed:
            break
        failures += 1
        assert isinstance(job.error, LedgerUnavailable | None)
        # SQLite's very last step fails after the commit: the effect is there, and repeated it adds nothing.
        assert state(reader, account) in (none, whole)
        # Once nothing fails any more: what is kept is tried again by itself, else the caller does it.
        committer.commit([] if keep else [Job(make(account, additions), None, keep=False)])
        assert committer.healthy
        assert state(reader, account) == whole
    assert state(reader, account) == whole
    assert failures > 30
    assert reader.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    reader.close()
