"""The nouns of the house. Frozen, slotted, free of behaviour beyond reading themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec


@dataclass(frozen=True, slots=True)
class Limits:
    """The seven limits of a plan or a key; None means unlimited.

    `rpm` and `rpd` count requests per minute and per day, `tpm` and `tpd` LLM tokens,
    `concurrency` running exchanges; `max_context` bounds the estimated input of one request,
    `max_output` its output. docs/limits.md
    """

    rpm: int | None = None
    tpm: int | None = None
    rpd: int | None = None
    tpd: int | None = None
    concurrency: int | None = None
    max_context: int | None = None
    max_output: int | None = None

    def tightened(self, other: "Limits") -> "Limits":
        """Return the tighter of both, limit by limit."""
        return Limits(
            **{name: _tighter(getattr(self, name), getattr(other, name)) for name in Limits.__slots__}
        )


def _tighter(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)


class Usage(msgspec.Struct, frozen=True):
    """Token counts of one answer.

    `input_tokens` is all input; `cached_tokens` and `cache_write_tokens` are parts of it.
    `output_tokens` is all output; `reasoning_tokens` is a part of it.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Quota:
    """A spend allowance of a key: `amount_nanos` of the billing currency per `period`."""

    amount_nanos: int
    period: str  # day | week | month | total


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A client's credential, without the secret itself: only `prefix` and `last4` of it are known.

    Times are Unix milliseconds. `models` and `providers` are globs and names that the key may
    use; None allows all. `ips` are CIDR blocks; None allows all.
    """

    id: str
    name: str
    account: str
    prefix: str
    last4: str
    enabled: bool
    created_ms: int
    expires_ms: int | None = None
    revoked_ms: int | None = None
    last_used_ms: int | None = None
    models: tuple[str, ...] | None = None
    providers: tuple[str, ...] | None = None
    ips: tuple[str, ...] | None = None
    limits: Limits = field(default_factory=Limits)
    quota: Quota | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """Who owns keys and funds. `plan` names a plan of the configuration."""

    name: str
    plan: str | None
    enabled: bool
    created_ms: int


class Billing(StrEnum):
    """How the charge of an exchange came about. docs/billing.md"""

    SETTLED = "settled"  # the usage that the provider reported
    ESTIMATED = "estimated"  # counted here, wholly or in part
    VOID = "void"  # nothing charged


class Finish(StrEnum):
    """How an exchange ended. docs/billing.md"""

    OK = "ok"
    UPSTREAM_ERROR = "upstream_error"
    TRUNCATED = "truncated"
    TIMEOUT = "timeout"
    CLIENT_GONE = "client_gone"
    SHUTDOWN = "shutdown"
    REVOKED = "revoked"
    CRASH = "crash"


class Attempt(msgspec.Struct, frozen=True):
    """One upstream try. `provider_key` is masked; `started_ms` is Unix time."""

    provider: str
    model: str
    provider_key: str | None
    started_ms: int
    status: int | None = None
    error: str | None = None
    first_byte_ms: float | None = None
    total_ms: float | None = None


class EntryKind(StrEnum):
    """Why a balance changed. docs/billing.md, "The ledger" """

    TOPUP = "topup"
    GRANT = "grant"
    SUBSCRIBE = "subscribe"
    CHARGE = "charge"
    REFUND = "refund"
    ADJUST = "adjust"
    EXPIRE = "expire"


class LedgerEntry(msgspec.Struct, frozen=True):
    """One change of one balance; never changed itself.

    `fund` is `wallet`, `subscription` or `grant:ID`. `amount` and `balance_after` are nanos, of a
    grant LLM tokens; what is taken is negative.
    """

    id: int
    created_ms: int
    account: str
    kind: EntryKind
    fund: str
    amount: int
    balance_after: int
    exchange: str | None
    actor: str
    note: str | None


class AdmittedExchange(msgspec.Struct, frozen=True):
    """What is known of an exchange at admission: the row that a crash would leave behind."""

    id: str
    created_ms: int
    day: str
    key_id: str
    account: str
    dialect: str
    endpoint: str
    stream: bool
    model: str


class UsageRecord(msgspec.Struct, frozen=True):
    """One admitted exchange, as it is stored: its row, its receipt, its part of the daily sums.

    `status` is the HTTP status that the client saw (499 when it was gone before one was sent).
    `price` is the price applied, as text amounts for the receipt; None when unpriced.
    """

    id: str
    created_ms: int
    ended_ms: int
    day: str  # YYYY-MM-DD in the zone of the limits
    key_id: str
    account: str
    dialect: str
    endpoint: str
    stream: bool
    model: str  # as the client wrote it
    provider: str | None
    upstream_model: str | None
    status: int
    billing: Billing
    finish: Finish
    error_code: str | None
    usage: Usage
    estimated: bool
    cost_nanos: int
    discount: str
    price: Mapping[str, str] | None
    attempts: tuple[Attempt, ...]
    timings: Mapping[str, float]  # milliseconds
    #: What funds paid of it: LLM tokens of grants, and nanos. Set by the ledger, in the same transaction.
    paid_tokens: int = 0
    paid_subscription_nanos: int = 0
    paid_wallet_nanos: int = 0
