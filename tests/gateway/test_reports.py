"""Reports over the daily sums."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.core.entities import Finish, Usage
from proxy.core.errors import BadRequest
from proxy.gateway.reports import Reports, UsageQuery
from tests.support.keys import Installation, installed, settings_of
from tests.support.records import record

MAY = "2100-05-"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Installation]:
    async with installed(settings_of(tmp_path, currency="CNY")) as here:
        yield here


@pytest.fixture
async def reports(here: Installation) -> Reports:
    """The reports after four exchanges: three in this month, of two keys in two accounts."""
    usage = Usage(input_tokens=100, output_tokens=20, cached_tokens=30, reasoning_tokens=5)
    common = {"usage": usage, "key_id": "key_a", "account": "default", "provider": "ali", "model": "fast"}
    for number, fields in enumerate(
        (
            {"day": MAY + "01", "cost_nanos": 10**9},
            {
                "day": MAY + "21",
                "cost_nanos": 3 * 10**9,
                "key_id": "key_b",
                "account": "team",
                "model": "big",
            },
            {
                "day": MAY + "21",
                "cost_nanos": 0,
                "provider": None,
                "usage": Usage(),
                "finish": Finish.UPSTREAM_ERROR,
                "status": 502,
            },
            {"day": "2100-04-30", "cost_nanos": 50_000_000_000},
        )
    ):
        await here.usage.settle(record(number, **{**common, **fields}))
    return Reports(here.usage, here.clock, lambda: here.config)


async def test_this_month_as_a_whole(reports: Reports) -> None:
    assert await reports.usage_report(UsageQuery()) == {
        "object": "usage",
        "period": {"start_date": MAY + "01", "end_date": MAY + "31"},
        "total_tokens": 240,
        "total_cost": "¥4.00",
        "total_cost_value": "4.000000000",
        "requests": 3,
        "failed": 1,
        "input_tokens": 200,
        "cached_tokens": 60,
        "output_tokens": 40,
        "reasoning_tokens": 10,
        "currency": "CNY",
        "timezone": "UTC",
        "by_provider": [
            {"provider": "ali", "tokens": 240, "cost": "¥4.00", "cost_value": "4.000000000", "requests": 2},
            {"provider": None, "tokens": 0, "cost": "¥0.00", "cost_value": "0.000000000", "requests": 1},
        ],
        "by_model": [
            {"model": "big", "tokens": 120, "cost": "¥3.00", "cost_value": "3.000000000", "requests": 1},
            {"model": "fast", "tokens": 120, "cost": "¥1.00", "cost_value": "1.000000000", "requests": 2},
        ],
        "by_day": [
            {"day": MAY + "01", "tokens": 120, "cost": "¥1.00", "cost_value": "1.000000000", "requests": 1},
            {"day": MAY + "21", "tokens": 120, "cost": "¥3.00", "cost_value": "3.000000000", "requests": 2},
        ],
    }


@pytest.mark.parametrize(
    ("group", "values"),
    [
        ("day", [MAY + "01", MAY + "21"]),
        ("model", ["big", "fast"]),
        ("provider", ["ali", None]),
        ("key", ["key_b", "key_a"]),
        ("account", ["team", "default"]),
    ],
)
async def test_groups_have_the_same_sums_as_the_whole(
    reports: Reports, group: str, values: list[str | None]
) -> None:
    report = await reports.usage_report(UsageQuery(group_by=group))
    assert [line[group] for line in report["data"]] == values
    for figure in ("total_tokens", "requests", "failed", "input_tokens", "output_tokens", "cached_tokens"):
        assert sum(line[figure] for line in report["data"]) == report[figure]
    assert sum(float(line["total_cost_value"]) for line in report["data"]) == 4
    assert {line["total_cost"][0] for line in report["data"]} == {"¥"}


@pytest.mark.parametrize(
    ("query", "requests"),
    [
        (UsageQuery(account="team"), 1),
        (UsageQuery(key="key_a"), 2),
        (UsageQuery(provider="ali"), 2),
        (UsageQuery(model="fast"), 2),
        (UsageQuery(model="fast", account="team"), 0),
        (UsageQuery(start_date="2100-04-01"), 4),
        (UsageQuery(start_date="2100-05-02"), 2),
        (UsageQuery(end_date="2100-04-30"), 1),
        (UsageQuery(end_date="2100-05-20"), 1),
        (UsageQuery(start_date="2100-05-21", end_date="2100-05-21"), 2),
    ],
    ids=str,
)
async def test_filters(reports: Reports, query: UsageQuery, requests: int) -> None:
    report = await reports.usage_report(query)
    assert report["requests"] == requests
    for name in ("by_provider", "by_model", "by_day"):
        assert sum(line["requests"] for line in report[name]) == requests


@pytest.mark.parametrize(
    ("query", "param"),
    [
        (UsageQuery(start_date="2100-02-30"), "start_date"),
        (UsageQuery(end_date="yesterday"), "end_date"),
        (UsageQuery(start_date="2100-05-02", end_date="2100-05-01"), "start_date"),
        (UsageQuery(start_date="2100-06-01"), "start_date"),
        (UsageQuery(group_by="hour"), "group_by"),
        (UsageQuery(group_by=""), "group_by"),
    ],
    ids=str,
)
async def test_a_wrong_query_is_named(reports: Reports, query: UsageQuery, param: str) -> None:
    with pytest.raises(BadRequest) as raised:
        await reports.usage_report(query)
    assert (raised.value.code, raised.value.param) == ("invalid_value", param)
