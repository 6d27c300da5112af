"""`serve`: the gateway on its address, until a signal."""

import argparse
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from proxy import __version__
from proxy.app import App
from proxy.cli.errors import CommandFailed
from proxy.cli.output import Output
from proxy.cli.settings import config_file, config_path, read_config
from proxy.cli.setup import check
from proxy.config.load import ConfigFile
from proxy.config.problems import ConfigError
from proxy.config.schema import Config
from proxy.config.template import write_initial
from proxy.core.secret import Secret
from proxy.gateway.directory import first_name
from proxy.gateway.installation import NewSecrets
from proxy.logs import Logs
from proxy.store.errors import LedgerUnavailable, StoreError
from proxy.store.lock import AlreadyRunning, InstanceLock
from proxy.web.server import CannotListen, Hooks, Server, run, try_listening, tune_garbage_collection

# A command that is just using the database is waited for.
LOCK_S = 10.0
# Listening on these means: on every address of this machine.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def serve(args: argparse.Namespace, environ: Mapping[str, str]) -> Output | None:
    """Serve until a signal; with `--check`, only validate the configuration."""
    if getattr(args, "check", False):
        return check(args, environ)
    if getattr(args, "init", False):
        _write_missing(config_path(args, environ))
    file = config_file(args, environ)
    config = read_config(file)
    lock = InstanceLock(config.database)
    try:
        lock.acquire(wait_s=LOCK_S)
    except AlreadyRunning as error:
        raise CommandFailed(f"{error}: one process at a time serves a database", status=2) from None
    except OSError as error:
        raise CommandFailed(_unwritable(Path(error.filename), error), status=2) from None
    logs = Logs(config.log)
    try:
        run(_serve(config, file, lock, logs))
    except (StoreError, ConfigError, CannotListen, LedgerUnavailable) as error:
        raise CommandFailed(str(error), status=2) from None
    finally:
        lock.release()
        logs.close()
    return None


async def _serve(config: Config, file: ConfigFile, lock: InstanceLock, logs: Logs) -> None:
    # Before keys are made and shown, which a failing start would seem to have spoilt.
    await try_listening(config.server)
    app = await App.open(config, logs.exchange, file)
    try:
        # Shown before anything else can fail: nobody could ever read them again.
        made = await app.first_secrets()
    except BaseException:
        await app.close()  # its threads would keep the process from ending
        raise
    _show_secrets(made)

    def started(host: str, port: int) -> None:
        url = address(host, port)
        lock.publish(url, app.run_secret)
        _say(f"Sluice {__version__} listens on {url}")
        if made.api_key is not None:
            _say(example(url, made.api_key, first_name(app.gateway.current())))
        tune_garbage_collection()

    hooks = Hooks(started, app.gateway.stop, app.gateway.end_all, app.close, app.reloader.request)
    server = Server(app.asgi, config.server, hooks)
    app.reloader.follow(lambda config: server.apply(config.server))
    app.reloader.follow(lambda config: logs.apply(config.log))
    app.reloader.watch()
    try:
        await server.serve()
    except CannotListen:
        await app.close()
        raise


def _write_missing(path: Path) -> None:
    """Write the starting configuration where there is none, as a container's first start needs it."""
    if path.exists():
        return
    try:
        write_initial(path)
    except OSError as error:
        raise CommandFailed(_unwritable(path, error), status=2) from None


def _unwritable(path: Path, error: OSError) -> str:
    text = f"{path} cannot be written: {error.strerror}"
    if sys.platform != "win32" and isinstance(error, PermissionError):
        text += f"; this process runs as uid {os.getuid()}: `chown {os.getuid()} {path.parent}` lets it"
    return text


def address(host: str, port: int) -> str:
    """Return the URL under which programs of this machine reach a server that listens on `host`."""
    here = _EVERYWHERE.get(host, host)
    return f"http://[{here}]:{port}" if ":" in here else f"http://{here}:{port}"


def example(url: str, key: Secret, model: str) -> str:
    """Return the line that makes a first request, ready for a shell."""
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Hello, world!"}]}
    return (
        f'curl -N {url}/v1/chat/completions -H "Authorization: Bearer {key.reveal()}" '
        f'-H "Content-Type: application/json" -d {shlex.quote(msgspec.json.encode(body).decode())}'
    )


def _show_secrets(made: NewSecrets) -> None:
    if made.admin_key is not None:
        _say(f"Admin key: {made.admin_key.reveal()}")
    if made.api_key is not None:
        _say(f"API key: {made.api_key.reveal()}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
