"""All API keys and accounts, in memory as the database has them.

Every change is committed first and holds from the next request on. docs/limits.md, "Keys"
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

from proxy.config.problems import ConfigError, Problem, hint
from proxy.config.schema import Config, Plan
from proxy.core.entities import Account, ApiKey
from proxy.core.errors import AuthenticationFailed, BadRequest, SluiceError
from proxy.core.periods import PERIODS
from proxy.core.secret import Secret
from proxy.gateway import adminkey
from proxy.gateway.adminkey import AdminKey
from proxy.gateway.clock import Clock
from proxy.gateway.guessing import WrongKeys
from proxy.gateway.keystate import FOREVER_MS, KeyState
from proxy.gateway.treasury import Treasury
from proxy.store.accounts import AccountStore
from proxy.store.keys import KeyStore
from proxy.store.usage import UsageStore

PREFIX = "sk-sluice-"


class PlansInUse(ConfigError):
    """Accounts use plans that a configuration does not have; its text names both."""

    @property
    def discreet(self) -> str:
        """What strangers may read: the plans, but not the accounts."""
        plans = ", ".join(problem.path for problem in self.problems)
        return f"{plans}: used by accounts; the log names them"


class Credential(NamedTuple):
    """One secret of a key; after a rotation the older one has an end."""

    state: KeyState
    expires_ms: int


class Keyring:
    """Finds the key that a request presents, and changes keys and accounts."""

    def __init__(
        self,
        keys: KeyStore,
        accounts: AccountStore,
        treasury: Treasury,
        admin: AdminKey,
        config: Config,
        clock: Clock,
    ) -> None:
        self._key_store = keys
        self._account_store = accounts
        self._treasury = treasury
        self._admin = admin
        self._config = config
        self._clock = clock
        self._by_digest: dict[bytes, Credential] = {}
        self._states: dict[str, KeyState] = {}  # by id, oldest first
        self._accounts: dict[str, Account] = {}  # by name, oldest first
        self._wrong_keys = WrongKeys()
        # One change at a time: each is made to what the one before left.
        self._changing = asyncio.Lock()
        treasury.on_plan_change = self.refresh

    async def load(self, usage: UsageStore) -> None:
        """Load all keys and accounts, and what of the limits by day and of the quotas is consumed.

        Raises ConfigError when an account uses a plan that the configuration does not have.
        """
        self._accounts = {account.name: account for account in await self._account_store.load()}
        self.check_plans(self._config)
        today = self._clock.today().name
        consumed = await usage.day_totals(today)
        spent = await usage.spent(today)
        for stored in await self._key_store.load():
            state = self._new_state(stored.key)
            state.limiter.seed(today, *consumed.get(stored.key.id, (0, 0)))
            state.spending.seed(today, spent.get(stored.key.id, (0,) * len(PERIODS)))
            for secret in stored.secrets:
                expires_ms = FOREVER_MS if secret.expires_ms is None else secret.expires_ms
                self._by_digest[secret.digest] = Credential(state, expires_ms)

    # -- for every request

    def find(self, presented: bytes | None, now_ms: int, peer: str) -> KeyState:
        """Return the key that a request from `peer` presents.

        Raises:
            AuthenticationFailed: missing_, invalid_, expired_, revoked_ or disabled_api_key.
            PermissionRefused: account_disabled.
            RateLimited: too_many_invalid_keys; only ever for a wrong key.
        """
        if presented is None:
            raise AuthenticationFailed(
                "missing_api_key", "No API key was sent: put it in the header `Authorization: Bearer <key>`."
            )
        credential = self._by_digest.get(sha256(presented).digest())
        if credential is None:
            raise self._unknown(presented, now_ms, peer)
        state, expires_ms = credential
        state.check(now_ms)
        if now_ms >= expires_ms:
            raise AuthenticationFailed(
                "expired_api_key", f'The API key "{state.key.name}" was rotated: use its new secret.'
            )
        state.last_used_ms = now_ms
        return state

    def _unknown(self, presented: bytes, now_ms: int, peer: str) -> SluiceError:
        if presented.startswith(adminkey.PREFIX.encode()) or self._admin.is_admin_key(presented):
            return AuthenticationFailed(
                "invalid_api_key", "This is an admin key; model endpoints take an API key (sk-sluice-…)."
            )
        self._wrong_keys.count(peer, now_ms)
        return AuthenticationFailed(
            "invalid_api_key", "This API key is not known here; check that it is whole."
        )

    # -- reading

    def states(self) -> list[KeyState]:
        """Return all keys, newest first."""
        return list(reversed(self._states.values()))

    def state(self, id: str) -> KeyState | None:
        return self._states.get(id)

    def credential(self, secret: Secret) -> Credential | None:
        """Return whose secret this is, or was."""
        return self._by_digest.get(secret.digest())

    def accounts(self) -> list[Account]:
        """Return all accounts, newest first."""
        return list(reversed(self._accounts.values()))

    def account(self, name: str) -> Account | None:
        return self._accounts.get(name)

    # -- changing: a wait that is cancelled undoes no commit, and so must not part memory from it

    async def add(self, key: ApiKey, secret: Secret) -> KeyState:
        """Add a key."""
        return await asyncio.shield(self._add(key, secret))

    async def change(self, id: str, edit: Callable[[ApiKey], ApiKey]) -> KeyState:
        """Replace a key by what `edit` makes of it; what `edit` raises changes nothing."""
        return await asyncio.shield(self._change(id, edit))

    async def rotate(self, id: str, secret: Secret, old_expire_ms: int) -> KeyState:
        """Give a key another secret; older ones end at `old_expire_ms`."""
        return await asyncio.shield(self._rotate(id, secret, old_expire_ms))

    async def add_account(self, account: Account) -> None:
        """Add an account. Raises BadRequest when its name is taken, or its plan is not there."""
        await asyncio.shield(self._add_account(account))

    async def change_account(self, name: str, edit: Callable[[Account], Account]) -> Account:
        """Replace an account by what `edit` makes of it; its keys follow.

        Raises BadRequest when its plan is not there.
        """
        return await asyncio.shield(self._change_account(name, edit))

    async def _add(self, key: ApiKey, secret: Secret) -> KeyState:
        async with self._changing:
            key = _showing(key, secret)
            await self._key_store.insert(key, secret.digest())
            state = self._new_state(key)
            self._by_digest[secret.digest()] = Credential(state, FOREVER_MS)
            return state

    async def _change(self, id: str, edit: Callable[[ApiKey], ApiKey]) -> KeyState:
        async with self._changing:
            state = self._states[id]
            key = edit(state.key)
            await self._key_store.replace(key)
            self._update(state, key)
            return state

    async def _rotate(self, id: str, secret: Secret, old_expire_ms: int) -> KeyState:
        async with self._changing:
            state = self._states[id]
            key = _showing(state.key, secret)
            await self._key_store.rotate(key, secret.digest(), old_expire_ms)
            for digest, (owner, expires_ms) in list(self._by_digest.items()):
                if owner is state:
                    self._by_digest[digest] = Credential(state, min(expires_ms, old_expire_ms))
            self._by_digest[secret.digest()] = Credential(state, FOREVER_MS)
            self._update(state, key)
            return state

    async def _add_account(self, account: Account) -> None:
        async with self._treasury.plan_use, self._changing:
            if account.name in self._accounts:
                raise BadRequest(
                    "invalid_value", f"There is an account {account.name} already.", param="name"
                )
            self._require_plan(account.plan)
            await self._account_store.insert(account)
            self._accounts[account.name] = account

    async def _change_account(self, name: str, edit: Callable[[Account], Account]) -> Account:
        async with self._treasury.plan_use, self._changing:
            account = edit(self._accounts[name])
            self._require_plan(account.plan)
            await self._account_store.replace(account)
            self._accounts[name] = account
            self.refresh(name)
            return account

    def refresh(self, account: str) -> None:
        """Take a changed account, or another plan that holds for it."""
        self._refresh(state for state in self._states.values() if state.key.account == account)

    # -- configuration

    def check_plans(self, config: Config) -> None:
        """Raise PlansInUse when accounts use plans that this configuration does not have."""
        users: dict[str, list[str]] = {}
        now_ms = self._clock.now_ms()
        for account in self._accounts.values():
            for plan in {account.plan, self._treasury.of(account.name).subscribed_plan(now_ms)}:
                if plan is not None and plan not in config.plans:
                    users.setdefault(plan, []).append(account.name)
        problems = [
            Problem(
                config.line("plans") or 0, f"plans.{plan}", f"is used by accounts: {', '.join(names[:10])}"
            )
            for plan, names in users.items()
        ]
        if problems:
            raise PlansInUse(config.path.name, problems)

    @asynccontextmanager
    async def applying(self, config: Config) -> AsyncIterator[None]:
        """Take the plans of a reloaded configuration at the end of the block, in the same turn of the loop.

        Until then no account takes another plan. Raises PlansInUse, then or from the block nothing
        has changed.
        """
        async with self._treasury.plan_use:
            self.check_plans(config)
            yield
            before, self._config = self._config.plans, config
            changed = {name for name, plan in config.plans.items() if before.get(name) != plan}
            self._refresh(state for state in self._states.values() if state.plan in changed)

    def flush_last_used(self) -> None:
        """Queue for the database which keys were used since the last call."""
        used = {}
        for id, state in self._states.items():
            if state.last_used_ms is not None and state.last_used_ms != state.key.last_used_ms:
                used[id] = state.last_used_ms
                state.key = replace(state.key, last_used_ms=state.last_used_ms)
        if used:
            self._key_store.touch(used)

    def _new_state(self, key: ApiKey) -> KeyState:
        account = self._accounts[key.account]
        funds = self._treasury.of(account.name)
        state = KeyState(key, account, funds, self._plan(account), self._clock.monotonic_ns())
        self._states[key.id] = state
        return state

    def _update(self, state: KeyState, key: ApiKey) -> None:
        account = self._accounts[key.account]
        funds = self._treasury.of(account.name)
        state.update(key, account, funds, self._plan(account), self._clock.monotonic_ns())

    def plan_of(self, account: Account) -> str | None:
        """Return the plan that holds for an account: its own, or that of a subscription that runs."""
        return self._treasury.of(account.name).subscribed_plan(self._clock.now_ms()) or account.plan

    def _plan(self, account: Account) -> Plan | None:
        plan = self.plan_of(account)
        return None if plan is None else self._config.plans[plan]

    def _require_plan(self, plan: str | None) -> None:
        plans = self._config.plans
        if plan is not None and plan not in plans:
            raise BadRequest(
                "invalid_value", f"The configuration has no plan {plan}{hint(plan, plans)}.", param="plan"
            )

    def _refresh(self, states: Iterable[KeyState]) -> None:
        for state in states:
            self._update(state, state.key)


def new_secret() -> Secret:
    """Return a new API key: 256 random bits."""
    return Secret(PREFIX + secrets.token_urlsafe(32))


def _showing(key: ApiKey, secret: Secret) -> ApiKey:
    """Return the key with what may be kept of its secret in clear: nothing of a short one."""
    value = secret.reveal()
    if value.startswith(PREFIX):
        prefix = value[: len(PREFIX) + 4]
    else:
        prefix = value[:4] if len(value) >= 16 else ""
    return replace(key, prefix=prefix, last4=value[-4:] if len(value) >= 12 else "")
