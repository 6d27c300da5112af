"""First starts and later ones."""

from pathlib import Path

import pytest

from proxy.config.problems import ConfigError
from proxy.config.schema import Plan
from proxy.core.errors import SluiceError
from proxy.core.secret import Secret
from proxy.gateway.installation import NewSecrets, claim, prepare
from proxy.gateway.management import blank_key
from tests.support.keys import Installation, installed, settings_of

ONE = "sk-sluice-configured-one"
TWO = "sk-sluice-configured-two"


async def started(here: Installation) -> NewSecrets:
    """Do what a start does, in its order."""
    await claim(here.keyring, here.treasury, here.settings, here.config, here.clock.now_ms())
    return await prepare(here.keyring, here.admin, here.settings, here.config, here.clock.ms)


def find(here: Installation, secret: str) -> str:
    """Return the id of the key with this secret."""
    return here.keyring.find(secret.encode(), here.clock.ms, "192.0.2.7").key.id


def is_refused(here: Installation, secret: str) -> bool:
    try:
        find(here, secret)
    except SluiceError:
        return True
    return False


async def test_a_first_start_makes_an_admin_key_and_an_api_key_and_a_second_none(tmp_path: Path) -> None:
    async with installed(settings_of(tmp_path)) as here:
        made = await started(here)
        assert made.admin_key is not None
        assert made.api_key is not None
        assert here.admin.accepts(made.admin_key.reveal().encode())
        assert find(here, made.api_key.reveal()) == here.keyring.states()[0].key.id
    async with installed(settings_of(tmp_path)) as here:
        assert await started(here) == NewSecrets(None, None)
        assert len(here.keyring.states()) == 1


async def test_configured_keys_are_not_shown(tmp_path: Path) -> None:
    async with installed(settings_of(tmp_path, admin_key="sk-admin-mine", api_key=ONE)) as here:
        assert await started(here) == NewSecrets(None, None)
        find(here, ONE)


async def test_a_database_with_keys_gets_no_further_one(tmp_path: Path) -> None:
    async with installed(settings_of(tmp_path)) as here:
        await here.keyring.add(blank_key(1, "made by a command"), Secret(ONE))
        made = await started(here)
        assert made.admin_key is not None
        assert made.api_key is None


async def test_an_admin_key_that_is_no_longer_configured_is_replaced_by_a_new_one(tmp_path: Path) -> None:
    async with installed(settings_of(tmp_path, admin_key="sk-admin-mine")) as here:
        await started(here)
    async with installed(settings_of(tmp_path)) as here:
        made = await started(here)
        assert made.admin_key is not None
        assert not here.admin.accepts(b"sk-admin-mine")


async def test_another_configured_api_key_is_the_same_key_with_a_new_secret(tmp_path: Path) -> None:
    async with installed(settings_of(tmp_path, api_key=ONE)) as here:
        await started(here)
        id = find(here, ONE)
    async with installed(settings_of(tmp_path, api_key=TWO)) as here:
        await started(here)
        assert find(here, TWO) == id
        assert is_refused(here, ONE)
    async with installed(settings_of(tmp_path, api_key=ONE)) as here:
        await started(here)
        assert find(here, ONE) == id
        assert is_refused(here, TWO)
    async with installed(settings_of(tmp_path, api_key=ONE)) as here:
        await started(here)
        assert find(here, ONE) == id
        assert len(here.keyring.states()) == 1


async def test_a_generated_key_may_be_written_into_the_configuration(tmp_path: Path) -> None:
    async with installed(settings_of(tmp_path)) as here:
        made = await started(here)
        assert made.api_key is not None
        value = made.api_key.reveal()
    async with installed(settings_of(tmp_path, api_key=value)) as here:
        await started(here)
        find(here, value)
        assert len(here.keyring.states()) == 1


async def test_a_revoked_configured_key_stays_revoked_and_another_secret_is_another_key(
    tmp_path: Path,
) -> None:
    async with installed(settings_of(tmp_path, api_key=ONE)) as here:
        await started(here)
        await here.management.revoke_key(find(here, ONE))
    async with installed(settings_of(tmp_path, api_key=ONE)) as here:
        await started(here)
        assert is_refused(here, ONE)
    async with installed(settings_of(tmp_path, api_key=TWO)) as here:
        await started(here)
        find(here, TWO)
        assert is_refused(here, ONE)


async def test_the_currency_is_fixed_at_the_first_start(tmp_path: Path) -> None:
    async with installed(settings_of(tmp_path, currency="CNY")) as here:
        await started(here)
    async with installed(settings_of(tmp_path, currency="CNY")) as here:
        await started(here)
    async with installed(settings_of(tmp_path, currency="USD")) as here:
        with pytest.raises(ConfigError, match=r"billing\.currency: is USD, but .* CNY"):
            await claim(here.keyring, here.treasury, here.settings, here.config, here.clock.now_ms())


async def test_the_default_account_gets_the_plan_of_new_accounts_once(tmp_path: Path) -> None:
    plans = {"free": Plan("free"), "pro": Plan("pro")}
    async with installed(settings_of(tmp_path, plans=plans, default_plan="free")) as here:
        await started(here)
        assert here.management.account("default").plan == "free"
    async with installed(settings_of(tmp_path, plans=plans, default_plan="pro")) as here:
        await started(here)
        assert here.management.account("default").plan == "free"
