"""How keys are found, and how their changes hold."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.config.problems import ConfigError
from proxy.config.schema import Config, Plan
from proxy.core.entities import Account, ApiKey, Limits
from proxy.core.errors import AuthenticationFailed, BadRequest, PermissionRefused, RateLimited, SluiceError
from proxy.core.secret import Secret
from proxy.gateway.guessing import WRONG_KEYS_PER_WINDOW
from proxy.gateway.keyring import PREFIX, new_secret
from proxy.gateway.keystate import KeyState
from proxy.gateway.management import blank_key
from proxy.store.errors import LedgerUnavailable
from tests.support.keys import NOW_MS, Installation, installed, settings_of
from tests.support.records import record

PEER = "192.0.2.7"
MINUTE_MS = 60_000


class Exchange:
    """Something that runs on a key."""

    def __init__(self) -> None:
        self.revoked = 0

    def revoke(self) -> None:
        self.revoked += 1


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Installation]:
    plans = {"free": Plan("free", Limits(rpm=60, max_context=5000), models=("small-*",), providers=("ali",))}
    async with installed(settings_of(tmp_path, plans=plans)) as here:
        yield here


async def added(here: Installation, **fields: object) -> tuple[KeyState, Secret]:
    secret = new_secret()
    key: ApiKey = replace(blank_key(here.clock.ms, "test"), **fields)
    return await here.keyring.add(key, secret), secret


async def applied(here: Installation, config: Config) -> None:
    async with here.keyring.applying(config):
        pass


def find(here: Installation, secret: Secret, peer: str = PEER) -> KeyState:
    return here.keyring.find(secret.reveal().encode(), here.clock.ms, peer)


def refused(here: Installation, secret: Secret) -> SluiceError:
    with pytest.raises(SluiceError) as raised:
        find(here, secret)
    return raised.value


class TestFinding:
    async def test_a_key_is_found_by_its_secret_and_notes_when(self, here: Installation) -> None:
        state, secret = await added(here)
        assert state.last_used_ms is None
        assert find(here, secret) is state
        assert state.last_used_ms == NOW_MS

    async def test_what_is_kept_of_a_secret_recognises_it_and_no_more(self, here: Installation) -> None:
        state, secret = await added(here)
        value = secret.reveal()
        assert value.startswith(PREFIX)
        assert state.key.prefix == value[:14]
        assert state.key.last4 == value[-4:]
        assert value.encode() not in here.config.database.read_bytes()

    @pytest.mark.parametrize(
        ("value", "prefix", "last4"),
        [("short", "", ""), ("twelve-chars", "", "hars"), ("sixteen-chars-ok", "sixt", "s-ok")],
    )
    async def test_of_a_short_configured_secret_less_is_kept(
        self, here: Installation, value: str, prefix: str, last4: str
    ) -> None:
        state = await here.keyring.add(blank_key(NOW_MS), Secret(value))
        assert (state.key.prefix, state.key.last4) == (prefix, last4)

    async def test_no_key_is_missing(self, here: Installation) -> None:
        with pytest.raises(AuthenticationFailed) as raised:
            here.keyring.find(None, NOW_MS, PEER)
        assert raised.value.code == "missing_api_key"

    @pytest.mark.parametrize("presented", [b"", b"sk-sluice-", b"wrong", b"\xff", b"x" * 100_000])
    async def test_any_other_key_is_invalid(self, here: Installation, presented: bytes) -> None:
        with pytest.raises(AuthenticationFailed) as raised:
            here.keyring.find(presented, NOW_MS, PEER)
        assert raised.value.code == "invalid_api_key"

    async def test_an_admin_key_is_told_from_a_wrong_one_and_is_no_guess(self, here: Installation) -> None:
        admin_key = await here.admin.reset()
        for _ in range(WRONG_KEYS_PER_WINDOW + 1):
            error = refused(here, admin_key)
            assert error.code == "invalid_api_key"
            assert "admin key" in error.message

    async def test_after_thirty_wrong_keys_wrong_ones_are_slowed_down_and_right_ones_never(
        self, here: Installation
    ) -> None:
        _, secret = await added(here)
        for _ in range(WRONG_KEYS_PER_WINDOW):
            assert refused(here, Secret("wrong")).code == "invalid_api_key"
        assert isinstance(refused(here, Secret("wrong")), RateLimited)
        assert find(here, secret).key.name == "test"


class TestRefusals:
    async def test_an_expired_key(self, here: Installation) -> None:
        _, secret = await added(here, expires_ms=NOW_MS + MINUTE_MS)
        find(here, secret)
        here.clock.ms += MINUTE_MS
        error = refused(here, secret)
        assert error.code == "expired_api_key"
        assert "2100-05-21T12:01:00.000Z" in error.message

    async def test_a_revoked_key_stays_revoked_whatever_else_it_is(self, here: Installation) -> None:
        state, secret = await added(here, expires_ms=NOW_MS)
        await here.keyring.change(state.key.id, lambda key: replace(key, revoked_ms=NOW_MS, enabled=False))
        assert refused(here, secret).code == "revoked_api_key"

    async def test_a_disabled_key_works_again_when_enabled(self, here: Installation) -> None:
        state, secret = await added(here)
        await here.keyring.change(state.key.id, lambda key: replace(key, enabled=False))
        assert refused(here, secret).code == "disabled_api_key"
        await here.keyring.change(state.key.id, lambda key: replace(key, enabled=True))
        assert find(here, secret) is state

    async def test_the_keys_of_a_disabled_account(self, here: Installation) -> None:
        _, secret = await added(here)
        await here.keyring.change_account("default", lambda account: replace(account, enabled=False))
        error = refused(here, secret)
        assert isinstance(error, PermissionRefused)
        assert error.code == "account_disabled"

    async def test_no_refusal_shows_the_key(self, here: Installation) -> None:
        state, secret = await added(here)
        await here.keyring.change(state.key.id, lambda key: replace(key, enabled=False))
        assert secret.reveal() not in refused(here, secret).message


class TestRevocation:
    @pytest.mark.parametrize("change", [{"revoked_ms": NOW_MS}, {"enabled": False}])
    async def test_what_runs_on_a_key_ends_with_it(
        self, here: Installation, change: dict[str, object]
    ) -> None:
        state, _ = await added(here)
        exchanges = [Exchange(), Exchange()]
        state.running.update(exchanges)
        await here.keyring.change(state.key.id, lambda key: replace(key, **change))
        assert [exchange.revoked for exchange in exchanges] == [1, 1]

    async def test_what_runs_on_an_account_ends_with_it(self, here: Installation) -> None:
        await here.keyring.add_account(Account("other", None, enabled=True, created_ms=NOW_MS))
        mine, _ = await added(here)
        other, _ = await added(here, account="other")
        running, kept = Exchange(), Exchange()
        other.running.add(running)
        mine.running.add(kept)
        await here.keyring.change_account("other", lambda account: replace(account, enabled=False))
        assert (running.revoked, kept.revoked) == (1, 0)

    async def test_other_changes_and_rotations_let_it_run(self, here: Installation) -> None:
        state, _ = await added(here)
        exchange = Exchange()
        state.running.add(exchange)
        await here.keyring.change(state.key.id, lambda key: replace(key, name="renamed"))
        await here.keyring.rotate(state.key.id, new_secret(), NOW_MS)
        assert exchange.revoked == 0

    async def test_a_request_that_was_long_in_coming_is_checked_again(self, here: Installation) -> None:
        state, secret = await added(here)
        find(here, secret)
        await here.keyring.change(state.key.id, lambda key: replace(key, revoked_ms=NOW_MS))
        with pytest.raises(AuthenticationFailed):
            state.check(NOW_MS)


class TestRotation:
    async def test_the_old_secret_works_until_its_grace_ends(self, here: Installation) -> None:
        _, untouched = await added(here)
        state, old = await added(here)
        new = new_secret()
        assert await here.keyring.rotate(state.key.id, new, NOW_MS + MINUTE_MS) is state
        assert find(here, old) is find(here, new) is state
        assert state.key.last4 == new.reveal()[-4:]
        here.clock.ms += MINUTE_MS
        error = refused(here, old)
        assert error.code == "expired_api_key"
        assert "rotated" in error.message
        assert find(here, new) is state
        find(here, untouched)

    async def test_a_second_rotation_never_prolongs_the_first_secret(self, here: Installation) -> None:
        state, first = await added(here)
        second = new_secret()
        await here.keyring.rotate(state.key.id, second, NOW_MS + MINUTE_MS)
        await here.keyring.rotate(state.key.id, new_secret(), NOW_MS + 2 * MINUTE_MS)
        here.clock.ms += MINUTE_MS
        assert refused(here, first).code == "expired_api_key"
        find(here, second)


class TestPermissions:
    async def test_the_tighter_of_plan_and_key_holds(self, here: Installation) -> None:
        state, _ = await added(here, limits=Limits(rpm=100, tpm=7, max_context=100), models=("*-fast",))
        assert state.limits == Limits(rpm=100, tpm=7, max_context=100)
        assert state.allows_model("big-fast")
        await here.keyring.change_account("default", lambda account: replace(account, plan="free"))
        assert state.limits == state.limiter.limits == Limits(rpm=60, tpm=7, max_context=100)
        assert state.allows_model("small-fast")
        assert not state.allows_model("big-fast")
        assert not state.allows_model("small-slow")
        assert state.allows_provider("ali")
        assert not state.allows_provider("volc")

    async def test_without_lists_everything_is_allowed(self, here: Installation) -> None:
        state, _ = await added(here)
        assert state.allows_model("anything")
        assert state.allows_provider("anyone")
        assert state.networks is None

    async def test_addresses_become_networks(self, here: Installation) -> None:
        state, _ = await added(here, ips=("10.0.0.0/8", "2001:db8::1"))
        assert [str(network) for network in state.networks or ()] == ["10.0.0.0/8", "2001:db8::1/128"]

    async def test_a_reload_changes_the_plans(self, here: Installation) -> None:
        state, _ = await added(here)
        await here.keyring.change_account("default", lambda account: replace(account, plan="free"))
        await applied(here, replace(here.config, plans={"free": Plan("free", Limits(rpm=1))}))
        assert state.limits == Limits(rpm=1)

    async def test_a_plan_in_use_cannot_go(self, here: Installation) -> None:
        state, _ = await added(here)
        await here.keyring.change_account("default", lambda account: replace(account, plan="free"))
        with pytest.raises(ConfigError, match=r"config\.yaml: plans\.free: .*default"):
            await applied(here, replace(here.config, plans={}))
        assert state.limits.rpm == 60


class TestDurability:
    async def test_everything_is_there_again_at_the_next_start(self, tmp_path: Path) -> None:
        config = settings_of(tmp_path, plans={"pro": Plan("pro")})
        async with installed(config) as here:
            await here.keyring.add_account(Account("team", "pro", enabled=True, created_ms=NOW_MS))
            state, old = await added(here, account="team", limits=Limits(rpd=5, tpd=1000))
            new = new_secret()
            await here.keyring.rotate(state.key.id, new, NOW_MS + MINUTE_MS)
            find(here, new)
            here.keyring.flush_last_used()
            here.keyring.flush_last_used()  # nothing new
            await here.usage.settle(record(1, key_id=state.key.id, day=here.clock.today().name))
            before = state
        async with installed(config) as here:
            state = find(here, new)
            assert state.key == before.key
            assert state.key.last_used_ms == NOW_MS
            assert find(here, old) is state
            requests, tokens = state.limiter.windows(*here.clock.instant())
            assert requests is not None
            assert tokens is not None
            assert (requests.remaining, tokens.remaining) == (4, 0)
            assert [account.name for account in here.keyring.accounts()] == ["team", "default"]
            here.clock.ms += MINUTE_MS
            assert refused(here, old).code == "expired_api_key"

    async def test_a_start_without_the_plan_of_an_account_stops(self, tmp_path: Path) -> None:
        async with installed(settings_of(tmp_path, plans={"pro": Plan("pro")})) as here:
            await here.keyring.change_account("default", lambda account: replace(account, plan="pro"))
        with pytest.raises(ConfigError, match=r"plans\.pro"):
            async with installed(settings_of(tmp_path)):
                pass

    async def test_a_change_that_cannot_be_committed_changes_nothing(self, here: Installation) -> None:
        state, secret = await added(here)
        with sqlite3.connect(here.config.database) as other:
            other.execute(
                "CREATE TRIGGER refuse BEFORE UPDATE ON api_keys BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
        other.close()
        with pytest.raises((LedgerUnavailable, sqlite3.Error)):
            await here.keyring.change(state.key.id, lambda key: replace(key, enabled=False))
        assert find(here, secret) is state
        assert state.key.enabled

    async def test_a_wait_that_is_cancelled_undoes_nothing(self, here: Installation) -> None:
        state, secret = await added(here)
        change = asyncio.create_task(
            here.keyring.change(state.key.id, lambda key: replace(key, revoked_ms=NOW_MS))
        )
        await asyncio.sleep(0)
        change.cancel()
        with pytest.raises(asyncio.CancelledError):
            await change
        # The next change waits for the one before.
        await here.keyring.change(state.key.id, lambda key: replace(key, name="after"))
        assert refused(here, secret).code == "revoked_api_key"

    async def test_of_two_accounts_with_one_name_one_is_made(self, here: Installation) -> None:
        account = Account("team", None, enabled=True, created_ms=NOW_MS)
        results = await asyncio.gather(
            here.keyring.add_account(account), here.keyring.add_account(account), return_exceptions=True
        )
        assert [type(result) for result in results] == [type(None), BadRequest]

    async def test_a_plan_that_is_just_going_cannot_be_taken(self, here: Installation) -> None:
        going = asyncio.create_task(applied(here, replace(here.config, plans={})))
        taking = here.keyring.change_account("default", lambda account: replace(account, plan="free"))
        with pytest.raises(BadRequest):
            await asyncio.gather(going, taking)
        assert here.management.account("default").plan is None

    async def test_changes_at_the_same_time_build_on_each_other(self, here: Installation) -> None:
        state, _ = await added(here)
        edits = [{"name": "n"}, {"models": ("m",)}, {"ips": ("::1",)}, {"providers": ("p",)}]
        await asyncio.gather(
            *(
                here.keyring.change(state.key.id, lambda key, edit=edit: replace(key, **edit))
                for edit in edits
            )
        )
        assert (state.key.name, state.key.models, state.key.ips, state.key.providers) == (
            "n",
            ("m",),
            ("::1",),
            ("p",),
        )
