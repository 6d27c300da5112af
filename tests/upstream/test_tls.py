import asyncio
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from proxy.core.errors import Progress, UpstreamTruncated
from proxy.upstream.client import UpstreamClient
from proxy.upstream.request import Origin
from proxy.upstream.tls import TlsContexts
from tests.support.asking import ask, ask_whole, eventually, failure_of, impatient
from tests.support.connect_proxy import ConnectProxy
from tests.support.replies import End, chat, chat_stream, text
from tests.support.upstream import Upstream

YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def origin_of(upstream: Upstream, ca_file: Path | None = None, host: str = "127.0.0.1") -> Origin:
    return Origin("https", host, upstream.port, ca_file=ca_file)


async def test_certificates_of_the_ca_file_are_trusted(
    client: UpstreamClient, authority: trustme.CA, ca_file: Path
) -> None:
    async with Upstream(tls=server_context(authority.issue_cert("127.0.0.1"))) as upstream:
        origin = origin_of(upstream, ca_file)
        assert b"Hello" in await ask_whole(client, origin)
        assert b"Hello" in await ask_whole(client, origin)
        assert len(upstream.links) == 1
        upstream.reply(text("x" * 3_000_000), chat_stream("a", "b").in_pieces(10))
        response = await ask(client, origin, body=b"y" * 3_000_000)
        assert len(await response.read_all(10_000_000)) == 3_000_000
        assert len(upstream.requests[-1].body) == 3_000_000
        assert (await ask_whole(client, origin)).endswith(b"data: [DONE]\n\n")
        assert client.idle_connections == 1


async def test_ssl_cert_file_adds_to_what_is_trusted(
    client: UpstreamClient, authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    usual = await certificates()
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    assert usual < await certificates()
    async with Upstream(tls=server_context(authority.issue_cert("127.0.0.1"))) as upstream:
        assert b"Hello" in await ask_whole(client, origin_of(upstream))


async def certificates() -> set[bytes]:
    context = await TlsContexts().get(None)
    return set(context.get_ca_certs(binary_form=True))


async def test_contexts_verify_and_are_made_once_for_each_file(ca_file: Path) -> None:
    contexts = TlsContexts()
    context, same = await asyncio.gather(contexts.get(None), contexts.get(None))
    assert context is same
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) > 100  # certifi's, whatever the system has
    assert await contexts.get(None) is context
    assert await contexts.get(ca_file) is await contexts.get(ca_file)
    assert await contexts.get(ca_file) is not context


async def test_context_that_could_not_be_made_is_tried_again(ca_file: Path) -> None:
    contexts = TlsContexts()
    content = ca_file.read_text()
    ca_file.unlink()
    with pytest.raises(FileNotFoundError):
        await contexts.get(ca_file)
    ca_file.write_text(content)
    assert isinstance(await contexts.get(ca_file), ssl.SSLContext)


async def test_unknown_authority_is_refused(client: UpstreamClient, authority: trustme.CA) -> None:
    async with Upstream(tls=server_context(authority.issue_cert("127.0.0.1"))) as upstream:
        _, failure = await failure_of(client, origin_of(upstream))
        assert (failure.code, failure.progress) == ("upstream_connect_failed", Progress.NOT_CONNECTED)
        assert "its certificate was refused: " in str(failure)
        assert "issuer certificate" in str(failure)
        assert upstream.requests == []
        await upstream.all_closed()


async def test_certificate_of_another_name_is_refused(
    client: UpstreamClient, authority: trustme.CA, ca_file: Path
) -> None:
    async with Upstream(tls=server_context(authority.issue_cert("other.example"))) as upstream:
        _, failure = await failure_of(client, origin_of(upstream, ca_file))
    assert failure.code == "upstream_connect_failed"
    assert "IP address mismatch" in str(failure)


async def test_expired_certificate_is_refused(
    client: UpstreamClient, authority: trustme.CA, ca_file: Path
) -> None:
    certificate = authority.issue_cert("127.0.0.1", not_after=YESTERDAY)
    async with Upstream(tls=server_context(certificate)) as upstream:
        _, failure = await failure_of(client, origin_of(upstream, ca_file))
    assert failure.code == "upstream_connect_failed"
    assert "certificate has expired" in str(failure)


async def test_server_without_tls(client: UpstreamClient) -> None:
    async with ConnectProxy(b"this is not TLS\r\n") as plain:
        _, failure = await failure_of(client, Origin("https", "127.0.0.1", plain.port))
    assert failure.code == "upstream_connect_failed"
    assert "TLS failed: " in str(failure)


@pytest.mark.parametrize("content", [None, "not a certificate"], ids=["missing", "no certificate in it"])
async def test_unusable_ca_file(client: UpstreamClient, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    _, failure = await failure_of(client, Origin("https", "127.0.0.1", 1, ca_file=path))
    assert failure.code == "upstream_connect_failed"
    assert str(path) in str(failure)


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
async def test_broken_streams_over_tls(
    client: UpstreamClient, authority: trustme.CA, ca_file: Path, end: End
) -> None:
    async with Upstream(tls=server_context(authority.issue_cert("127.0.0.1"))) as upstream:
        upstream.reply(chat_stream("a").broken(2, end))
        received, failure = await failure_of(client, origin_of(upstream, ca_file))
        assert isinstance(failure, UpstreamTruncated)
        assert received
        await upstream.all_closed()


async def test_cancelled_handshakes_leave_nothing(authority: trustme.CA, ca_file: Path) -> None:
    async with Upstream(tls=server_context(authority.issue_cert("127.0.0.1"))) as upstream:
        upstream.always(chat())
        client = UpstreamClient()
        origin = origin_of(upstream, ca_file)
        for turns in range(40):
            task = asyncio.create_task(ask_whole(client, origin))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        await eventually(lambda: client.open_connections == client.idle_connections)
        await client.close()
        await upstream.until(lambda: all(link.lost for link in upstream.links))
        assert client.open_connections == 0


async def test_handshake_without_an_answer(client: UpstreamClient) -> None:
    async with ConnectProxy(b"") as silent:
        origin = Origin("https", "127.0.0.1", silent.port)
        _, failure = await failure_of(client, origin, deadlines=impatient(connect_s=0.1))
    assert (failure.code, failure.progress) == ("upstream_connect_timeout", Progress.NOT_CONNECTED)


async def test_tls_through_a_tunnel(client: UpstreamClient, authority: trustme.CA, ca_file: Path) -> None:
    async with (
        Upstream(tls=server_context(authority.issue_cert("127.0.0.1"))) as upstream,
        ConnectProxy() as proxy,
    ):
        origin = replace(origin_of(upstream, ca_file), http_proxy=f"http://{proxy.address}")
        assert b"Hello" in await ask_whole(client, origin)
        assert b"Hello" in await ask_whole(client, origin)
        assert len(proxy.heads) == 1
        await client.close()


async def test_certificates_are_verified_through_a_tunnel(
    client: UpstreamClient, authority: trustme.CA, ca_file: Path
) -> None:
    async with (
        Upstream(tls=server_context(authority.issue_cert("other.example"))) as upstream,
        ConnectProxy() as proxy,
    ):
        origin = replace(origin_of(upstream, ca_file), http_proxy=f"http://{proxy.address}")
        _, failure = await failure_of(client, origin)
    assert "IP address mismatch" in str(failure)
