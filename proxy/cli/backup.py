"""`backup` and `restore`: the database as one file, and back. docs/operations.md, "Backup and restore" """

import argparse
import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from proxy.cli.client import BUSY_S, reach, server_client, unlockable
from proxy.cli.errors import CommandFailed
from proxy.cli.output import Output, fields
from proxy.cli.settings import load_config
from proxy.config.problems import ConfigError
from proxy.config.schema import Config
from proxy.gateway.installation import check_currency
from proxy.store.copies import Contents, examine, sync, take
from proxy.store.errors import SchemaTooNew, StoreError
from proxy.store.lock import AlreadyRunning, InstanceLock, RunInfo, running
from proxy.store.restoring import discard, prepare, put_in_place
from proxy.store.schema import create_private, remove_whole


async def backup(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    """Write the database into a file, which has its name once it is complete and was read through."""
    config = load_config(args, environ)
    file = Path(args.file)
    _check_free(file, config, overwrite=args.force)
    part = file.with_name(file.name + ".part")
    try:
        remove_whole(part)
        await _write(part, config)
        contents = examine(part, part, thoroughly=False)
        _check_free(file, config, overwrite=args.force)  # it may have taken minutes
        part.replace(file)
        sync(file.parent)
    except (StoreError, sqlite3.Error) as error:
        raise CommandFailed(f"{file} was not written: {error}") from None
    except OSError as error:
        raise CommandFailed(f"{file} cannot be written: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):  # of a folder that cannot be written, which was said
            remove_whole(part)
    shown = {"path": str(file), **_described(contents)}
    return Output(shown, f"Wrote {file}.\n\n{_fields(shown)}")


def restore(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    """Put a backup in the place of the database, and keep what was there."""
    config = load_config(args, environ)
    file = Path(args.file)
    if not file.is_file():
        raise CommandFailed(f"{file} is not a file; nothing was changed")
    database = config.database.resolve()
    if database.exists() and file.samefile(database):
        raise CommandFailed(f"{file} is the database itself; nothing was changed", status=2)
    lock = _locked(config.database)
    try:
        contents, kept = _restored(file, database, config)
    finally:
        lock.release()
    places = {"path": str(config.database), "restored_from": str(file), "kept": kept and str(kept)}
    shown = places | _described(contents)
    there = "There was none before." if kept is None else f"The one before is {kept}."
    text = f"Restored {config.database} from {file}. {there}"
    return Output(shown, f"{text}\n\n{_fields(_described(contents))}")


async def _write(part: Path, config: Config) -> None:
    """Write a copy into a new file, by the running server or, without one, here."""
    reached = reach(config)
    if isinstance(reached, RunInfo):
        create_private(part)
        with part.open("wb") as target:
            async with server_client(reached, config) as api:
                await api.download("backup", into=target)
        sync(part)
        return
    try:
        if not config.database.exists():
            raise CommandFailed(f"{config.database} does not exist: there is nothing to back up")
        take(config.database, part)
    finally:
        reached.release()


def _check_free(file: Path, config: Config, *, overwrite: bool) -> None:
    if not file.exists():
        return
    if config.database.exists() and file.samefile(config.database):
        raise CommandFailed(f"{file} is the database itself; nothing was written", status=2)
    if file.with_name(file.name + "-wal").exists():
        raise CommandFailed(f"{file} has a -wal file: it is a database in use; nothing was written")
    if not (overwrite and file.is_file()):
        advice = "; --force overwrites it" if file.is_file() else ""
        raise CommandFailed(f"{file} exists already; nothing was written{advice}")


def _locked(database: Path) -> InstanceLock:
    lock = InstanceLock(database)
    try:
        info = running(database)
        if info is None or info.url is None:  # a command will be done soon, and a server be seen below
            lock.acquire(wait_s=BUSY_S)
            return lock
    except AlreadyRunning as error:
        info = error.info
    except OSError as error:
        raise unlockable(error) from None
    where = f", a server at {info.url}" if info.url else ""
    raise CommandFailed(
        f"{database} is in use by process {info.pid}{where}; nothing was changed. Stop it first, as with "
        f"`kill {info.pid}`, `systemctl stop` or `docker stop`, and try again"
    )


def _restored(file: Path, database: Path, config: Config) -> tuple[Contents, Path | None]:
    try:
        contents = prepare(file, database)
        if contents.currency is not None:
            check_currency(contents.currency, config)
        return contents, put_in_place(database)
    except ConfigError as error:
        raise CommandFailed(f"{file} was not restored: {error}", status=2) from None
    except (StoreError, sqlite3.Error) as error:
        status = 2 if isinstance(error, SchemaTooNew) else 1
        raise CommandFailed(f"{file} was not restored: {error}", status=status) from None
    except OSError as error:
        where = error.filename or database
        raise CommandFailed(f"{file} was not restored: {where}: {error.strerror}") from None
    finally:
        discard(database)


def _described(contents: Contents) -> dict[str, object]:
    return {
        "size_bytes": contents.size_bytes,
        "schema_version": contents.schema_version,
        "exchanges": contents.exchanges,
    }


def _fields(shown: Mapping[str, object]) -> str:
    names = {"size_bytes": "bytes", "schema_version": "schema"}
    return fields({names.get(name, name.replace("_", " ")): value for name, value in shown.items()})
