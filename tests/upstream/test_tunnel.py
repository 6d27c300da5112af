import base64

import pytest

from proxy.core.errors import Progress
from proxy.upstream.client import UpstreamClient
from proxy.upstream.request import Origin
from proxy.upstream.tunnel import HttpProxy, TunnelFailed
from tests.support.asking import ask_whole, failure_of, impatient
from tests.support.connect_proxy import ConnectProxy
from tests.support.ports import refusing_port
from tests.support.upstream import Upstream


def through(upstream: Upstream, proxy: ConnectProxy, userinfo: str = "") -> Origin:
    return Origin("http", "127.0.0.1", upstream.port, http_proxy=f"http://{userinfo}{proxy.address}")


async def test_requests_go_through_the_tunnel(client: UpstreamClient, upstream: Upstream) -> None:
    async with ConnectProxy() as proxy:
        origin = through(upstream, proxy)
        assert b"Hello" in await ask_whole(client, origin)
        assert b"Hello" in await ask_whole(client, origin)
        target = f"127.0.0.1:{upstream.port}"
        assert proxy.heads == [f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n".encode()]
        assert [request.target for request in upstream.requests] == ["/v1/chat/completions"] * 2
        assert len(upstream.links) == 1
        await client.close()


async def test_user_and_password_are_for_the_proxy_alone(client: UpstreamClient, upstream: Upstream) -> None:
    async with ConnectProxy() as proxy:
        await ask_whole(client, through(upstream, proxy, "us%40er:pass:w%2Frd@"))
        line = b"proxy-authorization: Basic " + base64.b64encode(b"us@er:pass:w/rd")
        assert line in proxy.heads[0].split(b"\r\n")
        assert upstream.requests[0].header("proxy-authorization") is None
        await client.close()


FAILURES = {
    "refused": (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "status 407"),
    "bad gateway": (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 3\r\n\r\nbad", "status 502"),
    "garbage": (b"SSH-2.0-OpenSSH\r\n\r\n", "did not answer CONNECT in HTTP"),
    "endless": (b"HTTP/1.1 400 OK\r\nx: " + b"y" * 100_000, "did not answer CONNECT in HTTP"),
    "too much": (b"HTTP/1.1 200 OK\r\n\r\nhello", "sent something into the tunnel"),
}


@pytest.mark.parametrize(("answer", "reason"), FAILURES.values(), ids=FAILURES.keys())
async def test_proxies_that_open_no_tunnel(
    client: UpstreamClient, upstream: Upstream, answer: bytes, reason: str
) -> None:
    async with ConnectProxy(answer) as proxy:
        origin = through(upstream, proxy, "user:secret@")
        _, failure = await failure_of(client, origin)
        assert (failure.code, failure.progress) == ("upstream_connect_failed", Progress.NOT_CONNECTED)
        assert f"{origin} through the proxy {proxy.address}: it " in str(failure)
        assert reason in str(failure)
        assert "secret" not in f"{failure} {failure!r} {failure.__cause__!r} {origin!r}"
    assert upstream.requests == []


async def test_proxy_that_closes(client: UpstreamClient, upstream: Upstream) -> None:
    async with ConnectProxy(None) as proxy:
        _, failure = await failure_of(client, through(upstream, proxy))
    assert failure.code == "upstream_connect_failed"
    assert "did not answer CONNECT" in str(failure)


async def test_proxy_that_does_not_answer(client: UpstreamClient, upstream: Upstream) -> None:
    async with ConnectProxy(b"") as proxy:
        _, failure = await failure_of(client, through(upstream, proxy), deadlines=impatient(connect_s=0.1))
    assert (failure.code, failure.progress) == ("upstream_connect_timeout", Progress.NOT_CONNECTED)


async def test_proxy_that_cannot_be_reached(client: UpstreamClient) -> None:
    with refusing_port() as port:
        origin = Origin("http", "api.example", 80, http_proxy=f"http://127.0.0.1:{port}")
        _, failure = await failure_of(client, origin)
    assert str(failure) == (
        f"cannot connect to api.example:80 through the proxy 127.0.0.1:{port}: Connection refused"
    )


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "a..example"])
async def test_proxy_whose_name_is_none(client: UpstreamClient, host: str) -> None:
    _, failure = await failure_of(client, Origin("http", "api.example", 80, http_proxy=f"http://{host}"))
    assert failure.code == "upstream_connect_failed"


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy.example:3128", HttpProxy("proxy.example", 3128)),
        ("http://proxy.example", HttpProxy("proxy.example", 80)),
        ("http://proxy.example:3128/", HttpProxy("proxy.example", 3128)),
        ("http://[::1]:3128", HttpProxy("::1", 3128)),
        ("http://u@proxy.example", HttpProxy("proxy.example", 80, b"Basic " + base64.b64encode(b"u:"))),
        ("http://u:p@proxy.example", HttpProxy("proxy.example", 80, b"Basic " + base64.b64encode(b"u:p"))),
    ],
)
def test_proxy_urls(url: str, proxy: HttpProxy) -> None:
    assert HttpProxy.parse(url) == proxy


@pytest.mark.parametrize(
    "url",
    ["https://secret@proxy.example", "socks5://secret@h:1", "secret", "http://secret@", "http://secret@h:99999",
     "http://secret@[::1", "http://secret@h:x"],
)  # fmt: skip
def test_other_urls_are_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(TunnelFailed) as caught:
        HttpProxy.parse(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None or "secret" not in str(caught.value.__context__)


async def test_ipv6_targets_have_brackets(client: UpstreamClient) -> None:
    async with ConnectProxy(b"HTTP/1.1 403 Forbidden\r\n\r\n") as proxy:
        await failure_of(client, Origin("http", "::1", 80, http_proxy=f"http://{proxy.address}"))
    assert proxy.heads == [b"CONNECT [::1]:80 HTTP/1.1\r\nhost: [::1]:80\r\n\r\n"]
