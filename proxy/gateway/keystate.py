"""One API key as requests meet it: with its account, its plan, its buckets, what runs on it."""

from dataclasses import dataclass
from datetime import date, tzinfo
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Protocol

from proxy.config.schema import Plan
from proxy.core.buckets import KeyLimiter
from proxy.core.entities import Account, ApiKey, Limits, Quota
from proxy.core.errors import AuthenticationFailed, PermissionRefused, SluiceError
from proxy.core.globs import Globs
from proxy.core.moments import rfc3339
from proxy.core.periods import period_of
from proxy.core.pricing import Ratio
from proxy.core.spending import Spending
from proxy.gateway.funds import AccountFunds

NO_PLAN = Plan("")
FOREVER_MS = 1 << 62


class Revocable(Protocol):
    """What runs on a key: `gateway.exchange.Exchange`."""

    def revoke(self) -> None:
        """End within a second, because the key no longer holds."""


@dataclass(frozen=True, slots=True)
class QuotaState:
    """What a key has spent of its quota in the period that runs, and when that ends (never: None)."""

    quota: Quota
    spent_nanos: int
    resets_ms: int | None


class KeyState:
    """A key, its account, and what both together allow.

    `limits` are the tighter ones of plan and key; `networks` None allows every address; `running`
    is kept by whoever runs something on the key.
    """

    __slots__ = (
        "_models",
        "_providers",
        "account",
        "discount",
        "funds",
        "key",
        "last_used_ms",
        "limiter",
        "limits",
        "networks",
        "plan",
        "running",
        "spending",
        "valid_until_ms",
    )

    key: ApiKey
    account: Account
    #: The funds of the account, which its other keys use, too.
    funds: AccountFunds
    #: The plan that holds: the account's, or in its place that of its subscription.
    plan: str | None
    limits: Limits
    #: What the account's plan takes off every price.
    discount: Ratio
    networks: tuple[IPv4Network | IPv6Network, ...] | None
    #: Until when the key is accepted, in Unix milliseconds; 0 while it is not accepted at all.
    valid_until_ms: int

    def __init__(
        self, key: ApiKey, account: Account, funds: AccountFunds, plan: Plan | None, now_ns: int
    ) -> None:
        self.last_used_ms = key.last_used_ms
        self.running: set[Revocable] = set()
        self.limiter = KeyLimiter(Limits(), now_ns)
        self.spending = Spending()
        self.update(key, account, funds, plan, now_ns)

    def update(
        self, key: ApiKey, account: Account, funds: AccountFunds, plan: Plan | None, now_ns: int
    ) -> None:
        """Take a changed key, account or plan; what runs on a key that no longer holds is ended.

        `now_ns` is monotonic: limits that grow or shrink keep count of what was consumed.
        """
        self.plan = None if plan is None else plan.name
        plan = plan or NO_PLAN
        self.key = key
        self.account = account
        self.funds = funds
        self.limits = plan.limits.tightened(key.limits)
        self.discount = plan.discount
        self.limiter.configure(self.limits, now_ns)
        self._models = _globs(plan.models, key.models)
        self._providers = _globs(plan.providers, key.providers)
        self.networks = None if key.ips is None else tuple(map(ip_network, key.ips))
        if key.enabled and key.revoked_ms is None and account.enabled:
            self.valid_until_ms = FOREVER_MS if key.expires_ms is None else key.expires_ms
        else:
            self.valid_until_ms = 0
            for exchange in list(self.running):
                exchange.revoke()

    def quota_state(self, day: str, zone: tzinfo) -> QuotaState | None:
        """Return how the key stands with its quota on a day (YYYY-MM-DD); None without one."""
        quota = self.key.quota
        if quota is None:
            return None
        period = period_of(quota.period, date.fromisoformat(day))
        return QuotaState(quota, self.spending.spent(quota.period, day), period.resets_ms(zone))

    def allows_model(self, name: str) -> bool:
        """Return whether plan and key allow the model name that the client wrote."""
        return not self._models or all(allowed.allows(name) for allowed in self._models)

    def allows_provider(self, name: str) -> bool:
        """Return whether plan and key allow this provider."""
        return not self._providers or all(allowed.allows(name) for allowed in self._providers)

    def check(self, now_ms: int) -> None:
        """Raise AuthenticationFailed or PermissionRefused (account_disabled) if the key does not hold.

        To be asked again where something begins to run that took time to be read.
        """
        if now_ms >= self.valid_until_ms:
            raise self._refusal()

    def _refusal(self) -> SluiceError:
        key = self.key
        shown = f'The API key "{key.name}" ({key.prefix}…{key.last4})'
        if key.revoked_ms is not None:
            return AuthenticationFailed(
                "revoked_api_key", f"{shown} was revoked at {rfc3339(key.revoked_ms)}."
            )
        if not key.enabled:
            return AuthenticationFailed("disabled_api_key", f"{shown} is disabled.")
        if not self.account.enabled:
            return PermissionRefused("account_disabled", f'The account "{self.account.name}" is disabled.')
        return AuthenticationFailed("expired_api_key", f"{shown} expired on {rfc3339(self.valid_until_ms)}.")


def _globs(*lists: tuple[str, ...] | None) -> tuple[Globs, ...]:
    """Return the lists that restrict; a name must be allowed by each."""
    return tuple(Globs(names) for names in lists if names is not None)
