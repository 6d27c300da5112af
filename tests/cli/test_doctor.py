"""`doctor`: each finding, that nothing is changed, and what `--live` asks."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proxy import __version__
from proxy.cli.client import AdminClient
from proxy.cli.doctor import database as database_checks
from proxy.cli.doctor import live
from proxy.cli.doctor import place as place_checks
from proxy.cli.doctor.database import log_finding, schema_finding, timezone_finding
from proxy.cli.doctor.findings import FAIL, OK, WARN, Finding, report
from proxy.cli.doctor.live import models_to_ask
from proxy.cli.doctor.place import descriptor_finding, room_finding, size
from proxy.cli.doctor.server import address_finding, admin_key_finding, readiness
from proxy.cli.doctor.versions import module_finding, python_finding, sqlite_finding
from proxy.cli.errors import CommandFailed
from proxy.store.lock import InstanceLock
from proxy.store.schema import shipped_migrations
from tests.cli.conftest import CONFIG, Result, Run
from tests.cli.test_serve import ROOT, serving, start
from tests.support.configuration import configuration
from tests.support.replies import End, chat, chat_stream, error, json_reply
from tests.support.upstream import Request, Upstream

#: No other program can be in its way.
ANYWHERE = CONFIG + "server: {port: 0, max_connections: 16}\n"
UPSTREAM_KEY = "sk-upstream-0123456789abcdef"

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture(autouse=True)
def private_configuration(folder: Path) -> None:
    write(folder, ANYWHERE)


@pytest.fixture
def database(folder: Path, run: Run) -> Path:
    """A database with an API key in it, and nobody using it."""
    assert run("key", "create", "--name", "first").status == 0
    return folder / "sluice.db"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(threaded=True) as upstream:
        yield upstream


def write(folder: Path, text: str) -> None:
    (folder / "config.yaml").write_text(text)
    (folder / "config.yaml").chmod(0o600)


def state(result: Result, check: str) -> str:
    """Return the worst state that a check has found."""
    states = [finding["state"] for finding in result.json if finding["check"] == check]
    return max(states, key=(OK, WARN, FAIL).index)


def told(result: Result, check: str) -> str:
    """Return all that is said of a check."""
    return "\n".join(
        f"{finding['message']} → {finding['advice']}" for finding in result.json if finding["check"] == check
    )


def execute(database: Path, sql: str) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute(sql)


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()}


class TestCommand:
    def test_before_the_first_start_nothing_is_wrong_and_nothing_is_made(
        self, run: Run, folder: Path
    ) -> None:
        before = content(folder)
        result = run("doctor")
        assert (result.status, result.err) == (0, "")
        assert "ok    database       sluice.db is not there yet: the first start makes it" in result.out
        assert result.out.splitlines()[-1].endswith(" 0 warnings, 0 failed.")
        assert content(folder) == before

    def test_a_database_is_not_changed_and_nothing_is_left_beside_it(
        self, run: Run, folder: Path, database: Path
    ) -> None:
        before = content(folder)
        result = run("doctor", "--json")
        assert result.status == 0
        assert content(folder) == before
        for check in ("database", "schema", "log", "currency", "ledger", "timezone", "admin_key"):
            assert state(result, check) == OK, told(result, check)
        assert "1 account, 0 ledger entries, 0 exchanges" in told(result, "ledger")

    def test_json_is_an_array_of_findings(self, run: Run) -> None:
        findings = run("doctor", "--json").json
        assert {tuple(finding) for finding in findings} == {("check", "state", "message", "advice")}
        assert findings[0] == {
            "check": "program",
            "state": "ok",
            "message": f"Sluice {__version__}",
            "advice": None,
        }

    @pytest.mark.parametrize("file", ["wrong", "missing"])
    def test_without_a_configuration_the_rest_is_looked_at(self, run: Run, folder: Path, file: str) -> None:
        if file == "wrong":
            write(folder, CONFIG + "servre: {}\nlog: {level: loud}\n")
        else:
            (folder / "config.yaml").unlink()
        result = run("doctor", "--live", "--json")
        assert (result.status, result.err) == (2, "")
        assert state(result, "configuration") == FAIL
        assert {finding["check"] for finding in result.json} >= {"program", "python", "sqlite", "httptools"}
        if file == "wrong":
            assert "config.yaml:10: servre: unknown key" in told(result, "configuration")
            assert "config.yaml:11: log.level" in told(result, "configuration")
        else:
            assert "python -m proxy init" in told(result, "configuration")

    def test_a_failure_is_status_one(self, run: Run, database: Path) -> None:
        database.write_bytes(b"no database" * 1000)
        result = run("doctor")
        assert result.status == 1
        assert "fail  database" in result.out
        assert "warn  admin_key" in result.out

    def test_remarks_of_check_are_warnings(self, run: Run, folder: Path) -> None:
        write(
            folder, ANYWHERE.replace("providers:", "providers:\n  ali: {api_key: '${NONE:-}'}") + "  a: 1\n"
        )
        write(folder, "providers: {ali: {api_key: '${NONE:-}'}}\nmodels: {a: {routes: [ali/x]}}\n")
        result = run("doctor", "--json")
        assert result.status in (0, 1)  # the usual port may be somebody's
        assert "line 2: models.a: never answered: ali is inactive" in told(result, "configuration")
        assert "inactive, for want of a variable: ali (NONE)" in told(result, "providers")
        assert "none is active" in told(result, "providers")
        assert state(result, "providers") == WARN


class TestReport:
    def test_each_line_has_its_word_and_advice_stands_below(self) -> None:
        found = [
            Finding("disk", WARN, "little room", "make room"),
            Finding("database", FAIL, "word " * 40),
            Finding("program", OK, "one\ntwo"),
        ]
        output = report(found, usable=True)
        lines = (output.text or "").splitlines()
        assert lines[:2] == ["warn  disk      little room", "                → make room"]
        assert lines[2].startswith("fail  database  word word")
        assert lines[3].startswith("                word")
        assert "ok    program   one\\ntwo" in lines
        assert lines[-1] == "3 findings: 1 ok, 1 warning, 1 failed."
        assert max(map(len, lines)) <= 110

    @pytest.mark.parametrize(
        ("states", "usable", "status"),
        [((OK,), True, 0), ((OK, WARN), True, 0), ((WARN, FAIL), True, 1), ((FAIL,), False, 2)],
    )
    def test_the_exit_status(self, states: tuple[str, ...], usable: bool, status: int) -> None:
        assert report([Finding("c", state, "m") for state in states], usable=usable).status == status

    def test_what_looks_like_a_key_is_masked(self) -> None:
        output = report([Finding("c", FAIL, f"refused {UPSTREAM_KEY}", f"use {UPSTREAM_KEY}")], usable=True)
        assert UPSTREAM_KEY not in (output.text or "") + json.dumps(output.data)


class TestVersions:
    def test_python(self) -> None:
        assert python_finding((3, 11, 0), "Linux").state == OK
        assert python_finding((3, 10, 14), "Linux").state == FAIL

    def test_sqlite(self) -> None:
        assert sqlite_finding((3, 37, 0)).state == OK
        assert "3.37 or newer" in (sqlite_finding((3, 36, 0)).advice or "")

    def test_modules(self) -> None:
        assert module_finding("httptools").state == OK
        assert module_finding("no_such_module").state == FAIL

    def test_one_that_cannot_be_loaded(self, folder: Path) -> None:
        """The rest of the program cannot be loaded then, but this can be said."""
        (folder / "httptools.py").write_text("raise ImportError('built for another Python')")
        environ = os.environ | {"PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))}
        command = [sys.executable, "-m", "proxy", "doctor"]
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (1, "")
        assert "fail  httptools  httptools cannot be loaded: built for another Python" in ended.stdout


class TestPlace:
    @pytest.mark.parametrize(
        ("free", "expected"), [(1 << 30, OK), ((1 << 30) - 1, WARN), (100 << 20, WARN), (1, FAIL), (0, FAIL)]
    )
    def test_room(self, free: int, expected: str) -> None:
        assert room_finding(Path("/data"), free).state == expected

    @pytest.mark.parametrize(
        ("count", "shown"), [(0, "0 bytes"), (2048, "2.0 KiB"), (3 << 19, "1.5 MiB"), (5 << 30, "5.0 GiB")]
    )
    def test_sizes(self, count: int, shown: str) -> None:
        assert size(count) == shown

    def test_descriptors(self) -> None:
        assert descriptor_finding(10_000, None).state == OK
        assert descriptor_finding(100, 1024).state == OK
        assert descriptor_finding(10_000, 20_000).state == OK  # 9,968 of them
        few = descriptor_finding(10_000, 1024)
        assert few.state == WARN
        assert "LimitNOFILE=" in (few.advice or "")

    def test_a_configuration_with_secrets_is_for_its_owner_alone(self, run: Run, folder: Path) -> None:
        secret = "providers: {up: {base_url: 'http://127.0.0.1:1/v1', api_key: " + UPSTREAM_KEY + "}}\n"
        write(folder, secret + "server: {port: 0}\n")
        assert state(run("doctor", "--json"), "permissions") == OK
        (folder / "config.yaml").chmod(0o644)
        result = run("doctor", "--json")
        assert state(result, "permissions") == WARN
        assert "providers.up.api_key in line 1" in told(result, "permissions")
        assert "chmod 600 config.yaml" in told(result, "permissions")
        assert UPSTREAM_KEY not in result.out

    def test_one_without_secrets_may_be_read(self, run: Run, folder: Path) -> None:
        (folder / "config.yaml").chmod(0o644)
        assert state(run("doctor", "--json"), "permissions") == OK

    def test_files_that_it_names_are_secrets(self, run: Run, folder: Path) -> None:
        write(folder, "providers: {up: {base_url: 'http://127.0.0.1:1/v1', api_key: 'file:up.key'}}\n")
        (folder / "up.key").write_text(UPSTREAM_KEY)
        (folder / "up.key").chmod(0o640)
        assert "up.key holds a secret, and has mode 0640" in told(run("doctor", "--json"), "permissions")
        (folder / "up.key").chmod(0o600)
        assert state(run("doctor", "--json"), "permissions") == OK

    @pytest.mark.parametrize("suffix", ["", "-wal"])
    def test_the_database_is_for_its_owner_alone(self, run: Run, database: Path, suffix: str) -> None:
        file = database.with_name(database.name + suffix)
        if suffix:
            file.write_bytes(b"nothing that was committed")
        file.chmod(0o600)
        assert state(run("doctor", "--json"), "permissions") == OK
        file.chmod(0o660)
        assert f"chmod 600 {file.name}" in told(run("doctor", "--json"), "permissions")

    def test_a_folder_that_is_not_there(self, run: Run, folder: Path) -> None:
        write(folder, ANYWHERE + "database: no/such/sluice.db\n")
        result = run("doctor", "--json")
        assert (result.status, state(result, "folder")) == (1, FAIL)

    def test_a_folder_that_cannot_be_written(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        # Tests may run as a user to whom everything is allowed.
        monkeypatch.setattr(place_checks.os, "access", lambda *_: False)
        assert "chown" in told(run("doctor", "--json"), "folder")


class TestDatabase:
    def test_an_empty_file(self, run: Run, folder: Path) -> None:
        (folder / "sluice.db").touch(0o600)
        assert "is empty" in told(run("doctor", "--json"), "database")
        assert (folder / "sluice.db").stat().st_size == 0

    def test_that_of_another_program(self, run: Run, folder: Path) -> None:
        execute(folder / "sluice.db", "CREATE TABLE theirs (x)")
        result = run("doctor", "--json")
        assert (result.status, state(result, "database")) == (1, FAIL)
        assert "another program" in told(result, "database")

    def test_damage_anywhere_in_it(self, run: Run, database: Path) -> None:
        data = bytearray(database.read_bytes())
        data[8192:12288] = b"\xff" * 4096
        database.write_bytes(data)
        result = run("doctor", "--json")
        assert (result.status, state(result, "database")) == (1, FAIL)

    def test_a_newer_schema(self, run: Run, database: Path) -> None:
        execute(database, "INSERT INTO migrations VALUES (999, 'later', '2030-01-01', '9.0.0')")
        result = run("doctor", "--json")
        assert (result.status, state(result, "schema")) == (1, FAIL)
        assert "9.0.0" in told(result, "schema")

    def test_an_older_schema(self, run: Run, database: Path) -> None:
        newest = shipped_migrations()[-1].version
        execute(database, f"DELETE FROM migrations WHERE version = {newest}")
        result = run("doctor", "--json")
        assert state(result, "schema") == OK
        assert f"brings it to {newest}" in told(result, "schema")
        assert f"sluice.db.v{newest - 1}" in told(result, "schema")
        assert state(result, "ledger") == WARN

    def test_an_older_schema_is_no_fault(self) -> None:
        assert schema_finding(1, 2, "copy").state == OK
        assert schema_finding(2, 2, "copy").message == "schema 2, the newest"

    def test_a_ledger_that_does_not_add_up(self, run: Run, database: Path) -> None:
        execute(database, "UPDATE accounts SET wallet_nanos = 5")
        result = run("doctor", "--json")
        assert (result.status, state(result, "ledger")) == (1, FAIL)
        assert "1 difference in " in told(result, "ledger")
        assert "ledger verify" in told(result, "ledger")

    def test_another_currency(self, run: Run, folder: Path, database: Path) -> None:
        write(folder, ANYWHERE + "billing: {currency: CNY}\n")
        result = run("doctor", "--json")
        assert (result.status, state(result, "currency")) == (1, FAIL)
        assert "set billing.currency to USD" in told(result, "currency")

    def test_a_server_that_starts_meanwhile(
        self, run: Run, folder: Path, database: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was read as a file that does not change is read again."""
        log = folder / "sluice.db-wal"
        looks: list[bool] = []

        def look(config: object) -> Iterator[Finding]:
            looks.append(log.exists())
            log.write_bytes(b"log")
            yield Finding("database", OK if len(looks) > 1 else FAIL, "look")

        monkeypatch.setattr(database_checks, "_looked_at", look)
        assert state(run("doctor", "--json"), "database") == OK
        assert looks == [False, True]

    def test_a_log_that_grew(self) -> None:
        assert log_finding("sluice.db", 0).state == OK
        assert log_finding("sluice.db", 64 << 20).state == OK
        assert log_finding("sluice.db", (64 << 20) + 1).state == WARN

    def test_a_zone_that_is_not_known(self) -> None:
        assert timezone_finding("Asia/Shanghai").state == OK
        assert timezone_finding("Mars/Olympus").state == FAIL


class TestServer:
    def test_a_running_one(self, run: Run, database: Path) -> None:
        with serving() as served:
            result = run("doctor", "--json")
            assert result.status == 0
            assert told(result, "server").startswith(
                f"process {served.process.pid} on {served.url} takes requests"
            )
            assert state(result, "ledger") == OK
            assert (database.stat().st_mode & 0o777) == 0o600

    def test_a_file_that_went_wrong_while_it_runs(self) -> None:
        where = "process 1 on http://x"
        good: dict[str, Any] = {"status": "ok", "version": __version__, "config": {"error": None}}
        assert readiness(where, good).state == OK
        assert readiness(where, good | {"config": {"error": "config.yaml:1: no"}}).state == WARN
        assert "is version 0.0.1" in readiness(where, good | {"version": "0.0.1"}).message
        stopped = good | {"status": "unavailable", "database": "not writable"}
        assert readiness(where, stopped).state == FAIL
        assert readiness(where, {}).state == FAIL

    def test_a_server_that_does_not_answer(self, run: Run, folder: Path, database: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        lock = InstanceLock(database)
        lock.acquire()
        try:
            lock.publish(f"http://127.0.0.1:{port}", "secret-of-the-start")
            result = run("doctor", "--json")
        finally:
            lock.release()
        assert (result.status, state(result, "server")) == (1, FAIL)
        assert "secret-of-the-start" not in result.out

    def test_another_command(self, run: Run, folder: Path) -> None:
        lock = InstanceLock(folder / "sluice.db")
        lock.acquire()
        try:
            result = run("doctor", "--json")
        finally:
            lock.release()
        assert state(result, "server") == OK
        assert f"process {os.getpid()}, a command" in told(result, "server")

    def test_a_port_that_is_taken(self, run: Run, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            write(folder, CONFIG + f"server: {{port: {port}}}\n")
            result = run("doctor", "--json")
        assert (result.status, state(result, "server")) == (1, FAIL)
        assert f"Port {port} on 127.0.0.1 is in use" in told(result, "server")

    def test_who_can_reach_it(self) -> None:
        assert address_finding(configuration("{}")).state == OK
        exposed = address_finding(configuration("server: {host: 0.0.0.0}"))
        assert exposed.state == WARN
        assert "server.trusted_proxies" in (exposed.advice or "")
        behind = configuration("server: {host: 0.0.0.0, trusted_proxies: [10.0.0.0/8]}")
        assert address_finding(behind).state == OK

    def test_the_admin_key(self) -> None:
        configured = admin_key_finding(configuration("admin_key: sk-admin-0123456789"), None)
        assert configured.message == "that of the configuration, line 1"
        assert "generated" in admin_key_finding(configuration("{}"), {"admin_key_digest": "00"}).message
        assert "none yet" in admin_key_finding(configuration("{}"), {}).message
        assert admin_key_finding(configuration("{}"), None).state == WARN


class TestModelsToAsk:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("providers: {demo: {preset: echo}}", "echo"),
            ("{providers: {deepseek: {api_key: k}}, models: {a: {routes: [deepseek/mine]}}}", "mine"),
            ("providers: {deepseek: {api_key: k}}", "deepseek-flash"),
            ("providers: {deepseek: {api_key: k, models: ['*-pro']}}", "deepseek-v4-pro"),
            ("providers: {up: {base_url: 'http://u/v1', models: ['a-*', b]}}", "b"),
            ("providers: {up: {base_url: 'http://u/v1', models: [text-embedding-3]}}", None),
            ("providers: {up: {base_url: 'http://u/v1'}}", None),
            (
                "{providers: {up: {base_url: 'http://u/v1'}}, "
                "models: {e: {routes: [up/e], category: embedding}, 'w-*': {routes: ['up/*']}, "
                "c: {routes: [up/c]}}}",
                "c",
            ),
        ],
    )
    def test_the_first_that_is_known_to_chat(self, text: str, expected: str | None) -> None:
        ((_, model),) = models_to_ask(configuration(text))
        assert model == expected

    def test_only_active_providers(self) -> None:
        config = configuration("providers: {deepseek: {api_key: '${NONE:-}'}, demo: {preset: echo}}")
        assert [provider.name for provider, _ in models_to_ask(config)] == ["demo"]


def asking(folder: Path, upstream: Upstream, **others: str) -> None:
    """Write a configuration with one provider, and others by their base URLs."""
    urls = {"up": upstream.url, **others}
    providers = {
        name: {"base_url": url, "api_key": UPSTREAM_KEY, "models": ["m"], "timeouts": {"connect_s": 1}}
        for name, url in urls.items()
    }
    write(folder, json.dumps({"providers": providers, "server": {"port": 0, "max_connections": 16}}))


def doctors(run: Run) -> list[Any]:
    return [key for key in run("key", "list", "--json").json if key["name"] == "doctor"]


class TestLive:
    def test_every_provider_and_every_client(self, run: Run, folder: Path, upstream: Upstream) -> None:
        asking(folder, upstream)
        assert run("key", "create", "--name", "first").status == 0
        result = run("doctor", "--live", "--json")
        assert result.status == 0, result.out
        assert result.err == "Providers are asked now; these requests are billed like any other.\n"
        assert "up/m answered in " in told(result, "provider")
        assert ": 3 + 5 tokens, 0 USD" in told(result, "provider")
        assert [item["message"].partition(":")[0] for item in result.json if item["check"] == "client"] == [
            "chat",
            "chat, streamed",
            "Messages",
            "Messages, streamed",
            "Messages, count_tokens",
            "Responses",
            "Responses, streamed",
            "models",
        ]
        assert state(result, "client") == OK
        first = upstream.requests[0]
        assert first.json["messages"] == [{"role": "user", "content": "Say hello."}]
        assert first.json["max_tokens"] == 16
        assert "sk-" not in result.out + result.err
        (key,) = doctors(run)
        assert key["revoked_at"] is not None
        assert key["account"] == "default"
        assert key["expires_at"] is not None

    def test_through_the_running_server(self, run: Run, folder: Path, upstream: Upstream) -> None:
        asking(folder, upstream)
        with serving():
            result = run("doctor", "--live")
            assert result.status == 0, result.out
            assert "ok    client         Responses, streamed: ends with response.completed" in result.out
            assert "sk-" not in result.out + result.err
            (key,) = doctors(run)
            assert key["revoked_at"] is not None
            assert len(run("requests", "--json").json) == 7

    def test_before_the_first_start_nothing_stays(self, run: Run, folder: Path, upstream: Upstream) -> None:
        asking(folder, upstream)
        before = content(folder)
        result = run("doctor", "--live", "--json")
        assert result.status == 0, result.out
        assert "thrown away" in told(result, "live")
        assert state(result, "client") == OK
        assert content(folder) == before
        with serving() as served:
            served.read_until("curl ")
            assert any(line.startswith("API key: ") for line in served.lines)

    def test_providers_that_misbehave(
        self, run: Run, folder: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(live, "ANSWER_S", 0.5)

        def answer(request: Request) -> Any:
            return next(replies)

        replies = iter(
            [
                error(401, f"wrong key {UPSTREAM_KEY}"),
                json_reply({"odd": True}),
                chat("hello").cut(30, End.HANG),
            ]
        )
        upstream.handler = answer
        nowhere = "http://no-such-host.invalid/v1"
        asking(folder, upstream, odd=upstream.url, hangs=upstream.url, lost=nowhere)
        run("key", "create", "--name", "first")
        result = run("doctor", "--live", "--json")
        assert result.status == 1
        lines = told(result, "provider").splitlines()
        assert "up/m: HTTP " in lines[0]
        assert "upstream_" in lines[0]
        assert "shows its receipt" in lines[0]
        assert lines[1].startswith("odd/m: the answer is no chat completion")
        assert lines[2].startswith("hangs/m: no whole answer within 0.5 s")
        assert lines[3].startswith("lost/m: no-such-host.invalid cannot be resolved: ")
        assert state(result, "provider") == FAIL
        assert "none was played" in told(result, "client")
        assert result.err.count("\n") == 1
        assert UPSTREAM_KEY not in result.out + result.err
        assert [key["revoked_at"] is not None for key in doctors(run)] == [True]

    def test_the_field_that_a_provider_wants(self, run: Run, folder: Path, upstream: Upstream) -> None:
        openai = {"base_url": upstream.url, "api_key": UPSTREAM_KEY, "models": ["m"]}
        write(folder, json.dumps({"providers": {"openai": openai}, "server": {"port": 0}}))
        assert run("doctor", "--live").status == 0
        assert all("max_completion_tokens" in request.json for request in upstream.requests[:3])

    def test_a_stream_that_breaks_off(self, run: Run, folder: Path, upstream: Upstream) -> None:
        def answer(request: Request) -> Any:
            streamed = request.json.get("stream")
            return chat_stream("Hel", "lo").broken(2, End.RESET) if streamed else chat("hello")

        upstream.handler = answer
        asking(folder, upstream)
        result = run("doctor", "--live", "--json")
        assert (result.status, state(result, "provider")) == (1, OK)
        failed = [f["message"] for f in result.json if f["check"] == "client" and f["state"] == FAIL]
        assert [message.partition(":")[0] for message in failed] == [
            "chat, streamed",
            "Messages, streamed",
            "Responses, streamed",
        ]
        assert all("error" in message for message in failed)

    def test_a_gateway_that_cannot_be_built(self, run: Run, folder: Path, database: Path) -> None:
        write(folder, ANYWHERE + "billing: {currency: CNY}\n")
        result = run("doctor", "--live", "--json")
        assert (result.status, state(result, "live")) == (1, FAIL)
        assert "billing.currency" in told(result, "live")

    def test_a_key_that_cannot_be_revoked_is_named(
        self, run: Run, folder: Path, database: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(self: AdminClient, *path: str) -> Any:
            raise CommandFailed("The running server did not answer")

        monkeypatch.setattr(AdminClient, "delete", fail)
        result = run("doctor", "--live", "--json")
        assert (result.status, state(result, "live"), state(result, "client")) == (1, FAIL, OK)
        (key,) = doctors(run)
        assert told(result, "live").startswith(f"the key {key['id']} was not revoked, and ends at 20")
        assert key["expires_at"] is not None

    @pytest.mark.parametrize("served", [False, True], ids=["alone", "beside a server"])
    def test_the_key_is_revoked_after_an_interruption(
        self, run: Run, folder: Path, upstream: Upstream, served: bool
    ) -> None:
        never = chat("hello").gated()
        upstream.always(never)
        asking(folder, upstream)
        run("key", "create", "--name", "first")

        def interrupt() -> None:
            process = start("doctor", "--live")
            try:
                never.gates[0].reached.wait_in_thread(40)
                process.send_signal(signal.SIGINT)
                assert process.wait() == 130
            finally:
                process.kill()
                process.communicate()

        if served:
            with serving():
                interrupt()
        else:
            interrupt()
        (key,) = doctors(run)
        assert key["revoked_at"] is not None

    def test_a_provider_without_a_known_model_is_skipped(
        self, run: Run, folder: Path, upstream: Upstream
    ) -> None:
        write(folder, json.dumps({"providers": {"up": {"base_url": upstream.url}}, "server": {"port": 0}}))
        result = run("doctor", "--live", "--json")
        assert result.status == 0
        assert state(result, "provider") == WARN
        assert "providers.up.models" in told(result, "provider")
        assert upstream.requests == []
