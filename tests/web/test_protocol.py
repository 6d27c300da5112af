"""What a client may send, how long it may take, and what becomes of the rest. docs/operations.md"""

import asyncio
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send

from proxy.web.head import RequestHead
from tests.support.raw import Answer, RawClient, serving

LOOPS = ("uvloop", "asyncio")

HOST = b"Host: localhost\r\n"
POST = b"POST /first HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SECOND = b"GET /second HTTP/1.1\r\n" + HOST + b"\r\n"


async def send_text(send: Send, text: str) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1")]})
    await send({"type": "http.response.body", "body": text.encode()})


class Recorder:
    """An app that reads each body and answers with its length; it remembers what it was asked."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.bodies: list[bytes] = []
        self.disconnects = 0

    @property
    def paths(self) -> list[str]:
        return [scope["path"] for scope in self.scopes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        body = b""
        message: Message = {"more_body": True}
        while message["more_body"]:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnects += 1
                return
            body += message["body"]
        self.bodies.append(body)
        await send_text(send, f"{len(body)} bytes")


async def refuses(data: bytes, status: int, code: str, **settings: object) -> Answer:
    """Send bytes, expect one refusal and the end of the connection, and nothing behind it."""
    app = Recorder()
    async with serving(app, **settings) as served, RawClient(served.address) as client:
        client.send(data)
        answer = await client.answer()
        assert await client.rest() == b""
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    error = answer.json["error"]
    assert error["code"] == code
    assert error["request_id"] == answer.headers["x-request-id"]
    assert "/second" not in app.paths
    assert app.bodies == []
    assert served.server.server_state.refused[code] == 1
    return answer


class TestFraming:
    """Each of these ends the connection: what two parsers may read differently is no request."""

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(
                POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="CL and TE"
            ),
            pytest.param(
                POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", id="TE and CL"
            ),
            pytest.param(POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", id="two CL"),
            pytest.param(POST + b"Content-Length: +3\r\n\r\nabc", id="CL +3"),
            pytest.param(POST + b"Content-Length: 0x3\r\n\r\nabc", id="CL 0x3"),
            pytest.param(POST + b"Content-Length: 3, 3\r\n\r\nabc", id="CL list"),
            pytest.param(POST + b"Content-Length: -1\r\n\r\nabc", id="CL -1"),
            pytest.param(POST + b"Content-Length: 99999999999999999999\r\n\r\nabc", id="CL huge"),
            pytest.param(POST + b"Content-Length: \r\n\r\nabc", id="CL empty"),
            pytest.param(POST + b"Content-Length : 3\r\n\r\nabc", id="CL space before colon"),
            pytest.param(POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", id="TE xchunked"),
            pytest.param(POST + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", id="TE identity"),
            pytest.param(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="TE gzip, chunked"),
            pytest.param(
                POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                id="TE twice",
            ),
            pytest.param(
                POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
                id="TE twice, differing",
            ),
            pytest.param(POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", id="TE space before colon"),
            pytest.param(POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", id="TE vertical tab"),
            pytest.param(POST + b"Transfer-Encoding: \r\n\r\n0\r\n\r\n", id="TE empty"),
            pytest.param(
                b"POST /first HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                id="TE in HTTP/1.0",
            ),
            pytest.param(b"GET /first HTTP/1.1\nHost: localhost\n\n", id="bare LF"),
            pytest.param(b"GET /first HTTP/1.1\r\nHost: localhost\n\r\n", id="bare LF behind a header"),
            pytest.param(b"GET /first HTTP/1.1\r\nX: a\rY: b\r\n" + HOST + b"\r\n", id="bare CR"),
            pytest.param(b"GET /first HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n", id="NUL in a value"),
            pytest.param(b"GET /first HTTP/1.1\r\n" + HOST + b"X\0: a\r\n\r\n", id="NUL in a name"),
            pytest.param(b"GET /fir\0st HTTP/1.1\r\n" + HOST + b"\r\n", id="NUL in the target"),
            pytest.param(b"GET /first HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n", id="obs-fold"),
            pytest.param(
                b"GET /first\xff HTTP/1.1\r\n" + HOST + b"\r\n", id="byte above ASCII in the target"
            ),
            pytest.param(CHUNKED + b"1;a\nx\r\n0\r\n\r\n", id="LF in a chunk extension"),
            pytest.param(CHUNKED + b"1\r\nxy\r\n0\r\n\r\n", id="chunk longer than its size"),
            pytest.param(CHUNKED + b"0x1\r\nx\r\n0\r\n\r\n", id="chunk size 0x1"),
            pytest.param(CHUNKED + b"+1\r\nx\r\n0\r\n\r\n", id="chunk size +1"),
            pytest.param(CHUNKED + b"ffffffffffffffff1\r\nx\r\n0\r\n\r\n", id="chunk size overflows"),
            pytest.param(CHUNKED + b"\r\nx\r\n0\r\n\r\n", id="chunk size empty"),
            pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2 preface"),
            pytest.param(b"GET /first HTTP/2.0\r\n" + HOST + b"\r\n", id="HTTP/2.0"),
            pytest.param(b"GET /first HTTP/9.9\r\n" + HOST + b"\r\n", id="HTTP/9.9"),
            pytest.param(b"GET /first\r\n\r\n", id="HTTP/0.9"),
            pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32), id="TLS"),
            pytest.param(b"GET @localhost/ HTTP/1.1\r\n" + HOST + b"\r\n", id="target @host"),
            pytest.param(b"GET first HTTP/1.1\r\n" + HOST + b"\r\n", id="target without slash"),
            pytest.param(b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", id="target * of GET"),
            pytest.param(b"GET /first#part HTTP/1.1\r\n" + HOST + b"\r\n", id="target with a fragment"),
            pytest.param(
                b"GET ftp://localhost/ HTTP/1.1\r\n" + HOST + b"\r\n", id="target of another scheme"
            ),
            pytest.param(b"GET http://a@localhost/ HTTP/1.1\r\n" + HOST + b"\r\n", id="target with userinfo"),
            pytest.param(b"get /first HTTP/1.1\r\n" + HOST + b"\r\n", id="lower-case method"),
        ],
    )
    async def test_is_refused_and_what_follows_is_no_request(self, data: bytes) -> None:
        await refuses(data + SECOND, 400, "invalid_value")

    async def test_content_length_zero_ends_the_request(self) -> None:
        app = Recorder()
        async with serving(app) as served, RawClient(served.address) as client:
            client.send(POST + b"Content-Length: 0\r\n\r\n" + SECOND)
            answer = await client.answer()
            assert await client.rest() == b""
        assert (answer.status, answer.body, answer.headers["connection"]) == (200, b"0 bytes", "close")
        assert app.paths == ["/first"]

    @pytest.mark.parametrize("split", ["whole", "byte by byte"])
    async def test_chunks_are_joined_and_trailers_dropped(self, split: str) -> None:
        data = CHUNKED + b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nAuthorization: Bearer x\r\nHost: evil\r\n\r\n"
        app = Recorder()
        async with serving(app) as served, RawClient(served.address) as client:
            for part in [data] if split == "whole" else [data[i : i + 1] for i in range(len(data))]:
                client.send(part)
                await client.writer.drain()
                await asyncio.sleep(0)
            assert (await client.answer()).body == b"5 bytes"
        assert app.bodies == [b"abcde"]
        assert [name for name, _ in app.scopes[0]["headers"]] == [b"host", b"transfer-encoding"]

    async def test_refusals_come_in_the_dialect_of_the_path(self) -> None:
        async with serving(Recorder()) as served, RawClient(served.address) as client:
            client.send(b"POST /v1/messages HTTP/1.1\r\n" + HOST + b"Content-Length: x\r\n\r\n")
            answer = await client.answer()
        assert answer.json["type"] == "error"
        assert answer.json["error"]["type"] == "invalid_request_error"
        assert answer.headers["request-id"] == answer.headers["x-request-id"] == answer.json["request_id"]

    async def test_connect_is_not_allowed(self) -> None:
        await refuses(b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n", 405, "method_not_allowed")

    async def test_leading_empty_lines_are_skipped(self) -> None:
        async with serving(Recorder()) as served, RawClient(served.address) as client:
            client.send(b"\r\n\r\n" + SECOND)
            assert (await client.answer()).status == 200


class TestTarget:
    async def test_path_and_query(self) -> None:
        app = Recorder()
        async with serving(app) as served, RawClient(served.address) as client:
            client.send(b"GET /a%20b/%2F?q=%31&x HTTP/1.1\r\n" + HOST + b"\r\n")
            await client.answer()
        scope = app.scopes[0]
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == (
            "/a b//",
            b"/a%20b/%2F",
            b"q=%31&x",
        )
        assert "state" not in scope

    @pytest.mark.parametrize(
        ("target", "path"),
        [(b"http://localhost/a?b", "/a"), (b"HTTP://127.0.0.1:80", "/"), (b"https://localhost?b", "/")],
    )
    async def test_absolute_form(self, target: bytes, path: str) -> None:
        app = Recorder()
        async with serving(app) as served, RawClient(served.address) as client:
            client.send(b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")
            await client.answer()
        assert app.paths == [path]

    async def test_asterisk_of_options(self) -> None:
        app = Recorder()
        async with serving(app) as served, RawClient(served.address) as client:
            client.send(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n")
            await client.answer()
        assert app.paths == ["*"]


class TestHost:
    @pytest.mark.parametrize(
        "headers",
        [b"", HOST + HOST, b"Host: a/b?c\r\n", b"Host:\r\n", b"Host: a b\r\n", b"Host: a@b\r\n"],
        ids=["missing", "two", "path", "empty", "space", "userinfo"],
    )
    async def test_exactly_one_well_formed(self, headers: bytes) -> None:
        await refuses(b"GET /first HTTP/1.1\r\n" + headers + b"\r\n" + SECOND, 400, "invalid_value")

    @pytest.mark.parametrize(
        "data",
        [
            b"GET /first HTTP/1.1\r\nHost: evil.test\r\n\r\n",
            b"GET http://evil.test/ HTTP/1.1\r\n" + HOST + b"\r\n",
        ],
        ids=["header", "absolute form"],
    )
    async def test_foreign_one_is_told_what_to_add(self, data: bytes) -> None:
        answer = await refuses(data + SECOND, 421, "misdirected_request")
        assert 'add "evil.test" to server.allowed_hosts' in answer.json["error"]["message"]

    async def test_allowed_one(self) -> None:
        async with (
            serving(Recorder(), allowed_hosts=("gw.example.com",)) as served,
            RawClient(served.address) as client,
        ):
            client.send(b"GET /first HTTP/1.1\r\nHost: GW.example.com:8484\r\n\r\n")
            assert (await client.answer()).status == 200

    async def test_http10_may_have_none(self) -> None:
        async with serving(Recorder()) as served, RawClient(served.address) as client:
            client.send(b"GET /first HTTP/1.0\r\n\r\n")
            assert (await client.answer()).status == 200


class TestUpgrade:
    REQUEST = (
        b"POST /first HTTP/1.1\r\n"
        b"Connection: Upgrade, HTTP2-Settings\r\n"
        + HOST
        + b"Upgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
        b"Content-Length: 10\r\n\r\n0123456789"
    )

    @pytest.mark.parametrize("split", [None, *range(1, len(REQUEST), 7)])
    async def test_h2c_is_ignored_and_the_body_read(self, split: int | None) -> None:
        app = Recorder()
        async with serving(app) as served, RawClient(served.address) as client:
            for part in [self.REQUEST[:split], self.REQUEST[split:] if split else b""]:
                client.send(part)
                await asyncio.sleep(0.001 if split else 0)  # lets the parts arrive apart; any order passes
            assert (await client.answer()).body == b"10 bytes"
            client.send(SECOND)
            assert (await client.answer()).status == 200
        assert app.bodies == [b"0123456789", b""]
        names = [name for name, _ in app.scopes[0]["headers"]]
        assert b"upgrade" not in names
        assert b"http2-settings" not in names

    async def test_with_a_chunked_body_and_a_close(self) -> None:
        app = Recorder()
        async with serving(app) as served, RawClient(served.address) as client:
            client.send(POST + b"Connection: close, upgrade\r\nUpgrade: h2c\r\n")
            client.send(b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + SECOND)
            answer = await client.answer()
            assert await client.rest() == b""
        assert (answer.body, answer.headers["connection"]) == (b"3 bytes", "close")
        assert app.bodies == [b"abc"]

    async def test_websocket_gets_the_apps_answer(self) -> None:
        app = Recorder()
        async with serving(app) as served, RawClient(served.address) as client:
            client.send(b"GET /v1 HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
            client.send(b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
            assert (await client.answer()).status == 200
        assert app.paths == ["/v1"]

    async def test_framing_is_checked_all_the_same(self) -> None:
        data = POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: xchunked\r\n\r\n"
        await refuses(data + SECOND, 400, "invalid_value")

    @pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
    async def test_curl(self) -> None:
        app = Recorder()
        async with serving(app) as served:
            url = f"http://127.0.0.1:{served.address[1]}/first"
            process = await asyncio.create_subprocess_exec(
                *("curl", "-sS", "--http2", "--data-binary", "@-", url),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            output, _ = await process.communicate(b"x" * 100_000)
        assert output == b"100000 bytes"

    @pytest.mark.skipif(shutil.which("javac") is None, reason="needs a JDK")
    async def test_java(self, tmp_path: Path) -> None:
        source = tmp_path / "Post.java"
        source.write_text(
            """
            import java.net.URI;
            import java.net.http.*;

            public class Post {
                public static void main(String[] args) throws Exception {
                    HttpRequest request = HttpRequest.newBuilder(URI.create(args[0]))
                        .POST(HttpRequest.BodyPublishers.ofString("x".repeat(100000))).build();
                    HttpClient client = HttpClient.newHttpClient();
                    for (int i = 0; i < 2; i++) {
                        System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
                    }
                }
            }
            """
        )
        app = Recorder()
        async with serving(app) as served:
            url = f"http://127.0.0.1:{served.address[1]}/first"
            process = await asyncio.create_subprocess_exec(
                *("java", str(source), url), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            output, _ = await process.communicate()
        assert output.split(b"\n")[:2] == [b"100000 bytes"] * 2


class TestLimits:
    @pytest.mark.parametrize(
        "head",
        [
            b"GET /first HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 5000 + b"\r\n\r\n",
            b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
            b"GET /first HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 101 + b"\r\n",
        ],
        ids=["one long header", "long target", "101 headers"],
    )
    async def test_head_too_large(self, head: bytes) -> None:
        await refuses(head + SECOND, 431, "headers_too_large", max_header_kib=4)

    async def test_nothing_but_empty_lines(self) -> None:
        await refuses(b"\r\n" * 5000, 431, "headers_too_large", max_header_kib=4)

    async def test_head_without_end(self) -> None:
        """Eight megabytes of one header: refused long before they are sent."""
        async with serving(Recorder()) as served, RawClient(served.address) as client:
            client.send(b"GET /first HTTP/1.1\r\nX: ")
            for _ in range(128):
                client.send(b"a" * 65536)
            answer = await client.answer()
            assert answer.status == 431

    async def test_head_at_the_limit(self) -> None:
        head = b"POST /first HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 98
        async with serving(Recorder(), max_header_kib=1) as served, RawClient(served.address) as client:
            client.send(head + b"Content-Length: 5000\r\n\r\n" + b"b" * 5000)
            assert (await client.answer()).body == b"5000 bytes"

    async def test_chopped_body(self) -> None:
        """A million chunks of one byte cost little, as they are not taken."""
        app = Recorder()
        async with serving(app) as served, RawClient(served.address) as client:
            client.send(CHUNKED)
            used_s = time.process_time()
            client.send(b"1\r\nx\r\n" * 1_000_000 + b"0\r\n\r\n")
            answer = await client.answer()
            used_s = time.process_time() - used_s
        assert (answer.status, answer.json["error"]["code"]) == (413, "body_too_large")
        assert app.disconnects == 1
        assert used_s < 1

    async def test_endless_trailers(self) -> None:
        async with serving(Recorder()) as served, RawClient(served.address) as client:
            client.send(CHUNKED + b"0\r\nX: ")
            for _ in range(16):
                client.send(b"a" * 65536)
            assert (await client.answer()).status == 413

    async def test_ordinary_chunks_are_no_chopping(self) -> None:
        async with serving(Recorder()) as served, RawClient(served.address) as client:
            client.send(CHUNKED + (b"40\r\n" + b"x" * 64 + b"\r\n") * 50_000 + b"0\r\n\r\n")
            assert (await client.answer()).body == b"3200000 bytes"

    async def test_too_many_connections(self) -> None:
        async with serving(Recorder(), max_connections=1) as served, RawClient(served.address) as first:
            first.send(SECOND)
            await first.answer()
            async with RawClient(served.address) as second:
                second.send(SECOND)
                answer = await second.answer()
                assert await second.rest() == b""
            assert (answer.status, answer.json["error"]["code"]) == (503, "overloaded")
            assert answer.headers["retry-after"] == "1"
            first.send(SECOND)
            assert (await first.answer()).status == 200

    async def test_silent_connections_give_their_places_back(self) -> None:
        async with (
            serving(Recorder(), max_connections=1, header_timeout_s=0.05) as served,
            RawClient(served.address) as silent,
        ):
            assert await silent.rest() == b""
            async with RawClient(served.address) as client:
                client.send(SECOND)
                assert (await client.answer()).status == 200

    async def test_connections_far_beyond_the_limit_are_cut(self) -> None:
        async with serving(Recorder(), max_connections=1) as served, RawClient(served.address) as first:
            first.send(SECOND)
            await first.answer()
            others = [RawClient(served.address) for _ in range(40)]
            for each in others:
                await each.__aenter__()
            told = [(await each.rest())[:12] for each in others]
            assert told.count(b"HTTP/1.1 503") == 32
            assert told.count(b"") == 8
            for each in others:
                await each.__aexit__(None, None, None)


class TestDeadlines:
    async def test_silent_connection(self) -> None:
        async with serving(Recorder(), header_timeout_s=0.05) as served, RawClient(served.address) as client:
            assert await client.rest() == b""

    async def test_half_a_request_line(self) -> None:
        async with serving(Recorder(), header_timeout_s=0.05) as served, RawClient(served.address) as client:
            client.send(b"POST /v1/chat")
            assert await client.rest() == b""

    async def test_half_a_head(self) -> None:
        answer = await refuses(POST + b"X: a\r\nY", 408, "request_timeout", header_timeout_s=0.05)
        assert "headers did not arrive whole within 0.05 s" in answer.json["error"]["message"]

    async def test_trickling_does_not_extend_it(self) -> None:
        async with serving(Recorder(), header_timeout_s=0.1) as served, RawClient(served.address) as client:
            answer = asyncio.create_task(client.answer())
            client.send(b"GET / HTTP/1.1\r\nX: ")
            while not answer.done():
                client.send(b"a")
                await asyncio.sleep(0.01)
            assert answer.result().status == 408

    async def test_of_a_second_request(self) -> None:
        async with serving(Recorder(), header_timeout_s=0.05) as served, RawClient(served.address) as client:
            client.send(SECOND)
            await client.answer()
            client.send(b"GET / HTTP/1.1\r\n")
            assert (await client.answer()).status == 408
            assert await client.rest() == b""

    @pytest.mark.parametrize("body", [b"", b"a", b"abcd"], ids=["none", "one byte", "all but one"])
    async def test_body(self, body: bytes) -> None:
        data = POST + b"Content-Length: 5\r\n\r\n" + body
        answer = await refuses(data, 408, "request_timeout", body_timeout_s=0.05)
        assert "body did not arrive whole within 0.05 s" in answer.json["error"]["message"]

    async def test_idle_connection(self) -> None:
        async with serving(Recorder()) as served:
            served.demand(keep_alive_s=0.05)
            async with RawClient(served.address) as client:
                client.send(SECOND)
                await client.answer()
                assert await client.rest() == b""

    async def test_long_answers_have_none(self) -> None:
        release = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await release.wait()
            await send_text(send, "late")

        async with (
            serving(app, header_timeout_s=0.05, body_timeout_s=0.05) as served,
            RawClient(served.address) as client,
            RawClient(served.address) as other,
        ):
            client.send(SECOND)
            assert await other.rest() == b""  # both deadlines have passed, for a silent client
            release.set()
            assert (await client.answer()).body == b"late"


class TestEarlyAnswers:
    """The app answers before the body is read: what follows is never a request."""

    @staticmethod
    async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
        await send_text(send, scope["path"])

    async def test_the_connection_closes(self) -> None:
        async with serving(self.refusing) as served, RawClient(served.address) as client:
            client.send(POST + b"Content-Length: 1000000\r\n\r\n")
            answer = await client.answer()
            assert (answer.body, answer.headers["connection"]) == (b"/first", "close")
            client.send(SECOND)
            assert await client.rest() == b""

    async def test_the_answer_survives_a_body_sent_whole(self) -> None:
        """Without waiting for the client's end its bytes would reset the connection."""
        async with serving(self.refusing) as served, RawClient(served.address) as client:
            client.send(POST + b"Content-Length: 8000000\r\n\r\n" + b"x" * 8_000_000)
            await client.writer.drain()
            assert (await client.answer()).body == b"/first"
            assert await client.rest() == b""

    async def test_only_so_much_is_discarded(self) -> None:
        async with serving(self.refusing) as served:
            served.demand(max_discarded_bytes=100_000)
            async with RawClient(served.address) as client:
                client.send(POST + b"Content-Length: 100000000\r\n\r\n")
                await client.answer()
                client.send(b"x" * 50_000_000)
                with pytest.raises(ConnectionError):
                    await client.writer.drain()

    async def test_only_so_long_a_silence_is_waited_for(self) -> None:
        async with serving(self.refusing) as served:
            served.demand(linger_s=0.05)
            async with RawClient(served.address) as client:
                client.send(POST + b"Content-Length: 1000000\r\n\r\n")
                await client.answer()
                await served.deserted()

    async def test_only_for_so_long_in_all(self) -> None:
        async with serving(self.refusing) as served:
            served.demand(body_timeout_s=0.05)
            async with RawClient(served.address) as client:
                client.send(POST + b"Content-Length: 1000000\r\n\r\n")
                await client.answer()
                deserted = asyncio.create_task(served.deserted())
                while not deserted.done():
                    client.send(b"x")
                    await asyncio.sleep(0.005)  # never silent for linger_s

    async def test_a_body_that_was_there_keeps_the_connection(self) -> None:
        async with serving(self.refusing) as served, RawClient(served.address) as client:
            client.send(POST + b"Content-Length: 3\r\n\r\nabc")
            assert "connection" not in (await client.answer()).headers
            client.send(SECOND)
            assert (await client.answer()).body == b"/second"


class TestExpect:
    HEAD = POST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"

    async def test_is_answered_when_the_app_reads(self) -> None:
        async with serving(Recorder()) as served, RawClient(served.address) as client:
            client.send(self.HEAD)
            assert (await client.answer()).status == 100
            client.send(b"abc")
            assert (await client.answer()).body == b"3 bytes"

    async def test_is_not_when_the_app_refuses(self) -> None:
        async with serving(TestEarlyAnswers.refusing) as served, RawClient(served.address) as client:
            client.send(self.HEAD)
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")

    @pytest.mark.parametrize(
        "data",
        [HEAD + b"abc", HEAD.replace(b"1.1", b"1.0") + b"abc", HEAD.replace(b"100-continue", b"x") + b"abc"],
        ids=["body is there", "HTTP/1.0", "another expectation"],
    )
    async def test_is_left_out(self, data: bytes) -> None:
        async with serving(Recorder()) as served, RawClient(served.address) as client:
            client.send(data)
            assert (await client.answer()).body == b"3 bytes"


class TestOurOwnFaults:
    async def test_in_the_parser_end_the_connection(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(self: RequestHead, name: bytes, value: bytes) -> None:
            raise LookupError("a bug")

        monkeypatch.setattr(RequestHead, "add", broken)
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        app = Recorder()
        async with serving(app) as served, RawClient(served.address) as client:
            client.send(SECOND)
            assert await client.rest() == b""
        assert len(failures) == 1
        assert app.scopes == []


class TestPipelining:
    async def test_requests_one_after_the_other(self) -> None:
        app = Recorder()
        async with serving(app) as served, RawClient(served.address) as client:
            for size in (0, 3, 100_000):
                client.send(POST + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)
                assert (await client.answer()).body == b"%d bytes" % size
        assert len(app.paths) == 3

    @pytest.mark.parametrize(
        "extra",
        [SECOND, SECOND[:10], b"\0nonsense", SECOND * 10_000],
        ids=["request", "part", "nonsense", "many"],
    )
    async def test_too_early_a_request_closes_behind_the_answer(self, extra: bytes) -> None:
        app = Recorder()
        async with serving(app) as served, RawClient(served.address) as client:
            client.send(POST + b"Content-Length: 3\r\n\r\nabc" + extra)
            assert (await client.answer()).body == b"3 bytes"
            assert await client.rest() == b""
        assert app.paths == ["/first"]

    async def test_only_so_much_of_it_is_discarded(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        async with serving(app) as served:
            served.demand(max_discarded_bytes=100_000)
            async with RawClient(served.address) as client:
                client.send(SECOND)
                client.send(SECOND * 10_000)
                assert await client.rest() == b""

    @pytest.mark.parametrize("count", [1, 10_000])
    async def test_while_an_answer_streams(self, count: int) -> None:
        release = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            await release.wait()
            await send({"type": "http.response.body", "body": b"b"})

        async with serving(app) as served, RawClient(served.address) as client:
            client.send(SECOND)
            await client.head()
            chunks = client.chunks()
            assert await anext(chunks) == b"a"
            client.send(SECOND * count)
            await client.writer.drain()
            async with RawClient(served.address) as other:  # by its refusal, the bytes above are read
                other.send(b"nonsense\r\n\r\n")
                await other.answer()
            release.set()
            assert await anext(chunks) == b"b"
            assert [chunk async for chunk in chunks] == []
            assert await client.rest() == b""
