"""The admin API's calls about money, over a running gateway."""

import asyncio
import csv
import io
import secrets
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.gateway import ADMIN_KEY, Sluice, gateway

ADMIN = "/admin/api"
ACCOUNT = f"{ADMIN}/accounts/default"
CHAT = {"model": "priced", "messages": [{"role": "user", "content": "one two three"}]}
SETTINGS: dict[str, Any] = {
    "providers": {"demo": {"preset": "echo"}},
    "billing": {"mode": "prepaid"},
    "plans": {
        "pro": {"discount": 0.5, "subscription": {"price": 10, "credit": 12, "days": 30}},
        "gift": {"subscription": {"price": 0, "credit": 1, "days": 1}},
        "plain": {"rpm": 60},
    },
    "models": {"priced": {"routes": ["demo/x"], "price": {"input": 2, "output": 8, "per": "1K"}}},
}
CALLS = [
    ("topup", {"amount": "5"}),
    ("adjust", {"amount": "-5", "note": "n"}),
    ("grant-tokens", {"tokens": 5}),
    ("subscribe", {"plan": "pro"}),
]


@pytest.fixture
async def sluice(tmp_path: Path) -> AsyncIterator[Sluice]:
    async with gateway(tmp_path, **SETTINGS) as sluice:
        yield sluice


async def call(
    sluice: Sluice, verb: str, body: object, key: str | None = None, account: str = "default"
) -> httpx2.Response:
    headers = {"idempotency-key": key or secrets.token_hex(8)}
    return await sluice.admin.post(f"{ADMIN}/accounts/{account}/{verb}", json=body, headers=headers)


def refusal(answer: httpx2.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


async def shown(sluice: Sluice) -> dict[str, Any]:
    found: dict[str, Any] = (await sluice.admin.get(ACCOUNT)).json()
    return found


class TestTopUp:
    async def test_it_answers_with_the_account_and_the_new_entry(self, sluice: Sluice) -> None:
        answer = await call(sluice, "topup", {"amount": "5.00", "note": "cash"})
        assert answer.status_code == 200
        assert "idempotent-replayed" not in answer.headers
        made = answer.json()
        entries = made.pop("entries")
        assert made == await shown(sluice)
        assert (made["funds"]["wallet"], made["available"]) == ("5.000000000", "5.000000000")
        assert entries == [
            {
                "id": 1,
                "created_at": entries[0]["created_at"],
                "account": "default",
                "kind": "topup",
                "fund": "wallet",
                "amount": "5.000000000",
                "balance_after": "5.000000000",
                "exchange": None,
                "actor": "admin",
                "note": "cash",
            }
        ]

    async def test_it_holds_for_the_next_request(self, sluice: Sluice) -> None:
        refused = await sluice.http.post("/v1/chat/completions", json=CHAT)
        assert (refused.status_code, refused.json()["error"]["code"]) == (402, "insufficient_balance")
        await call(sluice, "topup", {"amount": 5})
        assert (await sluice.http.post("/v1/chat/completions", json=CHAT)).status_code == 200

    async def test_a_command_of_the_same_user_is_told_apart(self, sluice: Sluice) -> None:
        headers = {"authorization": f"Bearer {sluice.app.run_secret}", "idempotency-key": "x"}
        answer = await sluice.http.post(f"{ACCOUNT}/topup", json={"amount": 1}, headers=headers)
        assert answer.json()["entries"][0]["actor"] == "local"


class TestIdempotency:
    @pytest.mark.parametrize(("verb", "body"), CALLS, ids=[verb for verb, _ in CALLS])
    async def test_a_call_that_is_repeated_is_made_once(
        self, sluice: Sluice, verb: str, body: dict[str, Any]
    ) -> None:
        await call(sluice, "topup", {"amount": 20})
        first = await call(sluice, verb, body, "k")
        await call(sluice, "topup", {"amount": 1})
        again = await call(sluice, verb, dict(reversed(body.items())), "k")
        assert first.status_code == again.status_code == 200
        assert again.content == first.content
        assert again.headers["idempotent-replayed"] == "true"
        entries = (await sluice.admin.get(f"{ACCOUNT}/ledger")).json()["data"]
        assert len(entries) == 2 + len(first.json()["entries"])

    async def test_after_a_restart_too(self, tmp_path: Path) -> None:
        answers = []
        for _ in range(2):
            async with gateway(tmp_path, **SETTINGS) as sluice:
                answers.append(await call(sluice, "topup", {"amount": 5}, "k"))
        assert answers[0].content == answers[1].content
        assert "idempotent-replayed" in answers[1].headers

    async def test_a_repeated_call_is_answered_though_its_plan_is_gone(self, tmp_path: Path) -> None:
        async with gateway(tmp_path, **SETTINGS) as sluice:
            first = await call(sluice, "subscribe", {"plan": "gift"}, "k")
        with closing(sqlite3.connect(tmp_path / "sluice.db")) as database:
            database.execute("DELETE FROM subscriptions")
            database.commit()
        async with gateway(tmp_path, **SETTINGS | {"plans": {}}) as sluice:
            again = await call(sluice, "subscribe", {"plan": "gift"}, "k")
        assert again.content == first.content

    async def test_sent_many_times_at_once_it_is_made_once(self, sluice: Sluice) -> None:
        answers = await asyncio.gather(*(call(sluice, "topup", {"amount": 5}, "k") for _ in range(10)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert sum("idempotent-replayed" in answer.headers for answer in answers) == 9
        assert (await shown(sluice))["funds"]["wallet"] == "5.000000000"

    @pytest.mark.parametrize(
        ("account", "verb", "body"),
        [
            ("default", "topup", {"amount": "6"}),
            ("default", "topup", {"amount": "5", "note": "n"}),
            ("default", "adjust", {"amount": "5", "note": "n"}),
            ("team", "topup", {"amount": "5"}),
        ],
        ids=str,
    )
    async def test_another_call_with_the_same_key_is_a_conflict(
        self, sluice: Sluice, account: str, verb: str, body: dict[str, Any]
    ) -> None:
        await sluice.admin.post(f"{ADMIN}/accounts", json={"name": "team"})
        await call(sluice, "topup", {"amount": "5"}, "k")
        answer = await call(sluice, verb, body, "k", account)
        assert refusal(answer) == (409, "idempotency_conflict", None)
        assert (await shown(sluice))["funds"]["wallet"] == "5.000000000"

    async def test_what_failed_may_be_tried_again_with_the_same_key(self, sluice: Sluice) -> None:
        assert (await call(sluice, "subscribe", {"plan": "pro"}, "k")).status_code == 402
        await call(sluice, "topup", {"amount": 20})
        assert (await call(sluice, "subscribe", {"plan": "pro"}, "k")).status_code == 200

    @pytest.mark.parametrize("key", [None, "", "x" * 256, "ä", "two"])
    @pytest.mark.parametrize(("verb", "body"), CALLS, ids=[verb for verb, _ in CALLS])
    async def test_no_call_without_a_key(
        self, sluice: Sluice, verb: str, body: dict[str, Any], key: str | None
    ) -> None:
        headers = [("authorization", f"Bearer {ADMIN_KEY}")]
        headers += [] if key is None else [("idempotency-key", key)] * (2 if key == "two" else 1)
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        answer = await sluice.admin.post(f"{ACCOUNT}/{verb}", json=body, headers=encoded)
        assert refusal(answer) == (400, "invalid_value", "Idempotency-Key")
        assert (await sluice.admin.get(f"{ACCOUNT}/ledger")).json()["data"] == []


@pytest.mark.parametrize(
    ("verb", "body", "param"),
    [
        ("topup", {}, "amount"),
        ("topup", {"amount": 0}, "amount"),
        ("topup", {"amount": "-5"}, "amount"),
        ("topup", {"amount": 0.5}, "amount"),
        ("topup", {"amount": "1e3"}, "amount"),
        ("topup", {"amount": "1000000000"}, "amount"),
        ("topup", {"amount": 5, "fund": "wallet"}, "fund"),
        ("topup", {"amount": 5, "note": ""}, "note"),
        ("topup", {"amount": 5, "note": "\x1b[2J"}, "note"),
        ("adjust", {"amount": 5}, "note"),
        ("adjust", {"amount": "0.00", "note": "n"}, "amount"),
        ("adjust", {"amount": "0.0000000001", "note": "n"}, "amount"),
        ("adjust", {"amount": 5, "note": "n", "fund": "walet"}, "fund"),
        ("adjust", {"amount": 5, "note": "n", "fund": "subscription"}, "fund"),
        ("adjust", {"amount": 5, "note": "n", "fund": "grant:x"}, "fund"),
        ("adjust", {"amount": "5.5", "note": "n", "fund": "grant:x"}, "amount"),
        ("adjust", {"amount": 5, "note": "n", "exchange": "req_x"}, "exchange"),
        ("grant-tokens", {}, "tokens"),
        ("grant-tokens", {"tokens": 0}, "tokens"),
        ("grant-tokens", {"tokens": "5"}, "tokens"),
        ("grant-tokens", {"tokens": 10**16}, "tokens"),
        ("grant-tokens", {"tokens": 5, "models": "m"}, "models"),
        ("grant-tokens", {"tokens": 5, "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ("grant-tokens", {"tokens": 5, "expires_at": "tomorrow"}, "expires_at"),
        ("grant-tokens", {"tokens": 5, "left": 9}, "left"),
        ("subscribe", {}, "plan"),
        ("subscribe", {"plan": "plain"}, "plan"),
        ("subscribe", {"plan": "nothing"}, "plan"),
        ("subscribe", {"plan": "pro", "days": 900}, "days"),
    ],
    ids=str,
)
async def test_wrong_values_change_nothing(
    sluice: Sluice, verb: str, body: dict[str, Any], param: str
) -> None:
    assert refusal(await call(sluice, verb, body)) == (400, "invalid_value", param)
    assert (await sluice.admin.get(f"{ACCOUNT}/ledger")).json()["data"] == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[("POST", verb) for verb, _ in CALLS],
        ("GET", "ledger"),
        ("GET", "statement"),
    ],
)
async def test_an_account_that_is_not_there_is_not_found(sluice: Sluice, method: str, path: str) -> None:
    answer = await sluice.admin.request(method, f"{ADMIN}/accounts/nobody/{path}")
    assert refusal(answer) == (404, "not_found", None)


class TestFunds:
    async def test_a_correction_may_take_from_every_fund(self, sluice: Sluice) -> None:
        await call(sluice, "topup", {"amount": 20})
        await call(sluice, "subscribe", {"plan": "pro"})
        given = (await call(sluice, "grant-tokens", {"tokens": 500})).json()["funds"]["grants"][0]["id"]
        for fund, amount in (("wallet", "-15.5"), ("subscription", "-2"), (f"grant:{given}", -500)):
            answer = await call(sluice, "adjust", {"amount": amount, "fund": fund, "note": "wrong"})
            (entry,) = answer.json()["entries"]
            assert (entry["kind"], entry["fund"], entry["note"]) == ("adjust", fund, "wrong")
        funds = answer.json()["funds"]
        assert funds["wallet"] == "-5.500000000"
        assert funds["subscription"]["credit_left"] == "10.000000000"
        assert [(grant["tokens"], grant["tokens_left"]) for grant in funds["grants"]] == [(500, 0)]
        assert entry["balance_after"] == 0
        short = await call(sluice, "adjust", {"amount": -11, "fund": "subscription", "note": "n"})
        assert refusal(short) == (400, "invalid_value", "amount")

    async def test_a_grant_has_its_models_and_its_end(self, sluice: Sluice) -> None:
        body = {"tokens": 500, "models": ["m*"], "expires_at": "2099-01-31T00:00:00Z", "note": "welcome"}
        made = (await call(sluice, "grant-tokens", body)).json()
        (grant,) = made["funds"]["grants"]
        assert grant == {
            "id": grant["id"],
            "tokens": 500,
            "tokens_left": 500,
            "models": ["m*"],
            "expires_at": "2099-01-31T00:00:00.000Z",
        }
        (entry,) = made["entries"]
        assert (entry["kind"], entry["fund"], entry["amount"]) == ("grant", f"grant:{grant['id']}", 500)

    async def test_a_subscription_replaces_the_plan(self, sluice: Sluice) -> None:
        await sluice.admin.patch(ACCOUNT, json={"plan": "plain"})
        poor = await call(sluice, "subscribe", {"plan": "pro"})
        assert refusal(poor) == (402, "insufficient_balance", None)
        await call(sluice, "topup", {"amount": 15})
        made = (await call(sluice, "subscribe", {"plan": "pro"})).json()
        assert (made["plan"], made["own_plan"]) == ("pro", "plain")
        assert [(entry["fund"], entry["amount"]) for entry in made["entries"]] == [
            ("wallet", "-10.000000000"),
            ("subscription", "12.000000000"),
        ]
        funds = made["funds"]
        assert funds["wallet"] == "5.000000000"
        subscription = funds["subscription"]
        assert (subscription["plan"], subscription["credit_left"]) == ("pro", "12.000000000")
        lasts = datetime.fromisoformat(subscription["expires_at"]) - datetime.now(UTC)
        assert 29 <= lasts.days <= 30
        assert made["available"] == "17.000000000"
        again = await call(sluice, "subscribe", {"plan": "gift"})
        assert refusal(again) == (409, "subscription_active", None)

    async def test_plans_that_are_near_are_named(self, sluice: Sluice) -> None:
        for plan, hint in (("pr", '"pro"'), ("plain", "no subscription")):
            answer = await call(sluice, "subscribe", {"plan": plan})
            assert hint in answer.json()["error"]["message"]


class TestLedger:
    async def test_entries_come_in_pages_newest_first(self, sluice: Sluice) -> None:
        for amount in range(1, 6):
            await call(sluice, "topup", {"amount": amount})
        found, cursor = [], ""
        while cursor is not None:
            query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
            page = (await sluice.admin.get(f"{ACCOUNT}/ledger", params=query)).json()
            found += [entry["amount"][0] for entry in page["data"]]
            cursor = page["next_cursor"]
        assert found == ["5", "4", "3", "2", "1"]

    @pytest.mark.parametrize("query", ["cursor=x", "cursor=-1", "limit=0", "month=2026-01"])
    async def test_wrong_queries_are_refused(self, sluice: Sluice, query: str) -> None:
        answer = await sluice.admin.get(f"{ACCOUNT}/ledger?{query}")
        assert refusal(answer) == (400, "invalid_value", query.partition("=")[0])

    async def test_a_charge_names_its_exchange(self, sluice: Sluice) -> None:
        await call(sluice, "topup", {"amount": 5})
        answer = await sluice.http.post("/v1/chat/completions", json=CHAT)
        (entry, _) = (await sluice.admin.get(f"{ACCOUNT}/ledger")).json()["data"]
        assert (entry["kind"], entry["exchange"]) == ("charge", answer.headers["x-request-id"])
        assert (entry["actor"], entry["amount"]) == ("gateway", "-" + answer.headers["x-sluice-cost"])


class TestStatement:
    def rows(self, answer: httpx2.Response) -> list[dict[str, str]]:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/csv")
        return list(csv.DictReader(io.StringIO(answer.text)))

    async def test_a_month_is_comma_separated(self, sluice: Sluice) -> None:
        await call(sluice, "topup", {"amount": 5, "note": '=HYPERLINK("x")'})
        await call(sluice, "adjust", {"amount": "-1", "note": "a, b"})
        answer = await sluice.admin.get(f"{ACCOUNT}/statement")
        month = datetime.now(UTC).strftime("%Y-%m")
        assert f"statement-{month}.csv" in answer.headers["content-disposition"]
        top_up, adjustment = self.rows(answer)
        assert list(top_up) == [
            *("id", "created_at", "kind", "fund", "amount", "balance_after", "exchange", "actor", "note")
        ]
        assert top_up["note"] == '\'=HYPERLINK("x")'
        assert (top_up["amount"], top_up["exchange"]) == ("5.000000000", "")
        assert (adjustment["amount"], adjustment["balance_after"]) == ("-1.000000000", "4.000000000")
        assert adjustment["note"] == "a, b"
        same = await sluice.admin.get(f"{ACCOUNT}/statement", params={"month": month})
        assert same.text == answer.text
        assert self.rows(await sluice.admin.get(f"{ACCOUNT}/statement?month=2020-01")) == []

    async def test_months_are_those_of_the_zone_and_long_ones_come_whole(self, tmp_path: Path) -> None:
        zone = SETTINGS | {"limits": {"timezone": "Asia/Shanghai"}}
        async with gateway(tmp_path, **zone) as sluice:
            first = int(datetime(2026, 1, 31, 16, tzinfo=UTC).timestamp()) * 1000  # February in Shanghai
            with closing(sqlite3.connect(tmp_path / "sluice.db", timeout=20)) as database:
                for number in range(-1, 2100):
                    database.execute(
                        "INSERT INTO ledger (created_ms, account, kind, fund, amount, balance_after, actor) "
                        "VALUES (?, 'default', 'topup', 'wallet', 1, ?, 'admin')",
                        (first + number // 3, number + 2),
                    )
                database.commit()
            rows = self.rows(await sluice.admin.get(f"{ACCOUNT}/statement?month=2026-02"))
            assert [int(row["id"]) for row in rows] == list(range(2, 2102))
            assert rows[0]["created_at"] == "2026-01-31T16:00:00.000Z"

    @pytest.mark.parametrize("month", ["2026", "2026-13", "2026-1", "2026-01-01", "1999-01", "=x", ""])
    async def test_other_months_are_refused(self, sluice: Sluice, month: str) -> None:
        answer = await sluice.admin.get(f"{ACCOUNT}/statement", params={"month": month})
        assert refusal(answer) == (400, "invalid_value", "month")


class TestProof:
    async def test_all_is_right_while_requests_are_paid(self, sluice: Sluice) -> None:
        await call(sluice, "topup", {"amount": 5000})

        async def proof() -> dict[str, Any]:
            found: dict[str, Any] = (await sluice.admin.get(f"{ADMIN}/ledger/verify")).json()
            return found

        requests = [sluice.http.post("/v1/chat/completions", json=CHAT) for _ in range(30)]
        proofs = await asyncio.gather(*(proof() for _ in range(5)), *requests)
        assert all(found["ok"] for found in proofs[:5])
        assert await proof() == {
            "ok": True,
            "accounts": 1,
            "entries": 31,
            "exchanges": 30,
            "difference_count": 0,
            "differences": [],
        }

    async def test_what_differs_is_listed(self, sluice: Sluice, tmp_path: Path) -> None:
        with closing(sqlite3.connect(tmp_path / "sluice.db", timeout=20)) as database:
            database.execute("UPDATE accounts SET wallet_nanos = 5")
            database.commit()
        found = (await sluice.admin.get(f"{ADMIN}/ledger/verify")).json()
        assert (found["ok"], found["difference_count"]) == (False, 1)
        assert found["differences"] == [
            {
                "what": "balance without entries",
                "where": "account default, wallet",
                "expected": "0.000000000",
                "found": "0.000000005",
            }
        ]

    async def test_it_takes_no_parameters(self, sluice: Sluice) -> None:
        answer = await sluice.admin.get(f"{ADMIN}/ledger/verify?fast=1")
        assert refusal(answer) == (400, "invalid_value", "fast")
