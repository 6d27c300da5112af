"""What an installation keeps from its first start on: its currency, its first keys."""

from dataclasses import dataclass, replace

from proxy.config.problems import ConfigError, Problem
from proxy.config.schema import Config
from proxy.core.secret import Secret
from proxy.gateway.adminkey import AdminKey
from proxy.gateway.keyring import Keyring, new_secret
from proxy.gateway.management import DEFAULT_ACCOUNT, blank_key, give_signup_tokens
from proxy.gateway.treasury import Treasury
from proxy.store.settings import SettingStore

CURRENCY_SETTING = "billing_currency"
CONFIGURED_KEY_SETTING = "configured_key_id"
FIRST_KEY_NAME = "first key"
CONFIGURED_KEY_NAME = "configuration"


@dataclass(frozen=True, slots=True)
class NewSecrets:
    """What was made at this start, to be shown once; None: nothing new."""

    admin_key: Secret | None
    api_key: Secret | None


async def claim(
    keyring: Keyring, treasury: Treasury, settings: SettingStore, config: Config, now_ms: int
) -> None:
    """Fix, when a database is opened for the first time, what later starts must find unchanged.

    That is the billing currency; the account `default` gets the plan and the tokens of new
    accounts. At later starts: raises ConfigError when the currency is another one.
    """
    currency = await settings.get(CURRENCY_SETTING)
    if currency is not None:
        check_currency(currency, config)
        return
    plan = config.limits.default_plan
    if plan is not None:
        await keyring.change_account(DEFAULT_ACCOUNT, lambda account: replace(account, plan=plan))
    await settings.set(CURRENCY_SETTING, config.billing.currency)
    await give_signup_tokens(treasury, DEFAULT_ACCOUNT, config, now_ms)


def check_currency(fixed: str, config: Config) -> None:
    """Raise ConfigError unless the configuration bills in the currency fixed at the first start."""
    currency = config.billing.currency
    if fixed != currency:
        message = f"is {currency}, but this database keeps its amounts in {fixed} since its first start"
        problem = Problem(config.line("billing", "currency") or 0, "billing.currency", message)
        raise ConfigError(config.path.name, [problem])


async def prepare(
    keyring: Keyring, admin: AdminKey, settings: SettingStore, config: Config, now_ms: int
) -> NewSecrets:
    """Make what serving needs and the database lacks: an admin key, a first API key."""
    admin_key = None if admin.exists else await admin.reset()
    if config.api_key:
        await install_key(keyring, settings, config.api_key, now_ms)
        return NewSecrets(admin_key, None)
    if keyring.states():
        return NewSecrets(admin_key, None)
    api_key = new_secret()
    await keyring.add(blank_key(now_ms, FIRST_KEY_NAME), api_key)
    return NewSecrets(admin_key, api_key)


async def install_key(keyring: Keyring, settings: SettingStore, secret: Secret, now_ms: int) -> None:
    """Make the configured API key work: as a new key, or as the new secret of the one it was before.

    A key that was revoked stays revoked; another configured secret is then another key.
    """
    known = keyring.credential(secret)
    if known is not None:
        if known.expires_ms <= now_ms:  # it was configured before, then another one, now it is back
            await keyring.rotate(known.state.key.id, secret, now_ms)
        return
    id = await settings.get(CONFIGURED_KEY_SETTING)
    state = keyring.state(id) if id else None
    if state is not None and state.key.revoked_ms is None:
        await keyring.rotate(state.key.id, secret, now_ms)
        return
    key = blank_key(now_ms, CONFIGURED_KEY_NAME)
    await settings.set(CONFIGURED_KEY_SETTING, key.id)
    await keyring.add(key, secret)
