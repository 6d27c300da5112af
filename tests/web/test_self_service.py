"""What a client can ask about its own key, over a running gateway."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from tests.support.gateway import ADMIN_KEY, API_KEY, Sluice, gateway

PLANS = {"free": {"rpm": 60, "rpd": 100, "max_context": 5000, "models": ["demo/*", "fast"]}}
MODELS = {
    "fast": {
        "routes": ["demo/x"],
        "category": "fast",
        "context_window": 128000,
        "max_output": 8192,
        "price": {"input": 2, "output": 8, "currency": "CNY", "per": "1M"},
    },
    "slow": {"routes": ["demo/y"]},
    "abroad": {
        "routes": ["demo/z"],
        "price": {
            "input": 1,
            "output": 5,
            "currency": "USD",
            "per": "1M",
            "tiers": [{"above_input_tokens": 2, "input": 2, "output": 10}],
        },
    },
}


@pytest.fixture
async def sluice(tmp_path: Path) -> AsyncIterator[Sluice]:
    async with gateway(
        tmp_path,
        billing={"currency": "CNY", "exchange_rates": {"USD": 7.25}},
        providers={"demo": {"preset": "echo"}},
        models=MODELS,
        plans=PLANS,
    ) as sluice:
        yield sluice


async def other_key(sluice: Sluice, account: str, **fields: Any) -> tuple[str, dict[str, str]]:
    """Make a key; return its id, and the header by which it is used."""
    made = await sluice.admin.post("/admin/api/keys", json={"name": "other", "account": account, **fields})
    assert made.status_code == 201, made.text
    return made.json()["id"], {"authorization": f"Bearer {made.json()['key']}"}


async def chat(sluice: Sluice, headers: dict[str, str] | None = None, model: str = "fast") -> httpx2.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "one two three"}]}
    answer = await sluice.http.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


class TestAdmission:
    PATHS = (
        "/v1/key",
        "/v1/usage",
        "/v1/models",
        "/v1/models/fast",
        "/v1/requests/req_x",
        "/api/v1/key",
        "/models",
    )

    @pytest.mark.parametrize("path", PATHS)
    async def test_every_path_wants_an_api_key(self, sluice: Sluice, path: str) -> None:
        async with httpx2.AsyncClient(base_url=sluice.url) as nobody:
            assert (await nobody.get(path)).json()["error"]["code"] == "missing_api_key"
            answer = await nobody.get(path, headers={"x-api-key": "sk-sluice-wrong"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")

    async def test_an_admin_key_is_told_that_it_is_one(self, sluice: Sluice) -> None:
        answer = await sluice.admin.get("/v1/models")
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert "admin key" in answer.json()["error"]["message"]
        assert ADMIN_KEY not in answer.text

    @pytest.mark.parametrize("header", ["x-api-key", "api-key", "x-goog-api-key"])
    async def test_sdks_put_their_key_in_several_places(self, sluice: Sluice, header: str) -> None:
        async with httpx2.AsyncClient(base_url=sluice.url) as client:
            assert (await client.get("/v1/key", headers={header: API_KEY})).status_code == 200
            assert (await client.get(f"/v1/key?{header}={API_KEY}")).status_code == 401

    async def test_a_key_holds_where_it_may_be_used(self, sluice: Sluice) -> None:
        _, elsewhere = await other_key(sluice, "default", ips=["10.0.0.0/8"])
        answer = await sluice.http.get("/v1/models", headers=elsewhere)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "ip_not_allowed")


class TestKey:
    async def test_a_key_tells_its_limits_and_what_remains(self, sluice: Sluice) -> None:
        await sluice.admin.post("/admin/api/accounts", json={"name": "team", "plan": "free"})
        id, headers = await other_key(
            sluice,
            "team",
            limits={"rpm": 10, "tpd": 1000},
            quota={"amount": "5", "period": "total"},
            expires_at="2100-01-01T00:00:00Z",
        )
        cost = (await chat(sluice, headers)).headers["x-sluice-cost"]
        answer = await sluice.http.get("/v1/key", headers=headers)
        key = answer.json()
        assert key.pop("created_at") <= key.pop("last_used_at")
        tokens = key["remaining"].pop("tokens")
        assert 900 < tokens < 1000
        prefix, last4 = key.pop("prefix"), key.pop("last4")
        assert headers["authorization"].startswith(f"Bearer {prefix}")
        assert headers["authorization"].endswith(last4)
        assert key == {
            "id": id,
            "name": "other",
            "account": "team",
            "enabled": True,
            "expires_at": "2100-01-01T00:00:00.000Z",
            "revoked_at": None,
            "models": None,
            "providers": None,
            "ips": None,
            "limits": {
                "rpm": 10,
                "tpm": None,
                "rpd": 100,
                "tpd": 1000,
                "concurrency": None,
                "max_context": 5000,
                "max_output": None,
            },
            "quota": {"amount": "5.000000000", "period": "total", "spent": cost, "resets_at": None},
            "plan": "free",
            "remaining": {"requests": 9},
            "billing": {"mode": "track", "currency": "CNY", "timezone": "UTC"},
            "funds": {"grants": [], "subscription": None, "wallet": "0.000000000"},
            "available": "0.000000000",
        }
        assert answer.headers["x-ratelimit-remaining-requests"] == "9"
        assert answer.headers["x-ratelimit-remaining-tokens"] == str(tokens)

    async def test_without_limits_nothing_runs_out(self, sluice: Sluice) -> None:
        answer = await sluice.http.get("/v1/key")
        assert answer.json()["remaining"] == {"requests": None, "tokens": None}
        assert not [name for name in answer.headers if name.startswith("x-ratelimit")]

    async def test_asking_counts_against_no_limit(self, sluice: Sluice) -> None:
        _, headers = await other_key(sluice, "default", limits={"rpm": 1})
        for path in ("/v1/key", "/v1/usage", "/v1/models", "/v1/models/fast") * 2:
            answer = await sluice.http.get(path, headers=headers)
            assert (answer.status_code, answer.headers["x-ratelimit-remaining-requests"]) == (200, "1")
        refused = await sluice.http.get("/v1/requests/req_none", headers=headers)
        assert (refused.status_code, refused.headers["x-ratelimit-remaining-requests"]) == (404, "1")


class TestUsage:
    async def test_a_key_sees_the_sums_of_its_account_and_no_others(self, sluice: Sluice) -> None:
        await sluice.admin.post("/admin/api/accounts", json={"name": "team"})
        first, headers = await other_key(sluice, "team")
        second, others = await other_key(sluice, "team")
        for caller in (headers, others, None):
            await chat(sluice, caller)
        report = (await sluice.http.get("/api/v1/usage?group_by=key&model=fast", headers=headers)).json()
        assert report["requests"] == 2
        assert {line["key"] for line in report["data"]} == {first, second}
        assert report["total_cost"].startswith("¥0.0")
        assert (await sluice.http.get("/v1/usage?provider=nobody", headers=headers)).json()["requests"] == 0

    @pytest.mark.parametrize(
        ("query", "param"),
        [
            ("account=team", "account"),
            ("start_date=2026-1-1", "start_date"),
            ("start_date=2026-02-01&end_date=2026-01-01", "start_date"),
            ("group_by=user", "group_by"),
        ],
    )
    async def test_a_wrong_query_is_named(self, sluice: Sluice, query: str, param: str) -> None:
        answer = await sluice.http.get(f"/v1/usage?{query}")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


class TestReceipts:
    async def test_a_key_sees_its_own_receipts_and_no_others(self, sluice: Sluice) -> None:
        _, neighbour = await other_key(sluice, "default")
        answer = await chat(sluice)
        path = f"/v1/requests/{answer.headers['x-request-id']}"
        receipt = (await sluice.http.get(path)).json()
        assert receipt["id"] == answer.headers["x-request-id"]
        assert receipt["cost"] == answer.headers["x-sluice-cost"]
        assert receipt["price"]["input"] == "2"
        assert (receipt["billing"], receipt["finish"], receipt["model"]) == ("settled", "ok", "fast")
        foreign = await sluice.http.get(path, headers=neighbour)
        unknown = await sluice.http.get("/v1/requests/req_x", headers=neighbour)
        assert foreign.status_code == unknown.status_code == 404
        assert foreign.json()["error"]["message"] == unknown.json()["error"]["message"]

    async def test_a_cost_can_be_computed_again(self, sluice: Sluice) -> None:
        answer = await chat(sluice, model="abroad")
        receipt = (await sluice.http.get(f"/v1/requests/{answer.headers['x-request-id']}")).json()
        price, usage = receipt["price"], receipt["usage"]
        assert (price["input"], price["output"], price["exchange_rate"]) == ("2", "10", "7.25")
        millionths = usage["input_tokens"] * 2 + usage["output_tokens"] * 10
        assert Decimal(receipt["cost"]) == millionths * Decimal("7.25") / 10**6

    async def test_without_an_exchange_there_is_no_rate(self, sluice: Sluice) -> None:
        answer = await chat(sluice)
        receipt = (await sluice.http.get(f"/v1/requests/{answer.headers['x-request-id']}")).json()
        assert "exchange_rate" not in receipt["price"]


class TestModels:
    async def test_the_list(self, sluice: Sluice) -> None:
        listed = (await sluice.http.get("/v1/models?limit=1000")).json()
        assert (listed["object"], listed["has_more"]) == ("list", False)
        assert (listed["first_id"], listed["last_id"]) == ("fast", "demo/echo")
        assert [model["id"] for model in listed["data"]] == ["fast", "slow", "abroad", "demo/echo"]
        assert (await sluice.http.get("/api/v1/models")).json() == listed
        assert (await sluice.http.get("/models")).json() == listed

    async def test_filters_and_permissions(self, sluice: Sluice) -> None:
        fast = (await sluice.http.get("/v1/models?category=fast")).json()
        assert [model["id"] for model in fast["data"]] == ["fast"]
        assert fast["data"][0]["pricing"]["output"] == "¥0.008/1K"
        nothing = (await sluice.http.get("/v1/models?provider=nobody")).json()
        assert (nothing["data"], nothing["first_id"], nothing["last_id"]) == ([], None, None)
        _, headers = await other_key(sluice, "default", models=["demo/*"])
        mine = (await sluice.http.get("/v1/models", headers=headers)).json()
        assert [model["id"] for model in mine["data"]] == ["demo/echo"]

    @pytest.mark.parametrize("id", ["fast", "demo/echo", "demo/a/b", "demo%2Fecho"])
    async def test_one_model(self, sluice: Sluice, id: str) -> None:
        answer = await sluice.http.get(f"/v1/models/{id}")
        assert (answer.status_code, answer.json()["id"]) == (200, id.replace("%2F", "/"))

    async def test_an_unknown_model_has_near_names(self, sluice: Sluice) -> None:
        answer = await sluice.http.get("/v1/models/fasst")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        assert "fast" in answer.json()["error"]["message"]

    async def test_openais_sdk_lists_and_gets_them(self, sluice: Sluice) -> None:
        async with openai.AsyncOpenAI(base_url=f"{sluice.url}/v1", api_key=API_KEY) as client:
            assert [model.id async for model in client.models.list()] == [
                "fast",
                "slow",
                "abroad",
                "demo/echo",
            ]
            assert (await client.models.retrieve("demo/echo")).owned_by == "demo"
            with pytest.raises(openai.NotFoundError, match="no model"):
                await client.models.retrieve("fasst")

    async def test_anthropics_sdk_lists_and_gets_them(self, sluice: Sluice) -> None:
        async with anthropic.AsyncAnthropic(base_url=sluice.url, api_key=API_KEY) as client:
            assert [model.display_name async for model in client.models.list()] == [
                "fast",
                "slow",
                "abroad",
                "demo/echo",
            ]
            assert (await client.models.retrieve("fast")).type == "model"
            with pytest.raises(anthropic.NotFoundError) as raised:
                await client.models.retrieve("fasst")
            assert raised.value.body["type"] == "error"
