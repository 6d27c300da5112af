"""The admin API, over a running gateway."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.gateway import ADMIN_KEY, API_KEY, Sluice, gateway

ADMIN = "/admin/api"
CHAT = {"model": "demo/echo", "messages": [{"role": "user", "content": "one two three"}]}
PATHS = (
    ("GET", "/keys"),
    ("POST", "/keys"),
    ("GET", "/keys/key_x"),
    ("PATCH", "/keys/key_x"),
    ("DELETE", "/keys/key_x"),
    ("POST", "/keys/key_x/rotate"),
    ("POST", "/keys/key_x/chat"),
    ("GET", "/accounts"),
    ("POST", "/accounts"),
    ("GET", "/accounts/default"),
    ("PATCH", "/accounts/default"),
    ("POST", "/accounts/default/topup"),
    ("POST", "/accounts/default/adjust"),
    ("POST", "/accounts/default/grant-tokens"),
    ("POST", "/accounts/default/subscribe"),
    ("GET", "/accounts/default/ledger"),
    ("GET", "/accounts/default/statement"),
    ("GET", "/ledger/verify"),
    ("GET", "/usage"),
    ("GET", "/stats"),
    ("GET", "/requests"),
    ("GET", "/requests/req_x"),
    ("GET", "/models"),
    ("GET", "/prices"),
    ("POST", "/prices"),
    ("DELETE", "/prices"),
    ("GET", "/config"),
    ("GET", "/providers"),
    ("POST", "/providers/demo/reset"),
    ("GET", "/explain"),
    ("POST", "/admin-key"),
)


@pytest.fixture
async def sluice(tmp_path: Path) -> AsyncIterator[Sluice]:
    plans = {"free": {"rpm": 60, "models": ["demo/*"]}}
    async with gateway(
        tmp_path,
        providers={"demo": {"preset": "echo"}},
        plans=plans,
        models={"priced": {"routes": ["demo/x"], "price": {"input": 2, "output": 8, "per": "1M"}}},
    ) as sluice:
        yield sluice


async def made(sluice: Sluice, **fields: Any) -> dict[str, Any]:
    answer = await sluice.admin.post(f"{ADMIN}/keys", json={"name": "test", **fields})
    assert answer.status_code == 201, answer.text
    key: dict[str, Any] = answer.json()
    return key


async def chat(sluice: Sluice, key: str, model: str = "demo/echo") -> httpx2.Response:
    headers = {"authorization": f"Bearer {key}"}
    return await sluice.http.post("/v1/chat/completions", json=CHAT | {"model": model}, headers=headers)


def code(answer: httpx2.Response) -> str:
    found: str = answer.json()["error"]["code"]
    return found


class TestAdmission:
    @pytest.mark.parametrize(("method", "path"), PATHS, ids=" ".join)
    async def test_no_path_opens_without_the_admin_key(self, sluice: Sluice, method: str, path: str) -> None:
        async with httpx2.AsyncClient(base_url=sluice.url) as nobody:
            answer = await nobody.request(method, ADMIN + path)
            assert (answer.status_code, code(answer)) == (401, "missing_api_key")
            answer = await nobody.request(
                method, ADMIN + path, headers={"authorization": "Bearer sk-admin-no"}
            )
            assert (answer.status_code, code(answer)) == (401, "invalid_api_key")
        answer = await sluice.http.request(method, ADMIN + path)
        assert (answer.status_code, code(answer)) == (401, "invalid_api_key")
        assert "API key" in answer.json()["error"]["message"]

    async def test_the_secret_of_this_start_opens_it(self, sluice: Sluice) -> None:
        headers = {"authorization": f"Bearer {sluice.app.run_secret}"}
        assert (await sluice.http.get(f"{ADMIN}/keys", headers=headers)).status_code == 200

    async def test_guessing_is_slowed_down_but_not_the_right_key(self, sluice: Sluice) -> None:
        wrong = {"authorization": "Bearer wrong"}
        answers = [await sluice.http.get(f"{ADMIN}/keys", headers=wrong) for _ in range(31)]
        assert [answer.status_code for answer in answers] == [401] * 30 + [429]
        assert code(answers[-1]) == "too_many_invalid_keys"
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert (await sluice.admin.get(f"{ADMIN}/keys")).status_code == 200

    async def test_a_configured_admin_key_is_not_reset(self, sluice: Sluice) -> None:
        answer = await sluice.admin.post(f"{ADMIN}/admin-key")
        assert (answer.status_code, code(answer)) == (400, "invalid_value")

    async def test_errors_have_the_envelope_and_an_id(self, sluice: Sluice) -> None:
        for method, path, status in (("GET", "/nothing", 404), ("PUT", "/keys", 405), ("GET", "/keys/", 404)):
            answer = await sluice.admin.request(method, ADMIN + path)
            assert answer.status_code == status
            assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]


class TestKeys:
    async def test_a_new_key_is_shown_once_and_works_at_once(self, sluice: Sluice) -> None:
        key = await made(sluice, name="laptop", limits={"rpm": 5}, models=["demo/*"], ips=["127.0.0.0/8"])
        secret = key.pop("key")
        assert (await chat(sluice, secret)).status_code == 200
        shown = (await sluice.admin.get(f"{ADMIN}/keys/{key['id']}")).json()
        assert shown.pop("last_used_at") is not None
        assert key.pop("last_used_at") is None
        assert shown == key
        assert key == {
            "id": key["id"],
            "name": "laptop",
            "account": "default",
            "prefix": secret[:14],
            "last4": secret[-4:],
            "enabled": True,
            "created_at": key["created_at"],
            "expires_at": None,
            "revoked_at": None,
            "models": ["demo/*"],
            "providers": None,
            "ips": ["127.0.0.0/8"],
            "limits": {
                "rpm": 5,
                "tpm": None,
                "rpd": None,
                "tpd": None,
                "concurrency": None,
                "max_context": None,
                "max_output": None,
            },
            "quota": None,
        }

    async def test_a_quota_shows_what_is_spent_of_it(self, sluice: Sluice) -> None:
        key = await made(sluice, quota={"amount": "5.00", "period": "month"})
        answer = await chat(sluice, key["key"], "priced")
        cost = answer.headers["x-sluice-cost"]
        assert float(cost) > 0
        quota = (await sluice.admin.get(f"{ADMIN}/keys/{key['id']}")).json()["quota"]
        assert (quota["amount"], quota["period"], quota["spent"]) == ("5.000000000", "month", cost)
        assert quota["resets_at"].endswith("-01T00:00:00.000Z")

    async def test_a_change_holds_for_the_next_request(self, sluice: Sluice) -> None:
        key = await made(sluice)
        path = f"{ADMIN}/keys/{key['id']}"
        for fields, expected in (
            ({"models": ["other"]}, (403, "model_not_allowed")),
            ({"models": None, "providers": ["other"]}, (403, "provider_not_allowed")),
            ({"providers": None, "ips": ["10.0.0.0/8"]}, (403, "ip_not_allowed")),
            ({"ips": None, "enabled": False}, (401, "disabled_api_key")),
            ({"enabled": True, "expires_at": "2020-01-01T00:00:00Z"}, (401, "expired_api_key")),
        ):
            assert (await sluice.admin.patch(path, json=fields)).status_code == 200
            answer = await chat(sluice, key["key"])
            assert (answer.status_code, code(answer)) == expected
        await sluice.admin.patch(path, json={"expires_at": None})
        assert (await chat(sluice, key["key"])).status_code == 200

    async def test_limits_are_changed_one_by_one(self, sluice: Sluice) -> None:
        key = await made(sluice, limits={"rpm": 5, "tpm": 6})
        path = f"{ADMIN}/keys/{key['id']}"
        changed = (await sluice.admin.patch(path, json={"limits": {"rpm": None, "rpd": 7}})).json()
        assert {name: value for name, value in changed["limits"].items() if value} == {"tpm": 6, "rpd": 7}

    async def test_a_revoked_key_never_works_again(self, sluice: Sluice) -> None:
        key = await made(sluice)
        path = f"{ADMIN}/keys/{key['id']}"
        assert (await sluice.admin.delete(path)).json()["revoked_at"] is not None
        assert code(await chat(sluice, key["key"])) == "revoked_api_key"
        await sluice.admin.patch(path, json={"enabled": True})
        assert code(await chat(sluice, key["key"])) == "revoked_api_key"
        assert (await sluice.admin.post(f"{path}/rotate")).status_code == 400

    async def test_a_rotated_key_has_a_new_secret(self, sluice: Sluice) -> None:
        key = await made(sluice)
        rotated = (await sluice.admin.post(f"{ADMIN}/keys/{key['id']}/rotate", json={"grace_s": 60})).json()
        assert rotated["id"] == key["id"]
        assert rotated["last4"] == rotated["key"][-4:] != key["last4"]
        for secret in (key["key"], rotated["key"]):
            assert (await chat(sluice, secret)).status_code == 200
        again = (await sluice.admin.post(f"{ADMIN}/keys/{key['id']}/rotate")).json()
        assert code(await chat(sluice, rotated["key"])) == "expired_api_key"
        assert (await chat(sluice, again["key"])).status_code == 200

    async def test_lists_come_in_pages_newest_first(self, sluice: Sluice) -> None:
        names = [(await made(sluice, name=f"key {number}"))["name"] for number in range(5)]
        found, cursor = [], ""
        while cursor is not None:
            query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
            page = (await sluice.admin.get(f"{ADMIN}/keys", params=query)).json()
            found += page["data"]
            cursor = page["next_cursor"]
        assert [key["name"] for key in found] == [*names[::-1], "configuration"]
        assert all("key" not in key for key in found)

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({}, "name"),
            ({"name": "k", "id": "key_mine"}, "id"),
            ({"name": "k", "enabled": True}, "enabled"),
            ({"name": "k", "account": "nobody"}, "account"),
            ({"name": "k", "limits": {"rpm": -5}}, "limits.rpm"),
            ({"name": "k", "limits": {"rpm": 10**20}}, "limits.rpm"),
            ({"name": "k", "quota": {"amount": "-1", "period": "day"}}, "quota.amount"),
            ({"name": "k", "quota": {"amount": 0.5, "period": "day"}}, "quota.amount"),
            ({"name": "k", "quota": {"amount": "9" * 30, "period": "day"}}, "quota.amount"),
        ],
        ids=str,
    )
    async def test_nothing_is_made_from_wrong_fields(
        self, sluice: Sluice, fields: dict[str, Any], param: str
    ) -> None:
        answer = await sluice.admin.post(f"{ADMIN}/keys", json=fields)
        assert (answer.status_code, code(answer)) == (400, "invalid_value")
        assert answer.json()["error"]["param"] == param
        assert len((await sluice.admin.get(f"{ADMIN}/keys")).json()["data"]) == 1

    @pytest.mark.parametrize(("method", "path"), [entry for entry in PATHS if "_x" in entry[1]], ids=" ".join)
    async def test_what_is_not_there_is_not_found(self, sluice: Sluice, method: str, path: str) -> None:
        answer = await sluice.admin.request(method, ADMIN + path, json={})
        assert (answer.status_code, code(answer)) == (404, "not_found")


class TestAccounts:
    async def test_an_account_from_beginning_to_end(self, sluice: Sluice) -> None:
        account = (
            await sluice.admin.post(f"{ADMIN}/accounts", json={"name": "团队 a", "plan": "free"})
        ).json()
        assert account == {
            "name": "团队 a",
            "plan": "free",
            "own_plan": "free",
            "enabled": True,
            "created_at": account["created_at"],
            "funds": {"grants": [], "subscription": None, "wallet": "0.000000000"},
            "held": "0.000000000",
            "available": "0.000000000",
        }
        path = f"{ADMIN}/accounts/团队 a"
        assert (await sluice.admin.get(path)).json() == account
        key = await made(sluice, account="团队 a")
        assert code(await chat(sluice, key["key"], "priced")) == "model_not_allowed"  # by its plan
        assert (await chat(sluice, key["key"])).status_code == 200
        assert (await sluice.admin.patch(path, json={"enabled": False})).json()["enabled"] is False
        refused = await chat(sluice, key["key"])
        assert (refused.status_code, code(refused)) == (403, "account_disabled")
        await sluice.admin.patch(path, json={"enabled": True, "plan": None})
        assert (await chat(sluice, key["key"], "priced")).status_code == 200
        listed = (await sluice.admin.get(f"{ADMIN}/accounts")).json()
        assert ([found["name"] for found in listed["data"]], listed["next_cursor"]) == (
            ["团队 a", "default"],
            None,
        )

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"name": "default"}, "name"),
            ({"name": "a/b"}, "name"),
            ({"name": "x", "plan": "gold"}, "plan"),
            ({"name": "x", "wallet": "100"}, "wallet"),
        ],
        ids=str,
    )
    async def test_wrong_fields_are_named(self, sluice: Sluice, fields: dict[str, Any], param: str) -> None:
        answer = await sluice.admin.post(f"{ADMIN}/accounts", json=fields)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)

    async def test_an_unknown_account_is_not_found(self, sluice: Sluice) -> None:
        assert (await sluice.admin.get(f"{ADMIN}/accounts/nobody")).status_code == 404
        assert (await sluice.admin.patch(f"{ADMIN}/accounts/nobody", json={})).status_code == 404


class TestReports:
    async def test_requests_and_usage_of_all_accounts(self, sluice: Sluice) -> None:
        await sluice.admin.post(f"{ADMIN}/accounts", json={"name": "team"})
        key = await made(sluice, account="team")
        ids = [
            (await chat(sluice, secret, model)).headers["x-request-id"]
            for secret, model in ((API_KEY, "demo/echo"), (key["key"], "priced"), (key["key"], "demo/echo"))
        ]
        await sluice.settled(3)

        async def listed(**query: str) -> list[str]:
            page = (await sluice.admin.get(f"{ADMIN}/requests", params=query)).json()
            return [receipt["id"] for receipt in page["data"]]

        assert await listed() == ids[::-1]
        assert await listed(account="team") == [ids[2], ids[1]]
        assert await listed(key=key["id"], model="priced") == [ids[1]]
        assert await listed(provider="demo", status="200", limit="1") == [ids[2]]
        assert await listed(status="timeout") == []
        assert await listed(cursor=ids[1]) == [ids[0]]

        receipt = (await sluice.admin.get(f"{ADMIN}/requests/{ids[1]}")).json()
        assert receipt["paid"] == {"tokens": 0, "subscription": "0.000000000", "wallet": "0.000000000"}
        assert (receipt["account"], receipt["key"], receipt["model"]) == ("team", key["id"], "priced")
        assert receipt["attempts"][0]["provider"] == "demo"
        assert receipt["usage"]["total_tokens"] > 0

        report = (await sluice.admin.get(f"{ADMIN}/usage", params={"group_by": "account"})).json()
        assert {line["account"]: line["requests"] for line in report["data"]} == {"team": 2, "default": 1}
        report = (
            await sluice.admin.get(f"{ADMIN}/usage", params={"account": "team", "key": key["id"]})
        ).json()
        assert (report["requests"], report["total_cost_value"]) == (2, receipt["cost"])

    @pytest.mark.parametrize(
        "path",
        [
            "/requests?status=bad",
            "/requests?status=99",
            "/requests?limit=0",
            "/requests?user=x",
            "/usage?start_date=2026-02-30",
            "/usage?group_by=hour",
            "/usage?form=2026-01-01",
            "/keys?cursor=key_x",
        ],
    )
    async def test_wrong_queries_are_refused(self, sluice: Sluice, path: str) -> None:
        answer = await sluice.admin.get(ADMIN + path)
        assert (answer.status_code, code(answer)) == (400, "invalid_value")
        assert answer.json()["error"]["param"] in path

    async def test_models_and_configuration(self, sluice: Sluice) -> None:
        models = (await sluice.admin.get(f"{ADMIN}/models")).json()
        assert [model["id"] for model in models["data"]] == ["priced", "demo/echo"]
        assert models["data"][0]["routes"][0]["price"]["output"] == "8"
        config = await sluice.admin.get(f"{ADMIN}/config")
        assert config.json()["plans"]["free"]["limits"]["rpm"] == 60
        assert ADMIN_KEY not in config.text
        assert API_KEY not in config.text


async def test_an_admin_key_can_be_reset_through_the_run_secret(tmp_path: Path) -> None:
    async with gateway(tmp_path, providers={"demo": {"preset": "echo"}}, admin_key="") as sluice:
        headers = {"authorization": f"Bearer {sluice.app.run_secret}"}
        reset = await sluice.http.post(f"{ADMIN}/admin-key", headers=headers)
        assert reset.status_code == 201
        new = {"authorization": f"Bearer {reset.json()['key']}"}
        assert (await sluice.http.get(f"{ADMIN}/keys", headers=new)).status_code == 200


async def test_revoking_ends_what_runs_within_a_second(tmp_path: Path) -> None:
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        event = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"hello"}}]}\n\n'
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head + b"%x\r\n%b\r\n" % (len(event), event))
        await reader.read()  # until the gateway closes
        writer.close()

    upstream = await asyncio.start_server(answering, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{upstream.sockets[0].getsockname()[1]}/v1"
    async with upstream, gateway(tmp_path, providers={"up": {"base_url": url}}) as sluice:
        key = await made(sluice)
        body = CHAT | {"model": "up/m", "stream": True}
        headers = {"authorization": f"Bearer {key['key']}"}
        async with sluice.http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as stream:
            lines = stream.aiter_lines()
            assert "hello" in await anext(lines)
            await sluice.admin.delete(f"{ADMIN}/keys/{key['id']}")
            rest = [line async for line in lines if line]
        assert '"revoked_api_key"' in rest[-1]
        (record,) = await sluice.settled(1)
        assert record.finish == "revoked"
