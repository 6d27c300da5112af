"""The ledger: the only place where balances change, each time with an entry that says so.

All functions here run in the writer's thread, within a transaction of its connection: an entry
and the balance that it changes are committed together or not at all. docs/billing.md, "The ledger"
"""

import sqlite3
from typing import NamedTuple

import msgspec

from proxy.core.entities import EntryKind, UsageRecord
from proxy.core.errors import BadRequest, InsufficientQuota, RequestRefused
from proxy.core.funding import Funds, Grant, Payment, Subscription
from proxy.core.moments import rfc3339
from proxy.core.money import decimal_text

WALLET = "wallet"
SUBSCRIPTION = "subscription"
GRANT_PREFIX = "grant:"
#: Who acts where nobody asked: charges, expiry, what new accounts are given.
GATEWAY = "gateway"
#: Balances stay so far within SQLite's 64 bits that no exchange can carry one out of them.
MOST = 4 * 10**18

_WALLET = "SELECT wallet_nanos FROM accounts WHERE name = ?"
_SET_WALLET = "UPDATE accounts SET wallet_nanos = ? WHERE name = ?"

_SUBSCRIPTION = """
SELECT plan, credit_nanos, left_nanos, started_ms, expires_ms FROM subscriptions WHERE account = ?
"""
_SET_CREDIT = "UPDATE subscriptions SET left_nanos = ? WHERE account = ?"
_SUBSCRIBE = """
INSERT INTO subscriptions (account, plan, credit_nanos, left_nanos, started_ms, expires_ms)
VALUES (?, ?, ?, ?, ?, ?)
"""
_UNSUBSCRIBE = "DELETE FROM subscriptions WHERE account = ?"

# In the order in which they are used.
_GRANTS = """
SELECT id, tokens, tokens_left, created_ms, models, expires_ms FROM grants
WHERE account = ? AND tokens_left > 0
ORDER BY expires_ms IS NULL, expires_ms, created_ms, id
"""
_GRANT = "SELECT tokens_left FROM grants WHERE account = ? AND id = ?"
_SET_GRANT = "UPDATE grants SET tokens_left = ? WHERE id = ?"
_ADD_GRANT = """
INSERT INTO grants (id, account, tokens, tokens_left, models, created_ms, expires_ms)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""

_ENTER = """
INSERT INTO ledger (created_ms, account, kind, fund, amount, balance_after, exchange, actor, note)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_decode_models = msgspec.json.Decoder(tuple[str, ...]).decode


class Cause(NamedTuple):
    """Why balances of an account change: what every entry of one change has in common."""

    account: str
    at_ms: int
    kind: EntryKind
    actor: str
    note: str | None = None
    exchange: str | None = None


def read_funds(connection: sqlite3.Connection, account: str) -> Funds:
    """Return the balances of an account. Raises LookupError when there is no such account."""
    wallet = connection.execute(_WALLET, (account,)).fetchone()
    if wallet is None:
        raise LookupError(f"no such account: {account}")
    subscription = connection.execute(_SUBSCRIPTION, (account,)).fetchone()
    grants = connection.execute(_GRANTS, (account,)).fetchall()
    return Funds(
        tuple([grant_of(*row) for row in grants]),
        None if subscription is None else Subscription(*subscription),
        wallet[0],
    )


def charge(connection: sqlite3.Connection, funds: Funds, payment: Payment, record: UsageRecord) -> Funds:
    """Take what an exchange costs from the funds that pay for it; return what is left.

    `funds` are what `read_funds` returned in this transaction.
    """
    cause = Cause(record.account, record.ended_ms, EntryKind.CHARGE, GATEWAY, record.model, record.id)
    taken = dict(payment.grants)
    grants = []
    for grant in funds.grants:
        left = grant.left - taken.get(grant.id, 0)
        if left != grant.left:
            connection.execute(_SET_GRANT, (left, grant.id))
            _enter(connection, cause, GRANT_PREFIX + grant.id, left - grant.left, left)
        if left:
            grants.append(grant if left == grant.left else msgspec.structs.replace(grant, left=left))
    subscription = funds.subscription
    if payment.subscription_nanos and subscription is not None:
        left = _set_credit(connection, cause, subscription.left_nanos, -payment.subscription_nanos)
        subscription = msgspec.structs.replace(subscription, left_nanos=left)
    wallet = funds.wallet_nanos
    if payment.wallet_nanos:
        wallet = _set_wallet(connection, cause, wallet, -payment.wallet_nanos)
    return Funds(tuple(grants), subscription, wallet)


def top_up(connection: sqlite3.Connection, cause: Cause, nanos: int) -> None:
    """Add to the wallet."""
    _change_wallet(connection, cause, nanos)


def give_tokens(connection: sqlite3.Connection, cause: Cause, given: Grant) -> None:
    """Give LLM tokens."""
    models = None if given.models is None else msgspec.json.encode(given.models).decode()
    values = (given.id, cause.account, given.tokens, given.left, models, given.created_ms, given.expires_ms)
    connection.execute(_ADD_GRANT, values)
    _enter(connection, cause, GRANT_PREFIX + given.id, given.left, given.left)


def subscribe(
    connection: sqlite3.Connection, cause: Cause, price_nanos: int, subscription: Subscription
) -> None:
    """Take the price from the wallet and begin a subscription; one that has expired ends by it.

    Raises RequestRefused (409 subscription_active) while another one runs, InsufficientQuota (402)
    when the wallet has less than the price.
    """
    funds = read_funds(connection, cause.account)
    running = funds.subscription
    if running is not None and running.runs(cause.at_ms):
        raise RequestRefused(
            "subscription_active",
            f"The account {cause.account} is subscribed to {running.plan} until "
            f"{rfc3339(running.expires_ms)}.",
            status=409,
        )
    if price_nanos and funds.wallet_nanos < price_nanos:
        raise InsufficientQuota(
            "insufficient_balance",
            f"The plan {subscription.plan} costs {decimal_text(price_nanos)}, and the wallet of the account "
            f"{cause.account} has {decimal_text(funds.wallet_nanos)}.",
        )
    expire_subscription(connection, cause.account, cause.at_ms)
    if price_nanos:
        _change_wallet(connection, cause, -price_nanos)
    credit = subscription.credit_nanos
    times = (subscription.started_ms, subscription.expires_ms)
    connection.execute(_SUBSCRIBE, (cause.account, subscription.plan, credit, credit, *times))
    _enter(connection, cause, SUBSCRIPTION, credit, credit)


def adjust(connection: sqlite3.Connection, cause: Cause, fund: str, amount: int) -> None:
    """Correct a balance by a signed amount: nanos, of a grant LLM tokens.

    Raises BadRequest for a fund that the account does not have, and when one other than the
    wallet would go below zero.
    """
    if fund == WALLET:
        _change_wallet(connection, cause, amount)
    elif fund == SUBSCRIPTION:
        subscription = read_funds(connection, cause.account).subscription
        if subscription is None:
            raise _wrong("fund", f"the account {cause.account} has no subscription")
        _set_credit(connection, cause, subscription.left_nanos, amount)
    else:
        row = connection.execute(_GRANT, (cause.account, fund.removeprefix(GRANT_PREFIX))).fetchone()
        if row is None or not fund.startswith(GRANT_PREFIX):
            raise _wrong("fund", f"the account {cause.account} has no fund {fund}")
        left = _changed(row[0], amount, least=0)
        connection.execute(_SET_GRANT, (left, fund.removeprefix(GRANT_PREFIX)))
        _enter(connection, cause, fund, amount, left)


def expire(connection: sqlite3.Connection, account: str, now_ms: int) -> None:
    """Take what has expired by now. Doing it again takes nothing more."""
    cause = Cause(account, now_ms, EntryKind.EXPIRE, GATEWAY)
    for grant in read_funds(connection, account).grants:
        if grant.expires_ms is not None and grant.expires_ms <= now_ms:
            connection.execute(_SET_GRANT, (0, grant.id))
            _enter(connection, cause, GRANT_PREFIX + grant.id, -grant.left, 0)
    expire_subscription(connection, account, now_ms)


def expire_subscription(connection: sqlite3.Connection, account: str, now_ms: int) -> None:
    """End a subscription whose time is over; its unused credit is lost."""
    row = connection.execute(_SUBSCRIPTION, (account,)).fetchone()
    if row is None or (subscription := Subscription(*row)).runs(now_ms):
        return
    connection.execute(_UNSUBSCRIBE, (account,))
    cause = Cause(account, now_ms, EntryKind.EXPIRE, GATEWAY, subscription.plan)
    _enter(connection, cause, SUBSCRIPTION, -subscription.left_nanos, 0)


def _change_wallet(connection: sqlite3.Connection, cause: Cause, nanos: int) -> None:
    (wallet,) = connection.execute(_WALLET, (cause.account,)).fetchone()
    if nanos < 0 and wallet + nanos < -MOST:
        raise _wrong("amount", "the debt would be too large")
    _set_wallet(connection, cause, wallet, nanos)


def _set_wallet(connection: sqlite3.Connection, cause: Cause, wallet: int, nanos: int) -> int:
    after = _changed(wallet, nanos, least=-2 * MOST)
    connection.execute(_SET_WALLET, (after, cause.account))
    _enter(connection, cause, WALLET, nanos, after)
    return after


def _set_credit(connection: sqlite3.Connection, cause: Cause, credit: int, nanos: int) -> int:
    after = _changed(credit, nanos, least=0)
    connection.execute(_SET_CREDIT, (after, cause.account))
    _enter(connection, cause, SUBSCRIPTION, nanos, after)
    return after


def _changed(balance: int, amount: int, *, least: int) -> int:
    after = balance + amount
    if after < least:
        raise _wrong("amount", "the fund would go below zero")
    if after > MOST:
        raise _wrong("amount", "the balance would be too large")
    return after


def _enter(connection: sqlite3.Connection, cause: Cause, fund: str, amount: int, after: int) -> None:
    values = (
        cause.at_ms,
        cause.account,
        cause.kind.value,
        fund,
        amount,
        after,
        cause.exchange,
        cause.actor,
        cause.note,
    )
    connection.execute(_ENTER, values)


def grant_of(
    id: str, tokens: int, left: int, created_ms: int, models: str | None, expires_ms: int | None
) -> Grant:
    """Return a row of `grants` as a grant."""
    return Grant(id, tokens, left, created_ms, None if models is None else _decode_models(models), expires_ms)


def _wrong(param: str, message: str) -> BadRequest:
    return BadRequest("invalid_value", f"{param}: {message}.", param=param)
