"""How each provider is called: where, with which credentials and headers, within which time.

Everything that does not change between requests is prepared when the configuration is loaded.
docs/providers.md
"""

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote, urlsplit

from proxy import __version__
from proxy.config.schema import Provider, ProviderKey
from proxy.core.errors import Progress, UpstreamRefused
from proxy.upstream import echo
from proxy.upstream.client import UpstreamClient
from proxy.upstream.request import DEFAULT_PORTS, Body, Deadlines, Headers, Origin

# A model that thinks may be silent for minutes; a stream begins soon.
FIRST_BYTE_STREAMED_S = 120
FIRST_BYTE_UNSTREAMED_S = 600

CHAT_ENDPOINTS = (
    *("chat/completions", "completions", "embeddings", "moderations", "rerank"),
    *("images/generations", "audio/speech", "audio/transcriptions", "audio/translations"),
)
FORM_ENDPOINTS = ("audio/transcriptions", "audio/translations")
MESSAGES_ENDPOINTS = ("messages", "messages/count_tokens")
_QUERIED = frozenset((*MESSAGES_ENDPOINTS, "responses"))

# Which of a client's headers go on. `accept` chooses the format of audio; the others belong to
# the protocols. All else stays here: credentials and cookies because they are ours to give,
# organisations and idempotency keys because the account there is not the client's, whatever
# describes this connection (Host, Connection, Upgrade, Forwarded, Accept-Encoding) because it
# ends here, and what merely identifies the client because it is nobody's business.
_FORWARDED = frozenset({b"accept", b"openai-beta"})
_FORWARDED_MESSAGES = frozenset({b"accept", b"anthropic-beta", b"anthropic-version"})

# Which of a provider's headers reach the client. Its request id does so under another name, since
# x-request-id is the gateway's own; its rate limits are those of the gateway's account.
_RETURNED = frozenset({b"content-type", b"openai-processing-ms"})
_REQUEST_IDS = frozenset(
    {b"x-request-id", b"request-id", b"apim-request-id", b"x-generation-id", b"x-siliconcloud-trace-id"}
)

# The version of Anthropic's protocol that still takes sampling parameters.
_ANTHROPIC_VERSION = (b"anthropic-version", b"2023-06-01")
_JSON = (b"content-type", b"application/json")
_USER_AGENT = (b"user-agent", b"sluice/" + __version__.encode())


class Answer(Protocol):
    """What the exchange reads: `upstream.client.Response`, or the echo provider's."""

    status: int
    headers: Headers

    @property
    def progress(self) -> Progress: ...

    async def read(self) -> bytes | None: ...

    async def read_all(self, limit: int) -> bytes: ...

    def nudge(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class UpstreamKey:
    """One of our keys at a provider, with the headers of every request that it pays for."""

    config: ProviderKey | None
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    #: What stands for the key in memory that outlives the configuration: its SHA-256.
    digest: bytes = field(repr=False)

    @property
    def masked(self) -> str | None:
        return self.config.key.masked() if self.config else None


@dataclass(frozen=True, slots=True)
class _Target:
    """Where an endpoint is, and which of a client's headers go there.

    `defaults` are sent where the client's headers have none of that name.
    """

    origin: Origin
    path: bytes
    method: str
    forwarded: frozenset[bytes]
    defaults: Headers


class ProviderClient:
    """One provider of the configuration, ready to be called."""

    def __init__(self, config: Provider) -> None:
        self.config = config
        self.name = config.name
        #: One for each configured key; a provider that needs none has one without credentials.
        self.keys = tuple(_upstream_key(config, key) for key in config.keys or (None,))
        self._turn = 0
        self._targets = {} if config.protocol == "echo" else _targets(config)
        self._deadlines = {stream: _deadlines(config, stream) for stream in (False, True)}

    @property
    def upcoming_key(self) -> UpstreamKey:
        """The key that is next in turn."""
        return self.keys[self._turn]

    def keys_in_turn(self) -> tuple[UpstreamKey, ...]:
        """Return all keys, beginning with the one that is next in turn."""
        return self.keys if not self._turn else self.keys[self._turn :] + self.keys[: self._turn]

    def take_turn(self, key: UpstreamKey) -> None:
        """A key is used: the one after it is next in turn."""
        self._turn = (self.keys.index(key) + 1) % len(self.keys)

    def next_key(self) -> UpstreamKey:
        """Return the provider's keys in turn."""
        key = self.upcoming_key
        self.take_turn(key)
        return key

    @property
    def origins(self) -> set[Origin]:
        """All servers that it is called at."""
        return {target.origin for target in self._targets.values()}

    def supports(self, endpoint: str) -> bool:
        """Return whether the provider has an endpoint of its own for `endpoint`, as in "messages"."""
        return endpoint in (echo.ENDPOINTS if self.config.protocol == "echo" else self._targets)

    def send(
        self,
        client: UpstreamClient,
        endpoint: str,
        key: UpstreamKey,
        client_headers: Iterable[tuple[bytes, bytes]],
        body: Body,
        *,
        stream: bool,
        query: bytes = b"",
    ) -> Awaitable[Answer]:
        """Send a request and return its answer as soon as the answer's headers are in.

        `client_headers` have lower-case names; those that may pass go along. `query` is that of the
        client's URL; only the dialects of Messages and Responses know queries.

        Raises:
            UpstreamRefused: The provider has no such endpoint; another may have it.
            UpstreamFailure: As `UpstreamClient.send`.
        """
        if self.config.protocol == "echo":
            return _immediately(echo.respond(endpoint, body))
        target = self._targets.get(endpoint)
        if target is None:
            raise self._unsupported(endpoint)
        path = target.path
        if query and endpoint in _QUERIED:
            path += (b"&" if b"?" in path else b"?") + query
        return client.send(
            target.origin,
            target.method,
            path,
            _headers(target, key, client_headers),
            body,
            self._deadlines[stream],
        )

    def response_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
        """Return those of an answer's headers that may reach the client."""
        returned: Headers = []
        request_id = None
        for header in headers:
            if header[0] in _RETURNED:
                returned.append(header)
            elif request_id is None and header[0] in _REQUEST_IDS:
                request_id = (b"x-upstream-request-id", header[1])
        return [*returned, request_id] if request_id else returned

    def _unsupported(self, endpoint: str) -> UpstreamRefused:
        refusal = UpstreamRefused(
            "not_found", f"The provider {self.name} has no endpoint {endpoint}.", status=404
        )
        refusal.retryable = True
        return refusal


async def _immediately(answer: Answer) -> Answer:
    return answer


def _headers(target: _Target, key: UpstreamKey, client_headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    forwarded = target.forwarded
    headers = [header for header in client_headers if header[0] in forwarded]
    for default in target.defaults:
        if all(name != default[0] for name, _ in headers):
            headers.append(default)
    headers += key.headers
    return headers


def _upstream_key(config: Provider, key: ProviderKey | None) -> UpstreamKey:
    headers = dict([_USER_AGENT])
    if key is not None:
        headers.update(_credentials(config.auth, key.key.reveal().encode()))
    headers.update({name.lower().encode(): value.reveal().encode() for name, value in config.headers.items()})
    digest = b"" if key is None else key.key.digest()
    return UpstreamKey(key, tuple(headers.items()), digest)


def _credentials(auth: str, key: bytes) -> Headers:
    if auth == "none":
        return []
    return [(b"authorization", b"Bearer " + key)] if auth == "bearer" else [(auth.encode(), key)]


def _deadlines(config: Provider, stream: bool) -> Deadlines:
    timeouts = config.timeouts
    first_byte_s = timeouts.first_byte_s
    if first_byte_s is None:
        first_byte_s = FIRST_BYTE_STREAMED_S if stream else FIRST_BYTE_UNSTREAMED_S
    return Deadlines(timeouts.connect_s, first_byte_s, timeouts.idle_s, timeouts.total_s)


def _targets(config: Provider) -> dict[str, _Target]:
    """Return the endpoints that the provider has."""
    anthropic = config.protocol == "anthropic"
    chat_base = None if anthropic else config.base_url
    messages_base = config.messages_base_url or (config.base_url if anthropic else None)
    bases = dict.fromkeys(CHAT_ENDPOINTS, (chat_base, ""))
    bases |= dict.fromkeys(MESSAGES_ENDPOINTS, (messages_base, "v1/"))
    bases["responses"] = (config.responses_base_url, "")
    bases["models"] = (messages_base, "v1/") if anthropic else (chat_base, "")
    targets = {}
    for endpoint, (base, prefix) in bases.items():
        path = config.paths.get(endpoint, prefix + endpoint)
        if base is not None or "://" in path:
            targets[endpoint] = _target(config, endpoint, base or "", path)
    return targets


def _target(config: Provider, endpoint: str, base: str, path: str) -> _Target:
    origin, target = _locate(config, base, path)
    forwarded, defaults = _FORWARDED, [_JSON]
    if endpoint in MESSAGES_ENDPOINTS or config.protocol == "anthropic":
        forwarded, defaults = _FORWARDED_MESSAGES, [_JSON, _ANTHROPIC_VERSION]
    if endpoint in FORM_ENDPOINTS:
        forwarded |= {b"content-type"}
    if endpoint == "models":
        defaults = defaults[1:]  # a GET has no content
    configured = {name.lower().encode() for name in config.headers}
    return _Target(
        origin,
        target,
        "GET" if endpoint == "models" else "POST",
        forwarded - configured,
        [default for default in defaults if default[0] not in configured],
    )


def _locate(config: Provider, base: str, path: str) -> tuple[Origin, bytes]:
    """Return the server and the request target of `path`.

    A path may be a URL of its own, start at the base URL's root ("/…"), or be relative to the base
    URL. Queries are kept.
    """
    url = urlsplit(path if "://" in path else base)
    origin = Origin(
        url.scheme,
        url.hostname or "",
        url.port or DEFAULT_PORTS[url.scheme],
        config.http_proxy.reveal() if config.http_proxy else None,
        config.ca_file,
    )
    place, _, query = ("", "", "") if "://" in path else path.partition("?")
    if place and not place.startswith("/"):
        place = f"{url.path.rstrip('/')}/{place}"
    target = quote(place or url.path or "/", safe="/%:@!$&'()*+,;=~")
    query = "&".join(filter(None, (url.query, query)))
    return origin, (f"{target}?{query}" if query else target).encode("ascii")
