"""The admin API's part about providers: their states, ending rests by hand, and who would be asked."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.asking import eventually
from tests.support.gateway import API_KEY, Sluice
from tests.support.replies import Reply, chat, error, json_reply, models, text
from tests.support.several import ask, bearer, code, several, state_of, stop_time
from tests.support.upstream import Upstream

PROVIDERS = "/admin/api/providers"
EXPLAIN = "/admin/api/explain"
SECRETS = ("provider-key-number-1111", "provider-key-number-2222", "header-secret-3333")
TWO_KEYS = {
    "api_keys": [{"key": SECRETS[0], "rpm": 60, "concurrency": 4}, SECRETS[1]],
    "headers": {"X-Extra": SECRETS[2]},
}
SETTINGS: dict[str, Any] = {
    "models": {
        "m": {"routes": ["a/x", {"provider": "b", "model": "y", "priority": 2, "weight": 3}]},
        "quick": {"alias": "m"},
        "other": {"routes": ["b/z"]},
    },
    "fallbacks": {"m": ["other"]},
}

World = tuple[Sluice, dict[str, Upstream]]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with several(tmp_path, {"a": TWO_KEYS, "b": {}}, **SETTINGS) as (sluice, ups):
        stop_time(sluice)
        yield sluice, ups


async def change(sluice: Sluice, what: str, provider: str = "a") -> dict[str, Any]:
    answer = await sluice.admin.post(f"{PROVIDERS}/{provider}/{what}")
    assert answer.status_code == 200, answer.text
    for secret in SECRETS:
        assert secret not in answer.text
    found: dict[str, Any] = answer.json()
    return found


async def explained(sluice: Sluice, **query: str) -> list[dict[str, Any]]:
    answer = await sluice.admin.get(EXPLAIN, params=query)
    assert answer.status_code == 200, answer.text
    for secret in SECRETS:
        assert secret not in answer.text
    rows: list[dict[str, Any]] = answer.json()["candidates"]
    return rows


def seconds_until(until: str) -> float:
    left: timedelta = datetime.fromisoformat(until) - datetime.now().astimezone()
    return left.total_seconds()


# -- states


async def test_every_provider_with_its_keys_and_deployments(world: World) -> None:
    sluice, ups = world
    answer = await sluice.admin.get(PROVIDERS)
    assert answer.status_code == 200
    assert answer.json()["next_cursor"] is None
    first, second = answer.json()["data"]
    ready = {"state": "ready", "until": None, "cause": None}
    hour = [(part["attempts"], part["failed"], part["first_byte_ms"]) for part in first.pop("last_hour")]
    assert hour == [(0, 0, None)] * 12
    assert first == {
        "name": "a",
        "preset": None,
        "protocol": "openai",
        "base_url": ups["a"].url,
        "active": True,
        "missing_variables": [],
        "state": "ready",
        "running": 0,
        "concurrency": None,
        "keys": [
            {"key": "…1111", **ready, "running": 0, "rpm": 60, "concurrency": 4, "rate_limited": []},
            {"key": "…2222", **ready, "running": 0, "rpm": None, "concurrency": None, "rate_limited": []},
        ],
        "deployments": [{"model": "x", **ready}],
    }
    (no_key,) = second["keys"]
    assert no_key["key"] is None
    assert [deployment["model"] for deployment in second["deployments"]] == ["y", "z"]
    assert first == {name: value for name, value in (await state_of(sluice, "a")).items() if name in first}
    for secret in (*SECRETS, API_KEY):
        assert secret not in answer.text


async def test_inactive_providers_say_what_they_lack(tmp_path: Path) -> None:
    async with several(tmp_path, {"a": {"preset": "deepseek"}, "b": {}}) as (sluice, ups):
        state = await state_of(sluice, "a")
        assert (state["state"], state["active"]) == ("inactive", False)
        assert state["missing_variables"] == ["DEEPSEEK_API_KEY"]
        assert (await change(sluice, "reset"))["state"] == "inactive"
        answer = await sluice.admin.post(f"{PROVIDERS}/a/probe")
        assert (answer.status_code, code(answer)) == (400, "invalid_value")
        assert "DEEPSEEK_API_KEY is empty" in answer.json()["error"]["message"]
        assert ups["a"].links == []  # it is not asked without a key


async def test_rests_are_shown_with_cause_and_end(world: World) -> None:
    sluice, ups = world
    ups["a"].reply(
        error(402, f"no money for {SECRETS[0]}"), error(429, "slow down", headers={"retry-after": "20"})
    )
    assert (await ask(sluice)).headers["x-sluice-provider"] == "b"
    first, second = (await state_of(sluice, "a"))["keys"]
    assert (first["state"], first["cause"]["class"]) == ("resting", "quota")
    assert first["cause"]["code"] == "upstream_quota_exhausted"
    assert "no money" in first["cause"]["message"]
    assert SECRETS[0] not in first["cause"]["message"]
    assert 3500 < seconds_until(first["until"]) <= 3600
    assert (second["state"], second["until"], second["cause"]["class"]) == ("ready", None, "rate")
    (pace,) = second["rate_limited"]
    assert (pace["model"], pace["state"]) == ("x", "resting")
    assert seconds_until(pace["until"]) <= 20
    assert (await state_of(sluice, "a"))["state"] == "ready"  # for other models
    ups["a"].always(error(401, "bad key"))
    await ask(sluice, "a/another")
    assert (await state_of(sluice, "a"))["state"] == "resting"


async def test_an_open_breaker_is_shown(world: World) -> None:
    sluice, ups = world
    ups["b"].always(error(503, "maintenance"))
    for _ in range(5):
        await ask(sluice, "other")
    y, z = (await state_of(sluice, "b"))["deployments"]
    assert (y["state"], y["cause"], y["until"]) == ("ready", None, None)
    assert (z["state"], z["cause"]["class"], z["cause"]["code"]) == ("open", "server", "upstream_error")
    assert seconds_until(z["until"]) <= 30


async def test_the_attempts_of_the_last_hour_are_counted(world: World) -> None:
    sluice, ups = world
    ups["a"].reply(error(500, "broken"), error(400, "not like this"), chat("Hello"))
    for _ in range(3):
        await ask(sluice)
    by_provider = {name: (await state_of(sluice, name))["last_hour"] for name in "ab"}
    assert [len(slices) for slices in by_provider.values()] == [12, 12]
    counts = {
        name: (sum(part["attempts"] for part in slices), sum(part["failed"] for part in slices))
        for name, slices in by_provider.items()
    }
    # The second request was at fault itself; the first one was answered by the other provider.
    assert counts == {"a": (3, 1), "b": (1, 0)}
    assert all(slices[-1]["first_byte_ms"] > 0 for slices in by_provider.values())


async def test_what_runs_is_counted(world: World) -> None:
    sluice, ups = world
    reply = chat("Hello").gated()
    ups["a"].reply(reply)
    asking = asyncio.create_task(ask(sluice))
    await ups["a"].received(1)
    state = await state_of(sluice, "a")
    assert (state["running"], [key["running"] for key in state["keys"]]) == (1, [1, 0])
    reply.open_all()
    await asking
    assert (await state_of(sluice, "a"))["running"] == 0


# -- by hand


async def test_reset_ends_all_rests(world: World) -> None:
    sluice, ups = world
    ups["a"].reply(error(401, "bad"), error(429, "slow"))
    await ask(sluice)
    assert (await ask(sluice)).headers["x-sluice-provider"] == "b"
    state = await change(sluice, "reset")
    assert {(key["state"], key["cause"], len(key["rate_limited"])) for key in state["keys"]} == {
        ("ready", None, 0)
    }
    assert (await ask(sluice)).headers["x-sluice-provider"] == "a"


async def test_a_disabled_provider_is_not_asked_until_it_is_enabled(world: World) -> None:
    sluice, ups = world
    assert (await change(sluice, "disable"))["state"] == "disabled"
    assert (await ask(sluice)).headers["x-sluice-provider"] == "b"
    answer = await ask(sluice, "a/x")
    assert (answer.status_code, code(answer)) == (503, "no_available_provider")
    assert answer.headers["retry-after"]
    await change(sluice, "reset")  # that is something else
    assert (await state_of(sluice, "a"))["state"] == "disabled"
    assert (await change(sluice, "enable"))["state"] == "ready"
    assert (await ask(sluice)).headers["x-sluice-provider"] == "a"
    assert len(ups["a"].requests) == 1


@pytest.mark.parametrize("what", ["reset", "enable", "probe"])
async def test_who_waits_is_served_after_a_change_by_hand(tmp_path: Path, what: str) -> None:
    routes = {"m": {"routes": ["a/x", {"provider": "b", "model": "x", "priority": 2}]}}
    async with several(tmp_path, {"a": {"concurrency": 1}, "b": {}}, models=routes) as (sluice, ups):
        long = chat("Hello").gated()
        ups["a"].reply(long)
        running = asyncio.create_task(ask(sluice))
        await ups["a"].received(1)
        if what == "enable":
            await change(sluice, "disable", "b")
        else:
            ups["b"].reply(error(402, "no money"))
            assert (await ask(sluice, "b/x")).status_code == 503
        waits = asyncio.create_task(ask(sluice))
        await eventually(lambda: sluice.app.gateway.services.router.room.count == 1)
        await change(sluice, what, "b")
        assert (await waits).headers["x-sluice-provider"] == "b"
        long.open_all()
        assert (await running).headers["x-sluice-provider"] == "a"


async def test_who_waits_for_what_is_disabled_is_told(tmp_path: Path) -> None:
    async with several(tmp_path, {"a": {"concurrency": 1}}) as (sluice, ups):
        long = chat("Hello").gated()
        ups["a"].reply(long)
        running = asyncio.create_task(ask(sluice, "a/x"))
        await ups["a"].received(1)
        waits = asyncio.create_task(ask(sluice, "a/x"))
        await eventually(lambda: sluice.app.gateway.services.router.room.count == 1)
        await change(sluice, "disable")
        answer = await waits
        assert (answer.status_code, code(answer)) == (503, "no_available_provider")
        long.open_all()
        assert (await running).status_code == 200  # what runs is finished


# -- probing


async def test_a_probe_asks_for_the_list_of_models_with_each_key(world: World) -> None:
    sluice, ups = world
    ups["a"].reply(error(401, "bad"), error(402, "no money"))
    await ask(sluice)
    ups["a"].requests.clear()
    ups["a"].handler = lambda request: (
        models("x") if bearer(request) == SECRETS[0] else error(401, f"bad key {SECRETS[1]}")
    )
    state = await change(sluice, "probe")
    assert [(request.method, request.target) for request in ups["a"].requests] == [("GET", "/v1/models")] * 2
    good, bad = state["probe"]
    assert (good["key"], good["ok"], good["error"]) == ("…1111", True, None)
    assert (bad["key"], bad["ok"], bad["error"]["code"]) == ("…2222", False, "upstream_auth_failed")
    assert good["ms"] >= 0
    assert [key["state"] for key in state["keys"]] == ["ready", "resting"]
    assert (await sluice.admin.get("/admin/api/requests")).json()["data"][0]["provider"] == "b"  # no exchange


async def test_a_probe_closes_breakers_if_any_key_works(world: World) -> None:
    sluice, ups = world
    ups["b"].always(error(503))
    for _ in range(5):
        await ask(sluice, "other")
    state = await change(sluice, "probe", "b")
    assert (state["probe"][0]["ok"], state["deployments"][1]["state"]) == (False, "open")
    ups["b"].always(models("z"))
    state = await change(sluice, "probe", "b")
    assert (state["probe"][0]["ok"], state["deployments"][1]["state"]) == (True, "ready")


@pytest.mark.parametrize(
    ("reply", "ok"),
    [
        (chat("h"), True),
        (error(401, "bad"), False),
        (json_reply({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}), False),
        (text("<html>"), False),
    ],
    ids=["works", "refused", "out of funds with 200", "HTML"],
)
async def test_where_there_is_no_list_one_token_is_asked_for(tmp_path: Path, reply: Reply, ok: bool) -> None:
    config = {"a": {"preset": "iflytek", "api_key": SECRETS[0]}}
    async with several(tmp_path, config, models={"m": {"routes": ["a/spark"]}}) as (sluice, ups):
        ups["a"].always(reply)
        state = await change(sluice, "probe")
        (request,) = ups["a"].requests
        assert request.target == "/v1/chat/completions"
        assert (request.json["model"], request.json["max_tokens"]) == ("spark", 1)
        assert state["probe"][0]["ok"] is ok
        assert (await sluice.admin.get("/admin/api/usage")).json()["requests"] == 0


async def test_without_a_list_and_without_a_route_a_probe_says_so(tmp_path: Path) -> None:
    async with several(tmp_path, {"a": {"preset": "iflytek", "api_key": SECRETS[0]}}) as (sluice, ups):
        (found,) = (await change(sluice, "probe"))["probe"]
        assert not found["ok"]
        assert "no list of models" in found["error"]["message"]
        assert ups["a"].requests == []


async def test_a_probe_of_what_is_built_in_asks_nobody(tmp_path: Path) -> None:
    async with several(tmp_path, {"b": {}}) as (sluice, _):
        assert (await change(sluice, "probe", "b"))["probe"][0]["ok"]


# -- explain


async def test_explain_lists_the_order_with_the_states(world: World) -> None:
    sluice, ups = world
    answer = await sluice.admin.get(EXPLAIN, params={"model": "quick"})
    assert answer.json()["model"] == "quick"
    assert answer.json()["names"] == ["quick", "m"]
    rows = await explained(sluice, model="quick")
    ready = {"state": "ready", "reason": None}
    a = {"provider": "a", "model": "x", "priority": 1, "weight": 1, "fallback": None, **ready}
    assert rows == [
        a | {"provider_key": "…1111"},
        a | {"provider_key": "…2222"},
        {
            "provider": "b",
            "model": "y",
            "provider_key": None,
            "priority": 2,
            "weight": 3,
            "fallback": None,
            **ready,
        },
        {
            "provider": "b",
            "model": "z",
            "provider_key": None,
            "priority": 1,
            "weight": 1,
            "fallback": "other",
            **ready,
        },
    ]
    ups["a"].reply(error(402, "no money"))
    await ask(sluice)
    rows = await explained(sluice, model="m")
    assert [row["provider_key"] for row in rows] == ["…2222", None, None, "…1111"]
    assert rows[-1]["state"] == "resting"
    assert rows[-1]["reason"].startswith("its key rests after upstream_quota_exhausted, until 20")
    await change(sluice, "disable", "b")
    rows = await explained(sluice, model="m")
    assert [row["state"] for row in rows] == ["ready", "resting", "disabled", "disabled"]
    assert len(ups["a"].requests) == 2  # nobody was asked for it


async def test_explain_for_a_pinned_provider_and_for_an_api_key(world: World) -> None:
    sluice, _ = world
    rows = await explained(sluice, model="m", provider="b")
    assert [(row["provider"], row["state"]) for row in rows] == [("b", "ready"), ("a", "skipped")]
    made = (await sluice.admin.post("/admin/api/keys", json={"name": "b only", "providers": ["b"]})).json()
    rows = await explained(sluice, model="m", key=made["id"])
    assert {row["provider"] for row in rows if row["state"] == "ready"} == {"b"}
    (skipped,) = [row for row in rows if row["state"] == "skipped"]
    assert skipped["reason"] == "this API key may not use the provider a"


# -- errors


@pytest.mark.parametrize(
    ("method", "path", "status", "told"),
    [
        ("GET", f"{PROVIDERS}/nobody", 404, "not_found"),
        *(
            ("POST", f"{PROVIDERS}/nobody/{what}", 404, "not_found")
            for what in ("reset", "disable", "enable")
        ),
        ("POST", f"{PROVIDERS}/nobody/probe", 404, "not_found"),
        ("POST", f"{PROVIDERS}/a/restart", 404, "not_found"),
        ("POST", PROVIDERS, 405, "method_not_allowed"),
        ("GET", f"{PROVIDERS}/a/reset", 405, "method_not_allowed"),
        ("GET", f"{PROVIDERS}?state=open", 400, "invalid_value"),
        ("GET", EXPLAIN, 400, "invalid_value"),
        ("GET", f"{EXPLAIN}?model=m&what=1", 400, "invalid_value"),
        ("GET", f"{EXPLAIN}?model=nothing", 404, "model_not_found"),
        ("GET", f"{EXPLAIN}?model=m&provider=nobody", 400, "invalid_provider"),
        ("GET", f"{EXPLAIN}?model=other&provider=a", 400, "provider_model_mismatch"),
        ("GET", f"{EXPLAIN}?model=m&key=key_x", 404, "not_found"),
    ],
)
async def test_errors(world: World, method: str, path: str, status: int, told: str) -> None:
    answer = await world[0].admin.request(method, path)
    assert (answer.status_code, code(answer)) == (status, told)


@pytest.mark.parametrize("what", ["reset", "disable", "enable", "probe"])
async def test_bodies_are_closed(world: World, what: str) -> None:
    sluice, ups = world
    for body in ({"model": "x"}, []):
        answer = await sluice.admin.post(f"{PROVIDERS}/a/{what}", json=body)
        assert (answer.status_code, code(answer)) == (400, "invalid_value")
    assert (await sluice.admin.post(f"{PROVIDERS}/a/{what}", json={})).status_code == 200
    assert len(ups["a"].requests) == (2 if what == "probe" else 0)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", PROVIDERS), ("GET", f"{PROVIDERS}/a"), ("GET", f"{EXPLAIN}?model=m")]
    + [("POST", f"{PROVIDERS}/a/{what}") for what in ("reset", "disable", "enable", "probe")],
)
async def test_nothing_opens_without_the_admin_key(world: World, method: str, path: str) -> None:
    sluice, _ = world
    assert (await sluice.http.request(method, path)).status_code == 401
    async with httpx2.AsyncClient(base_url=sluice.url) as nobody:
        assert (await nobody.request(method, path)).status_code == 401
