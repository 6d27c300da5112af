"""Serving, and commands beside a running server."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from proxy.cli.serve import address, example
from proxy.core.secret import Secret
from tests.cli.conftest import CONFIG, Run

ROOT = Path(__file__).parents[2]
# The address is the machine's own, but the bind is not: the Host header is checked.
FOREIGN_HOSTS = "server: {host: 0.0.0.0, allowed_hosts: ['*.example.com']}\n"


class Served:
    """A server in a process of its own, and what it has printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        assert process.stdout is not None
        self._stdout = process.stdout

    def read_until(self, start: str) -> str:
        """Return the next line that begins so."""
        for line in self._stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith(start):
                return self.lines[-1]
        raise AssertionError(f"no line {start!r}: {self.lines} {self.process.wait()}")

    @property
    def url(self) -> str:
        (line,) = (line for line in self.lines if " listens on " in line)
        return line.rpartition(" ")[2]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.lines += self._stdout.read().splitlines()
        return self.process.wait()


def start(*arguments: str, **options: int) -> subprocess.Popen[str]:
    """Start a command in the current folder, with this repository's program."""
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "proxy", *arguments], text=True, env=environ, stdout=subprocess.PIPE, **options
    )


@contextmanager
def serving(*arguments: str) -> Iterator[Served]:
    process = start("--port", "0", *arguments, stderr=subprocess.DEVNULL)
    served = Served(process)
    try:
        served.read_until("Sluice ")
        yield served
    finally:
        if process.poll() is None:
            served.stop()
        served.process.stdout.close()


@pytest.mark.usefixtures("folder")
class TestFirstStart:
    def test_the_keys_are_printed_once_and_the_curl_line_works(self, run: Run) -> None:
        with serving() as first:
            curl = first.read_until("curl ")
            admin_key = next(line for line in first.lines if line.startswith("Admin key: sk-admin-"))
            api_key = next(line for line in first.lines if line.startswith("API key: sk-sluice-"))
            answer = subprocess.run(["sh", "-c", curl], check=True, capture_output=True, text=True).stdout
            assert '"content":"Hello,' in answer
            assert answer.endswith("data: [DONE]\n\n")
            headers = {"authorization": f"Bearer {admin_key.removeprefix('Admin key: ')}"}
            keys = httpx2.get(f"{first.url}/admin/api/keys", headers=headers).json()
            assert [key["name"] for key in keys["data"]] == ["first key"]
            assert first.stop() == 0
        with serving() as second:
            assert second.stop() == 0
            assert len(second.lines) == 1
            assert api_key.removeprefix("API key: ") not in "".join(second.lines)

    def test_configured_keys_are_never_printed(self, folder: Path) -> None:
        keys = "admin_key: sk-admin-canary-0123456789\napi_key: sk-sluice-canary-0123456789\n"
        (folder / "config.yaml").write_text(CONFIG + keys)
        with serving() as served:
            assert served.stop() == 0
            assert "canary" not in "".join(served.lines)
            assert len(served.lines) == 1

    def test_a_key_made_by_a_command_is_the_first(self, run: Run) -> None:
        run("key", "create", "--name", "mine")
        with serving() as served:
            assert served.stop() == 0
            assert [line.split(":")[0] for line in served.lines[:-1]] == ["Admin key"]

    def test_a_busy_port_ends_with_2_and_names_the_option(self, folder: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            process = start("--port", str(taken.getsockname()[1]), stderr=subprocess.PIPE)
            out, err = process.communicate()
        assert process.returncode == 2
        assert "--port" in err
        assert "Traceback" not in err
        # No keys were made that nobody looks for beside an error; the next start makes and shows them.
        assert out == ""
        assert [path.name for path in folder.iterdir()] == ["config.yaml"]


@pytest.mark.usefixtures("folder")
class TestBesideAServer:
    @pytest.mark.parametrize("settings", ["", FOREIGN_HOSTS], ids=["loopback", "foreign hosts"])
    def test_a_change_holds_for_the_next_request(self, run: Run, folder: Path, settings: str) -> None:
        (folder / "config.yaml").write_text(CONFIG + settings)
        with serving() as served:
            key = run("key", "create", "--name", "laptop", "--json").json
            headers = {"authorization": f"Bearer {key['key']}", "host": "gateway.example.com"}
            if not settings:
                del headers["host"]
            url = f"{served.url}/v1/models"
            assert httpx2.get(url, headers=headers).status_code == 200
            assert run("key", "revoke", key["id"]).status == 0
            refused = httpx2.get(url, headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "revoked_api_key")
            assert run("key", "show", "key_x").status == 1
            assert run("usage").status == 0
        assert run("key", "list", "--json").json[0]["id"] == key["id"]

    def test_the_admin_key_can_be_reset_while_it_runs(self, run: Run) -> None:
        with serving() as served:
            new = run("reset-admin-key", "--json").json["key"]
            old = next(line for line in served.lines if line.startswith("Admin key: ")).rpartition(" ")[2]
            statuses = [
                httpx2.get(
                    f"{served.url}/admin/api/keys", headers={"authorization": f"Bearer {key}"}
                ).status_code
                for key in (old, new)
            ]
            assert statuses == [401, 200]

    def test_a_second_server_on_the_same_database_does_not_start(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("proxy.cli.serve.LOCK_S", 0)
        with serving() as served:
            result = run("serve", "--port", "0")
            assert (result.status, result.out) == (2, "")
            assert str(served.process.pid) in result.err
            assert served.url in result.err

    def test_the_secret_of_a_start_is_for_its_user_alone(self, folder: Path) -> None:
        with serving() as served:
            run_file = folder / "sluice.db.run"
            assert run_file.stat().st_mode & 0o777 == 0o600
            assert json.loads(run_file.read_text())["url"] == served.url
        assert not run_file.exists()


def config_state(served: Served) -> tuple[str, str | None]:
    """Return when the configuration was loaded, and what is wrong with the file."""
    found = httpx2.get(f"{served.url}/readyz").json()["config"]
    return found["loaded_at"], found["error"]


def changed_state(served: Served, before: tuple[str, str | None]) -> tuple[str, str | None]:
    """Wait until the state of the configuration is another one."""
    deadline = time.monotonic() + 20
    while (now := config_state(served)) == before:
        assert time.monotonic() < deadline
    return now


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
class TestReload:
    def test_a_hangup_reads_the_configuration_again(self, folder: Path, run: Run) -> None:
        path = folder / "config.yaml"
        with serving() as served:
            first = config_state(served)
            path.write_text(CONFIG.replace("quick: ", "hasty: "))
            os.utime(path, (0, 0))
            served.process.send_signal(signal.SIGHUP)
            second = changed_state(served, first)
            assert second[1] is None
            key = run("key", "create", "--name", "laptop", "--json").json["key"]
            models = httpx2.get(f"{served.url}/v1/models", headers={"x-api-key": key}).json()["data"]
            assert "hasty" in {model["id"] for model in models}
            path.write_text("nonsense")
            served.process.send_signal(signal.SIGHUP)
            third = changed_state(served, second)
            assert third[0] == second[0]
            assert "config.yaml:1" in (third[1] or "")
            assert run("key", "list").status == 2  # commands read the file, too
            assert httpx2.get(f"{served.url}/v1/models", headers={"x-api-key": key}).status_code == 200
            assert served.stop() == 0

    def test_the_file_is_watched_and_the_log_tells(self, folder: Path) -> None:
        path, log = folder / "config.yaml", folder / "log.txt"
        with log.open("w") as stderr:
            process = start("--port", "0", stderr=stderr.fileno())
            served = Served(process)
            served.read_until("Sluice ")
            first = config_state(served)
            path.write_text(CONFIG + "server: {port: 1}\nlog: {format: json}\n")
            second = changed_state(served, first)
            path.write_text("provider: {}\n")
            third = changed_state(served, second)
            assert (second[1], third[0]) == (None, second[0])
            path.write_text(CONFIG)
            assert changed_state(served, third)[1] is None
            assert served.stop() == 0
            served.process.stdout.close()
        text = log.read_text()
        assert "changed: log.format changed: text → json" in text
        assert 'config.yaml:1: provider: unknown key (did you mean \\"providers\\"?)' in text
        assert text.count("unknown key") == 1
        # Given on the command line, the port is none of the file's.
        assert "needs a restart" not in text

    def test_a_terminal_that_is_closed_ends_its_server(self, folder: Path) -> None:
        ours, theirs = os.openpty()
        process = start("--port", "0", stderr=theirs, stdin=theirs)
        os.close(theirs)
        served = Served(process)
        served.read_until("Sluice ")
        first = config_state(served)
        process.send_signal(signal.SIGHUP)
        changed_state(served, first)  # somebody's wish
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == 0
        served.process.stdout.close()


@pytest.mark.usefixtures("folder")
class TestPrinting:
    def test_a_reader_that_has_seen_enough_is_no_error(self, run: Run) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        environ = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "proxy", "check", "--schema"]
        process = subprocess.run(command, env=environ, stdout=writer, stderr=subprocess.PIPE, check=False)
        os.close(writer)
        assert (process.returncode, process.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8484"),
        ("0.0.0.0", "http://127.0.0.1:8484"),
        ("::", "http://[::1]:8484"),
        ("192.0.2.7", "http://192.0.2.7:8484"),
    ],
)
def test_the_address_is_one_that_this_machine_can_reach(host: str, url: str) -> None:
    assert address(host, 8484) == url


def test_the_example_survives_a_shell() -> None:
    line = example("http://127.0.0.1:1", Secret("sk-sluice-x"), "it's")
    printed = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {line}"], check=True, capture_output=True, text=True
    )
    body = json.loads(printed.stdout.splitlines()[-1])
    assert body["model"] == "it's"


@pytest.mark.usefixtures("folder")
def test_each_exchange_is_one_line_on_standard_error(folder: Path) -> None:
    with (folder / "log.txt").open("w") as log:
        process = start("--port", "0", stderr=log.fileno())
        served = Served(process)
        served.read_until("Sluice ")
        curl = served.read_until("curl ")
        subprocess.run(["sh", "-c", curl], check=True, capture_output=True)
        assert served.stop() == 0
        served.process.stdout.close()
    lines = [line for line in (folder / "log.txt").read_text().splitlines() if "sluice.exchange" in line]
    assert len(lines) == 1
    assert "finish=ok" in lines[0]
    assert "Hello" not in lines[0]
