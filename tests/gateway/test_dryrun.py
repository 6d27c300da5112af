"""Dry runs through a whole gateway: what is told, and that nothing else happens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.core.entities import EntryKind
from proxy.core.money import parse_amount
from proxy.store import ledger
from proxy.store.funds import MoneyCall
from proxy.store.ledger import Cause
from tests.support.gateway import Sluice, gateway
from tests.support.replies import chat_stream
from tests.support.upstream import Upstream

DRY = {"x-sluice-dry-run": "1"}
MESSAGES = [{"role": "user", "content": "Say hello"}]
PRICE = {"input": 2, "output": 8, "currency": "USD", "per": "1M"}
DEARER = PRICE | {"output": 16}
CHAT = "/v1/chat/completions"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": MESSAGES, "max_tokens": 50},
    "/chat/completions": {"messages": MESSAGES, "stream": True},
    "/v1/completions": {"prompt": "Say hello"},
    "/v1/embeddings": {"input": ["one", "two"]},
    "/v1/responses": {"input": "Say hello"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 50},
    "/v1/images/generations": {"prompt": "a cat"},
    "/v1/audio/speech": {"input": "hello", "voice": "x"},
    "/v1/audio/transcriptions": {"file": "https://example.com/a.wav"},
    "/v1/audio/translations": {"file": "https://example.com/a.wav"},
    "/v1/moderations": {"input": "x"},
    "/v1/rerank": {"query": "x", "documents": ["y"]},
}


@asynccontextmanager
async def running(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[Upstream, Sluice]]:
    async with Upstream() as upstream:
        keys = ["sk-first-0123456789-aaaa", "sk-second-0123456789-bbbb"]
        providers = {
            "up": {"base_url": upstream.url, "api_keys": keys},
            "claude": {"protocol": "anthropic", "base_url": upstream.origin, "api_key": "sk-upstream-cccc"},
            "free": {"base_url": upstream.url},
            "sleeping": {"base_url": upstream.url, "api_key": "${SLEEPING_KEY:-}"},
        }
        models = {"m": {"routes": ["up/um"], "price": PRICE, "max_output": 100}} | settings.pop("models", {})
        async with gateway(tmp_path, providers=providers, models=models, **settings) as sluice:
            yield upstream, sluice


async def ask(sluice: Sluice, path: str = CHAT, *, dry: bool = False, **body: Any) -> httpx2.Response:
    whole = {"model": "m", **BODIES[path], **body}
    return await sluice.http.post(path, json=whole, headers=DRY if dry else {})


async def told(sluice: Sluice, path: str = CHAT, **body: Any) -> Any:
    answer = await ask(sluice, path, dry=True, **body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def top_up(sluice: Sluice, amount: str) -> None:
    cause = Cause("default", 0, EntryKind.TOPUP, "test")
    change = partial(ledger.top_up, cause=cause, nanos=parse_amount(amount))
    await sluice.app._treasury.change("default", MoneyCall("once", "", 0), change, lambda funds, entries: "")


async def state(sluice: Sluice) -> dict[str, Any]:
    """Return all that a request changes."""
    key = (await sluice.http.get("/v1/key")).json()
    usage = (await sluice.admin.get("/admin/api/usage")).json()
    account = (await sluice.admin.get("/admin/api/accounts/default")).json()
    return {
        "remaining": key["remaining"],
        "quota": key["quota"],
        "funds": account["funds"],
        "held": account["held"],
        "requests": usage["requests"],
        "records": (await sluice.admin.get("/admin/api/requests")).json()["data"],
        "left out": dict(sluice.app.gateway.services.passing.counts),
        "running": sluice.app.gateway.running,
    }


async def test_the_whole_report(tmp_path: Path) -> None:
    limits = {"default_plan": "small"}
    plans = {"small": {"rpd": 10, "tpm": 6000}}
    async with running(tmp_path, limits=limits, plans=plans) as (upstream, sluice):
        answer = await ask(sluice, dry=True)
        report = answer.json()
        tokens = report["estimate"]["input_tokens"]
        reset = report["limits"]["requests"].pop("reset")
        assert tokens > 5
        assert report == {
            "model": "m",
            "candidates": [
                {
                    "provider": "up",
                    "model": "um",
                    "provider_key": key,
                    "state": "ready",
                    "reason": None,
                }
                for key in ("…aaaa", "…bbbb")
            ],
            "limits": {
                "requests": {"limit": 10, "remaining": 10},
                "tokens": {"limit": 6000, "remaining": 6000, "reset": "0s"},
                "quota": None,
            },
            "price": {
                "currency": "USD",
                "per": "1M",
                "input": "2",
                "output": "8",
                "cached_input": "2",
                "cache_write": "2",
                "reasoning": "8",
                "per_request": "0",
                "tiers": [],
            },
            "estimate": {
                "input_tokens": tokens,
                "output_tokens": 50,
                "cost": f"0.{(tokens * 2 + 50 * 8) * 1000:09d}",
            },
            "available": "0.000000000",
        }
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-ratelimit-remaining-requests"] == "10"
        assert answer.headers["x-ratelimit-remaining-tokens"] == "6000"
        assert reset.endswith("s")  # of the day, to the second
        receipt = await sluice.http.get(f"/v1/requests/{answer.headers['x-request-id']}")
        assert receipt.status_code == 404
        assert not upstream.links


@pytest.mark.parametrize("mode", ["track", "prepaid"])
@pytest.mark.parametrize("path", BODIES)
async def test_nothing_happens(tmp_path: Path, path: str, mode: str) -> None:
    plans = {"small": {"rpm": 6, "rpd": 10, "tpd": 100_000}}
    async with running(tmp_path, billing={"mode": mode}, limits={"default_plan": "small"}, plans=plans) as (
        upstream,
        sluice,
    ):
        if mode == "prepaid":
            await top_up(sluice, "5")
        before = await state(sluice)
        for _ in range(8):
            report = await told(sluice, path)
            assert [each["state"] for each in report["candidates"]] == ["ready"] * 2
            assert report["candidates"][0]["provider_key"] == "…aaaa"  # no turn was taken
            assert report["available"] == ("5.000000000" if mode == "prepaid" else "0.000000000")
        assert await state(sluice) == before
        assert not upstream.links
        assert not sluice.records


@pytest.mark.parametrize("mode", ["track", "prepaid"])
async def test_a_form(tmp_path: Path, mode: str) -> None:
    billing = {"mode": mode, "credit_limit": 1}
    async with running(tmp_path, billing=billing) as (upstream, sluice):
        answer = await sluice.http.post(
            "/v1/audio/transcriptions",
            headers=DRY,
            files={"file": ("a.wav", bytes(2_000_000), "audio/wav")},
            data={"model": "m"},
        )
        assert answer.status_code == 200, answer.text
        report = answer.json()
        assert (report["model"], report["candidates"][0]["model"]) == ("m", "um")
        assert report["estimate"] == {"input_tokens": 0, "output_tokens": 0, "cost": "0.000000000"}
        assert not upstream.links
        assert not sluice.records


async def test_what_a_real_request_then_does(tmp_path: Path) -> None:
    async with running(tmp_path, billing={"mode": "prepaid"}) as (upstream, sluice):
        await top_up(sluice, "1")
        first = (await told(sluice))["candidates"][0]["provider_key"]
        receipt = await sluice.receipt(await ask(sluice))
        assert receipt["attempts"][0]["provider_key"] == first
        report = await told(sluice)
        assert report["candidates"][0]["provider_key"] == "…bbbb"
        left = parse_amount("1") - parse_amount(receipt["cost"])
        assert parse_amount(report["available"]) == left
        assert len(upstream.requests) == 1


async def test_money_that_is_held_is_not_available(tmp_path: Path) -> None:
    async with running(tmp_path, billing={"mode": "prepaid"}) as (upstream, sluice):
        await top_up(sluice, "1")
        held = parse_amount((await told(sluice))["estimate"]["cost"])
        reply = chat_stream("hello").gated()
        upstream.reply(reply)
        running_one = asyncio.create_task(ask(sluice, stream=True))
        await upstream.received(1)
        assert parse_amount((await told(sluice))["available"]) == parse_amount("1") - held
        reply.open_all()
        await running_one


MANY = {
    "many": {
        "routes": [
            {"provider": "sleeping", "model": "a", "priority": 1},
            {"provider": "claude", "model": "b", "priority": 2},
            {"provider": "free", "model": "c", "priority": 3},
            {"provider": "up", "model": "d", "priority": 4, "price": DEARER},
        ],
        "price": PRICE,
    }
}


async def test_every_deployment_is_told_with_why_it_is_skipped(tmp_path: Path) -> None:
    async with running(tmp_path, models=MANY) as (upstream, sluice):
        made = await sluice.admin.post(
            "/admin/api/keys", json={"name": "k", "providers": ["claude", "up", "sleeping"]}
        )
        sluice.http.headers["authorization"] = f"Bearer {made.json()['key']}"
        report = await told(sluice, model="many", n=2)
        assert [tuple(each.values()) for each in report["candidates"]] == [
            ("up", "d", "…aaaa", "ready", None),
            ("up", "d", "…bbbb", "ready", None),
            ("claude", "b", "…cccc", "skipped", "This model answers once to each request: 'n' must be 1."),
            ("free", "c", None, "skipped", "this API key may not use the provider free"),
            ("sleeping", "a", None, "skipped", "sleeping is inactive: SLEEPING_KEY is empty"),
        ]
        assert report["price"]["output"] == "16"
        embedded = await told(sluice, "/v1/embeddings", model="many")
        assert "claude has no endpoint embeddings" in [each["reason"] for each in embedded["candidates"]]
        pinned = await told(sluice, model="many", provider="up")
        reasons = [each["reason"] for each in pinned["candidates"]]
        assert reasons == [None] * 2 + ["the provider up is pinned"] * 3
        assert not upstream.links


async def test_the_cost_is_that_of_the_dearest_candidate(tmp_path: Path) -> None:
    async with running(tmp_path, models=MANY) as (_, sluice):
        report = await told(sluice, model="many")
        tokens = report["estimate"]["input_tokens"]
        assert report["price"]["output"] == "8"
        assert report["estimate"]["cost"] == f"0.{(tokens * 2 + 50 * 16) * 1000:09d}"


async def test_a_model_without_price(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, sluice):
        report = await told(sluice, model="up/anything")
        assert report["model"] == "up/anything"
        assert (report["price"], report["estimate"]["cost"]) == (None, "0.000000000")


async def test_a_quota_is_shown(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, sluice):
        quota = {"amount": "5", "period": "total"}
        made = await sluice.admin.post("/admin/api/keys", json={"name": "k", "quota": quota})
        sluice.http.headers["authorization"] = f"Bearer {made.json()['key']}"
        before = await state(sluice)
        assert (await told(sluice))["limits"] == {
            "requests": None,
            "tokens": None,
            "quota": {
                "amount": "5.000000000",
                "period": "total",
                "spent": "0.000000000",
                "resets_at": None,
            },
        }
        assert await state(sluice) == before


async def test_what_is_left_out_in_translation_is_not_counted(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, sluice):
        counts = sluice.app.gateway.services.passing.counts
        await told(sluice, "/v1/messages", top_k=5)
        assert not counts
        await ask(sluice, "/v1/messages", top_k=5)
        assert counts  # so there was something to count


def same(dry: httpx2.Response, real: httpx2.Response, code: str) -> None:
    """Assert that two answers are the same error, apart from the request's id."""
    errors = []
    for answer in (dry, real):
        body = answer.json()
        body.pop("request_id", None)
        body["error"].pop("request_id", None)
        names = {
            name for name in answer.headers if name.startswith(("x-should", "x-rate", "retry", "content-t"))
        }
        errors.append((answer.status_code, body.keys(), body["error"].keys(), body["error"]["code"], names))
        assert answer.headers["x-request-id"]
        assert body["error"]["code"] == code, body
    assert errors[0] == errors[1]
    assert dry.json()["error"]["message"].split(". ")[0] == real.json()["error"]["message"].split(". ")[0]


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/responses", "/v1/embeddings"])
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model": "nope"}, "model_not_found"),
        ({"model": None}, "missing_model"),
        ({"provider": "nobody"}, "invalid_provider"),
        ({"provider": "free"}, "provider_model_mismatch"),
        ({"stream": "yes"}, "invalid_value"),
        ({"model": "sleeping/x"}, "model_not_found"),
        ({"model": "dark"}, "model_not_allowed"),
    ],
    ids=["unknown", "no model", "pin", "mismatch", "wrong member", "inactive", "not allowed"],
)
async def test_refused_requests(tmp_path: Path, path: str, change: dict[str, Any], code: str) -> None:
    models = {"dark": {"routes": ["up/x"]}}
    plans = {"p": {"models": ["m", "nope", "sleeping/*"], "rpm": 5}}
    async with running(tmp_path, models=models, plans=plans, limits={"default_plan": "p"}) as (
        upstream,
        sluice,
    ):
        same(await ask(sluice, path, dry=True, **change), await ask(sluice, path, **change), code)
        assert not upstream.links
        assert not sluice.records


@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
@pytest.mark.parametrize(
    ("limits", "body", "code"),
    [
        ({"rpm": 1}, {}, "rpm_exceeded"),
        ({"rpd": 1}, {}, "rpd_exceeded"),
        ({"tpm": 200}, {"messages": [{"role": "user", "content": "word " * 500}]}, "tpm_exceeded"),
        (
            {"max_context": 50},
            {"messages": [{"role": "user", "content": "word " * 99}]},
            "context_length_exceeded",
        ),
    ],
    ids=["rpm", "rpd", "tpm", "max_context"],
)
async def test_limits(
    tmp_path: Path, path: str, limits: dict[str, int], body: dict[str, Any], code: str
) -> None:
    async with running(tmp_path, plans={"p": limits}, limits={"default_plan": "p"}) as (upstream, sluice):
        await told(sluice, path)
        assert (await ask(sluice, path)).status_code == 200  # the dry run had taken nothing
        same(await ask(sluice, path, dry=True, **body), await ask(sluice, path, **body), code)
        assert len(upstream.requests) == len(sluice.records) == 1


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/images/generations"])
async def test_without_funds(tmp_path: Path, path: str) -> None:
    async with running(tmp_path, billing={"mode": "prepaid"}) as (upstream, sluice):
        same(await ask(sluice, path, dry=True), await ask(sluice, path), "insufficient_balance")
        assert not upstream.links


async def test_without_a_price_where_one_is_needed(tmp_path: Path) -> None:
    async with running(tmp_path, billing={"unpriced": "reject"}) as (_, sluice):
        dry, real = await ask(sluice, dry=True, model="up/x"), await ask(sluice, model="up/x")
        same(dry, real, "model_not_priced")


async def test_a_spent_quota(tmp_path: Path) -> None:
    async with running(tmp_path) as (upstream, sluice):
        quota = {"amount": "0.000000001", "period": "day"}
        made = await sluice.admin.post("/admin/api/keys", json={"name": "k", "quota": quota})
        sluice.http.headers["authorization"] = f"Bearer {made.json()['key']}"
        await told(sluice)
        assert (await ask(sluice)).status_code == 200
        dry, real = await ask(sluice, dry=True), await ask(sluice)
        same(dry, real, "quota_exceeded")
        assert dry.json()["error"]["resets_at"] == real.json()["error"]["resets_at"]
        assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("path", "change", "code"),
    [
        (CHAT, {"n": 2}, "invalid_value"),
        ("/v1/embeddings", {}, "not_found"),
    ],
    ids=["cannot be said", "no such endpoint"],
)
async def test_what_no_provider_can_be_asked(
    tmp_path: Path, path: str, change: dict[str, Any], code: str
) -> None:
    async with running(tmp_path) as (upstream, sluice):
        dry = await ask(sluice, path, dry=True, model="claude/x", **change)
        same(dry, await ask(sluice, path, model="claude/x", **change), code)
        assert not upstream.links


async def test_without_a_right_key_and_while_stopping(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, sluice):
        right = sluice.http.headers["authorization"]
        sluice.http.headers["authorization"] = "Bearer sk-sluice-wrong"
        same(await ask(sluice, dry=True), await ask(sluice), "invalid_api_key")
        sluice.http.headers["authorization"] = right
        sluice.app.gateway.stop()
        same(await ask(sluice, dry=True), await ask(sluice), "shutting_down")


@pytest.mark.parametrize("value", ["0", ""])
async def test_no_dry_run(tmp_path: Path, value: str) -> None:
    async with running(tmp_path) as (upstream, sluice):
        sluice.http.headers["x-sluice-dry-run"] = value
        answer = await ask(sluice)
        assert answer.json()["choices"]
        assert upstream.requests[0].header("x-sluice-dry-run") is None
        assert len(sluice.records) == 1


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("value", ["true", "2", "11"])
async def test_an_unclear_header(tmp_path: Path, path: str, value: str) -> None:
    async with running(tmp_path) as (upstream, sluice):
        sluice.http.headers["x-sluice-dry-run"] = value
        answer = await ask(sluice, path)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (
            400,
            "invalid_value",
            "x-sluice-dry-run",
        )
        assert not upstream.links


async def test_two_headers_that_disagree(tmp_path: Path) -> None:
    async with running(tmp_path) as (upstream, sluice):
        headers = [("x-sluice-dry-run", "0"), ("x-sluice-dry-run", "1")]
        answer = await sluice.http.post(CHAT, json={"model": "m", "messages": MESSAGES}, headers=headers)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "x-sluice-dry-run")
        assert not upstream.links


@pytest.mark.parametrize("value", ["1", "perhaps"])
async def test_count_tokens_ignores_it(tmp_path: Path, value: str) -> None:
    async with running(tmp_path) as (_, sluice):
        sluice.http.headers["x-sluice-dry-run"] = value
        answer = await sluice.http.post(
            "/v1/messages/count_tokens", json={"model": "m", "messages": MESSAGES}
        )
        assert list(answer.json()) == ["input_tokens"]
