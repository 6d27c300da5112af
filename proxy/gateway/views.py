"""Keys, accounts and exchanges as JSON shows them. docs/api.md has the shapes."""

from dataclasses import asdict
from typing import Any

import msgspec

from proxy.core.entities import Account, Attempt, LedgerEntry, Usage, UsageRecord
from proxy.core.funding import Funds, Grant, Subscription
from proxy.core.moments import rfc3339
from proxy.core.money import decimal_text
from proxy.gateway.clock import Clock
from proxy.gateway.keystate import KeyState, QuotaState

Json = dict[str, Any]


def key_object(state: KeyState, clock: Clock) -> Json:
    """Return a key as the admin API shows it: with its own limits, without its secret."""
    key = state.key
    quota = state.quota_state(clock.today().name, clock.zone)
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
        "quota": None if quota is None else quota_object(quota),
    }


def account_object(account: Account, plan: str | None, held_nanos: int, funds: Funds, now_ms: int) -> Json:
    """Return an account with its funds. `plan` is the one that holds: a subscription's replaces its own."""
    return {
        "name": account.name,
        "plan": plan,
        "own_plan": account.plan,
        "enabled": account.enabled,
        "created_at": rfc3339(account.created_ms),
        **funds_members(funds, held_nanos, now_ms),
        "held": decimal_text(held_nanos),
    }


def funds_members(funds: Funds, held_nanos: int, now_ms: int) -> Json:
    """Return the members `funds` and `available`."""
    return {
        "funds": {
            "grants": list(map(_grant, funds.grants)),
            "subscription": funds.subscription and _subscription(funds.subscription),
            "wallet": decimal_text(funds.wallet_nanos),
        },
        "available": decimal_text(funds.money_nanos(now_ms) - held_nanos),
    }


def _grant(grant: Grant) -> Json:
    return {
        "id": grant.id,
        "tokens": grant.tokens,
        "tokens_left": grant.left,
        "models": grant.models,
        "expires_at": _moment(grant.expires_ms),
    }


def _subscription(subscription: Subscription) -> Json:
    return {
        "plan": subscription.plan,
        "credit": decimal_text(subscription.credit_nanos),
        "credit_left": decimal_text(subscription.left_nanos),
        "expires_at": rfc3339(subscription.expires_ms),
    }


def entry_object(entry: LedgerEntry) -> Json:
    """Return a ledger entry; amounts of grants are LLM tokens, all others money."""
    in_tokens = entry.fund.startswith("grant:")
    return {
        "id": entry.id,
        "created_at": rfc3339(entry.created_ms),
        "account": entry.account,
        "kind": entry.kind,
        "fund": entry.fund,
        "amount": entry.amount if in_tokens else decimal_text(entry.amount),
        "balance_after": entry.balance_after if in_tokens else decimal_text(entry.balance_after),
        "exchange": entry.exchange,
        "actor": entry.actor,
        "note": entry.note,
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
        "paid": {
            "tokens": record.paid_tokens,
            "subscription": decimal_text(record.paid_subscription_nanos),
            "wallet": decimal_text(record.paid_wallet_nanos),
        },
        "billing": record.billing,
        "finish": record.finish,
        "timings": record.timings,
    }


def quota_object(state: QuotaState) -> Json:
    """Return a quota, and what is spent of it."""
    return {
        "amount": decimal_text(state.quota.amount_nanos),
        "period": state.quota.period,
        "spent": decimal_text(state.spent_nanos),
        "resets_at": _moment(state.resets_ms),
    }


def _moment(unix_ms: int | None) -> str | None:
    return None if unix_ms is None else rfc3339(unix_ms)
