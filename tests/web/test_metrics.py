"""`GET /metrics`: who may read it, and its format."""

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest

from proxy import __version__
from proxy.gateway.metrics import MOST_MODELS, OTHER
from proxy.store.writer import Writer
from proxy.web import metrics as page
from tests.support.gateway import ADMIN_KEY, API_KEY, Sluice, configuration, gateway
from tests.support.metrics import scrape
from tests.support.replies import error
from tests.support.several import ask, code, several
from tests.support.upstream import Upstream

ECHO: dict[str, Any] = {"demo": {"preset": "echo"}}
OPEN: dict[str, Any] = {"public": True}
NOBODY = {"authorization": ""}


async def test_it_takes_the_admin_key(tmp_path: Path) -> None:
    async with gateway(tmp_path, providers=ECHO) as sluice:
        nobody = await sluice.admin.get("/metrics", headers=NOBODY)
        client = await sluice.http.get("/metrics")
        elsewhere = await sluice.http.get("/admin/api/config")
        assert (nobody.status_code, code(nobody)) == (401, "missing_api_key")
        assert (client.status_code, code(client)) == (401, "invalid_api_key")
        assert client.json()["error"]["message"] == elsewhere.json()["error"]["message"]
        answer = await sluice.admin.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        posted = await sluice.admin.post("/metrics")
        assert (posted.status_code, posted.headers["allow"]) == (405, "GET")


async def test_it_is_open_where_the_configuration_says_so_from_the_reload_on(tmp_path: Path) -> None:
    async with gateway(tmp_path, providers=ECHO) as sluice:

        async def status(**settings: Any) -> int:
            configuration(tmp_path, providers=ECHO, **settings)
            assert (await sluice.admin.post("/admin/api/reload")).status_code == 200
            return (await sluice.admin.get("/metrics", headers=NOBODY)).status_code

        assert await status(metrics=OPEN) == 200
        assert (await sluice.http.get("/metrics")).status_code == 200
        assert await status() == 401


async def test_everything_has_a_meaning_and_is_documented(tmp_path: Path) -> None:
    models = {"m": {"routes": ["a/x"]}}
    async with several(tmp_path, {"a": {}}, models=models) as (sluice, ups):
        ups["a"].reply(error(500))
        assert (await ask(sluice)).status_code == 502
        assert (await ask(sluice, "unknown")).status_code == 404
        found = await scrape(sluice)
    told = {}
    for name, family in found.families.items():
        assert family.documentation
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        told[f"{name}_total" if family.type == "counter" else name] = (family.type, labels)
    if page.resident_bytes() is None:  # only Linux tells it
        told["sluice_resident_memory_bytes"] = ("gauge", set())
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| `(sluice_\w+)` \| (\w+) \|(.*?)\|", text, re.MULTILINE)
    assert told == {name: (kind, set(re.findall("`(.*?)`", labels))) for name, kind, labels in rows}


async def test_histograms_are_cumulative_up_to_infinity(tmp_path: Path) -> None:
    async with gateway(tmp_path, providers=ECHO) as sluice:
        for _ in range(3):
            await ask(sluice, "demo/x", stream=True)
        found = await scrape(sluice)
    names = ("sluice_request_seconds", "sluice_first_byte_seconds", "sluice_overhead_seconds")
    for name in names:
        samples = found.families[name].samples
        buckets = [(float(each.labels["le"]), each.value) for each in samples if "le" in each.labels]
        assert buckets == sorted(buckets)
        assert [count for _, count in buckets] == sorted(count for _, count in buckets)
        assert buckets[-1] == (float("inf"), 3)
        assert found.total(f"{name}_count") == 3
        assert 0 < found.total(f"{name}_sum") < 60
    request = found.total("sluice_request_seconds_sum")
    assert found.total("sluice_first_byte_seconds_sum") <= request


async def test_how_the_process_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.time()
    async with gateway(tmp_path, providers=ECHO) as sluice:
        found = await scrape(sluice)
        assert found.value("sluice_build_info", version=__version__) == 1
        assert began - 1 < (found.value("sluice_start_time_seconds") or 0) <= time.time()
        assert found.value("sluice_database_writable") == 1
        assert (found.value("sluice_commit_queue") or 0) >= 0
        resident = found.value("sluice_resident_memory_bytes")
        assert resident is None or 10**7 < resident < 10**10
        monkeypatch.setattr(Writer, "healthy", False)
        monkeypatch.setattr(Writer, "depth", 7)
        monkeypatch.setattr(page, "resident_bytes", lambda: None)
        found = await scrape(sluice)
        assert found.value("sluice_database_writable") == 0
        assert found.value("sluice_commit_queue") == 7
        assert found.value("sluice_resident_memory_bytes") is None


async def test_made_up_models_add_no_series_beyond_the_bound(tmp_path: Path) -> None:
    models = {"m": {"routes": ["demo/x"]}}
    async with gateway(tmp_path, providers=ECHO, models=models, metrics=OPEN) as sluice:
        count = MOST_MODELS + 50
        for number in range(count):
            assert (await ask(sluice, f"demo/made-up-{number}")).status_code == 200
            assert (await ask(sluice, f"unknown-{number}")).status_code == 404
        await ask(sluice)
        found = await scrape(sluice)
        shown = found.labels("sluice_requests_total", "model")
        assert len(shown) == MOST_MODELS
        assert {"m", OTHER} < shown
        assert not any(name.startswith("unknown") for name in shown)
        assert found.total("sluice_requests_total") == count + 1
        assert found.value("sluice_refusals_total", code="model_not_found") == count


@pytest.mark.parametrize(
    "name", ['qu"oted', "back\\slash", "line\nfeed", '\\n"\\\n', "中文 €", "half \u2028 line"], ids=ascii
)
async def test_labels_are_escaped(tmp_path: Path, name: str) -> None:
    async with gateway(tmp_path, providers=ECHO) as sluice:
        assert (await ask(sluice, f"demo/{name}")).status_code == 200
        found = await scrape(sluice)
        assert found.labels("sluice_requests_total", "model") == {f"demo/{name}"}
        assert found.value("sluice_tokens_total", model=f"demo/{name}", provider="demo", class_="output")


async def test_no_secret_and_no_account_is_in_it(tmp_path: Path) -> None:
    secrets = ["provider-key-canary-1111", "header-canary-2222", API_KEY, ADMIN_KEY]
    providers = {"a": {"api_key": secrets[0], "headers": {"X-Extra": secrets[1]}}, **ECHO}
    async with Upstream() as upstream:
        providers["a"]["base_url"] = upstream.url
        async with gateway(tmp_path, providers=providers) as sluice:
            await sluice.admin.post("/admin/api/accounts", json={"name": "account-canary"})
            made = await sluice.admin.post(
                "/admin/api/keys", json={"name": "name-canary", "account": "account-canary"}
            )
            secrets += [made.json()["key"], made.json()["id"], "sk-wrong-canary"]
            secrets += ["account-canary", "name-canary"]
            for model in ("a/x", f"demo/{API_KEY}", f"demo/{made.json()['key']}"):
                for key in (API_KEY, made.json()["key"], "sk-wrong-canary"):
                    await ask(sluice, model, key=key)
            text = (await scrape(sluice)).text
            assert 'model="a/x"' in text
            for secret in secrets:
                assert secret not in text
                assert secret[-12:] not in text


async def test_a_scrape_in_the_middle_of_traffic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two parts of the text others are served, and new series begin."""
    monkeypatch.setattr(page, "SAMPLES_AT_ONCE", 1)
    async with gateway(tmp_path, providers=ECHO, metrics=OPEN) as sluice:

        async def traffic(sluice: Sluice, first: int) -> None:
            for number in range(first, first + 15):
                await ask(sluice, f"demo/x{number}")
                await ask(sluice, "nobody")

        async with asyncio.TaskGroup() as group:
            for first in range(0, 60, 15):
                group.create_task(traffic(sluice, first))
            for _ in range(20):
                await scrape(sluice)
        found = await scrape(sluice)
        assert found.total("sluice_requests_total") == 60
        assert found.total("sluice_request_seconds_count") == 60
        assert found.value("sluice_refusals_total", code="model_not_found") == 60
