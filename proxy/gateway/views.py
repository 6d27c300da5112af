"""Keys, accounts and exchanges as JSON shows them. docs/api.md has the shapes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import msgspec

from proxy.core.entities import Account, Attempt, Quota, Usage, UsageRecord
from proxy.core.moments import rfc3339
from proxy.core.money import decimal_text
from proxy.gateway.keystate import KeyState

Json = dict[str, Any]

# In track mode nothing is paid and no fund moves.
NO_FUNDS: Mapping[str, object] = MappingProxyType(
    {
        "funds": {"grants": [], "subscription": None, "wallet": decimal_text(0)},
        "held": decimal_text(0),
        "available": decimal_text(0),
    }
)
NOT_PAID: Mapping[str, object] = MappingProxyType(
    {"tokens": 0, "subscription": decimal_text(0), "wallet": decimal_text(0)}
)


@dataclass(frozen=True, slots=True)
class QuotaState:
    """What a key has spent of its quota in the period that runs, and when that ends (never: None)."""

    quota: Quota
    spent_nanos: int
    resets_ms: int | None


def key_object(state: KeyState, quota: QuotaState | None) -> Json:
    """Return a key as the admin API shows it: with its own limits, without its secret."""
    key = state.key
    return {
        "id": key.id,
        "name": key.name,
        "account": key.account,
        "prefix": key.prefix,
        "last4": key.last4,
        "enabled": key.enabled,
        "created_at": rfc3339(key.created_ms),
        "expires_at": _moment(key.expires_ms),
        "revoked_at": _moment(key.revoked_ms),
        "last_used_at": _moment(state.last_used_ms),
        "models": key.models,
        "providers": key.providers,
        "ips": key.ips,
        "limits": asdict(key.limits),
        "quota": None if quota is None else _quota_object(quota),
    }


def account_object(account: Account) -> Json:
    return {
        "name": account.name,
        "plan": account.plan,
        "enabled": account.enabled,
        "created_at": rfc3339(account.created_ms),
        **NO_FUNDS,
    }


def usage_object(usage: Usage) -> Json:
    return {**msgspec.to_builtins(usage), "total_tokens": usage.total_tokens}


def _attempt(attempt: Attempt) -> Json:
    return {
        "provider": attempt.provider,
        "model": attempt.model,
        "provider_key": attempt.provider_key,
        "started": rfc3339(attempt.started_ms),
        "status": attempt.status,
        "error": attempt.error,
        "first_byte_ms": attempt.first_byte_ms,
        "total_ms": attempt.total_ms,
    }


def receipt(record: UsageRecord) -> Json:
    """Return the receipt of one exchange: what was tried, what was used, what it cost and why."""
    return {
        "id": record.id,
        "created": rfc3339(record.created_ms),
        "ended": rfc3339(record.ended_ms),
        "key": record.key_id,
        "account": record.account,
        "dialect": record.dialect,
        "endpoint": record.endpoint,
        "stream": record.stream,
        "model": record.model,
        "provider": record.provider,
        "upstream_model": record.upstream_model,
        "status": record.status,
        "error": record.error_code,
        "attempts": list(map(_attempt, record.attempts)),
        "usage": usage_object(record.usage),
        "estimated": record.estimated,
        "price": record.price,
        "cost": decimal_text(record.cost_nanos),
        "discount": record.discount,
        "paid": dict(NOT_PAID),
        "billing": record.billing,
        "finish": record.finish,
        "timings": record.timings,
    }


def _quota_object(state: QuotaState) -> Json:
    return {
        "amount": decimal_text(state.quota.amount_nanos),
        "period": state.quota.period,
        "spent": decimal_text(state.spent_nanos),
        "resets_at": _moment(state.resets_ms),
    }


def _moment(unix_ms: int | None) -> str | None:
    return None if unix_ms is None else rfc3339(unix_ms)
