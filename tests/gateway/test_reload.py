"""Another configuration while requests run, through a whole gateway."""

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.config.load import MAX_BYTES
from proxy.gateway.reload import REMEMBERED, Reloader
from proxy.store.errors import LedgerUnavailable
from tests.support.gateway import ADMIN_KEY, API_KEY, PATIENCE_S, Sluice, configuration, gateway
from tests.support.replies import chat, chat_stream, error
from tests.support.upstream import Upstream

ECHO: dict[str, Any] = {"demo": {"preset": "echo"}}
LOOK_S = 0.01


async def ask(sluice: Sluice, model: str = "demo/m", **body: Any) -> httpx2.Response:
    whole = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **body}
    return await sluice.http.post("/v1/chat/completions", json=whole)


async def reload(sluice: Sluice, directory: Path, **settings: Any) -> dict[str, Any]:
    """Write another configuration, and return what the reload answers."""
    configuration(directory, **settings)
    answer = await sluice.admin.post("/admin/api/reload")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def refused(sluice: Sluice) -> str:
    """Return what is said of the configuration as it now is."""
    answer = await sluice.admin.post("/admin/api/reload")
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == "invalid_value"
    message: str = answer.json()["error"]["message"]
    return message


async def state(sluice: Sluice) -> dict[str, Any]:
    answer = await sluice.http.get("/readyz")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()["config"]
    return found


async def until(sluice: Sluice, *, error: str | None) -> None:
    """Wait until readyz says so: None, or a part of the error."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = (await state(sluice))["error"]
            if found is None if error is None else error in (found or ""):
                return


def paths(outcome: dict[str, Any]) -> list[str]:
    return [change["path"] for change in outcome["changes"]]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, logger="sluice.config"):
        yield caplog


class TestValid:
    async def test_it_is_in_force_at_once(self, tmp_path: Path, logged: pytest.LogCaptureFixture) -> None:
        models = {"fast": {"routes": ["demo/x"], "price": {"input": 1, "output": 1, "per": "1M"}}}
        async with gateway(tmp_path, providers=ECHO) as sluice:
            before = await state(sluice)
            assert (await ask(sluice, "fast")).status_code == 404
            outcome = await reload(sluice, tmp_path, providers=ECHO, models=models)
            assert outcome["changes"] == [{"path": "models.fast", "change": "added", "detail": "demo/x"}]
            assert outcome["effects"] == ["1 models are new: fast"]
            assert outcome["restart_needed"] == []
            assert (await ask(sluice, "fast")).status_code == 200
            after = await state(sluice)
            assert after == {"loaded_at": outcome["loaded_at"], "error": None}
            assert after["loaded_at"] > before["loaded_at"]
        assert "changed: models.fast added: demo/x" in logged.text
        assert "effect: 1 models are new: fast" in logged.text

    async def test_the_same_again_changes_nothing(self, tmp_path: Path) -> None:
        async with gateway(tmp_path, providers=ECHO) as sluice:
            snapshot = sluice.app.gateway.snapshot
            outcome = await reload(sluice, tmp_path, providers=ECHO)
            assert (outcome["changes"], outcome["effects"]) == ([], [])
            assert sluice.app.gateway.snapshot is snapshot

    async def test_a_running_stream_keeps_its_provider_and_price(self, tmp_path: Path) -> None:
        def settings(upstream: Upstream, price: int) -> dict[str, Any]:
            return {
                "providers": {"up": {"base_url": upstream.url}},
                "models": {
                    "m": {"routes": ["up/m"], "price": {"input": price, "output": price, "per": "1M"}}
                },
            }

        async with Upstream() as old, Upstream() as new, gateway(tmp_path, **settings(old, 1)) as sluice:
            reply = chat_stream("Hel", "lo", usage=(10, 5)).gated()
            old.reply(reply)
            running = asyncio.create_task(ask(sluice, "m", stream=True))
            await old.received(1)
            outcome = await reload(sluice, tmp_path, **settings(new, 1000))
            assert paths(outcome) == ["providers.up.base_url", "models.m.price"]
            new.reply(chat("new", usage=(10, 5)))
            second = await ask(sluice, "m")
            assert second.json()["choices"][0]["message"]["content"] == "new"
            reply.open_all()
            first = await running
            assert "[DONE]" in first.text
            assert (await sluice.receipt(first))["cost"] == "0.000015000"
            assert (await sluice.receipt(second))["cost"] == "0.015000000"
            assert (await ask(sluice, "m")).status_code == 200
            assert (len(old.requests), len(new.requests)) == (1, 2)
            await old.all_closed()  # nobody keeps a connection to who is not called any more

    async def test_what_rests_survives_unless_its_provider_is_another_one_now(self, tmp_path: Path) -> None:
        async def rests(name: str) -> bool:
            shown = (await sluice.admin.get(f"/admin/api/providers/{name}")).json()
            return bool(shown["keys"][0]["state"] == "resting")

        async with Upstream() as old, Upstream() as new:
            providers = {
                name: {"base_url": old.url, "api_key": f"sk-{name}-0123456789"} for name in ("a", "b")
            }
            async with gateway(tmp_path, providers=providers) as sluice:
                for name in providers:
                    old.reply(error(402, "no money left"))
                    assert (await ask(sluice, f"{name}/m")).status_code == 503
                providers["b"] = providers["b"] | {"base_url": new.url}
                await reload(sluice, tmp_path, providers=providers)
                assert (await rests("a"), await rests("b")) == (True, False)

    async def test_idle_connections_to_who_is_gone_are_closed(self, tmp_path: Path) -> None:
        async with Upstream() as old, Upstream() as kept:
            providers = {"old": {"base_url": old.url}, "kept": {"base_url": kept.url}}
            async with gateway(tmp_path, providers=providers) as sluice:
                assert (await ask(sluice, "old/m")).status_code == 200
                assert (await ask(sluice, "kept/m")).status_code == 200
                del providers["old"]
                outcome = await reload(sluice, tmp_path, providers=providers)
                assert outcome["changes"] == [{"path": "providers.old", "change": "removed", "detail": ""}]
                await old.all_closed()
                assert kept.open_connections == 1

    async def test_plans_change_for_accounts_and_keys(self, tmp_path: Path) -> None:
        models = {name: {"routes": [f"demo/{name}"]} for name in ("a", "b", "c")}
        settings: dict[str, Any] = {"providers": ECHO, "models": models, "limits": {"default_plan": "free"}}
        async with gateway(tmp_path, plans={"free": {"rpm": 10}}, **settings) as sluice:
            made = await sluice.admin.post("/admin/api/keys", json={"name": "laptop", "models": ["a", "c"]})
            id = made.json()["id"]
            outcome = await reload(
                sluice, tmp_path, plans={"free": {"rpm": 20, "models": ["b", "c"]}}, **settings
            )
            assert paths(outcome) == ["plans.free.rpm", "plans.free.models"]
            assert outcome["effects"][0] == "the plan free changes for accounts: default"
            assert f"1 models are lost to keys: laptop ({id}): a" in outcome["effects"]
            assert (await ask(sluice, "a")).json()["error"]["code"] == "model_not_allowed"
            assert (await sluice.http.get("/v1/key")).json()["limits"]["rpm"] == 20

    async def test_what_needs_a_restart_is_said_and_all_else_applied(
        self, tmp_path: Path, logged: pytest.LogCaptureFixture
    ) -> None:
        async with gateway(tmp_path, providers=ECHO) as sluice:
            outcome = await reload(
                sluice,
                tmp_path,
                providers={**ECHO, "more": {"preset": "echo"}},
                server={"host": "localhost", "port": 8484},
                database="other.db",
            )
            assert outcome["restart_needed"] == ["server.host", "server.port", "database"]
            assert paths(outcome) == ["providers.more"]
            assert (await ask(sluice, "more/m")).status_code == 200
            shown = (await sluice.admin.get("/admin/api/config")).json()
            assert (shown["server"]["host"], shown["server"]["port"]) == ("127.0.0.1", 0)
            assert shown["database"].endswith("sluice.db")
        assert "server.host, server.port, database" in logged.text
        assert not (tmp_path / "other.db").exists()

    async def test_limits_of_the_server_are_live(self, tmp_path: Path) -> None:
        async with gateway(tmp_path, providers=ECHO) as sluice:
            origin = {"origin": "http://page.example"}
            allowed = "access-control-allow-origin"
            assert allowed not in (await sluice.http.get("/healthz", headers=origin)).headers
            server = {"max_body_mib": 1, "cors_origins": ["http://page.example"], "shutdown_grace_s": 2}
            outcome = await reload(sluice, tmp_path, providers=ECHO, server=server)
            assert outcome["restart_needed"] == []
            assert (await sluice.http.get("/healthz", headers=origin)).headers[allowed]
            assert (await ask(sluice, user="x" * (1 << 20))).status_code == 413
            await reload(sluice, tmp_path, providers=ECHO)
            assert allowed not in (await sluice.http.get("/healthz", headers=origin)).headers
            assert (await ask(sluice, user="x" * (1 << 20))).status_code == 200

    async def test_the_mode_of_billing_decides_how_durable_commits_are(self, tmp_path: Path) -> None:
        async with gateway(tmp_path, providers=ECHO) as sluice:

            async def synchronous() -> int:
                def work(connection: Any) -> int:
                    return int(connection.execute("PRAGMA synchronous").fetchone()[0])

                return await sluice.app._database.writer.submit(work)

            normal, full = 1, 2
            assert await synchronous() == normal
            running = [asyncio.create_task(ask(sluice)) for _ in range(20)]  # transactions all the while
            await reload(sluice, tmp_path, providers=ECHO, billing={"mode": "prepaid"})
            assert await synchronous() == full
            assert {answer.status_code for answer in await asyncio.gather(*running)} <= {200, 402}
            assert (await ask(sluice, "demo/m")).status_code == 200  # it costs nothing
            await reload(sluice, tmp_path, providers=ECHO)
            assert await synchronous() == normal

    async def test_the_keys_of_the_configuration_are_live(
        self, tmp_path: Path, logged: pytest.LogCaptureFixture
    ) -> None:
        admin, api = "sk-admin-other-0123456789abcdefghijklmnop", "sk-sluice-other-0123456789abcdef"
        async with gateway(tmp_path, providers=ECHO) as sluice:
            outcome = await reload(sluice, tmp_path, providers=ECHO, admin_key=admin, api_key=api)
            assert outcome["changes"] == [
                {"path": "admin_key", "change": "changed", "detail": ""},
                {"path": "api_key", "change": "changed", "detail": ""},
            ]
            assert (await ask(sluice)).json()["error"]["code"] == "expired_api_key"
            sluice.http.headers["authorization"] = f"Bearer {api}"
            assert (await ask(sluice)).status_code == 200
            assert (await sluice.admin.get("/admin/api/keys")).status_code == 401
            sluice.admin.headers["authorization"] = f"Bearer {admin}"
            assert len((await sluice.admin.get("/admin/api/keys")).json()["data"]) == 1
            await reload(sluice, tmp_path, providers=ECHO, admin_key="", api_key="")
            assert (await ask(sluice)).status_code == 200
            assert (await sluice.admin.get("/admin/api/keys")).status_code == 401
        assert "reset-admin-key" in logged.text
        for secret in (admin, api, ADMIN_KEY, API_KEY):
            assert secret not in logged.text

    async def test_days_follow_the_time_zone(self, tmp_path: Path) -> None:
        async with gateway(tmp_path, providers=ECHO) as sluice:
            clock = sluice.app.gateway.services.clock
            await reload(sluice, tmp_path, providers=ECHO, limits={"timezone": "Pacific/Kiritimati"})
            east = clock.today()
            await reload(sluice, tmp_path, providers=ECHO, limits={"timezone": "Pacific/Pago_Pago"})
            assert clock.today().name < east.name  # 25 hours behind
            assert str(clock.zone) == "Pacific/Pago_Pago"
            assert (await ask(sluice)).status_code == 200


GOOD = json.dumps(
    {"admin_key": ADMIN_KEY, "api_key": API_KEY, "server": {"port": 0}, "providers": ECHO, "log": {}}
)
BOMB = "x-a: &a [1, 1]\n" + "".join(f"x-{n}: &n{n} [*a, *a]\n" for n in range(9)) + "providers: *a\n"


class TestInvalid:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("providers:\n  demo: {preset: echo", "config.yaml:2: not valid YAML"),
            (GOOD[: len(GOOD) // 2], "not valid YAML"),
            ("", "config.yaml:"),
            ("{}\n\x00", "config.yaml:"),
            ("servr: {}", "config.yaml:1: servr: unknown key"),
            (
                "\n\nserver: {port: 8484, prot: 1}",
                'config.yaml:3: server.prot: unknown key (did you mean "port"',
            ),
            (
                "admin_key: ''\nproviders: {a: {base_url: 'http://a.example', api_key: ''}}",
                "providers.a.api_key",
            ),
            ("providers: {a: {preset: openai, api_key: '${GONE}'}}", "variable GONE is not set"),
            ("providers: {a: {preset: openai, api_key: 'file:gone.txt'}}", "cannot be read"),
            ("models: {m: {routes: [openai/m], price: {input: -1, per: 1M}}}", "models.m.price.input"),
            ("models: {m: {routes: [openai/m]}, m: {alias: x}}", "models.m: duplicate key"),
            ("models: {m: {routes: [gone/m]}}", "there is no provider"),
            ("limits: {default_plan: gone}", "there is no plan"),
            ("server: {host: 0.0.0.0}\nadmin_key: short-key", "32 characters"),
            (BOMB, "config.yaml:"),
            (f"# {'x' * MAX_BYTES}", "larger than 1 MiB"),
            (f"# {'x' * 10 * MAX_BYTES}", "larger than 1 MiB"),
            ("billing: {currency: EUR}", "billing.currency: is EUR"),
            (None, "there is no such file"),
        ],
        ids=lambda value: None if value is None else value[:40].encode("unicode_escape").decode(),
    )
    async def test_it_changes_nothing_and_is_reported(
        self, tmp_path: Path, logged: pytest.LogCaptureFixture, text: str | None, message: str
    ) -> None:
        async with gateway(tmp_path, providers=ECHO) as sluice:
            snapshot = sluice.app.gateway.snapshot
            before = await state(sluice)
            path = tmp_path / "config.yaml"
            path.unlink()
            if text is not None:
                path.write_text(text)
            assert message in await refused(sluice)
            assert sluice.app.gateway.snapshot is snapshot
            after = await state(sluice)
            assert after["loaded_at"] == before["loaded_at"]
            assert message.split('"')[0] in after["error"]  # for everybody: without the file's values
            assert (await ask(sluice)).status_code == 200
            errors = [one.getMessage() for one in logged.records if one.levelno == logging.ERROR]
            assert message in "\n".join(errors)
            assert await refused(sluice)
            assert len(errors) == len([one for one in logged.records if one.levelno == logging.ERROR])
            outcome = await reload(sluice, tmp_path, providers=ECHO)
            assert (outcome["changes"], (await state(sluice))["error"]) == ([], None)

    async def test_a_plan_in_use_cannot_go(self, tmp_path: Path, logged: pytest.LogCaptureFixture) -> None:
        plans = {
            "free": {"rpm": 60},
            "pro": {"subscription": {"price": 1, "credit": 1, "days": 30}},
            "rest": {"rpm": 1},
        }
        async with gateway(tmp_path, providers=ECHO, plans=plans) as sluice:
            for name, path, body in (
                ("first", "", {"name": "first", "plan": "free"}),
                ("second", "", {"name": "second"}),
                ("second", "/second/topup", {"amount": "5"}),
                ("second", "/second/subscribe", {"plan": "pro"}),
            ):
                headers = {"idempotency-key": f"{name}{path}"}
                made = await sluice.admin.post(f"/admin/api/accounts{path}", json=body, headers=headers)
                assert made.status_code in (200, 201), made.text
            configuration(tmp_path, providers=ECHO, plans={})
            message = await refused(sluice)
            assert "plans.free: is used by accounts: first" in message
            assert "plans.pro: is used by accounts: second" in message
            assert "plans.rest" not in message
            error = (await state(sluice))["error"]  # for everybody: without names of accounts
            assert "plans.free, plans.pro" in error
            assert "first" not in error
            assert "second" not in error
            assert sluice.app.gateway.config().plans.keys() == plans.keys()
            assert (await reload(sluice, tmp_path, providers=ECHO, plans=plans))["changes"] == []

    async def test_a_plan_cannot_go_while_it_is_sold(self, tmp_path: Path) -> None:
        plans = {"pro": {"subscription": {"price": 1, "credit": 1, "days": 30}}}
        sold = 0
        async with gateway(tmp_path, providers=ECHO, plans=plans) as sluice:
            for number in range(10):
                headers, account = {"idempotency-key": f"k{number}"}, f"/admin/api/accounts/a{number}"
                await sluice.admin.post("/admin/api/accounts", json={"name": f"a{number}"})
                await sluice.admin.post(f"{account}/topup", json={"amount": "5"}, headers=headers)
                configuration(tmp_path, providers=ECHO)
                headers = {"idempotency-key": f"s{number}"}
                subscribed, reloaded = await asyncio.gather(
                    sluice.admin.post(f"{account}/subscribe", json={"plan": "pro"}, headers=headers),
                    sluice.admin.post("/admin/api/reload"),
                )
                sold += subscribed.status_code == 200
                assert reloaded.status_code == (400 if sold else 200)
                await reload(sluice, tmp_path, providers=ECHO, plans=plans)
                assert (await sluice.admin.get(account)).status_code == 200

    async def test_the_address_that_runs_is_what_counts(self, tmp_path: Path) -> None:
        """The file alone is right: who is not reachable from elsewhere may have a short admin key."""
        async with gateway(tmp_path, providers=ECHO, server={"host": "0.0.0.0"}) as sluice:
            running = sluice.app.gateway.snapshot.config
            configuration(tmp_path, providers=ECHO, admin_key="short-key")
            message = await refused(sluice)
            assert "config.yaml:1: admin_key: server.host 0.0.0.0" in message
            assert message.endswith("(server.host: as running)")
            assert sluice.app.gateway.snapshot.config is running

    async def test_what_the_database_refuses_changes_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with gateway(tmp_path, providers=ECHO) as sluice:

            async def fail(*arguments: object) -> None:
                raise LedgerUnavailable

            monkeypatch.setattr("proxy.gateway.reload.install_key", fail)
            snapshot = sluice.app.gateway.snapshot
            settings: dict[str, Any] = {"providers": {}, "billing": {"mode": "prepaid"}}
            configuration(tmp_path, api_key="sk-sluice-other-0123456789abcdef", **settings)
            answer = await sluice.admin.post("/admin/api/reload")
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ledger_unavailable")
            assert sluice.app.gateway.snapshot is snapshot
            assert (await state(sluice))["error"] is not None
            assert (await ask(sluice)).status_code == 200
            monkeypatch.undo()
            sluice.app.reloader.watch(LOOK_S)  # it is tried again though the file is the same
            await until(sluice, error=None)
            assert sluice.app.gateway.snapshot.prepaid

    async def test_it_is_for_administrators(self, tmp_path: Path) -> None:
        async with gateway(tmp_path, providers=ECHO) as sluice:
            assert (await sluice.http.post("/admin/api/reload")).status_code == 401
            assert (await sluice.http.get("/admin/api/reload")).status_code == 401
            assert (await sluice.admin.get("/admin/api/reload?limit=1")).status_code == 400


class TestRemembering:
    async def listed(self, sluice: Sluice) -> list[dict[str, Any]]:
        whole = (await sluice.admin.get("/admin/api/reload")).json()
        assert whole["next_cursor"] is None
        found: list[dict[str, Any]] = whole["data"]
        return found

    async def test_the_last_ones_are_listed_newest_first(self, tmp_path: Path) -> None:
        models = {"fast": {"routes": ["demo/x"]}}
        async with gateway(tmp_path, providers=ECHO) as sluice:
            assert await self.listed(sluice) == []
            done = await reload(sluice, tmp_path, providers=ECHO, models=models, server={"port": 1})
            assert done["restart_needed"] == ["server.port"]
            expected = done | {"at": done["loaded_at"], "error": None}
            del expected["loaded_at"]
            assert await self.listed(sluice) == [expected]
            (tmp_path / "config.yaml").write_text('\nproviders: {a: {preset: "secret-name"}}')
            for _ in range(3):  # one error, however often it is met
                assert "secret-name" in await refused(sluice)
            failed, before = await self.listed(sluice)
            assert before == expected
            assert failed["error"] == await refused(sluice)
            assert "config.yaml:2" in failed["error"]
            assert "secret-name" not in (await state(sluice))["error"]  # which everybody may read
            assert (failed["changes"], failed["effects"], failed["restart_needed"]) == ([], [], [])

    async def test_no_more_than_ten_are_kept(self, tmp_path: Path) -> None:
        async with gateway(tmp_path, providers=ECHO) as sluice:
            for number in range(REMEMBERED + 2):
                await reload(sluice, tmp_path, providers=ECHO, plans={f"p{number}": {}})
            found = await self.listed(sluice)
            assert len(found) == REMEMBERED
            assert "plans.p11" in paths(found[0])
            assert "plans.p2" in paths(found[-1])


class TestWatching:
    async def test_the_file_is_watched(self, tmp_path: Path, logged: pytest.LogCaptureFixture) -> None:
        async with gateway(tmp_path, providers=ECHO, look_s=LOOK_S) as sluice:
            path = tmp_path / "config.yaml"
            whole = path.read_text()
            path.write_text(whole[:-30])  # half of it
            await until(sluice, error="not valid YAML")
            path.write_text(whole.replace("demo", "another"))
            await until(sluice, error=None)
            assert (await ask(sluice, "another/m")).status_code == 200
            path.unlink()
            await until(sluice, error="no such file")
            replacement = tmp_path / "new.yaml"
            replacement.write_text(whole)
            replacement.rename(path)
            await until(sluice, error=None)
            assert (await ask(sluice)).status_code == 200
        assert logged.text.count("not valid YAML") == 1

    async def test_files_that_it_names_are_watched(self, tmp_path: Path) -> None:
        secret = tmp_path / "key.txt"
        secret.write_text("sk-upstream-first\n")
        async with Upstream() as upstream:
            providers = {"up": {"base_url": upstream.url, "api_key": "file:key.txt"}}
            async with gateway(tmp_path, providers=providers, look_s=LOOK_S) as sluice:
                await ask(sluice, "up/m")
                secret.unlink()
                await until(sluice, error="cannot be read")
                assert (await ask(sluice, "up/m")).status_code == 200
                secret.write_text("sk-upstream-second\n")
                await until(sluice, error=None)
                await ask(sluice, "up/m")
            keys = [request.header("authorization") for request in upstream.requests]
            assert keys == ["Bearer sk-upstream-first"] * 2 + ["Bearer sk-upstream-second"]

    async def test_what_goes_wrong_does_not_end_the_watch(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
    ) -> None:
        async with gateway(tmp_path, providers=ECHO, look_s=LOOK_S) as sluice:
            failed = asyncio.Event()

            async def fail(self: Reloader) -> None:
                failed.set()
                raise RuntimeError("a mistake of ours")

            with monkeypatch.context() as patch:
                patch.setattr(Reloader, "_replace", fail)
                sluice.app.reloader.request()
                await asyncio.wait_for(failed.wait(), PATIENCE_S)
            configuration(tmp_path, providers={"other": {"preset": "echo"}})
            async with asyncio.timeout(PATIENCE_S):
                while (await ask(sluice, "other/m")).status_code != 200:
                    pass
        assert "a mistake of ours" in logged.text


async def reloads_under_load(directory: Path, count: int) -> None:
    """Every second configuration is wrong; no request may notice any of them."""

    def settings(upstream: Upstream, number: int) -> dict[str, Any]:
        price = {"input": number, "output": number, "per": "1M"}
        return {
            "providers": {**ECHO, "up": {"base_url": upstream.url}, f"extra-{number}": {"preset": "echo"}},
            "models": {"m": {"routes": ["up/m"], "price": price}},
            "plans": {"free": {"rpm": None, "concurrency": 1000 + number}},
            "limits": {"default_plan": "free"},
        }

    async with Upstream() as upstream, gateway(directory, **settings(upstream, 0)) as sluice:
        statuses: list[int] = []
        done = False

        async def client(stream: bool) -> None:
            while not done:
                answer = await ask(sluice, "m", stream=stream)
                statuses.append(answer.status_code)
                assert not stream or "[DONE]" in answer.text

        clients = [asyncio.create_task(client(number % 2 == 0)) for number in range(8)]
        for number in range(1, count + 1):
            if number % 2:
                assert len(paths(await reload(sluice, directory, **settings(upstream, number)))) >= 3
            else:
                (directory / "config.yaml").write_text("models: [\n")
                assert "not valid YAML" in await refused(sluice)
        done = True
        await asyncio.gather(*clients)
        assert set(statuses) == {200}
        assert len(statuses) >= len(clients)
        assert len(await sluice.settled(len(statuses))) == len(upstream.requests) == len(statuses)
        proof = await sluice.admin.get("/admin/api/ledger/verify")
        assert proof.json()["ok"] is True


async def test_no_request_notices_forty_reloads(tmp_path: Path) -> None:
    await reloads_under_load(tmp_path, 40)


@pytest.mark.slow
async def test_no_request_notices_a_thousand_reloads(tmp_path: Path) -> None:
    await reloads_under_load(tmp_path, 1000)
