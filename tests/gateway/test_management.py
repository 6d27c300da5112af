"""What an administrator does to keys and accounts."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.config.schema import Plan
from proxy.core.errors import BadRequest, RequestRefused
from proxy.gateway.changes import AccountChange, KeyChange, NewAccount, NewKey
from tests.support.keys import NOW_MS, Installation, installed, settings_of

PEER = "192.0.2.7"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Installation]:
    plans = {"free": Plan("free"), "pro": Plan("pro")}
    async with installed(settings_of(tmp_path, plans=plans, default_plan="free")) as here:
        yield here


def new_key(**members: Any) -> NewKey:
    return msgspec.convert({"name": "laptop", **members}, NewKey)


async def test_a_new_key_works_at_once(here: Installation) -> None:
    state, secret = await here.management.create_key(new_key(limits={"rpm": 5}))
    assert here.keyring.find(secret.reveal().encode(), NOW_MS, PEER) is state
    assert here.management.key(state.key.id) is state
    assert (state.key.name, state.key.account, state.key.created_ms) == ("laptop", "default", NOW_MS)
    assert state.limits.rpm == 5


async def test_keys_are_listed_newest_first(here: Installation) -> None:
    made = [(await here.management.create_key(new_key(name=str(number))))[0] for number in range(3)]
    assert here.keyring.states() == made[::-1]


async def test_a_key_can_move_to_another_account(here: Installation) -> None:
    await here.management.create_account(NewAccount("team", plan="pro"))
    state, _ = await here.management.create_key(new_key())
    await here.management.change_key(state.key.id, KeyChange(account="team"))
    assert state.account.plan == "pro"
    await here.management.change_key(state.key.id, KeyChange(name="desktop"))
    assert (state.key.name, state.key.account) == ("desktop", "team")


async def test_revoking_again_keeps_the_first_time(here: Installation) -> None:
    state, _ = await here.management.create_key(new_key())
    await here.management.revoke_key(state.key.id)
    here.clock.ms += 5000
    await here.management.revoke_key(state.key.id)
    assert state.key.revoked_ms == NOW_MS


async def test_a_rotation_with_grace(here: Installation) -> None:
    state, old = await here.management.create_key(new_key())
    _, new = await here.management.rotate_key(state.key.id, grace_s=60)
    for secret in (old, new):
        assert here.keyring.find(secret.reveal().encode(), NOW_MS + 59_999, PEER) is state
    credential = here.keyring.credential(old)
    assert credential is not None
    assert credential.expires_ms == NOW_MS + 60_000


async def test_a_revoked_key_gets_no_new_secret(here: Installation) -> None:
    state, _ = await here.management.create_key(new_key())
    await here.management.revoke_key(state.key.id)
    with pytest.raises(BadRequest, match="revoked"):
        await here.management.rotate_key(state.key.id, grace_s=0)


async def test_an_unknown_key_is_not_found(here: Installation) -> None:
    for attempt in (
        here.management.change_key("key_x", KeyChange()),
        here.management.revoke_key("key_x"),
        here.management.rotate_key("key_x", 0),
    ):
        with pytest.raises(RequestRefused, match="key_x") as raised:
            await attempt
        assert (raised.value.status, raised.value.code) == (404, "not_found")


@pytest.mark.parametrize("account", ["", "defualt"])
async def test_a_key_of_an_unknown_account_is_refused(here: Installation, account: str) -> None:
    with pytest.raises(BadRequest) as raised:
        await here.management.create_key(new_key(account=account))
    assert raised.value.param == "account"
    state, _ = await here.management.create_key(new_key())
    with pytest.raises(BadRequest):
        await here.management.change_key(state.key.id, KeyChange(account=account))
    assert [state.key.account for state in here.keyring.states()] == ["default"]


async def test_new_accounts_have_the_default_plan_unless_another_is_named(here: Installation) -> None:
    accounts = [
        await here.management.create_account(fields)
        for fields in (NewAccount("a"), NewAccount("b", plan="pro"), NewAccount("c", plan=None))
    ]
    assert [account.plan for account in accounts] == ["free", "pro", None]
    assert [here.management.account(name).enabled for name in "abc"] == [True] * 3


async def test_an_account_exists_once(here: Installation) -> None:
    await here.management.create_account(NewAccount("team"))
    for name in ("team", "default"):
        with pytest.raises(BadRequest, match="already") as raised:
            await here.management.create_account(NewAccount(name))
        assert raised.value.param == "name"


async def test_plans_must_exist(here: Installation) -> None:
    with pytest.raises(BadRequest, match="did you mean") as raised:
        await here.management.create_account(NewAccount("team", plan="fre"))
    assert raised.value.param == "plan"
    with pytest.raises(BadRequest):
        await here.management.change_account("default", AccountChange(plan="gold"))
    changed = await here.management.change_account("default", AccountChange(plan=None))
    assert changed.plan is None
    changed = await here.management.change_account("default", AccountChange(enabled=False))
    assert not changed.enabled


async def test_an_unknown_account_is_not_found(here: Installation) -> None:
    with pytest.raises(RequestRefused) as raised:
        await here.management.change_account("nobody", AccountChange(enabled=False))
    assert raised.value.code == "not_found"
