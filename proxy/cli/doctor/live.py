"""What `doctor --live` does: one tiny request to each active provider, then one in each client dialect."""

import asyncio
import contextlib
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2

from proxy.app import App
from proxy.cli.client import AdminClient, reach, server_client
from proxy.cli.doctor.database import has_keys
from proxy.cli.doctor.dialects import PLAYS, SAY_HELLO, TOKENS, Play, flaw_of_chat, refusal
from proxy.cli.doctor.findings import FAIL, OK, WARN, Finding
from proxy.cli.errors import CommandFailed
from proxy.config.facts import Facts, listed_models
from proxy.config.problems import ConfigError
from proxy.config.rules import serves
from proxy.config.schema import Config, Provider
from proxy.config.urls import host_of, port_of
from proxy.core.moments import rfc3339
from proxy.gateway.management import DEFAULT_ACCOUNT
from proxy.gateway.price_imports import catalogue_of
from proxy.gateway.traits import chat_traits
from proxy.store.errors import StoreError
from proxy.store.lock import RunInfo
from proxy.store.prices import imported_into
from proxy.web.server import CannotListen, Hooks, Server

KEY_NAME = "doctor"
#: Its key ends by itself, if this is killed before it can revoke it.
KEY_S = 600
#: One answer may take so long; a model that has to be loaded first may need more.
ANSWER_S = 60.0

_CHAT = "/v1/chat/completions"
# Models for other things than chats; a provider's own names are all that there is to go by.
_OTHER_KINDS = ("embed", "rerank", "whisper", "tts", "image", "moderation", "asr")
_ADVICE_WITHOUT_MODEL = "name one of its models in a route of models:, or in providers.{}.models"


@dataclass(frozen=True, slots=True)
class _Client:
    """Calls the gateway with an API key. `lasting`: what it asks can be looked up later."""

    api: AdminClient
    key: str
    lasting: bool


async def live_findings(config: Config) -> list[Finding]:
    """Ask every active provider, and play every kind of client."""
    found: list[Finding] = []
    lasting = has_keys(config.database)
    if not lasting:
        text = "no API key was made yet: what follows is asked with a database that is thrown away"
        found.append(Finding("live", OK, text))
    try:
        async with _gateway(config, lasting) as api, _key(api) as key:
            async for finding in _lived(config, _Client(api, key, lasting)):
                found.append(finding)
    except CommandFailed as failure:
        found.append(Finding("live", FAIL, str(failure)))
    return found


async def _lived(config: Config, client: _Client) -> AsyncIterator[Finding]:
    answering: tuple[str, str] | None = None
    for provider, model in models_to_ask(config):
        if model is None:
            text = f"{provider.name} was not asked: no model of it is known that chats"
            yield Finding("provider", WARN, text, _ADVICE_WITHOUT_MODEL.format(provider.name))
            continue
        finding = await _asked(client, provider, model, config.billing.currency)
        yield finding
        if answering is None and finding.state == OK:
            answering = f"{provider.name}/{model}", chat_traits(provider).length_field
    if answering is None:
        text = "none was played: no provider answered"
        yield Finding("client", WARN, text, "make one of the providers answer, then look again")
        return
    for play in PLAYS:
        yield await _played(client, play, *answering)


def models_to_ask(config: Config) -> Iterator[tuple[Provider, str | None]]:
    """Yield each active provider and a model of it that chats, None where none is known."""
    facts = Facts(config, catalogue_of(imported_into(config.database)))
    for provider in config.providers.values():
        if provider.active:
            chats = (
                name
                for name in _known_models(provider, config, facts)
                if "*" not in name
                and serves(provider, name)
                and _chats(facts.of(provider.name, name).category, name)
            )
            yield provider, next(chats, None)


def _known_models(provider: Provider, config: Config, facts: Facts) -> Iterator[str]:
    """Yield names of a provider's models: those that routes name, those it is allowed, those of its list."""
    for model in config.models.values():
        if model.category != "embedding":
            yield from (route.model for route in model.deployments if route.provider == provider.name)
    yield from provider.models or ()
    # The fast ones first: they cost least, and do not think before they say hello.
    yield from sorted(
        listed_models(provider), key=lambda name: facts.of(provider.name, name).category != "fast"
    )
    if provider.protocol == "echo":
        yield "echo"


def _chats(category: str | None, name: str) -> bool:
    return category != "embedding" and not any(word in name.lower() for word in _OTHER_KINDS)


# Asking


async def _asked(client: _Client, provider: Provider, model: str, currency: str) -> Finding:
    """Send the smallest chat completion to one provider."""
    name = f"{provider.name}/{model}"
    if (problem := await _unresolved(provider)) is not None:
        return Finding("provider", FAIL, f"{name}: {problem}", "look at base_url, and at this machine's DNS")
    body = {"model": name, chat_traits(provider).length_field: TOKENS, "messages": SAY_HELLO}
    begun = time.monotonic()
    try:
        answer = await _answer(client, "POST", _CHAT, body, {"x-sluice-provider": provider.name})
    except _Unanswered as error:
        return Finding("provider", FAIL, f"{name}: {error}")
    took_ms = round((time.monotonic() - begun) * 1000)
    flaw = refusal(answer.status_code, answer.content) or flaw_of_chat(answer.content)
    if flaw is not None:
        return Finding("provider", FAIL, f"{name}: {flaw}", _receipt(client, answer))
    return Finding("provider", OK, f"{name} answered in {took_ms} ms{_usage(answer, currency)}")


async def _played(client: _Client, play: Play, model: str, length_field: str) -> Finding:
    """Send what one kind of client sends, and look whether it would understand the answer."""
    try:
        answer = await _answer(client, play.method, play.path, play.body(model, length_field), play.headers)
    except _Unanswered as error:
        return Finding("client", FAIL, f"{play.name}: {error}")
    flaw = refusal(answer.status_code, answer.content) or play.flaw(answer.content)
    if flaw is not None:
        return Finding("client", FAIL, f"{play.name}: {flaw}", _receipt(client, answer))
    return Finding("client", OK, f"{play.name}: {play.good}")


class _Unanswered(Exception):
    """There was no answer, or not all of it; the text says why."""


async def _answer(
    client: _Client, method: str, path: str, body: object, headers: dict[str, str]
) -> httpx2.Response:
    """Return a whole answer, whatever it says. Raises _Unanswered."""
    json = {} if body is None else {"json": body}
    try:
        async with asyncio.timeout(ANSWER_S):
            return await client.api.call(method, path, client.key, headers=headers, timeout=ANSWER_S, **json)
    except (TimeoutError, httpx2.TimeoutException):
        raise _Unanswered(f"no whole answer within {ANSWER_S:g} s") from None
    except httpx2.TransportError as error:
        raise _Unanswered(f"the answer broke off: {str(error) or type(error).__name__}") from None


async def _unresolved(provider: Provider) -> str | None:
    """Return why the name of a provider's server leads nowhere; a proxy resolves names itself."""
    url = provider.base_url or provider.messages_base_url
    if url is None or provider.http_proxy is not None:
        return None
    try:
        async with asyncio.timeout(ANSWER_S):
            await asyncio.get_running_loop().getaddrinfo(host_of(url), port_of(url), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        return f"{host_of(url)} cannot be resolved: {reason}"
    return None


def _usage(answer: httpx2.Response, currency: str) -> str:
    usage: dict[str, Any] = answer.json().get("usage") or {}
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    tokens = f": {counts[0]} + {counts[1]} tokens" if all(isinstance(count, int) for count in counts) else ""
    cost = answer.headers.get("x-sluice-cost")
    return tokens + (f", {_shortened(cost)} {currency}" if cost else "")


def _shortened(amount: str) -> str:
    """Return decimal text without the zeros at its end."""
    return amount.rstrip("0").rstrip(".") if "." in amount else amount


def _receipt(client: _Client, answer: httpx2.Response) -> str | None:
    """Return where more is said of an answer; requests that nobody was asked for have no receipt."""
    id = answer.headers.get("x-request-id")
    if not client.lasting or not id or "x-sluice-attempts" not in answer.headers:
        return None
    return f"`python -m proxy request {id}` shows its receipt"


# The gateway


@asynccontextmanager
async def _key(api: AdminClient) -> AsyncIterator[str]:
    """Make an API key for as long as it is needed; it is revoked however that ends."""
    body = {
        "name": KEY_NAME,
        "account": DEFAULT_ACCOUNT,
        "expires_at": rfc3339(int(time.time() + KEY_S) * 1000),
    }
    making = asyncio.ensure_future(api.post("keys", body=body))
    try:
        yield (await asyncio.shield(making))["key"]
    finally:
        # An interruption may come while it is being made: then, too, it has to be known.
        id = (await making)["id"]
        try:
            await api.delete("keys", id)
        except CommandFailed as error:
            text = f"the key {id} was not revoked, and ends at {body['expires_at']}: {error}"
            raise CommandFailed(text) from None


@asynccontextmanager
async def _gateway(config: Config, lasting: bool) -> AsyncIterator[AdminClient]:
    """Reach the running server, or, without one, serve here for as long as it takes.

    Unless it is to be `lasting`, on a database of its own: before the first start, so that this still
    has to make the first key, and shows it. Raises CommandFailed.
    """
    with contextlib.ExitStack() as stack:
        if not lasting:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-doctor-"))
            billing = replace(config.billing, mode="track")  # nobody has any funds there
            config = replace(config, database=Path(folder) / "sluice.db", billing=billing)
        reached = reach(config)
        if isinstance(reached, RunInfo):
            async with server_client(reached, config) as api:
                yield api
            return
        stack.callback(reached.release)
        try:
            async with _serving(config) as here, server_client(here, config) as api:
                yield api
        except (StoreError, ConfigError, CannotListen) as error:
            raise CommandFailed(str(error)) from None


class _QuietServer(Server):
    """Leaves signals to the command, which has a key to revoke first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def _serving(config: Config) -> AsyncIterator[RunInfo]:
    """Serve on a port of this machine that is free."""
    app = await App.open(config, lambda record, client_request_id: None)
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    hooks = Hooks(
        on_started=lambda host, port: started.set_result(port),
        on_stop=app.gateway.stop,
        on_grace_over=app.gateway.end_all,
        on_close=app.close,
    )
    settings = replace(config.server, host="127.0.0.1", port=0, shutdown_grace_s=1)
    server = _QuietServer(app.asgi, settings, hooks)
    serving = asyncio.create_task(server.serve())
    either: list[asyncio.Future[Any]] = [serving, started]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        yield RunInfo(0, f"http://127.0.0.1:{started.result()}", app.run_secret)
    finally:
        server.stop()
        try:
            await serving
        except CannotListen:
            await app.close()  # its threads would keep the process from ending
            raise
