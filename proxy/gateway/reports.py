"""Reports: what was used, and what it cost. All of them read the daily sums alone."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from proxy.config.schema import Config
from proxy.core.entities import ApiKey, Usage
from proxy.core.errors import BadRequest
from proxy.core.moments import parse_date
from proxy.core.money import decimal_text, display_amount
from proxy.core.periods import period_of
from proxy.gateway.clock import Clock
from proxy.gateway.views import QuotaState
from proxy.store.daily import Sum
from proxy.store.usage import UsageStore

Json = dict[str, Any]

GROUPS = ("day", "model", "provider", "key", "account")


class UsageFilter(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What anybody may ask of a usage report. Dates are `YYYY-MM-DD`, inclusive; None: this month's."""

    start_date: str | None = None
    end_date: str | None = None
    provider: str | None = None
    model: str | None = None
    group_by: str | None = None


class UsageQuery(UsageFilter, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Which exchanges a report sums up: of all accounts and keys, where none is given."""

    account: str | None = None
    key: str | None = None


class Reports:
    """Builds reports from the daily sums, in the days of the configured zone."""

    def __init__(self, usage: UsageStore, clock: Clock, config: Callable[[], Config]) -> None:
        self._usage = usage
        self._clock = clock
        self._config = config

    async def usage_report(self, query: UsageQuery) -> Json:
        """Return the report of `GET /usage`. Raises BadRequest for a bad or reversed date, a bad group."""
        start, end = self._dates(query)
        if query.group_by is not None and query.group_by not in GROUPS:
            raise _bad("group_by", f"must be one of {', '.join(GROUPS)}")
        currency = self._config().billing.currency
        names = list(dict.fromkeys(("provider", "model", "day", query.group_by or "day")))
        found = await asyncio.gather(*(self._sums(start, end, query, name) for name in names))
        by = dict(zip(names, found, strict=True))
        report: Json = {
            "object": "usage",
            "period": {"start_date": start, "end_date": end},
            **_figures(by["day"], currency),
            "currency": currency,
        }
        for name in ("provider", "model", "day"):
            report[f"by_{name}"] = [_line(name, item, currency) for item in by[name]]
        if (group := query.group_by) is not None:
            report["data"] = [
                {group: _value(item, group), **_figures([item], currency)} for item in by[group]
            ]
        return report

    async def quotas(self, keys: Sequence[ApiKey]) -> dict[str, QuotaState]:
        """Return what these keys have spent of their quotas, by key id; keys without one are left out."""
        today = date.fromisoformat(self._clock.today().name)
        zone = ZoneInfo(self._config().limits.timezone)
        states = {}
        for kind in {key.quota.period for key in keys if key.quota is not None}:
            period = period_of(kind, today)
            sums = await self._usage.sums(
                start=period.first.isoformat(),
                end=today.isoformat(),
                by=("key",),
                key=keys[0].id if len(keys) == 1 else None,
            )
            spent = {item.key: item.cost_nanos for item in sums}
            for key in keys:
                if key.quota is not None and key.quota.period == kind:
                    states[key.id] = QuotaState(key.quota, spent.get(key.id, 0), period.resets_ms(zone))
        return states

    def _dates(self, query: UsageQuery) -> tuple[str, str]:
        end = _date(query.end_date, "end_date")
        month = period_of("month", end or date.fromisoformat(self._clock.today().name))
        start = _date(query.start_date, "start_date") or month.first
        end = end or month.last
        if start > end:
            raise _bad("start_date", f"{start} is after the end date {end}")
        return start.isoformat(), end.isoformat()

    async def _sums(self, start: str, end: str, query: UsageQuery, by: str) -> list[Sum]:
        """Return the sums by one name; days in their order, all else dearest first."""
        sums = await self._usage.sums(
            start=start,
            end=end,
            by=(by,),
            account=query.account,
            key=query.key,
            provider=query.provider,
            model=query.model,
        )
        if by == "day":
            return sums
        sums.sort(key=lambda item: _value(item, by) or "")
        sums.sort(key=lambda item: (item.cost_nanos, item.usage.total_tokens), reverse=True)
        return sums


def _figures(sums: Sequence[Sum], currency: str) -> Json:
    usage = Usage(
        input_tokens=sum(item.usage.input_tokens for item in sums),
        output_tokens=sum(item.usage.output_tokens for item in sums),
        cached_tokens=sum(item.usage.cached_tokens for item in sums),
        reasoning_tokens=sum(item.usage.reasoning_tokens for item in sums),
    )
    cost_nanos = sum(item.cost_nanos for item in sums)
    return {
        "total_tokens": usage.total_tokens,
        "total_cost": display_amount(cost_nanos, currency),
        "total_cost_value": decimal_text(cost_nanos),
        "requests": sum(item.requests for item in sums),
        "failed": sum(item.failed for item in sums),
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }


def _line(name: str, item: Sum, currency: str) -> Json:
    return {
        name: _value(item, name),
        "tokens": item.usage.total_tokens,
        "cost": display_amount(item.cost_nanos, currency),
        "cost_value": decimal_text(item.cost_nanos),
        "requests": item.requests,
    }


def _value(item: Sum, name: str) -> str | None:
    """Return what a sum is of; None where no provider answered."""
    value: str | None = getattr(item, name)
    return value or None


def _date(text: str | None, param: str) -> date | None:
    try:
        return None if text is None else parse_date(text)
    except ValueError as error:
        raise _bad(param, str(error)) from None


def _bad(param: str, message: str) -> BadRequest:
    return BadRequest("invalid_value", f"{param}: {message}.", param=param)
