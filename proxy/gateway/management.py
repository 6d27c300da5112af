"""What an administrator does to keys and accounts."""

import secrets
from collections.abc import Callable
from dataclasses import replace

from msgspec import UNSET

from proxy.config.problems import hint
from proxy.config.schema import Config
from proxy.core.entities import Account, ApiKey
from proxy.core.errors import BadRequest, RequestRefused
from proxy.core.funding import Grant
from proxy.core.secret import Secret
from proxy.gateway.changes import (
    AccountChange,
    KeyChange,
    NewAccount,
    NewKey,
    changed_account,
    changed_key,
    check_account_name,
)
from proxy.gateway.clock import Clock
from proxy.gateway.keyring import Keyring, new_secret
from proxy.gateway.keystate import KeyState
from proxy.gateway.treasury import Treasury

DEFAULT_ACCOUNT = "default"


class Management:
    """Makes and changes keys and accounts; what is asked for is checked whole before anything changes.

    Every method raises BadRequest for a wrong value, RequestRefused (404) for what is not there,
    and LedgerUnavailable when the database cannot be written.
    """

    def __init__(
        self, keyring: Keyring, treasury: Treasury, clock: Clock, config: Callable[[], Config]
    ) -> None:
        self._keyring = keyring
        self._treasury = treasury
        self._clock = clock
        self._config = config

    async def create_key(self, fields: NewKey) -> tuple[KeyState, Secret]:
        """Make a key; its secret is in no other answer."""
        key = changed_key(blank_key(self._clock.now_ms()), fields)
        self._check_account(key.account)
        secret = new_secret()
        return await self._keyring.add(key, secret), secret

    async def change_key(self, id: str, fields: KeyChange) -> KeyState:
        self.key(id)
        if fields.account is not UNSET:
            self._check_account(fields.account)
        return await self._keyring.change(id, lambda key: changed_key(key, fields))

    async def revoke_key(self, id: str) -> KeyState:
        """End a key for good, and what runs on it; again: nothing more."""
        self.key(id)
        now_ms = self._clock.now_ms()
        return await self._keyring.change(id, lambda key: replace(key, revoked_ms=key.revoked_ms or now_ms))

    async def rotate_key(self, id: str, grace_s: int) -> tuple[KeyState, Secret]:
        """Give a key a new secret; the old one works for `grace_s` more seconds."""
        if self.key(id).key.revoked_ms is not None:
            raise BadRequest("invalid_value", f"The API key {id} is revoked: make a new one.", param="id")
        secret = new_secret()
        state = await self._keyring.rotate(id, secret, self._clock.now_ms() + grace_s * 1000)
        return state, secret

    def key(self, id: str) -> KeyState:
        state = self._keyring.state(id)
        if state is None:
            raise RequestRefused("not_found", f"There is no API key {id}.")
        return state

    def unrestricted_key(self) -> KeyState:
        """Return a key that may do everything, to ask what would become of a request; kept nowhere."""
        name = DEFAULT_ACCOUNT
        account = Account(name, None, enabled=True, created_ms=0)
        return KeyState(blank_key(0), account, self._treasury.of(name), None, self._clock.monotonic_ns())

    async def create_account(self, fields: NewAccount) -> Account:
        """Make an account, with the configured plan for new ones unless a plan is named, and their tokens."""
        check_account_name(fields.name)
        plan = self._config().limits.default_plan if fields.plan is UNSET else fields.plan
        account = Account(fields.name, plan, enabled=True, created_ms=self._clock.now_ms())
        await self._keyring.add_account(account)
        await give_signup_tokens(self._treasury, account.name, self._config(), account.created_ms)
        return account

    async def change_account(self, name: str, fields: AccountChange) -> Account:
        self.account(name)
        return await self._keyring.change_account(name, lambda account: changed_account(account, fields))

    def account(self, name: str) -> Account:
        account = self._keyring.account(name)
        if account is None:
            raise RequestRefused("not_found", f"There is no account {name}.")
        return account

    def _check_account(self, name: str) -> None:
        if self._keyring.account(name) is None:
            names = (account.name for account in self._keyring.accounts())
            raise BadRequest(
                "invalid_value", f"There is no account {name}{hint(name, names)}.", param="account"
            )


async def give_signup_tokens(treasury: Treasury, account: str, config: Config, now_ms: int) -> None:
    """Give a new account the tokens that `billing.signup_tokens` promises."""
    tokens = config.billing.signup_tokens
    if tokens:
        await treasury.give(account, new_grant(tokens, now_ms), "signup_tokens")


def new_grant(
    tokens: int, now_ms: int, models: tuple[str, ...] | None = None, expires_ms: int | None = None
) -> Grant:
    """Return a grant with a new id, nothing of it used."""
    return Grant(f"grt_{secrets.token_hex(8)}", tokens, tokens, now_ms, models, expires_ms)


def blank_key(now_ms: int, name: str = "") -> ApiKey:
    """Return a key of the default account without any restriction, with a new id."""
    return ApiKey(
        id=f"key_{secrets.token_hex(8)}",
        name=name,
        account=DEFAULT_ACCOUNT,
        prefix="",
        last4="",
        enabled=True,
        created_ms=now_ms,
    )
