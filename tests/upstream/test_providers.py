"""Where each endpoint is, what goes along, and what comes back."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy import __version__
from proxy.config.presets import PRESETS
from proxy.config.schema import Provider, ProviderKey, Timeouts
from proxy.core.errors import ErrorClass, UpstreamRefused
from proxy.core.secret import Secret
from proxy.upstream.client import UpstreamClient
from proxy.upstream.providers import CHAT_ENDPOINTS, ProviderClient
from proxy.upstream.request import Deadlines, Origin
from tests.support.replies import chat
from tests.support.upstream import Upstream

KEY = ProviderKey(Secret("sk-one"))


class Recorder:
    """Takes the place of the HTTP client and notes what it is asked to send."""

    async def send(self, *call: Any) -> Any:
        self.origin, self.method, self.target, self.headers, self.body, self.deadlines = call


async def send(
    config: Provider, endpoint: str = "chat/completions", *headers: tuple[bytes, bytes], stream: bool = False
) -> Recorder:
    recorder = Recorder()
    provider = ProviderClient(config)
    await provider.send(recorder, endpoint, provider.next_key(), headers, b"{}", stream=stream)  # type: ignore[arg-type]
    return recorder


HOST = "https://api.example.com"
# name: provider, endpoint, URL that is called
PLACES: dict[str, tuple[Provider, str, str]] = {
    "chat": (Provider("p", base_url=f"{HOST}/v1"), "chat/completions", f"{HOST}/v1/chat/completions"),
    "trailing slash": (Provider("p", base_url=f"{HOST}/v1/"), "embeddings", f"{HOST}/v1/embeddings"),
    "host alone": (Provider("p", base_url=HOST), "rerank", f"{HOST}/rerank"),
    "port": (
        Provider("p", base_url="http://127.0.0.1:8080/v1"),
        "completions",
        "http://127.0.0.1:8080/v1/completions",
    ),
    "query": (
        Provider("p", base_url=f"{HOST}/openai?api-version=1"),
        "chat/completions",
        f"{HOST}/openai/chat/completions?api-version=1",
    ),
    "space": (Provider("p", base_url=f"{HOST}/a b"), "completions", f"{HOST}/a%20b/completions"),
    "path from the base": (
        Provider("p", base_url=f"{HOST}/v1", paths={"rerank": "text/rerank?a=1"}),
        "rerank",
        f"{HOST}/v1/text/rerank?a=1",
    ),
    "path from the root": (
        Provider(
            "p", base_url=f"{HOST}/compatible-mode/v1?b=2", paths={"rerank": "/compatible-api/v1/reranks?a=1"}
        ),
        "rerank",
        f"{HOST}/compatible-api/v1/reranks?b=2&a=1",
    ),
    "path that is a URL": (
        Provider("p", base_url=f"{HOST}/v1", paths={"rerank": "https://other.example.com/reranks?a=1"}),
        "rerank",
        "https://other.example.com/reranks?a=1",
    ),
    "messages": (
        Provider("p", base_url=f"{HOST}/v1", messages_base_url=f"{HOST}/anthropic"),
        "messages",
        f"{HOST}/anthropic/v1/messages",
    ),
    "count_tokens": (
        Provider("p", protocol="anthropic", base_url=HOST),
        "messages/count_tokens",
        f"{HOST}/v1/messages/count_tokens",
    ),
    "models of anthropic": (
        Provider("p", protocol="anthropic", messages_base_url=HOST),
        "models",
        f"{HOST}/v1/models",
    ),
    "models": (Provider("p", base_url=f"{HOST}/v1"), "models", f"{HOST}/v1/models"),
    "responses": (
        Provider("p", base_url=f"{HOST}/v4", responses_base_url=f"{HOST}/api/v1"),
        "responses",
        f"{HOST}/api/v1/responses",
    ),
}


@pytest.mark.parametrize(("config", "endpoint", "url"), PLACES.values(), ids=PLACES)
async def test_where_an_endpoint_is(config: Provider, endpoint: str, url: str) -> None:
    call = await send(config, endpoint)
    assert f"{call.origin.scheme}://{call.origin.authority.decode()}{call.target.decode()}" == url
    assert call.method == ("GET" if endpoint == "models" else "POST")
    assert ProviderClient(config).supports(endpoint)


def test_an_origin_has_its_proxy_and_certificates() -> None:
    config = Provider("p", base_url=HOST, http_proxy=Secret("http://10.0.0.1:3128"), ca_file=Path("/ca.pem"))
    call = asyncio.run(send(config))
    assert call.origin == Origin("https", "api.example.com", 443, "http://10.0.0.1:3128", Path("/ca.pem"))


@pytest.mark.parametrize(
    ("config", "endpoints"),
    [
        (Provider("p", base_url=HOST), ("messages", "messages/count_tokens", "responses", "threads")),
        (Provider("p", protocol="anthropic", base_url=HOST), (*CHAT_ENDPOINTS, "responses")),
        (Provider("p", protocol="echo"), ("messages", "responses", "rerank")),
    ],
    ids=["openai", "anthropic", "echo"],
)
def test_endpoints_that_a_provider_does_not_have(config: Provider, endpoints: tuple[str, ...]) -> None:
    assert not any(ProviderClient(config).supports(endpoint) for endpoint in endpoints)


async def test_asking_for_a_missing_endpoint_leaves_other_providers_to_try() -> None:
    with pytest.raises(UpstreamRefused, match="p has no endpoint messages") as caught:
        await send(Provider("p", base_url=HOST), "messages")
    failure = caught.value
    assert (failure.status, failure.code) == (404, "not_found")
    assert failure.retryable
    assert failure.error_class is ErrorClass.REQUEST


async def credentials(auth: str, **config: Any) -> Mapping[bytes, bytes]:
    return dict((await send(Provider("p", base_url=HOST, auth=auth, keys=(KEY,), **config))).headers)


async def test_how_keys_travel() -> None:
    assert (await credentials("bearer"))[b"authorization"] == b"Bearer sk-one"
    assert (await credentials("x-api-key"))[b"x-api-key"] == b"sk-one"
    assert (await credentials("api-key"))[b"api-key"] == b"sk-one"
    assert await credentials("none") == dict((await send(Provider("p", base_url=HOST))).headers)


def test_keys_take_turns() -> None:
    second = ProviderKey(Secret("sk-two"))
    provider = ProviderClient(Provider("p", base_url=HOST, keys=(KEY, second)))
    assert [provider.next_key().config for _ in range(4)] == [KEY, second, KEY, second]
    assert provider.upcoming_key is provider.upcoming_key is provider.next_key()
    assert provider.upcoming_key.config == second


def test_a_key_shows_only_its_mask() -> None:
    config = Provider("p", base_url=HOST, keys=(ProviderKey(Secret("sk-0123456789abcdef")),))
    key = ProviderClient(config).next_key()
    assert key.masked == "…cdef"
    assert "0123" not in repr(key)
    assert ProviderClient(Provider("p", base_url=HOST)).next_key().masked is None


# What a client sends, all of it.
CLIENT = (
    (b"host", b"gateway"),
    (b"authorization", b"Bearer sk-sluice-1"),
    (b"x-api-key", b"sk-sluice-1"),
    (b"api-key", b"sk-sluice-1"),
    (b"x-goog-api-key", b"sk-sluice-1"),
    (b"cookie", b"a=b"),
    (b"proxy-authorization", b"Basic x"),
    (b"accept", b"audio/mpeg"),
    (b"accept-encoding", b"gzip, br"),
    (b"content-type", b"application/json; charset=utf-8"),
    (b"content-length", b"2"),
    (b"transfer-encoding", b"chunked"),
    (b"connection", b"Upgrade, HTTP2-Settings"),
    (b"upgrade", b"h2c"),
    (b"http2-settings", b"AAMAAABkAAQ"),
    (b"keep-alive", b"timeout=5"),
    (b"te", b"trailers"),
    (b"expect", b"100-continue"),
    (b"x-forwarded-for", b"10.0.0.1"),
    (b"forwarded", b"for=10.0.0.1"),
    (b"user-agent", b"OpenAI/Python"),
    (b"x-stainless-lang", b"python"),
    (b"x-request-id", b"abc"),
    (b"idempotency-key", b"1"),
    (b"openai-organization", b"org-1"),
    (b"openai-project", b"proj-1"),
    (b"openai-beta", b"assistants=v2"),
    (b"anthropic-version", b"2026-10-21"),
    (b"anthropic-beta", b"a,b"),
    (b"x-sluice-provider", b"p"),
    (b"x-portkey-config", b"{}"),
)
USER_AGENT = (b"user-agent", b"sluice/" + __version__.encode())
BEARER = (b"authorization", b"Bearer sk-one")
SPEAKER = Provider("p", base_url=HOST, messages_base_url=HOST, keys=(KEY,))

# endpoint: what is left of it, with ours
SENT = {
    "chat/completions": {
        (b"accept", b"audio/mpeg"),
        (b"openai-beta", b"assistants=v2"),
        (b"content-type", b"application/json"),
    },
    "messages": {
        (b"accept", b"audio/mpeg"),
        (b"anthropic-version", b"2026-10-21"),
        (b"anthropic-beta", b"a,b"),
        (b"content-type", b"application/json"),
    },
    "models": {(b"accept", b"audio/mpeg"), (b"openai-beta", b"assistants=v2")},
}


@pytest.mark.parametrize(("endpoint", "expected"), SENT.items(), ids=SENT)
async def test_which_headers_go_on(endpoint: str, expected: set[tuple[bytes, bytes]]) -> None:
    call = await send(SPEAKER, endpoint, *CLIENT)
    assert set(call.headers) == expected | {USER_AGENT, BEARER}
    assert len(call.headers) == len(expected) + 2


async def test_a_form_keeps_its_content_type() -> None:
    form = (b"content-type", b"multipart/form-data; boundary=b")
    assert form in (await send(SPEAKER, "audio/transcriptions", form)).headers
    assert (b"content-type", b"application/json") in (await send(SPEAKER, "audio/transcriptions")).headers


async def test_the_protocol_version_has_a_default() -> None:
    call = await send(Provider("p", protocol="anthropic", base_url=HOST), "messages")
    assert (b"anthropic-version", b"2023-06-01") in call.headers


async def test_configured_headers_outrank_all_others() -> None:
    config = Provider(
        "p",
        base_url=HOST,
        messages_base_url=HOST,
        keys=(KEY,),
        headers={
            "Authorization": Secret("Token t"),
            "User-Agent": Secret("mine"),
            "Content-Type": Secret("application/vnd"),
            "Anthropic-Beta": Secret("c"),
            "anthropic-version": Secret("v"),
            "HTTP-Referer": Secret("https://example.com"),
        },
    )
    for headers in ((), CLIENT):
        call = await send(config, "messages", *headers)
        assert (
            dict(call.headers).items()
            >= {
                b"authorization": b"Token t",
                b"user-agent": b"mine",
                b"content-type": b"application/vnd",
                b"anthropic-beta": b"c",
                b"anthropic-version": b"v",
                b"http-referer": b"https://example.com",
            }.items()
        )
        assert len(call.headers) == len(dict(call.headers))


async def test_deadlines() -> None:
    config = Provider("p", base_url=HOST, timeouts=Timeouts(connect_s=1, idle_s=3, total_s=4))
    assert (await send(config, stream=True)).deadlines == Deadlines(1, 120, 3, 4)
    assert (await send(config, stream=False)).deadlines == Deadlines(1, 600, 3, 4)
    config = Provider("p", base_url=HOST, timeouts=Timeouts(first_byte_s=7))
    assert (await send(config, stream=True)).deadlines.first_byte_s == 7
    assert (await send(config, stream=False)).deadlines.first_byte_s == 7


def test_which_headers_come_back() -> None:
    received = [
        (b"content-type", b"audio/mpeg"),
        (b"content-length", b"5"),
        (b"content-encoding", b"gzip"),
        (b"connection", b"close"),
        (b"set-cookie", b"a=b"),
        (b"openai-organization", b"org-1"),
        (b"openai-processing-ms", b"5"),
        (b"x-ratelimit-remaining-requests", b"5"),
        (b"anthropic-ratelimit-requests-remaining", b"5"),
        (b"retry-after", b"5"),
        (b"access-control-allow-origin", b"*"),
        (b"x-request-id", b"abc"),
        (b"apim-request-id", b"def"),
    ]
    provider = ProviderClient(SPEAKER)
    assert provider.response_headers(received) == [
        (b"content-type", b"audio/mpeg"),
        (b"openai-processing-ms", b"5"),
        (b"x-upstream-request-id", b"abc"),
    ]
    assert provider.response_headers(received[:2]) == [(b"content-type", b"audio/mpeg")]


@pytest.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    client = UpstreamClient()
    yield client
    await client.close()


async def test_a_real_call(client: UpstreamClient) -> None:
    async with Upstream() as upstream:
        upstream.reply(chat("hello"))
        provider = ProviderClient(Provider("p", base_url=upstream.url, keys=(KEY,)))
        answer = await provider.send(
            client, "chat/completions", provider.next_key(), CLIENT, b'{"model":"m"}', stream=False
        )
        assert answer.status == 200
        assert b"hello" in await answer.read_all(10_000)
        request = upstream.requests[0]
        assert request.target == "/v1/chat/completions"
        assert request.json == {"model": "m"}
        assert request.header("authorization") == "Bearer sk-one"
        assert request.header("accept-encoding") == "identity"
        assert {name for name, _ in request.headers} == {
            *("host", "accept-encoding", "content-length", "content-type"),
            *("accept", "openai-beta", "user-agent", "authorization"),
        }
        await client.close()


async def test_echo_is_called_without_any_network(client: UpstreamClient) -> None:
    provider = ProviderClient(Provider("demo", protocol="echo", auth="none"))
    assert provider.supports("chat/completions")
    body = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
    answer = await provider.send(client, "chat/completions", provider.next_key(), CLIENT, body, stream=False)
    assert b"hello" in await answer.read_all(10_000)
    assert client.open_connections == 0


def test_the_documentation_has_every_preset_and_address() -> None:
    text = Path(__file__).parents[2].joinpath("docs", "providers.md").read_text("utf-8")
    for preset in PRESETS.values():
        assert f"`{preset.name}`" in text or preset.name == "echo"
        for host in preset.hosts.values():
            assert f"`{host}" in text
        for path in (preset.messages, preset.responses, *preset.endpoints.values()):
            assert not path or f"`{path}`" in text or path == preset.chat
