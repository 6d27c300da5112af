"""`/admin/api/prices`, over a running gateway."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import Sluice, gateway

PATH = "/admin/api/prices"
NOTHING = {"file": None, "imported_at": None, "models": 0}


def lists(*models: dict[str, Any], **fields: Any) -> dict[str, Any]:
    one = {"preset": "openai", "currency": "USD", "source": "a test", "date": "2026-11-20", "models": models}
    return {"file": "prices.json", "lists": [one | fields]}


NEW = lists({"id": "gpt-9", "max_output": 500, "price": {"input": "1.5", "output": "6"}})


def settings() -> dict[str, Any]:
    return {"providers": {"openai": {"api_key": "sk-up", "models": ["gpt-9", "gpt-4o"]}}}


@pytest.fixture
async def sluice(tmp_path: Path) -> AsyncIterator[Sluice]:
    async with gateway(tmp_path, **settings()) as sluice:
        yield sluice


async def entry(sluice: Sluice, name: str) -> dict[str, Any]:
    entries = (await sluice.admin.get("/admin/api/models")).json()["data"]
    (found,) = (one for one in entries if one["id"] == name)
    shown: dict[str, Any] = found
    return shown


async def test_an_import_holds_at_once_and_can_be_taken_back(sluice: Sluice) -> None:
    assert (await sluice.admin.get(PATH)).json() == NOTHING
    assert (await entry(sluice, "openai/gpt-9"))["pricing"] is None
    answer = await sluice.admin.post(PATH, json=NEW)
    assert (answer.status_code, answer.json()["file"], answer.json()["models"]) == (200, "prices.json", 1)
    assert (await sluice.admin.get(PATH)).json() == answer.json()
    after = await entry(sluice, "openai/gpt-9")
    assert (after["pricing"]["input_per_million"], after["max_output_tokens"]) == ("1.5", 500)
    assert (after["price_source"], after["price_date"]) == ("imported", "2026-11-20")
    assert after["routes"][0]["price_source"] == "imported"
    assert (await entry(sluice, "openai/gpt-4o"))["price_source"] == "catalogue"
    assert (await sluice.admin.delete(PATH)).json() == NOTHING
    assert (await entry(sluice, "openai/gpt-9"))["price_source"] is None


async def test_it_outlives_the_process_and_is_replaced_whole(tmp_path: Path) -> None:
    async with gateway(tmp_path, **settings()) as sluice:
        await sluice.admin.post(PATH, json=NEW)
    async with gateway(tmp_path, **settings()) as sluice:
        assert (await entry(sluice, "openai/gpt-9"))["price_source"] == "imported"
        await sluice.admin.post(PATH, json=lists({"id": "gpt-4o", "price": {"input": "1", "output": "2"}}))
        assert (await entry(sluice, "openai/gpt-9"))["price_source"] is None
        assert (await entry(sluice, "openai/gpt-4o"))["price_source"] == "imported"
        await sluice.admin.delete(PATH)
    async with gateway(tmp_path, **settings()) as sluice:
        assert (await sluice.admin.get(PATH)).json() == NOTHING


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "file"),
        (NEW | {"more": 1}, "more"),
        (NEW | {"lists": []}, "lists"),
        (lists(preset="opnai"), "lists[0].preset"),
        (lists(region="cn"), "lists[0].region"),
        (lists(currency="usd"), "lists[0].currency"),
        (lists(date="yesterday"), "lists[0].date"),
        (lists({"id": ""}), "lists[0].models[0].id"),
        (lists({"id": "a", "max_output": 0}), "lists[0].models[0].max_output"),
        (lists({"id": "a", "price": {"input": 1.5}}), "lists[0].models[0].price.input"),
        (lists({"id": "a", "price": {"input": "1e9"}}), "lists[0].models[0].price.input"),
        (lists({"id": "a", "price": {"cached_input": "1"}}), "lists[0].models[0].price.input"),
        (lists({"id": "a"}, {"id": "a"}), "lists[0].models[1].id"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_wrong_body_changes_nothing(sluice: Sluice, body: dict[str, Any], param: str) -> None:
    await sluice.admin.post(PATH, json=NEW)
    answer = await sluice.admin.post(PATH, json=body)
    assert answer.status_code == 400
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == ("invalid_value", param)
    assert (await sluice.admin.get(PATH)).json()["models"] == 1


async def test_a_body_has_a_bound(sluice: Sluice) -> None:
    answer = await sluice.admin.post(
        PATH, content=b" " * (5 << 20), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413
