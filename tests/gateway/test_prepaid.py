"""Money as clients meet it: what is refused, who pays, and that it adds up under load."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.config.load import load
from proxy.core.moments import rfc3339
from proxy.gateway.snapshot import Snapshot
from tests.support import money
from tests.support.asking import eventually
from tests.support.clients import MESSAGES
from tests.support.gateway import Sluice, configuration, gateway
from tests.support.raw import RawClient
from tests.support.replies import Reply, chat, chat_stream, error
from tests.support.upstream import Request, Upstream

# "Say hello" is estimated as 9 tokens. With `max_tokens: 2` the hold is what the answer then costs:
# 9 × 2,000 + 2 × 8,000 nanos for 11 tokens.
PRICE = {"input": 2, "output": 8, "currency": "USD", "per": "1M"}
USAGE, TOKENS, COST = (9, 2), 11, 34_000
FREE = {"input": 0, "output": 0, "currency": "USD", "per": "1M"}
MODELS = {
    "m": {"routes": ["up/m"], "price": PRICE},
    "other": {"routes": ["up/m"], "price": PRICE},
    "free": {"routes": ["up/m"], "price": FREE},
    "unpriced": {"routes": ["up/nobody-priced-this"]},
}


@asynccontextmanager
async def prepaid(
    tmp_path: Path,
    *,
    wallet: int = 0,
    mode: str = "prepaid",
    billing: dict[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[tuple[Upstream, Sluice]]:
    """Run a gateway; afterwards its books must be right, and nothing be held."""
    async with Upstream() as upstream:
        upstream.always(chat("hi there", usage=USAGE))
        settings: dict[str, Any] = {
            "providers": {"up": {"base_url": upstream.url}},
            "models": MODELS,
            "billing": {"mode": mode, **(billing or {})},
            **more,
        }
        async with gateway(tmp_path, **settings) as sluice:
            if wallet:
                await money.top_up(sluice, wallet)
            yield upstream, sluice
            accounts = [account.name for account in sluice.app._keyring.accounts()]
            await eventually(lambda: all(money.nothing_held(sluice, account) for account in accounts))
            assert len(sluice.records) == len({record.id for record in sluice.records})
        money.check_books(tmp_path / "sluice.db")


async def ask(sluice: Sluice, model: str = "m", **body: Any) -> httpx2.Response:
    whole = {"model": model, "messages": MESSAGES, "max_tokens": 2, **body}
    return await sluice.http.post("/v1/chat/completions", json=whole)


def told(answer: httpx2.Response) -> tuple[int, str]:
    """Return status and code of a refusal."""
    return answer.status_code, answer.json()["error"]["code"]


async def served(sluice: Sluice, model: str = "m", **body: Any) -> dict[str, Any]:
    """Ask, and return the receipt of the answer."""
    answer = await ask(sluice, model, **body)
    assert answer.status_code == 200, answer.text
    receipt = await sluice.receipt(answer)
    assert answer.headers["x-sluice-cost"] == receipt["cost"]
    return receipt


async def with_quota(sluice: Sluice, amount: str, period: str = "day") -> None:
    """Have the client use a new key with a quota."""
    body = {"name": "bounded", "quota": {"amount": amount, "period": period}}
    made = await sluice.admin.post("/admin/api/keys", json=body)
    assert made.status_code in (200, 201), made.text
    sluice.http.headers["authorization"] = f"Bearer {made.json()['key']}"


# -- refusals


async def test_an_empty_wallet(tmp_path: Path) -> None:
    async with prepaid(tmp_path) as (upstream, sluice):
        answer = await ask(sluice)
        assert told(answer) == (402, "insufficient_balance")
        assert answer.json()["error"]["type"] == "insufficient_quota"
        assert answer.headers["x-should-retry"] == "false"
        assert "retry-after" not in answer.headers
        await money.top_up(sluice, 1)
        await served(sluice)  # the last one may be larger than the funds
        assert money.wallet(sluice) == 1 - COST
        assert told(await ask(sluice)) == (402, "insufficient_balance")
        assert len(upstream.requests) == len(sluice.records) == 1


async def test_funds_that_running_requests_hold(tmp_path: Path) -> None:
    async with prepaid(tmp_path, wallet=40_000) as (upstream, sluice):
        reply = chat("hi there", usage=USAGE).gated()
        upstream.reply(reply)
        first = asyncio.create_task(ask(sluice))
        await upstream.received(1)
        answer = await ask(sluice)
        assert told(answer) == (402, "in_flight_budget_exhausted")
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["x-should-retry"] == "true"
        reply.open_all()
        assert (await first).status_code == 200
        await eventually(lambda: money.nothing_held(sluice))
        await served(sluice)
        assert money.wallet(sluice) == 40_000 - 2 * COST
        assert told(await ask(sluice)) == (402, "insufficient_balance")
        assert len(upstream.requests) == 2


async def test_a_hold_is_given_back_but_for_the_cost(tmp_path: Path) -> None:
    async with prepaid(tmp_path, wallet=money.DOLLAR) as (upstream, sluice):
        upstream.reply(reply := chat("hi there", usage=(3, 1)).gated())
        asking = asyncio.create_task(ask(sluice, max_tokens=1000))
        await upstream.received(1)
        assert money.funds_of(sluice).held_nanos == 9 * 2_000 + 1000 * 8_000
        reply.open_all()
        await asking
        await eventually(lambda: money.nothing_held(sluice))
        assert money.wallet(sluice) == money.DOLLAR - 3 * 2_000 - 8_000


async def test_a_credit_limit(tmp_path: Path) -> None:
    async with prepaid(tmp_path, billing={"credit_limit": 0.0001}) as (_, sluice):
        for owed in (1, 2, 3):
            await served(sluice)
            assert money.wallet(sluice) == -owed * COST
        assert told(await ask(sluice)) == (402, "insufficient_balance")  # it owes 102,000 of 100,000


async def test_free_models_are_never_refused(tmp_path: Path) -> None:
    async with prepaid(tmp_path, wallet=1) as (_, sluice):
        await served(sluice)
        assert money.wallet(sluice) < 0
        receipt = await served(sluice, "free")
        assert (receipt["billing"], receipt["cost"]) == ("settled", "0.000000000")
        assert told(await ask(sluice)) == (402, "insufficient_balance")


async def test_a_free_model_opens_a_dear_fallback_only_to_who_can_pay(tmp_path: Path) -> None:
    models = MODELS | {"free": {"routes": ["down/m"], "price": FREE}}
    async with Upstream() as up, Upstream(refusing=True) as down:
        up.always(chat("hi there", usage=USAGE))
        providers = {"up": {"base_url": up.url}, "down": {"base_url": down.url}}
        settings = {"providers": providers, "models": models, "fallbacks": {"free": ["m"]}}
        async with prepaid(tmp_path, **settings) as (_, sluice):
            assert (await ask(sluice, "free")).status_code == 502
            assert up.requests == []
            await money.top_up(sluice, 10 * COST)
            assert (await served(sluice, "free"))["upstream_model"] == "m"
            assert money.wallet(sluice) == 9 * COST


async def test_models_without_a_price(tmp_path: Path) -> None:
    async with prepaid(tmp_path, wallet=money.DOLLAR) as (upstream, sluice):
        answer = await ask(sluice, "unpriced")
        assert told(answer) == (402, "model_not_priced")
        assert answer.json()["error"]["param"] == "model"
        assert upstream.requests == []


async def test_models_without_a_price_may_be_free(tmp_path: Path) -> None:
    async with prepaid(tmp_path, billing={"unpriced": "free"}) as (_, sluice):
        receipt = await served(sluice, "unpriced")
        assert (receipt["cost"], receipt["price"]) == ("0.000000000", None)


@pytest.mark.parametrize("mode", ["track", "prepaid"])
class TestQuota:
    async def test_one_last_request_may_exceed_it(self, tmp_path: Path, mode: str) -> None:
        async with prepaid(tmp_path, wallet=money.DOLLAR, mode=mode) as (upstream, sluice):
            await with_quota(sluice, "0.00005")
            await served(sluice)
            await served(sluice)
            day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
            answer = await ask(sluice)
            assert told(answer) == (403, "quota_exceeded")
            body = answer.json()["error"]
            assert body["type"] == "permission_error"
            assert body["resets_at"] == rfc3339(int(day.timestamp()) * 1000)
            assert len(upstream.requests) == 2
            await served(sluice, "free")
            assert money.wallet(sluice) == money.DOLLAR - (2 * COST if mode == "prepaid" else 0)

    async def test_what_runs_counts(self, tmp_path: Path, mode: str) -> None:
        async with prepaid(tmp_path, wallet=money.DOLLAR, mode=mode) as (upstream, sluice):
            await with_quota(sluice, "0.000034", "total")
            upstream.reply(reply := chat("hi", usage=(1, 1)).gated())
            first = asyncio.create_task(ask(sluice))
            await upstream.received(1)
            answer = await ask(sluice)
            assert told(answer) == (403, "quota_exceeded")
            assert answer.json()["error"]["resets_at"] is None
            reply.open_all()
            assert (await first).headers["x-sluice-cost"] == "0.000010000"
            await served(sluice)

    async def test_without_a_price_nothing_could_be_counted(self, tmp_path: Path, mode: str) -> None:
        billing = {"unpriced": "free"}
        async with prepaid(tmp_path, mode=mode, billing=billing) as (_, sluice):
            assert (await ask(sluice, "unpriced")).status_code == 200
            await with_quota(sluice, "1")
            assert told(await ask(sluice, "unpriced")) == (402, "model_not_priced")

    async def test_it_is_known_again_after_a_restart(self, tmp_path: Path, mode: str) -> None:
        for round_number in range(2):
            async with prepaid(tmp_path, wallet=money.DOLLAR, mode=mode) as (_, sluice):
                if round_number == 0:
                    await with_quota(sluice, "0.00003")
                    secret = sluice.http.headers["authorization"]
                    await served(sluice)
                sluice.http.headers["authorization"] = secret
                assert told(await ask(sluice)) == (403, "quota_exceeded")


async def test_one_hold_for_all_attempts_and_one_charge_for_the_last(tmp_path: Path) -> None:
    """The hold is at the price of the dearest candidate, the charge at that of the one that answered."""
    dear = {"input": 20, "output": 80, "currency": "USD", "per": "1M"}
    routes = [
        {"provider": "up", "model": "dear", "price": dear},
        {"provider": "up", "model": "m", "priority": 2},
    ]
    models = {"m": {"routes": routes, "price": PRICE}}
    async with prepaid(tmp_path, wallet=money.DOLLAR, models=models) as (upstream, sluice):
        reply = chat("hi there", usage=USAGE).gated()
        upstream.reply(error(500), reply)
        asking = asyncio.create_task(ask(sluice))
        await upstream.received(2)
        assert money.funds_of(sluice).held_nanos == 10 * COST
        reply.open_all()
        receipt = await sluice.receipt(await asking)
        assert [attempt["model"] for attempt in receipt["attempts"]] == ["dear", "m"]
        assert (receipt["cost"], receipt["paid"]["wallet"]) == ("0.000034000", "0.000034000")
        await eventually(lambda: money.nothing_held(sluice))
        assert money.wallet(sluice) == money.DOLLAR - COST


# -- when it is on disk


async def test_the_hold_before_the_provider_is_asked_the_charge_before_the_end(tmp_path: Path) -> None:
    async with prepaid(tmp_path, wallet=money.DOLLAR) as (upstream, sluice):
        held: list[tuple[str]] = []

        def answer(request: Request) -> Reply:
            running = "SELECT hold FROM exchanges WHERE finish IS NULL"
            held.extend((hold,) for (hold,) in money.read(money.database(sluice), running))
            return (chat_stream if request.json["stream"] else chat)("hi there", usage=USAGE)

        upstream.handler = answer
        charged = "SELECT exchange, amount FROM ledger WHERE kind = 'charge' ORDER BY id DESC LIMIT 1"
        for stream in (False, True):
            answered = await ask(sluice, stream=stream)
            assert money.read(money.database(sluice), charged) == [(answered.headers["x-request-id"], -COST)]
        assert [json.loads(hold) for (hold,) in held] == [{"grants": [], "nanos": COST}] * 2


@pytest.mark.parametrize(("mode", "synchronous"), [("track", 1), ("prepaid", 2)])
async def test_how_far_a_commit_goes(tmp_path: Path, mode: str, synchronous: int) -> None:
    async with prepaid(tmp_path, mode=mode) as (_, sluice):
        pragma = "PRAGMA synchronous"  # 2 is FULL: it waits for the disk
        submitted = sluice.app._database.writer.submit(lambda at: at.execute(pragma).fetchone())
        assert await submitted == (synchronous,)


# -- who pays


async def test_grants_then_subscription_then_wallet(tmp_path: Path) -> None:
    plans = {"pro": {"rpm": 600}}
    async with prepaid(tmp_path, wallet=100_000, plans=plans) as (_, sluice):
        given = await money.grant(sluice, 5)
        await money.subscribe(sluice, "pro", price=40_000, credit=10_000)
        receipt = await served(sluice)
        # The grant pays 5 of 11 tokens; of 34,000 nanos 6/11 are left: 18,545.45…, rounded once.
        assert receipt["paid"] == {"tokens": 5, "subscription": "0.000010000", "wallet": "0.000008545"}
        assert receipt["cost"] == "0.000034000"
        funds = money.left(sluice)
        assert (funds.grants, funds.wallet_nanos) == ((), 100_000 - 40_000 - 8_545)
        assert funds.subscription is not None
        assert funds.subscription.left_nanos == 0
        entries = "SELECT fund, amount, balance_after, note FROM ledger WHERE kind = 'charge' ORDER BY id"
        assert money.read(money.database(sluice), entries) == [
            (f"grant:{given.id}", -5, 0, "m"),
            ("subscription", -10_000, 0, "m"),
            ("wallet", -8_545, 51_455, "m"),
        ]


async def test_the_grant_that_expires_first_pays_first(tmp_path: Path) -> None:
    async with prepaid(tmp_path) as (_, sluice):
        forever = await money.grant(sluice, 100)
        later = await money.grant(sluice, 100, days=9)
        soon = await money.grant(sluice, 4, days=1)
        receipt = await served(sluice)
        assert receipt["paid"] == {"tokens": 11, "subscription": "0.000000000", "wallet": "0.000000000"}
        assert {grant.id: grant.left for grant in money.left(sluice).grants} == {
            later.id: 93,
            forever.id: 100,
        }
        assert soon.id not in {grant.id for grant in money.left(sluice).grants}


async def test_a_grant_for_some_models(tmp_path: Path) -> None:
    async with prepaid(tmp_path) as (_, sluice):
        await money.grant(sluice, 100, models=("m*",))
        assert told(await ask(sluice, "other")) == (402, "insufficient_balance")
        assert (await served(sluice, "m"))["paid"]["tokens"] == 11
        await money.top_up(sluice, money.DOLLAR)
        assert (await served(sluice, "other"))["paid"] == {
            "tokens": 0,
            "subscription": "0.000000000",
            "wallet": "0.000034000",
        }


async def test_tokens_at_signup(tmp_path: Path) -> None:
    async with prepaid(tmp_path, billing={"signup_tokens": 20}) as (_, sluice):
        assert (await served(sluice))["paid"]["tokens"] == 11
        receipt = await served(sluice)  # larger than the nine that are left
        assert receipt["paid"] == {"tokens": 9, "subscription": "0.000000000", "wallet": "0.000006182"}
        assert money.wallet(sluice) == -6_182
        assert told(await ask(sluice)) == (402, "insufficient_balance")
        await sluice.admin.post("/admin/api/accounts", json={"name": "new"})
        assert [grant.left for grant in money.left(sluice, "new").grants] == [20]


async def test_a_plan_with_a_discount(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "plans": {"cheap": {"discount": 0.8}},
        "limits": {"default_plan": "cheap"},
    }
    async with prepaid(tmp_path, wallet=100_000, **settings) as (_, sluice):
        receipt = await served(sluice)
        assert (receipt["cost"], receipt["discount"]) == ("0.000027200", "0.8")
        assert money.wallet(sluice) == 100_000 - 27_200


async def test_a_subscription_replaces_the_plan(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "plans": {"small": {"rpd": 2}, "pro": {"rpd": 9, "discount": 0.5}},
        "limits": {"default_plan": "small"},
    }
    async with prepaid(tmp_path, wallet=100_000, **settings) as (_, sluice):
        answer = await ask(sluice)
        assert answer.headers["x-ratelimit-limit-requests"] == "2"
        await money.subscribe(sluice, "pro", credit=20_000)
        answer = await ask(sluice)
        assert answer.headers["x-ratelimit-limit-requests"] == "9"
        receipt = await sluice.receipt(answer)
        assert (receipt["cost"], receipt["discount"]) == ("0.000017000", "0.5")
        assert receipt["paid"] == {"tokens": 0, "subscription": "0.000017000", "wallet": "0.000000000"}
        receipt = await served(sluice)
        assert receipt["paid"] == {"tokens": 0, "subscription": "0.000003000", "wallet": "0.000014000"}
        assert money.wallet(sluice) == 100_000 - COST - 14_000


async def test_a_key_that_moves_to_another_account_meanwhile(tmp_path: Path) -> None:
    async with prepaid(tmp_path, wallet=100_000) as (upstream, sluice):
        await sluice.admin.post("/admin/api/accounts", json={"name": "new"})
        await money.top_up(sluice, 100_000, "new")
        upstream.reply(reply := chat_stream("hi", " there", usage=USAGE).gated())
        asking = asyncio.create_task(ask(sluice, stream=True))
        await upstream.received(1)
        id = money.key_state(sluice).key.id
        moved = await sluice.admin.patch(f"/admin/api/keys/{id}", json={"account": "new"})
        assert moved.status_code == 200, moved.text
        reply.open_all()
        receipt = await sluice.receipt(await asking)
        assert (receipt["account"], receipt["paid"]["wallet"]) == ("default", "0.000034000")
        assert (money.wallet(sluice), money.wallet(sluice, "new")) == (100_000 - COST, 100_000)
        assert (await served(sluice))["account"] == "new"
        assert (money.wallet(sluice), money.wallet(sluice, "new")) == (100_000 - COST, 100_000 - COST)


async def test_a_price_is_fixed_at_admission(tmp_path: Path) -> None:
    async with prepaid(tmp_path, wallet=money.DOLLAR) as (upstream, sluice):
        upstream.reply(reply := chat("hi there", usage=USAGE).gated())
        asking = asyncio.create_task(ask(sluice))
        await upstream.received(1)
        dearer = dict(MODELS, m={"routes": ["up/m"], "price": {**PRICE, "output": 1000}})
        (changed := tmp_path / "changed").mkdir()
        whole = json.loads((tmp_path / "config.yaml").read_text())
        path = configuration(changed, **{**whole, "models": dearer})
        sluice.app.gateway.snapshot = Snapshot.build(load(path, {}))
        reply.open_all()
        assert (await asking).headers["x-sluice-cost"] == "0.000034000"
        receipt = await served(sluice)
        assert receipt["cost"] == "0.002018000"
        assert money.wallet(sluice) == money.DOLLAR - COST - 2_018_000


# -- under load


async def test_many_at_once_overdraw_a_wallet_once(tmp_path: Path) -> None:
    async with prepaid(tmp_path, wallet=COST // 2) as (upstream, sluice):
        upstream.always(reply := chat("hi there", usage=USAGE).gated())
        asking = [asyncio.create_task(ask(sluice)) for _ in range(50)]
        await eventually(lambda: sum(task.done() for task in asking) == 49)
        await upstream.received(1)
        reply.open_all()
        answers = await asyncio.gather(*asking)
        refused = Counter(told(answer) for answer in answers if answer.status_code != 200)
        assert refused == {(402, "in_flight_budget_exhausted"): 49}
        await eventually(lambda: money.nothing_held(sluice))
        assert money.wallet(sluice) == COST // 2 - COST


def request_of(sluice: Sluice) -> bytes:
    """Return a request as bytes: a thousand of them are too much for an HTTP library's pool."""
    body = json.dumps({"model": "m", "messages": MESSAGES, "max_tokens": 2})
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"authorization: {sluice.http.headers['authorization']}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


@pytest.mark.parametrize(
    ("fund", "mode", "code"),
    [
        ("wallet", "prepaid", (402, "in_flight_budget_exhausted")),
        ("grant", "prepaid", (402, "in_flight_budget_exhausted")),
        ("grant and a half", "prepaid", (402, "in_flight_budget_exhausted")),
        ("quota", "prepaid", (403, "quota_exceeded")),
        ("quota", "track", (403, "quota_exceeded")),
    ],
)
async def test_a_thousand_at_once_on_funds_for_fifty(
    tmp_path: Path, fund: str, mode: str, code: tuple[int, str]
) -> None:
    asked, enough = 1000, 50
    async with prepaid(tmp_path, mode=mode) as (upstream, sluice):
        if fund == "wallet":
            await money.top_up(sluice, enough * COST + COST // 2)
        elif fund == "grant":
            await money.grant(sluice, enough * TOKENS)
        elif fund == "grant and a half":
            await money.grant(sluice, enough * TOKENS + 5)
            enough += 1  # what is left of a grant admits one request that is larger
        else:
            await money.top_up(sluice, money.DOLLAR)
            await with_quota(sluice, "0.0017")
        before = money.wallet(sluice)
        reply = chat("hi there", usage=USAGE).gated()
        upstream.always(reply)
        refused: list[tuple[int, str]] = []

        async def ask_alone() -> int:
            async with RawClient((httpx2.URL(sluice.url).host, httpx2.URL(sluice.url).port or 0)) as client:
                client.send(request_of(sluice))
                answer = await client.answer()
            if answer.status != 200:
                refused.append((answer.status, answer.json["error"]["code"]))
                assert all_refused.done() == (len(refused) > asked - enough)
                if len(refused) == asked - enough:
                    all_refused.set_result(None)
            return answer.status

        all_refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asking = asyncio.gather(*(ask_alone() for _ in range(asked)))
        await all_refused
        await upstream.received(enough)
        reply.open_all()
        assert Counter(await asking) == {200: enough, code[0]: asked - enough}
        assert Counter(refused) == {code: asked - enough}
        assert len(upstream.requests) == len(sluice.records) == enough
        assert {record.cost_nanos for record in sluice.records} == {COST}
        await eventually(lambda: money.nothing_held(sluice))
        funds = money.left(sluice)
        if fund == "wallet":
            assert funds.wallet_nanos == COST // 2
            await served(sluice)  # the one that may be larger than what is left
            assert money.wallet(sluice) == COST // 2 - COST
            assert told(await ask(sluice)) == (402, "insufficient_balance")
            enough += 1
        elif fund == "grant":
            assert (funds.grants, funds.wallet_nanos) == ((), 0)
        elif fund == "grant and a half":
            assert (funds.grants, funds.wallet_nanos) == ((), -18_545)  # 6 of 11 tokens, once
        else:
            assert funds.wallet_nanos == before - (enough * COST if mode == "prepaid" else 0)
        (requests, cost) = money.read(money.database(sluice), money._RECORDS)[0]
        assert (requests, cost) == (enough, enough * COST)
