"""Start and end of the server: addresses, signals, the grace. docs/operations.md, "Stopping" """

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from proxy.config import schema
from proxy.web import server as server_module
from proxy.web.server import CannotListen, raise_descriptor_limit, run
from tests.support.raw import PATIENCE_S, RawClient, serving

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Stream:
    """An app that starts an answer at once and ends it when told to."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.cancelled = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        await send({"type": "http.response.body", "body": b"b"})


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


class TestListening:
    async def test_a_busy_port_names_the_option(self) -> None:
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            holder.listen()
            port = holder.getsockname()[1]
            with pytest.raises(CannotListen, match=rf"Port {port} on 127\.0\.0\.1 is in use.*--port"):
                async with serving(hello, port=port):
                    pass

    async def test_an_address_of_others_names_the_option(self) -> None:
        with pytest.raises(CannotListen, match=r"Cannot listen on 192\.0\.2\.1.*--host"):
            async with serving(hello, host="192.0.2.1"):
                pass

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may use any port")
    async def test_a_privileged_port_names_the_option(self) -> None:
        with pytest.raises(CannotListen, match=r"Port 80 needs privileges.*--port"):
            async with serving(hello, port=80):
                pass

    def test_privileged_port_message(self) -> None:
        error = server_module._cannot_listen("127.0.0.1", 80, PermissionError(13, "Permission denied"))
        assert "Port 80 needs privileges" in str(error)

    async def test_a_date_and_no_server_name(self) -> None:
        async with serving(hello) as served, RawClient(served.address) as client:
            client.send(GET)
            answer = await client.answer()
        assert answer.headers["date"].endswith("GMT")
        assert "server" not in answer.headers


class TestSettings:
    async def test_others_hold_from_the_next_request_on(self) -> None:
        async with serving(hello) as served, RawClient(served.address) as client:
            client.send(GET)
            await client.answer()
            served.server.apply(schema.Server(allowed_hosts=("gw.test",), max_header_kib=1))
            client.send(GET.replace(b"localhost", b"gw.test"))
            assert (await client.answer()).status == 200
            async with RawClient(served.address) as other:
                other.send(GET.replace(b"localhost", b"gw.test"))
                assert (await other.answer()).status == 200
            client.send(GET[:-2] + b"X: " + b"a" * 2000 + b"\r\n\r\n")
            assert (await client.answer()).status == 431

    async def test_connections_are_lowered_to_the_descriptors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_module, "raise_descriptor_limit", lambda wanted: 1024)
        async with serving(hello) as served:
            assert served.server.server_state.policy.max_connections == (1024 - 64) // 2

    async def test_and_never_to_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_module, "raise_descriptor_limit", lambda wanted: 30)
        async with serving(hello) as served:
            assert served.server.server_state.policy.max_connections == 8

    async def test_without_a_limit_they_are_as_configured(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_module, "raise_descriptor_limit", lambda wanted: None)
        async with serving(hello, max_connections=50_000) as served:
            assert served.server.server_state.policy.max_connections == 50_000


class TestDescriptorLimit:
    @pytest.fixture
    def limits(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
        """The limits of this process: the last pair is in force."""
        pairs = [(1024, 4096)]
        monkeypatch.setattr(resource, "getrlimit", lambda _: pairs[-1])
        monkeypatch.setattr(resource, "setrlimit", lambda _, pair: pairs.append(pair))
        return pairs

    def test_raised_to_what_is_wanted(self, limits: list[tuple[int, int]]) -> None:
        assert raise_descriptor_limit(2000) == 2000
        assert limits[-1] == (2000, 4096)

    def test_raised_as_far_as_allowed(self, limits: list[tuple[int, int]]) -> None:
        assert raise_descriptor_limit(20_000) == 4096

    def test_never_lowered(self, limits: list[tuple[int, int]]) -> None:
        assert raise_descriptor_limit(100) == 1024
        assert len(limits) == 1

    def test_unlimited(self, limits: list[tuple[int, int]]) -> None:
        limits.append((1024, resource.RLIM_INFINITY))
        assert raise_descriptor_limit(20_000) == 20_000
        limits.append((resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert raise_descriptor_limit(20_000) is None

    def test_refused_by_the_kernel(
        self, limits: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(kind: int, pair: tuple[int, int]) -> None:
            raise ValueError("current limit exceeds maximum limit")

        monkeypatch.setattr(resource, "setrlimit", refuse)
        assert raise_descriptor_limit(2000) == 1024


class TestStopping:
    async def test_at_once_when_nothing_runs(self) -> None:
        async with serving(hello, shutdown_grace_s=60) as served:
            async with RawClient(served.address) as client:
                client.send(GET)
                await client.answer()
                served.server.stop()
                assert await client.rest() == b""
            await served.stopped()
        assert served.calls == ["stop", "close"]

    async def test_running_answers_finish(self) -> None:
        app = Stream()
        async with serving(app, shutdown_grace_s=60) as served, RawClient(served.address) as client:
            client.send(GET)
            await client.head()
            chunks = client.chunks()
            assert await anext(chunks) == b"a"
            served.server.stop()
            await served.stopping.wait()
            with pytest.raises(ConnectionRefusedError):
                async with RawClient(served.address):
                    pass
            app.release.set()
            assert await anext(chunks) == b"b"
            assert [chunk async for chunk in chunks] == []
            assert await client.rest() == b""
            await served.stopped()
        assert served.calls == ["stop", "close"]

    async def test_requests_on_open_connections_are_answered_and_closed(self) -> None:
        """Meanwhile the app refuses them with 503 shutting_down, and readiness probes too."""
        app = Stream()

        async def both(scope: Scope, receive: Receive, send: Send) -> None:
            await (hello if scope["path"] == "/hello" else app)(scope, receive, send)

        async with (
            serving(both, shutdown_grace_s=60) as served,
            RawClient(served.address) as running,
            RawClient(served.address) as idle,
        ):
            running.send(GET)
            await running.head()
            idle.send(GET.replace(b"/ ", b"/hello "))
            assert "connection" not in (await idle.answer()).headers
            served.server.stop()
            await served.stopping.wait()
            idle.send(GET.replace(b"/ ", b"/hello "))
            answer = await idle.answer()
            assert (answer.body, answer.headers["connection"]) == (b"hello", "close")
            assert await idle.rest() == b""
            app.release.set()
            await served.stopped()

    async def test_what_runs_past_the_grace_is_ended_by_the_hook(self) -> None:
        app = Stream()
        async with (
            serving(app, shutdown_grace_s=0.05, on_grace_over=app.release.set) as served,
            RawClient(served.address) as client,
        ):
            client.send(GET)
            await client.head()
            served.server.stop()
            assert [chunk async for chunk in client.chunks()] == [b"a", b"b"]
            await served.stopped()
        assert served.calls == ["stop", "grace_over", "close"]
        assert not app.cancelled

    async def test_what_does_not_end_then_is_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_module, "AFTER_GRACE_S", 0.05)
        app = Stream()
        async with serving(app, shutdown_grace_s=0) as served, RawClient(served.address) as client:
            client.send(GET)
            await client.head()
            served.server.stop()
            assert not (await client.rest()).endswith(b"0\r\n\r\n")
            await served.stopped()
        assert served.calls == ["stop", "grace_over", "close"]
        assert app.cancelled

    async def test_a_client_that_takes_nothing_does_not_hold_it_up(self) -> None:
        sent = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * 2**20})
            sent.set()

        async with (
            serving(app, shutdown_grace_s=0) as served,
            RawClient(served.address, receive_buffer=4096) as client,
        ):
            client.writer.transport.pause_reading()
            client.send(GET)
            await sent.wait()
            served.server.stop()
            await served.stopped()
        assert served.calls == ["stop", "close"]


PROGRAM = """
import asyncio, sys
from proxy.config import schema
from proxy.web.server import CannotListen, Hooks, Server, run

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await asyncio.sleep(float(scope["query_string"]))
    await send({"type": "http.response.body", "body": b"b"})

def say(*words):
    print(*words, flush=True)

async def close():
    say("close")

async def main():
    hooks = Hooks(say, lambda: say("stop"), lambda: say("grace over"), close)
    await Server(app, schema.Server(port=0, shutdown_grace_s=60), hooks).serve()
    say(type(asyncio.get_running_loop()).__module__)

run(main())
"""


@contextlib.asynccontextmanager
async def program() -> AsyncIterator[tuple[asyncio.subprocess.Process, RawClient]]:
    """A server in a process of its own, and a client of it."""
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM), cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
        host, port = line.split()
        async with RawClient((host.decode(), int(port))) as client:
            yield process, client
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_the_first_one_ends_cleanly(self, number: signal.Signals) -> None:
        async with program() as (process, client):
            client.send(GET.replace(b"/ ", b"/?0.2 "))
            await client.head()
            process.send_signal(number)
            assert [chunk async for chunk in client.chunks()] == [b"a", b"b"]
            output, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert (process.returncode, errors) == (0, b"")
        assert output.decode().split("\n")[:2] == ["stop", "close"]
        assert "uvloop" in output.decode()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_a_second_one_ends_at_once(self, number: signal.Signals) -> None:
        async with program() as (process, client):
            client.send(GET.replace(b"/ ", b"/?3600 "))
            await client.head()
            assert process.stdout is not None
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.stdout.readline(), PATIENCE_S) == b"stop\n"
            process.send_signal(number)
            output, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert (process.returncode, output, errors) == (server_module.EXIT_INTERRUPTED, b"", b"")


def test_run_returns_the_result() -> None:
    async def main() -> int:
        return 42

    assert run(main()) == 42


def test_loops_without_signal_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows' event loop has none; a handler of the process itself does."""
    called = []

    def refuse(number: int, handler: object) -> None:
        raise NotImplementedError

    async def main() -> None:
        loop = asyncio.get_running_loop()
        received = asyncio.Event()
        undo = server_module._handle_signal(loop, signal.SIGTERM, received.set)
        os.kill(os.getpid(), signal.SIGTERM)
        await received.wait()
        undo()
        called.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_signal_handler", lambda self, *args: refuse(*args))
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())
    assert called == [before]


def test_garbage_collection_is_tuned() -> None:
    program = (
        "import gc; from proxy.web.server import tune_garbage_collection as tune; tune();"
        "print(gc.get_threshold(), gc.get_freeze_count() > 1000)"
    )
    output = subprocess.check_output([sys.executable, "-c", program], cwd=Path(__file__).parents[2])
    assert output == b"(50000, 20, 100) True\n"
