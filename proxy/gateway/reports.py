"""Reports: what was used, and what it cost. They read the sums by day and hour, never the exchanges."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from proxy.config.schema import Config
from proxy.core.entities import Usage
from proxy.core.errors import BadRequest
from proxy.core.histogram import percentile
from proxy.core.moments import parse_date, rfc3339
from proxy.core.money import decimal_text, display_amount
from proxy.core.periods import period_of
from proxy.gateway.clock import Clock
from proxy.store import hourly
from proxy.store.daily import Sum
from proxy.store.hourly import HourSum
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


class StatsQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """How many hours back, the running one included; `by` parts their counts."""

    hours: Annotated[int, Meta(ge=1, le=168)] = 24
    by: str | None = None


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
        config = self._config()
        currency = config.billing.currency
        names = list(dict.fromkeys(("provider", "model", "day", query.group_by or "day")))
        found = await asyncio.gather(*(self._sums(start, end, query, name) for name in names))
        by = dict(zip(names, found, strict=True))
        report: Json = {
            "object": "usage",
            "period": {"start_date": start, "end_date": end},
            **_figures(by["day"], currency),
            "currency": currency,
            "timezone": config.limits.timezone,
        }
        for name in ("provider", "model", "day"):
            report[f"by_{name}"] = [_line(name, item, currency) for item in by[name]]
        if (group := query.group_by) is not None:
            report["data"] = [
                {group: _value(item, group), **_figures([item], currency)} for item in by[group]
            ]
        return report

    async def stats(self, query: StatsQuery) -> Json:
        """Return the report of `GET /admin/api/stats`. Raises BadRequest for a bad group."""
        if query.by is not None and query.by not in hourly.GROUPS:
            raise _bad("by", f"must be one of {', '.join(hourly.GROUPS)}")
        last_ms = self._clock.now_ms() // hourly.HOUR_MS * hourly.HOUR_MS
        first_ms = last_ms - (query.hours - 1) * hourly.HOUR_MS
        sums = await self._usage.hours(first_ms, query.by)
        by_hour: dict[int, list[HourSum]] = {}
        for item in sums:
            by_hour.setdefault(item.hour_ms, []).append(item)
        hours = range(first_ms, last_ms + 1, hourly.HOUR_MS)
        report: Json = {"hours": query.hours, "since": rfc3339(first_ms), **_counts(sums)}
        data = [{"hour": rfc3339(hour), **_counts(by_hour.get(hour, ()))} for hour in hours]
        if query.by is None:
            times = await self._usage.times(first_ms)
            report.update(_percentiles(times.values()))
            for hour, line in zip(hours, data, strict=True):
                line.update(_percentiles([times.get(hour, {})]))
        report["data"] = data
        if query.by is not None:
            report["groups"] = [
                {"hour": rfc3339(item.hour_ms), query.by: item.name or None, **_counts([item])}
                for item in sums
            ]
        return report

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


def _counts(items: Sequence[HourSum]) -> Json:
    return {
        "requests": sum(item.requests for item in items),
        "failed": sum(item.failed for item in items),
        "tokens": sum(item.tokens for item in items),
        "cost": decimal_text(sum(item.cost_nanos for item in items)),
    }


def _percentiles(hours: Iterable[Mapping[str, Mapping[int, int]]]) -> Json:
    whole: dict[str, Counter[int]] = {timing: Counter() for timing in hourly.TIMINGS}
    for hour in hours:
        for timing, counts in hour.items():
            whole[timing].update(counts)
    return {
        timing: {"p50": percentile(counts, 50), "p95": percentile(counts, 95)} if counts else None
        for timing, counts in whole.items()
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
