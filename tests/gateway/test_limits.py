"""Limits through a whole gateway: exact under load, kept over restarts."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.gateway import Sluice, gateway
from tests.support.replies import chat, chat_stream, error
from tests.support.upstream import Upstream

MESSAGES = [{"role": "user", "content": "Say hello"}]


def settings(upstream: Upstream, **limits: int) -> dict[str, Any]:
    return {
        "providers": {"up": {"base_url": upstream.url}},
        "plans": {"small": limits},
        "limits": {"default_plan": "small"},
    }


async def ask(sluice: Sluice, **body: Any) -> httpx2.Response:
    whole = {"model": "up/m", "messages": MESSAGES, **body}
    return await sluice.http.post("/v1/chat/completions", json=whole)


async def ask_at_once(sluice: Sluice, count: int) -> Counter[int]:
    answers = await asyncio.gather(*(ask(sluice) for _ in range(count)))
    return Counter(answer.status_code for answer in answers)


@pytest.mark.parametrize("limits", [{"rpm": 50}, {"rpd": 50}])
async def test_as_many_are_admitted_as_the_limit_allows(tmp_path: Path, limits: dict[str, int]) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream, **limits)) as sluice:
        admitted = (await ask_at_once(sluice, 200))[200]
        assert admitted == len(upstream.requests) == len(sluice.records)
        # A minute's bucket refills while they come: some more may fit, never fewer.
        assert 50 <= admitted <= 55 if "rpm" in limits else admitted == 50


async def test_tokens_are_taken_at_admission_and_corrected(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream, tpd=1000)) as sluice:
        upstream.reply(chat("hi", usage=(400, 500)))
        answer = await ask(sluice)
        assert answer.headers["x-ratelimit-limit-tokens"] == "1000"
        assert int(answer.headers["x-ratelimit-remaining-tokens"]) == 100
        upstream.reply(error(500, "void"))
        assert (await ask(sluice)).status_code == 502  # gave its tokens back
        upstream.reply(chat("hi", usage=(90, 20)))
        last = await ask(sluice)
        assert last.headers["x-ratelimit-remaining-tokens"] == "0"
        refused = await ask(sluice)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "tpd_exceeded")


async def test_concurrency_counts_what_runs(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream, concurrency=3)) as sluice:
        reply = chat_stream("hello").gated()
        upstream.always(reply)
        running = [asyncio.create_task(ask(sluice, stream=True)) for _ in range(3)]
        await upstream.received(3)
        refused = await ask(sluice)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "concurrency_exceeded")
        assert int(refused.headers["retry-after"]) >= 1
        assert int(refused.headers["retry-after-ms"]) >= 1
        reply.open_all()
        assert {answer.status_code for answer in await asyncio.gather(*running)} == {200}
        assert (await ask(sluice, stream=True)).status_code == 200


async def test_refusals_say_when_to_come_again(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream, rpm=1)) as sluice:
        first = await ask(sluice)
        assert first.headers["x-ratelimit-limit-requests"] == "1"
        assert first.headers["x-ratelimit-remaining-requests"] == "0"
        refused = await ask(sluice)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rpm_exceeded")
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["x-should-retry"] == "true"
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert len(sluice.records) == 1  # refused requests are not recorded


async def test_what_can_never_fit_is_not_to_be_retried(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream, tpm=20)) as sluice:
        refused = await ask(sluice, messages=[{"role": "user", "content": "word " * 100}])
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "tpm_exceeded")
        assert "retry-after" not in refused.headers
        assert refused.headers["x-should-retry"] == "false"


async def test_max_context(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream, max_context=50)) as sluice:
        assert (await ask(sluice)).status_code == 200
        refused = await ask(sluice, messages=[{"role": "user", "content": "word " * 100}])
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize(("sent", "arrives"), [({}, 30), ({"max_tokens": 10}, 10), ({"max_tokens": 99}, 30)])
async def test_max_output_bounds_and_fills_in(tmp_path: Path, sent: dict[str, int], arrives: int) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream, max_output=30)) as sluice:
        await ask(sluice, **sent)
        assert upstream.requests[0].json["max_tokens"] == arrives


async def test_the_tighter_of_plan_and_key_applies_to_each_key(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream, rpd=5)) as sluice:
        made = await sluice.admin.post(
            "/admin/api/keys", json={"name": "k", "limits": {"rpd": 2, "rpm": 600}}
        )
        assert (await ask_at_once(sluice, 10))[200] == 5
        sluice.http.headers["authorization"] = f"Bearer {made.json()['key']}"
        assert (await ask_at_once(sluice, 10))[200] == 2
        await sluice.admin.patch(f"/admin/api/keys/{made.json()['id']}", json={"limits": {"rpd": 4}})
        assert (await ask_at_once(sluice, 10))[200] == 2  # what was used stays used


async def test_days_are_kept_over_restarts(tmp_path: Path) -> None:
    async with Upstream() as upstream:
        async with gateway(tmp_path, **settings(upstream, rpd=5)) as sluice:
            assert (await ask_at_once(sluice, 3))[200] == 3
        async with gateway(tmp_path, **settings(upstream, rpd=5)) as sluice:
            assert (await ask_at_once(sluice, 9))[200] == 2


async def test_asking_about_the_key_is_not_counted(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream, rpd=1)) as sluice:
        for path in ("/v1/models", "/v1/usage", "/v1/key"):
            assert (await sluice.http.get(path)).status_code == 200
        assert (await ask(sluice)).status_code == 200
