import sqlite3
from dataclasses import replace

import pytest

from proxy.core.entities import Account
from proxy.store.accounts import AccountStore
from proxy.store.database import Database

ACCOUNT = Account("acme", "pro", enabled=True, created_ms=4_000_000_000_000)


async def test_default_exists_from_the_start(database: Database) -> None:
    (account,) = await AccountStore(database).load()
    assert (account.name, account.plan, account.enabled) == ("default", None, True)
    assert account.created_ms > 1_700_000_000_000


async def test_an_account_comes_back_as_it_was(database: Database) -> None:
    accounts = AccountStore(database)
    await accounts.insert(ACCOUNT)
    assert (await accounts.load())[1:] == [ACCOUNT]
    changed = replace(ACCOUNT, plan=None, enabled=False)
    await accounts.replace(changed)
    assert (await accounts.load())[1:] == [changed]


async def test_a_name_is_taken_once(database: Database) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        await AccountStore(database).insert(Account("default", None, enabled=True, created_ms=0))


async def test_replacing_needs_an_account(database: Database) -> None:
    with pytest.raises(LookupError, match="acme"):
        await AccountStore(database).replace(ACCOUNT)
