"""The set-up of client tools, asked of a running gateway."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.gateway import Sluice, gateway
from tests.support.raw import RawClient

PROVIDERS = {"demo": {"preset": "echo"}}
MODELS = {"dear": {"routes": ["demo/x"]}, "cheap": {"routes": ["demo/y"]}}
PATHS = ("/v1/clients", "/api/v1/clients", "/admin/api/clients")


@pytest.fixture
async def sluice(tmp_path: Path) -> AsyncIterator[Sluice]:
    async with gateway(
        tmp_path, providers=PROVIDERS, models=MODELS, server={"trusted_proxies": ["127.0.0.1"]}
    ) as sluice:
        yield sluice


def environment(answer: httpx2.Response) -> str:
    """Return what Claude Code is told."""
    assert answer.status_code == 200, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    (content,) = [item["steps"][0]["content"] for item in data if item["name"] == "claude-code"]
    return str(content)


def ask(sluice: Sluice, path: str) -> httpx2.AsyncClient:
    return sluice.admin if path.startswith("/admin") else sluice.http


@pytest.mark.parametrize("path", PATHS)
async def test_all_clients_for_the_address_that_was_called(sluice: Sluice, path: str) -> None:
    answer = await ask(sluice, path).get(path)
    assert len(answer.json()["data"]) == 17
    told = environment(answer)
    assert f'"ANTHROPIC_BASE_URL": "{sluice.url}"' in told
    assert '"ANTHROPIC_AUTH_TOKEN": "{{KEY}}"' in told
    assert '"ANTHROPIC_MODEL": "dear"' in told


@pytest.mark.parametrize("path", PATHS)
async def test_a_key_is_wanted(sluice: Sluice, path: str) -> None:
    async with httpx2.AsyncClient(base_url=sluice.url) as nobody:
        assert (await nobody.get(path)).status_code == 401
    other = sluice.http if path.startswith("/admin") else sluice.admin
    assert (await other.get(path)).status_code == 401


async def test_a_model_that_the_key_may_use(sluice: Sluice) -> None:
    async def model(**fields: Any) -> str:
        made = await sluice.admin.post("/admin/api/keys", json={"name": "n", **fields})
        headers = {"authorization": f"Bearer {made.json()['key']}"}
        return environment(await sluice.http.get("/v1/clients", headers=headers))

    assert '"ANTHROPIC_MODEL": "cheap"' in await model(models=["cheap"])
    assert '"ANTHROPIC_MODEL": "MODEL"' in await model(providers=["other"])


@pytest.mark.parametrize("path", PATHS)
async def test_model_and_address_can_be_given(sluice: Sluice, path: str) -> None:
    query = {"model": 'a "b"', "base_url": "https://gw.example.com/v1"}
    told = environment(await ask(sluice, path).get(path, params=query))
    assert '"ANTHROPIC_BASE_URL": "https://gw.example.com"' in told
    assert '"ANTHROPIC_MODEL": "a \\"b\\""' in told


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"base_url": "javascript:alert(1)"}, "base_url"),
        ({"base_url": ""}, "base_url"),
        ({"model": ""}, "model"),
        ({"model": "a\nb", "base_url": "https://gw.example.com"}, "model"),
        ({"key": "sk-sluice-1"}, "key"),
    ],
)
@pytest.mark.parametrize("path", PATHS)
async def test_a_wrong_query(sluice: Sluice, path: str, query: dict[str, str], param: str) -> None:
    answer = await ask(sluice, path).get(path, params=query)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")
    assert answer.json()["error"]["param"] == param


async def test_https_when_a_trusted_proxy_says_so(sluice: Sluice) -> None:
    headers = {"host": "localhost", "x-forwarded-proto": "https"}
    told = environment(await sluice.http.get("/v1/clients", headers=headers))
    assert '"ANTHROPIC_BASE_URL": "https://localhost"' in told


async def test_http_when_anybody_else_says_https(tmp_path: Path) -> None:
    async with gateway(tmp_path, providers=PROVIDERS) as sluice:
        told = environment(await sluice.http.get("/v1/clients", headers={"x-forwarded-proto": "https"}))
        assert f'"ANTHROPIC_BASE_URL": "{sluice.url}"' in told


async def test_a_request_without_host(sluice: Sluice) -> None:
    port = int(sluice.url.rpartition(":")[2])
    key = sluice.http.headers["authorization"]
    async with RawClient(("127.0.0.1", port)) as client:
        client.send(f"GET /v1/clients HTTP/1.0\r\nAuthorization: {key}\r\n\r\n".encode())
        answer = await client.answer()
    assert b"http://127.0.0.1:8484/v1" in answer.body
