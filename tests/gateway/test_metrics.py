"""What is counted as exchanges end and requests are refused, through a whole gateway."""

import asyncio
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from proxy.core.entities import Finish
from proxy.gateway.metrics import LONGEST_NAME, MOST_MODELS, OTHER, Histogram, Metrics
from proxy.web.metrics import CLOSED, HALF_OPEN, OPEN
from tests.support.asking import eventually
from tests.support.gateway import gateway
from tests.support.metrics import scrape
from tests.support.records import record
from tests.support.replies import chat, chat_chunk, error, hang, sse
from tests.support.several import ask, code, pass_time, several, stop_time

SECOND_NS = 10**9
PRICE = {"input": 2, "output": 8, "currency": "USD", "per": "1M"}
TWO: dict[str, Any] = {"a": {}, "b": {}}
MODELS: dict[str, Any] = {
    "m": {"routes": ["a/x", {"provider": "b", "model": "y", "priority": 2}], "price": PRICE}
}
CACHED = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
    "completion_tokens_details": {"reasoning_tokens": 7},
}


# -- by itself


def test_a_bucket_has_what_is_exactly_its_bound() -> None:
    histogram = Histogram((10, 20))
    for duration in (0, 10, 11, 20, 21, 10**15):
        histogram.add(duration)
    assert (histogram.counts, histogram.sum_ns) == ([2, 2, 2], 62 + 10**15)


def test_ten_thousand_made_up_models_are_as_many_labels_as_there_may_be() -> None:
    metrics = Metrics()
    named = {f"named-{number}": None for number in range(40)}
    for number in range(10_000):
        metrics.ended(record(number, model=f"demo/made-up-{number}", provider="demo"), SECOND_NS, named)
    for name in named:
        metrics.ended(record(0, model=name, provider="demo"), SECOND_NS, named)
    models = {model for model, _ in metrics.tallies}
    assert len(models) == MOST_MODELS
    assert named.keys() < models
    assert OTHER in models
    assert sum(tally.statuses[200] for tally in metrics.tallies.values()) == 10_040


def test_more_models_than_the_bound_are_the_operators_own_choice() -> None:
    metrics = Metrics()
    named = {f"named-{number}": None for number in range(MOST_MODELS + 50)}
    for name in [*named, "demo/made-up"]:
        metrics.ended(record(0, model=name), SECOND_NS, named)
    assert {model for model, _ in metrics.tallies} == {*named, OTHER}


@pytest.mark.parametrize(
    "model",
    ["demo/sk-sluice-0123456789abcdefghijklmnop", "demo/" + "x" * LONGEST_NAME],
    ids=["like a key", "long"],
)
def test_names_that_are_none_have_no_label(model: str) -> None:
    metrics = Metrics()
    metrics.ended(record(1, model=model), SECOND_NS, {})
    assert [name for name, _ in metrics.tallies] == [OTHER]


def test_a_made_up_name_needs_an_answer_first() -> None:
    metrics = Metrics()
    metrics.ended(record(1, model="a/b", finish=Finish.UPSTREAM_ERROR), SECOND_NS, {})
    assert [name for name, _ in metrics.tallies] == [OTHER]
    metrics.ended(record(2, model="a/b"), SECOND_NS, {})
    metrics.ended(record(3, model="a/b", provider="c", finish=Finish.TIMEOUT), SECOND_NS, {})
    assert [name for name, _ in metrics.tallies] == [OTHER, "a/b", "a/b"]


def test_the_overhead_is_never_below_zero() -> None:
    metrics = Metrics()
    metrics.ended(record(1), 1000, {})  # its attempt took 900 ms
    assert (metrics.overhead.counts[0], metrics.overhead.sum_ns) == (1, 0)


# -- in a whole gateway


async def test_every_way_an_exchange_can_go(tmp_path: Path) -> None:
    async with several(tmp_path, TWO, models=MODELS) as (sluice, ups):
        ups["a"].reply(chat(usage=CACHED))
        assert (await ask(sluice)).status_code == 200
        assert (await ask(sluice, stream=True)).status_code == 200
        ups["a"].reply(error(500))
        assert (await ask(sluice)).headers["x-sluice-provider"] == "b"
        ups["a"].reply(error(500))
        ups["b"].reply(error(503))
        assert (await ask(sluice)).status_code == 502
        ups["a"].reply(error(422))
        assert (await ask(sluice)).status_code == 422
        ups["a"].reply(sse(chat_chunk({"content": "Hel"})))
        assert b"upstream_stream_truncated" in (await ask(sluice, stream=True)).content
        found = await scrape(sluice)
        usage = (await sluice.admin.get("/admin/api/usage")).json()
        records = await sluice.settled(6)

        assert found.by("sluice_requests_total", "model", "provider", "status") == {
            ("m", "a", "200"): 3,
            ("m", "b", "200"): 1,
            ("m", "b", "502"): 1,
            ("m", "a", "422"): 1,
        }
        assert found.value("sluice_request_seconds_count", model="m", provider="a") == 4
        assert found.value("sluice_request_seconds_count", model="m", provider="b") == 2
        assert found.value("sluice_first_byte_seconds_count", model="m", provider="a") == 2
        assert found.value("sluice_first_byte_seconds_count", model="m", provider="b") == 0
        assert found.value("sluice_overhead_seconds_count") == 6
        upstream_s = sum(one.total_ms or 0 for each in records for one in each.attempts) / 1000
        whole_s = found.total("sluice_request_seconds_sum")
        overhead_s = found.value("sluice_overhead_seconds_sum")
        assert overhead_s == pytest.approx(whole_s - upstream_s, abs=1e-6)
        assert whole_s >= sum(each.timings["total_ms"] for each in records) / 1000

        assert found.by("sluice_upstream_errors_total", "provider", "class") == {
            ("a", "server"): 3,
            ("b", "server"): 1,
            ("a", "request"): 1,
        }
        assert found.by("sluice_settlements_total", "billing", "finish") == {
            ("settled", "ok"): 3,
            ("void", "upstream_error"): 2,
            ("estimated", "truncated"): 1,
        }
        assert found.total("sluice_refusals_total") == 0
        assert found.value("sluice_in_flight") == 0

        assert found.total("sluice_tokens_total", class_="cached") == 60
        assert found.total("sluice_tokens_total", class_="cache_write") == 10
        assert found.total("sluice_tokens_total", class_="reasoning") == 7
        assert found.total("sluice_tokens_total", class_="input") == usage["input_tokens"]
        assert found.total("sluice_tokens_total", class_="output") == usage["output_tokens"]
        assert found.total("sluice_requests_total") == usage["requests"]
        cost = found.total("sluice_cost_total", currency="USD")
        assert cost == pytest.approx(float(Decimal(usage["total_cost_value"])))
        assert cost > 0


async def test_refusals_are_counted_by_their_code(tmp_path: Path) -> None:
    async with several(tmp_path, TWO, models=MODELS, billing={"unpriced": "reject"}) as (sluice, ups):
        fields = {"name": "slow", "limits": {"rpm": 1}, "models": ["m"]}
        made = await sluice.admin.post("/admin/api/keys", json=fields)
        slow = made.json()["key"]
        await ask(sluice, key=slow)
        refused = [
            await ask(sluice, key="sk-sluice-nobody"),
            await ask(sluice, "unknown"),
            await ask(sluice, "a/unpriced"),
            await ask(sluice, "a/x", key=slow),
            await ask(sluice, key=slow),
            await ask(sluice, key=slow),
            await sluice.http.post("/v1/embeddings", json={}),
            await sluice.http.post("/v1/chat/completions", content="{", headers={"content-type": "text/csv"}),
        ]
        for name in ups:
            await sluice.admin.post(f"/admin/api/providers/{name}/disable")
        refused.append(await ask(sluice))  # it was let in first
        codes = [code(answer) for answer in refused]
        assert codes == [
            "invalid_api_key",
            "model_not_found",
            "model_not_priced",
            "model_not_allowed",
            "rpm_exceeded",
            "rpm_exceeded",
            "missing_model",
            "unsupported_media_type",
            "no_available_provider",
        ]
        found = await scrape(sluice)
        assert found.by("sluice_refusals_total", "code") == Counter((each,) for each in codes)
        assert found.total("sluice_requests_total") == 1


async def test_who_cannot_pay_is_refused(tmp_path: Path) -> None:
    async with several(tmp_path, TWO, models=MODELS, billing={"mode": "prepaid"}) as (sluice, _):
        assert (await ask(sluice)).status_code == 402
        assert (await scrape(sluice)).value("sluice_refusals_total", code="insufficient_balance") == 1


async def test_dry_runs_and_what_a_provider_refused_to_count_are_no_refusals(tmp_path: Path) -> None:
    async with several(tmp_path, {"a": {"protocol": "anthropic"}}) as (sluice, ups):
        dry = await sluice.http.post(
            "/v1/chat/completions", json={"model": "nobody"}, headers={"x-sluice-dry-run": "1"}
        )
        ups["a"].reply(error(400))
        body = {"model": "a/x", "messages": [{"role": "user", "content": "Hi"}]}
        counted = await sluice.http.post("/v1/messages/count_tokens", json=body)
        assert (dry.status_code, counted.status_code) == (404, 400)
        assert (await scrape(sluice)).total("sluice_refusals_total") == 0


async def test_what_runs_is_in_flight(tmp_path: Path) -> None:
    async with several(tmp_path, TWO, models=MODELS) as (sluice, ups):
        ups["a"].reply(hang(), hang())
        asking = [asyncio.create_task(ask(sluice)) for _ in range(2)]
        await ups["a"].received(2)
        assert (await scrape(sluice)).value("sluice_in_flight") == 2
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)
        await eventually(lambda: sluice.app.gateway.running == 0)
        found = await scrape(sluice)
        assert found.value("sluice_in_flight") == 0
        assert found.value("sluice_requests_total", model="m", provider="a", status="499") == 2
        assert found.total("sluice_settlements_total", finish="client_gone") == 2


async def test_where_nobody_was_asked_there_is_no_provider(tmp_path: Path) -> None:
    providers = {"a": {"api_key": "provider-key"}}
    async with several(tmp_path, providers, models={"m": {"routes": ["a/x"]}}) as (sluice, ups):
        stop_time(sluice)
        ups["a"].always(error(429))
        await ask(sluice)
        await ask(sluice)  # tried all the same
        await ask(sluice)  # not again within five seconds
        found = await scrape(sluice)
        assert found.value("sluice_requests_total", model="m", provider="a", status="429") == 2
        assert found.value("sluice_requests_total", model="m", provider="", status="429") == 1
        assert found.value("sluice_provider_keys_resting", provider="a", class_="rate") == 1
        assert found.value("sluice_provider_keys_resting", provider="a", class_="auth") == 0


async def test_breakers_and_keys_as_they_stand(tmp_path: Path) -> None:
    providers = {"a": {"api_keys": ["key-one", "key-two"]}, "b": {}}
    async with several(tmp_path, providers, models=MODELS) as (sluice, ups):
        stop_time(sluice)
        found = await scrape(sluice)
        assert found.value("sluice_breaker_state", provider="a", model="x") == CLOSED
        assert found.value("sluice_breaker_state", provider="b", model="y") == CLOSED
        assert found.value("sluice_provider_keys", provider="a") == 2
        ups["a"].always(error(500))
        for _ in range(5):
            await ask(sluice)
        assert (await scrape(sluice)).value("sluice_breaker_state", provider="a", model="x") == OPEN
        pass_time(sluice, 31)
        assert (await scrape(sluice)).value("sluice_breaker_state", provider="a", model="x") == HALF_OPEN
        ups["a"].reply(chat())
        await ask(sluice)
        assert (await scrape(sluice)).value("sluice_breaker_state", provider="a", model="x") == CLOSED
        ups["a"].reply(error(401), error(402))
        await ask(sluice)
        found = await scrape(sluice)
        resting = {
            kind: found.value("sluice_provider_keys_resting", provider="a", class_=kind)
            for kind in ("auth", "quota", "rate")
        }
        assert resting == {"auth": 1, "quota": 1, "rate": 0}


async def test_breakers_of_models_that_clients_name_are_bounded(tmp_path: Path) -> None:
    async with several(tmp_path, {"a": {}}, models={"m": {"routes": ["a/x"]}}) as (sluice, ups):
        stop_time(sluice)
        ups["a"].always(error(500))
        services = sluice.app.gateway.services
        fleet, now_ns = services.router.fleet, services.clock.monotonic_ns()
        await ask(sluice)
        cause = fleet.deployment("a", "x").cause
        assert cause is not None
        for number in range(1000):
            for _ in range(5):
                fleet.deployment("a", f"made-up-{number}").breaker.fail(now_ns, now_ns, cause.failure)
                fleet.deployment("gone", f"made-up-{number}").breaker.fail(now_ns, now_ns, cause.failure)
        found = await scrape(sluice)
        models = found.labels("sluice_breaker_state", "model")
        assert {"x", OTHER} < models
        assert len(models) == MOST_MODELS + 2
        assert found.labels("sluice_breaker_state", "provider") == {"a"}
        assert found.value("sluice_breaker_state", provider="a", model=OTHER) == OPEN


async def test_no_request_fails_with_its_counting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(tmp_path, providers={"demo": {"preset": "echo"}}) as sluice:
        monkeypatch.setattr(Metrics, "_tally", lambda *_: 1 // 0)
        for stream in (False, True):
            answer = await ask(sluice, "demo/x", stream=stream)
            assert answer.status_code == 200
        assert b"[DONE]" in answer.content
        assert caplog.text.count("was not counted") == 2
