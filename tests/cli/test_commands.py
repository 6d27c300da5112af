"""Commands while no server runs: they take the database's lock and build the gateway themselves."""

import asyncio
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from proxy.core.entities import Finish
from proxy.store.database import Database
from proxy.store.lock import InstanceLock
from proxy.store.usage import UsageStore
from tests.cli.conftest import CONFIG, Result, Run
from tests.support.records import record, record_id

#: Where a line added to the configuration stands.
NEXT_LINE = CONFIG.count("\n") + 1

pytestmark = pytest.mark.usefixtures("folder")


class Stranger(BaseHTTPRequestHandler):
    """A server that is no gateway."""

    def do_GET(self) -> None:
        self.send_response(418)
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, format: str, *args: object) -> None:
        pass


def settle(folder: Path, *records: Any) -> None:
    """Write usage records into the database, as a server would have."""

    async def write() -> None:
        database = await Database.open(folder / "sluice.db")
        usage = UsageStore(database)
        await asyncio.gather(*map(usage.settle, records))
        await database.close()

    asyncio.run(write())


def today() -> str:
    return datetime.now(UTC).date().isoformat()


class TestConfiguration:
    @pytest.mark.parametrize(
        "command",
        [(), ("serve",), ("check",), ("key", "list"), ("usage",), ("reset-admin-key",)],
        ids=" ".join,
    )
    def test_a_missing_file_says_what_makes_one(
        self, run: Run, folder: Path, command: tuple[str, ...]
    ) -> None:
        (folder / "config.yaml").unlink()
        result = run(*command)
        assert (result.status, result.out) == (2, "")
        assert "python -m proxy init" in result.err

    @pytest.mark.parametrize("command", [("check",), ("--check",), ("key", "list"), ()], ids=" ".join)
    def test_a_wrong_file_stops_with_its_line(self, run: Run, folder: Path, command: tuple[str, ...]) -> None:
        (folder / "config.yaml").write_text(CONFIG + "servre: {}\n")
        result = run(*command)
        assert result.status == 2
        assert result.err.startswith(f"config.yaml:{NEXT_LINE}: servre: ")

    def test_the_file_is_found_by_option_and_by_variable(
        self, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "config.yaml").rename(folder / "other.yaml")
        assert run("check", "--config", "other.yaml").status == 0
        assert run("--config", "other.yaml", "check").status == 0
        monkeypatch.setenv("SLUICE_CONFIG", "other.yaml")
        assert run("check").status == 0
        assert run("check", "--config", "config.yaml").status == 2

    def test_check_tells_what_is_in_it(self, run: Run) -> None:
        result = run("check")
        assert result.status == 0
        assert "demo" in result.out
        assert "demo/x" in result.out
        assert run("--check").out == result.out
        found = run("check", "--json").json
        assert [provider["name"] for provider in found["providers"]] == ["demo"]
        assert found["findings"] == []

    def test_check_tells_what_looks_wrong(self, run: Run, folder: Path) -> None:
        (folder / "config.yaml").write_text(
            "providers: {ali: {api_key: '${NONE:-}'}, volc: {api_key: sk-0123456789abcdef}}\n"
            "models: {a: {routes: [ali/x]}, b: {routes: [volc/y]}}\n"
        )
        result = run("check")
        assert result.status == 0
        assert "NONE is empty" in result.out
        assert "in clear" in result.out
        assert "unpriced" in result.out
        assert "inactive" in result.out
        assert "sk-0123456789" not in result.out

    def test_the_schema_is_json(self, run: Run) -> None:
        assert "properties" in run("check", "--schema").json
        assert run("check", "--schema", "--json").json == run("check", "--schema").json

    def test_init_writes_a_file_that_works_and_never_overwrites_one(self, run: Run, folder: Path) -> None:
        assert run("init", "new.yaml").status == 0
        assert (folder / "new.yaml").stat().st_mode & 0o777 == 0o600
        assert run("check", "--config", "new.yaml").status == 0
        for arguments in (("init",), ("init", "new.yaml"), ("init", "--config", "new.yaml")):
            before = (folder / "new.yaml").read_bytes()
            result = run(*arguments)
            assert (result.status, result.out) == (1, "")
            assert "exists already" in result.err
            assert (folder / "new.yaml").read_bytes() == before
        assert run("init", "third.yaml", "--json").json == {"path": "third.yaml"}
        assert "cannot be written" in run("init", "no/such/folder.yaml").err


class TestUse:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("nonsense",),
            ("key",),
            ("key", "create"),
            ("key", "show"),
            ("key", "create", "--name", "n", "--rpm", "-1"),
            ("key", "create", "--name", "n", "--rpm", "many"),
            ("key", "create", "--name", "n", "--expires", "30"),
            ("key", "create", "--name", "n", "--ips", "home"),
            ("key", "create", "--name", "n", "--quota", "5,00"),
            ("key", "create", "--name", "n", "--quota", "5", "--quota-period", "year"),
            ("key", "create", "--name", "n", "--mod", "a"),
            ("key", "update", "key_1", "--enable", "--disable"),
            ("usage", "--by", "hour"),
            ("usage", "--from", "2026-02-30"),
            ("requests", "--limit", "0"),
            ("--port", "99999"),
        ],
        ids=" ".join,
    )
    def test_wrong_use_ends_with_2_and_changes_nothing(
        self, run: Run, folder: Path, arguments: tuple[str, ...]
    ) -> None:
        result = run(*arguments)
        assert (result.status, result.out) == (2, "")
        assert "usage:" in result.err
        assert not (folder / "sluice.db").exists()

    def test_an_interrupted_command_says_nothing(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*arguments: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("proxy.cli.setup.findings", interrupted)
        assert run("check") == Result(130, "", "")

    def test_the_version(self, run: Run) -> None:
        result = run("--version")
        assert (result.status, result.out.split()[0]) == (0, "sluice")

    @pytest.mark.parametrize(
        "arguments",
        [
            ("key", "show", "key_x"),
            ("key", "update", "key_x", "--rpm", "5"),
            ("key", "revoke", "key_x"),
            ("key", "rotate", "key_x"),
            ("key", "create", "--name", "n", "--account", "nobody"),
            ("account", "show", "nobody"),
            ("account", "disable", "nobody"),
            ("account", "set-plan", "default", "gold"),
            ("account", "create", "default"),
            ("request", "req_x"),
        ],
        ids=" ".join,
    )
    def test_what_fails_or_is_not_found_ends_with_1(self, run: Run, arguments: tuple[str, ...]) -> None:
        result = run(*arguments)
        assert (result.status, result.out) == (1, "")
        assert len(result.err.splitlines()) == 1

    @pytest.mark.parametrize(
        "arguments",
        [
            ("requests", "--status", "bad"),
            ("usage", "--from", "2026-02-01", "--to", "2026-01-01"),
            ("key", "create", "--name", "n", "--quota-period", "month"),
        ],
        ids=" ".join,
    )
    def test_values_that_make_no_sense_end_with_2(self, run: Run, arguments: tuple[str, ...]) -> None:
        result = run(*arguments)
        assert (result.status, result.out) == (2, "")
        assert len(result.err.splitlines()) == 1


class TestKeys:
    def test_a_key_from_beginning_to_end(self, run: Run, folder: Path) -> None:
        created = run("key", "create", "--name", "laptop", "--rpm", "20", "--models", "fast,demo/*", "--json")
        assert created.status == 0
        key = created.json
        assert key["key"].startswith("sk-sluice-")
        assert (key["models"], key["limits"]["rpm"]) == (["fast", "demo/*"], 20)
        assert run("key", "show", key["id"], "--json").json == {n: v for n, v in key.items() if n != "key"}
        assert [found["id"] for found in run("key", "list", "--json").json] == [key["id"]]

        updated = run(
            "key", "update", key["id"], "--tpm", "500", "--models", "all", "--disable", "--json"
        ).json
        assert (updated["models"], updated["enabled"]) == (None, False)
        assert (updated["limits"]["rpm"], updated["limits"]["tpm"]) == (20, 500)
        assert "disabled" in run("key", "list").out
        enabled = run(
            "key", "update", key["id"], "--enable", "--rpm", "none", "--name", "desk", "--json"
        ).json
        assert (enabled["enabled"], enabled["limits"]["rpm"], enabled["name"]) == (True, None, "desk")

        rotated = run("key", "rotate", key["id"], "--grace", "1h", "--json").json
        assert rotated["key"] != key["key"]
        revoked = run("key", "revoke", key["id"])
        assert revoked.status == 0
        assert key["id"] in revoked.out
        assert "revoked" in run("key", "show", key["id"]).out
        assert (folder / "sluice.db").stat().st_mode & 0o777 == 0o600
        assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "sluice.db"]

    def test_the_secret_is_printed_once_and_stored_nowhere(self, run: Run, folder: Path) -> None:
        created = run("key", "create", "--name", "laptop")
        first, *rest = created.out.splitlines()
        secret = first.removeprefix("API key: ")
        assert secret.startswith("sk-sluice-")
        assert secret not in "\n".join(rest)
        assert secret not in run("key", "list").out
        assert secret.encode() not in (folder / "sluice.db").read_bytes()

    def test_token_means_key(self, run: Run) -> None:
        made = run("token", "create", "--name", "x", "--json").json
        assert run("token", "list", "--json").json == run("key", "list", "--json").json
        assert run("token", "show", made["id"]).status == 0

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (("--quota", "5.00"), {"amount": "5.000000000", "period": "total"}),
            (("--quota", "0.5", "--quota-period", "day"), {"amount": "0.500000000", "period": "day"}),
            (("--quota", "none"), None),
            ((), None),
        ],
        ids=str,
    )
    def test_quotas(self, run: Run, options: tuple[str, ...], expected: dict[str, str] | None) -> None:
        key = run("key", "create", "--name", "x", *options, "--json").json
        shown = key["quota"] and {name: key["quota"][name] for name in ("amount", "period")}
        assert shown == expected

    def test_a_quota_is_changed_in_part_and_removed(self, run: Run) -> None:
        id = run("key", "create", "--name", "x", "--quota", "5", "--json").json["id"]
        changed = run("key", "update", id, "--quota-period", "month", "--json").json["quota"]
        assert (changed["amount"], changed["period"]) == ("5.000000000", "month")
        assert "5.000000000 spent (month)" in run("key", "show", id).out
        assert run("key", "update", id, "--quota", "none", "--json").json["quota"] is None

    def test_an_expiry_is_a_duration_or_a_day_of_the_zone(self, run: Run) -> None:
        day = run("key", "create", "--name", "x", "--expires", "2099-01-31", "--json").json
        assert day["expires_at"] == "2099-01-30T16:00:00.000Z"  # 00:00 in Shanghai
        month = run("key", "create", "--name", "x", "--expires", "30d", "--json").json
        lasts = datetime.fromisoformat(month["expires_at"]) - datetime.now(UTC)
        assert timedelta(days=29) < lasts <= timedelta(days=30)
        past = run("key", "update", day["id"], "--expires", "2020-01-01")
        assert "expired" in past.out
        assert run("key", "update", day["id"], "--expires", "never", "--json").json["expires_at"] is None

    def test_a_name_that_commands_the_terminal_is_refused(self, run: Run) -> None:
        assert run("key", "create", "--name", "\x1b[2J").status == 1


class TestAccounts:
    def test_an_account_from_beginning_to_end(self, run: Run) -> None:
        assert run("account", "create", "team", "--plan", "free", "--json").json["plan"] == "free"
        assert "Created" in run("account", "create", "团队").out
        assert [found["name"] for found in run("account", "list", "--json").json] == [
            "团队",
            "team",
            "default",
        ]
        assert "free" in run("account", "list").out
        assert run("account", "set-plan", "team", "none", "--json").json["plan"] is None
        assert run("account", "set-plan", "团队", "free", "--json").json["plan"] == "free"
        assert run("account", "disable", "team", "--json").json["enabled"] is False
        assert "disabled" in run("account", "show", "team").out
        assert run("account", "enable", "team", "--json").json["enabled"] is True


class TestReports:
    def test_usage_has_totals(self, run: Run, folder: Path) -> None:
        run("key", "list")
        settle(
            folder,
            record(1, day=today(), model="fast", cost_nanos=2 * 10**9),
            record(2, day=today(), model="=cmd", cost_nanos=10**9, finish=Finish.TIMEOUT),
            record(3, day="2026-01-05", model="old", cost_nanos=5 * 10**9),
        )
        report = run("usage", "--by", "model", "--json").json
        assert (report["requests"], report["total_cost_value"]) == (2, "3.000000000")
        assert [line["model"] for line in report["data"]] == ["fast", "=cmd"]
        text = run("usage", "--by", "model").out.splitlines()
        assert text[-1].split()[:2] == ["total", "2"]
        assert text[-1].endswith("3.000000000")
        year = run("usage", "--from", "2026-01-01", "--to", "2026-01-31", "--by", "day", "--csv").out
        assert year.splitlines() == [
            "day,requests,failed,input_tokens,cached_tokens,output_tokens,reasoning_tokens,"
            "total_tokens,total_cost,currency",
            "2026-01-05,1,0,1000,300,200,50,1200,5.000000000,USD",
        ]
        assert "'=cmd" in run("usage", "--by", "model", "--csv").out

    def test_requests_and_receipts(self, run: Run, folder: Path) -> None:
        assert "No requests" in run("requests").out
        assert run("requests", "--json").json == []
        settle(folder, record(1), record(2, finish=Finish.TIMEOUT, status=504, provider=None, attempts=()))
        assert [found["id"] for found in run("requests", "--json").json] == [record_id(2), record_id(1)]
        assert len(run("requests", "--limit", "1", "--json").json) == 1
        assert record_id(2) in run("requests", "--status", "timeout").out
        assert record_id(1) in run("requests", "--status", "200").out
        receipt = run("request", record_id(1))
        assert "0.001234567" in receipt.out
        assert "deepseek-v4" in receipt.out
        assert "…abcd" in receipt.out
        assert "No provider was asked" in run("request", record_id(2)).out
        assert run("request", record_id(1), "--json").json["finish"] == "ok"

    def test_lists_are_read_to_the_end(self, run: Run, folder: Path) -> None:
        run("key", "list")
        settle(folder, *map(record, range(1100)))
        assert len(run("requests", "--limit", "1050", "--json").json) == 1050
        assert len(run("requests", "--limit", "5000", "--json").json) == 1100

    def test_models(self, run: Run) -> None:
        assert [model["id"] for model in run("models", "--json").json] == ["fast", "quick", "demo/echo"]
        assert "quick → fast" in run("models").out
        assert "$0.002/1K" in run("models").out


class TestAdminKey:
    def test_a_new_admin_key_is_printed_once(self, run: Run) -> None:
        first, second = run("reset-admin-key", "--json").json, run("reset-admin-key")
        assert first["key"].startswith("sk-admin-")
        assert second.out.startswith("Admin key: sk-admin-")
        assert first["key"] not in second.out

    def test_a_configured_admin_key_is_named_with_its_line(self, run: Run, folder: Path) -> None:
        (folder / "config.yaml").write_text(CONFIG + "admin_key: sk-admin-canary-0123456789\n")
        result = run("reset-admin-key")
        assert (result.status, result.out) == (1, "")
        assert result.err.startswith(f"config.yaml:{NEXT_LINE}: admin_key")
        assert "canary" not in result.err


class TestDatabase:
    def test_another_commands_lock_is_waited_for_and_not_for_ever(
        self, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("proxy.cli.client.BUSY_S", 0)
        lock = InstanceLock(folder / "sluice.db")
        lock.acquire()
        result = run("key", "list")
        assert (result.status, result.out) == (1, "")
        assert "in use" in result.err
        lock.release()
        assert run("key", "list").status == 0

    def test_a_server_that_does_not_answer_is_reported(self, run: Run, folder: Path) -> None:
        lock = InstanceLock(folder / "sluice.db")
        lock.acquire()
        lock.publish("http://127.0.0.1:9", "secret")  # the discard port: nobody listens
        result = run("key", "list")
        lock.release()
        assert (result.status, result.out) == (1, "")
        assert "did not answer" in result.err

    def test_what_answers_may_be_somebody_else(self, run: Run, folder: Path) -> None:
        lock = InstanceLock(folder / "sluice.db")
        lock.acquire()
        with HTTPServer(("127.0.0.1", 0), Stranger) as stranger:
            lock.publish(f"http://127.0.0.1:{stranger.server_port}", "secret")
            thread = threading.Thread(target=stranger.handle_request)
            thread.start()
            result = run("key", "list")
            thread.join()
        lock.release()
        assert (result.status, result.out) == (1, "")
        assert "HTTP 418" in result.err

    def test_a_database_that_cannot_be_used_ends_with_2(self, run: Run, folder: Path) -> None:
        (folder / "sluice.db").write_bytes(b"not a database at all" * 100)
        result = run("key", "list")
        assert (result.status, result.out) == (2, "")
        assert "damaged" in result.err
        assert run("serve").status == 2

    def test_a_folder_that_is_not_there(self, run: Run, folder: Path) -> None:
        (folder / "config.yaml").write_text(CONFIG + "database: no/such/sluice.db\n")
        for command in ("key list", "serve"):
            result = run(*command.split())
            assert result.status in (1, 2)
            assert "No such file" in result.err

    def test_another_currency_than_the_first_ends_with_2(self, run: Run, folder: Path) -> None:
        run("key", "list")
        (folder / "config.yaml").write_text(CONFIG + "billing: {currency: EUR, exchange_rates: {USD: 0.9}}\n")
        result = run("key", "list")
        assert result.status == 2
        assert result.err.startswith(f"config.yaml:{NEXT_LINE}: billing.currency: ")

    def test_commands_leave_one_file_behind(self, run: Run, folder: Path) -> None:
        run("key", "create", "--name", "x")
        with closing(sqlite3.connect(folder / "sluice.db")) as database:
            assert database.execute("SELECT count(*) FROM api_keys").fetchone() == (1,)
        assert not list(folder.glob("sluice.db?*"))
