"""Start and end of the server: addresses, signals, the grace. docs/operations.md, "Stopping" """

import asyncio
import os
import resource
import socket

import pytest
from starlette.types import Receive, Scope, Send

from proxy.config import schema
from proxy.web import server as server_module
from proxy.web.server import CannotListen, raise_descriptor_limit
from tests.support.raw import RawClient, serving

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
            await client.answer()
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

    def test_refused_by_the_kernel(self, limits: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
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
            while not served.calls:
                await asyncio.sleep(0)
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
            while not served.calls:
                await asyncio.sleep(0)
            idle.send(GET.replace(b"/ ", b"/hello "))
            answer = await idle.answer()
            assert (answer.body, answer.headers["connection"]) == (b"hello", "close")
            assert await idle.rest() == b""
            app.release.set()
            await served.stopped()

    async def test_what_runs_past_the_grace_is_ended_by_the_hook(self) -> None:
        app = Stream()
        async with serving(app, shutdown_grace_s=0.05) as served, RawClient(served.address) as client:
            client.send(GET)
            await client.head()
            assert await anext(client.chunks()) == b"a"
            hook = served.calls.append
            served.calls.append = None  # type: ignore[method-assign,assignment]  # replaced below
            served.calls = EndingCalls(app, hook)  # type: ignore[assignment]
