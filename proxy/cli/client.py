"""The admin API as commands use it: of the running server, or of a gateway built for the command.

A database has one writing process. While a server runs, its commands ask it over HTTP; otherwise
they take the database's lock and ask the same application without any network. docs/operations.md
"""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, BinaryIO
from urllib.parse import quote

import httpx2

from proxy.app import App
from proxy.cli.errors import CommandFailed
from proxy.config.problems import ConfigError
from proxy.config.schema import Config
from proxy.store.errors import StoreError
from proxy.store.lock import AlreadyRunning, InstanceLock, RunInfo, running

Json = dict[str, Any]

#: How long another command, or a server that starts or stops, is waited for.
BUSY_S = 10.0
_LOOK_S = 0.05
# Reports get 2 s of the database; a commit may wait 5 s for the disk.
_TIMEOUT_S = 30.0
#: The proof of the ledger reads all there is: seconds from the cache, minutes from a slow disk.
PROOF_S = 3600.0
#: A backup is copied whole before its first byte is sent, which may take as long.
BACKUP_S = 3600.0
_PAGE = 1000
_REFERENCES = ("account", "plan", "name", "fund")


class AdminClient:
    """Calls the admin API. Every method raises CommandFailed with the API's own words."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def get(self, *path: str, timeout_s: float = _TIMEOUT_S, **query: object) -> Json:
        return await self._call("GET", path, params=query, timeout=timeout_s)

    async def text(self, *path: str, **query: object) -> str:
        """Return an answer that is no JSON."""
        return (await self._answer("GET", path, params=query)).text

    async def post(
        self, *path: str, body: Json | None = None, headers: Mapping[str, str] | None = None
    ) -> Json:
        return await self._call("POST", path, json=body or {}, headers=headers)

    async def patch(self, *path: str, body: Json) -> Json:
        return await self._call("PATCH", path, json=body)

    async def delete(self, *path: str) -> Json:
        return await self._call("DELETE", path)

    async def download(self, *path: str, into: BinaryIO) -> None:
        """Write what a POST answers into a file. Raises OSError, too, when that cannot be written."""
        request = self._http.build_request("POST", _url(path), timeout=BACKUP_S)
        response = await self._sent(request, stream=True)
        try:
            async for piece in response.aiter_bytes():
                into.write(piece)
        except httpx2.TransportError as error:
            raise _silent(error) from None
        finally:
            await response.aclose()

    async def call(self, method: str, path: str, key: str | None = None, **options: Any) -> httpx2.Response:
        """Return the answer to a request as clients make them, with an API key, whatever it says.

        Raises httpx2.TransportError.
        """
        headers = {"authorization": f"Bearer {key}"} if key else {}
        headers |= options.pop("headers", {})
        return await self._http.request(method, path, headers=headers, **options)

    async def all(self, *path: str, limit: int | None = None, **query: object) -> list[Json]:
        """Return the items of a list, newest first, `limit` of them at most."""
        items: list[Json] = []
        while limit is None or len(items) < limit:
            left = _PAGE if limit is None else min(limit - len(items), _PAGE)
            page = await self._call("GET", path, params={"limit": left, **query})
            items += page["data"]
            if page["next_cursor"] is None:
                break
            query["cursor"] = page["next_cursor"]
        return items

    async def _call(self, method: str, path: tuple[str, ...], **options: Any) -> Json:
        return _value(await self._answer(method, path, **options))

    async def _answer(self, method: str, path: tuple[str, ...], **options: Any) -> httpx2.Response:
        return await self._sent(self._http.build_request(method, _url(path), **options))

    async def _sent(self, request: httpx2.Request, *, stream: bool = False) -> httpx2.Response:
        try:
            response = await self._http.send(request, stream=stream)
            if response.is_error:
                await response.aread()
        except httpx2.TransportError as error:
            raise _silent(error) from None
        if response.is_error:
            told = _value(response)["error"]
            # An account or plan that does not exist was not found; any other wrong value is wrong use.
            wrong_use = response.status_code == 400 and told.get("param") not in _REFERENCES
            raise CommandFailed(told["message"], status=2 if wrong_use else 1)
        return response


def _url(path: tuple[str, ...]) -> str:
    return "/admin/api/" + "/".join(quote(part, safe="") for part in path)


def _silent(error: httpx2.TransportError) -> CommandFailed:
    return CommandFailed(f"The running server did not answer: {str(error) or type(error).__name__}")


def _value(response: httpx2.Response) -> Json:
    try:
        value: Json = response.json()
    except ValueError:
        raise CommandFailed(f"The running server answered HTTP {response.status_code}.") from None
    return value


@asynccontextmanager
async def admin_client(config: Config) -> AsyncIterator[AdminClient]:
    """Reach the running server, or, without one, build the gateway here for as long as it takes.

    Raises CommandFailed.
    """
    reached = reach(config)
    if isinstance(reached, RunInfo):
        async with server_client(reached, config) as api:
            yield api
        return
    try:
        app = await App.open(config, lambda record, client_request_id: None)
        try:
            here = httpx2.ASGITransport(app.asgi)
            async with _http(here, "http://localhost", app.run_secret, config) as http:
                yield AdminClient(http)
        finally:
            await app.close()
    except (StoreError, ConfigError) as error:
        raise CommandFailed(str(error), status=2) from None
    finally:
        reached.release()


@asynccontextmanager
async def server_client(server: RunInfo, config: Config) -> AsyncIterator[AdminClient]:
    """Reach the running server."""
    transport = httpx2.AsyncHTTPTransport()
    async with _http(transport, server.url or "", server.secret or "", config) as http:
        yield AdminClient(http)


def reach(config: Config) -> RunInfo | InstanceLock:
    """Return the running server, or the lock of the database, now held.

    Raises CommandFailed when neither is to be had.
    """
    try:
        return _reach(config)
    except OSError as error:
        raise unlockable(error) from None


def unlockable(error: OSError) -> CommandFailed:
    """Return what to say when the file of the lock cannot be opened."""
    advice = "; run commands as the user that runs the server" if isinstance(error, PermissionError) else ""
    return CommandFailed(f"{error.filename}: {error.strerror}{advice}")


def _reach(config: Config) -> RunInfo | InstanceLock:
    lock = InstanceLock(config.database)
    deadline = time.monotonic() + BUSY_S
    while (info := running(config.database)) is None or info.url is None:
        try:
            lock.acquire()
        except AlreadyRunning as busy:
            if time.monotonic() >= deadline:
                raise CommandFailed(f"{busy}; try again when it is done") from None
            time.sleep(_LOOK_S)
        else:
            return lock
    return info


def _http(transport: httpx2.AsyncBaseTransport, url: str, secret: str, config: Config) -> httpx2.AsyncClient:
    headers = {"authorization": f"Bearer {secret}"}
    if config.server.allowed_hosts:
        # On an address that is not loopback the server answers to these names alone.
        headers["host"] = config.server.allowed_hosts[0].replace("*", "sluice")
    return httpx2.AsyncClient(
        transport=transport, base_url=url, headers=headers, timeout=_TIMEOUT_S, trust_env=False
    )
