"""What `doctor` says of the server: whether it runs, where, and who can reach it."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx2

from proxy import __version__
from proxy.cli.client import server_client, unlockable
from proxy.cli.doctor.findings import FAIL, OK, WARN, Finding
from proxy.config.schema import Config
from proxy.config.urls import is_loopback
from proxy.gateway.adminkey import DIGEST_SETTING
from proxy.store.lock import RunInfo, running
from proxy.web.server import CannotListen, try_listening

# It looks at its own memory only.
_READY_S = 5.0


async def server_finding(config: Config) -> Finding:
    """Return whether a server runs and takes requests; if none does, whether one could listen."""
    try:
        info = running(config.database)
    except OSError as error:
        return Finding("server", FAIL, str(unlockable(error)))
    if info is None:
        return await _could_listen(config)
    if info.url is None:
        return Finding("server", OK, f"not running; process {info.pid}, a command, uses the database")
    return await _is_ready(info, config)


async def _could_listen(config: Config) -> Finding:
    server = config.server
    try:
        await try_listening(server)
    except CannotListen as error:
        return Finding("server", FAIL, f"not running, and could not start. {error}")
    return Finding("server", OK, f"not running; port {server.port} on {server.host} is free")


async def _is_ready(info: RunInfo, config: Config) -> Finding:
    where = f"process {info.pid} on {info.url}"
    try:
        async with server_client(info, config) as api, asyncio.timeout(_READY_S):
            told: dict[str, Any] = (await api.call("GET", "/readyz")).json()
    except (httpx2.TransportError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        return Finding("server", FAIL, f"{where} does not answer: {reason}", "restart it")
    except ValueError:
        return Finding("server", FAIL, f"{where} answers /readyz with something else", "restart it")
    return readiness(where, told)


def readiness(where: str, told: Mapping[str, Any]) -> Finding:
    """Return what the answer to /readyz means."""
    status, version = told.get("status"), told.get("version")
    if status != "ok":
        text = f"{where} takes no requests: {status}, database {told.get('database')}"
        return Finding("server", FAIL, text, "look at its log, and at the findings about the database")
    if version != __version__:
        text = f"{where} is version {version}, this program {__version__}"
        return Finding("server", WARN, text, "restart it")
    if error := told.get("config", {}).get("error"):
        text = f"{where} serves on with an older configuration: {error}"
        return Finding("server", WARN, text, "correct the file; it is read again when it changes")
    return Finding("server", OK, f"{where} takes requests")


def address_finding(config: Config) -> Finding:
    """Return who can reach the server, and whether keys and prompts travel encrypted."""
    host = config.server.host
    if is_loopback(host):
        return Finding("address", OK, f"{host}: only programs of this machine reach it")
    if config.server.trusted_proxies:
        return Finding("address", OK, f"{host}: behind {', '.join(config.server.trusted_proxies)}")
    return Finding(
        "address",
        WARN,
        f"{host}: other machines reach it, and keys and prompts travel unencrypted unless something in "
        "front of it speaks TLS",
        "put a reverse proxy with TLS in front, and name it in server.trusted_proxies",
    )


def admin_key_finding(config: Config, settings: Mapping[str, str] | None) -> Finding:
    """Return where the admin key comes from. `settings` are the database's, None if it cannot be read."""
    if config.admin_key is not None:
        line = config.line("admin_key")
        return Finding("admin_key", OK, f"that of the configuration{f', line {line}' if line else ''}")
    if settings is None:
        return Finding("admin_key", WARN, "not known: the database cannot be read")
    if DIGEST_SETTING in settings:
        return Finding("admin_key", OK, "generated; only its digest is kept")
    return Finding("admin_key", OK, "none yet: the first start makes one, and prints it once")
