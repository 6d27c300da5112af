"""What `doctor` says of the database: read from outside, in use or not, without changing it."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from proxy.cli.doctor.findings import FAIL, OK, WARN, Finding, counted, in_short
from proxy.cli.doctor.place import size
from proxy.config.problems import ConfigError
from proxy.config.schema import Config
from proxy.gateway.installation import CURRENCY_SETTING, check_currency
from proxy.store.errors import LedgerUnavailable, SchemaTooNew, StoreError
from proxy.store.proof import prove_file
from proxy.store.schema import inspect, reading_uri, schema_version, shipped_migrations

# Beyond this the log is cut after a checkpoint: only a read that never ends keeps it larger.
_LARGE_LOG = 64 << 20


def database_findings(config: Config) -> list[Finding]:
    log = _log(config.database)
    was_used = log.exists()
    found = list(_looked_at(config))
    if not was_used and log.exists():
        # Somebody began to write meanwhile, to a file that was read as one that does not change.
        found = list(_looked_at(config))
    return [*found, timezone_finding(config.limits.timezone)]


def stored(database: Path) -> Mapping[str, str] | None:
    """Return the settings that a database holds, none before it is made; None if it cannot be read."""
    try:
        if not _length(database):
            return {}
        with closing(sqlite3.connect(reading_uri(database), uri=True)) as connection:
            return dict(connection.execute("SELECT name, value FROM settings"))
    except sqlite3.Error:
        return None


def has_keys(database: Path) -> bool:
    """Return whether there is a database in which an API key was ever made."""
    try:
        with closing(sqlite3.connect(reading_uri(database), uri=True)) as connection:
            return connection.execute("SELECT 1 FROM api_keys LIMIT 1").fetchone() is not None
    except sqlite3.Error:
        return False


def timezone_finding(name: str) -> Finding:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        advice = "install the package tzdata, or set limits.timezone to another one"
        return Finding("timezone", FAIL, f"{name} is not known here", advice)
    return Finding("timezone", OK, f"days and months are those of {name}")


def _looked_at(config: Config) -> Iterator[Finding]:
    path = config.database
    name = in_short(path)
    try:
        length = path.stat().st_size
    except FileNotFoundError:
        yield Finding("database", OK, f"{name} is not there yet: the first start makes it")
        return
    except OSError as error:
        yield Finding(
            "database", FAIL, f"{name}: {error.strerror}", "run this as the user that runs the server"
        )
        return
    if not length:
        yield Finding("database", OK, f"{name} is empty: the first start fills it")
        return
    try:
        inspect(path, shipped_migrations(), whole=True)
    except SchemaTooNew as error:
        yield Finding("schema", FAIL, str(error), "use that version, or a database of this one")
        return
    except StoreError as error:
        yield Finding("database", FAIL, str(error))
        return
    yield Finding("database", OK, f"{name} is whole, {size(length)}")
    yield log_finding(name, _length(_log(path)))
    yield from _contents(config, path)


def _contents(config: Config, path: Path) -> Iterator[Finding]:
    """Yield what is to be said of a database that is whole, and ours."""
    try:
        with closing(sqlite3.connect(reading_uri(path), uri=True)) as connection:
            version = schema_version(connection)
    except sqlite3.Error as error:
        yield Finding("schema", FAIL, f"{in_short(path)} cannot be read: {error}")
        return
    newest = shipped_migrations()[-1].version
    yield schema_finding(version, newest, f"{in_short(path)}.v{version}")
    currency = (stored(path) or {}).get(CURRENCY_SETTING)
    if currency is not None:
        yield currency_finding(currency, config)
    if version == newest:
        yield ledger_finding(path)
    else:
        yield Finding(
            "ledger", WARN, "not proved: it has an older schema", "start the server once, then look again"
        )


def log_finding(name: str, length: int) -> Finding:
    text = f"{name}-wal has {size(length)}" if length else f"{name} has no log beside it: all is in the file"
    if length > _LARGE_LOG:
        advice = (
            "end what reads the database for so long; it is cut after the next checkpoint, or a clean stop"
        )
        return Finding("log", WARN, text, advice)
    return Finding("log", OK, text)


def schema_finding(version: int, newest: int, copy: str) -> Finding:
    """Return what a schema means that is not newer than this program."""
    if version < newest:
        text = f"schema {version}: the next start brings it to {newest}, and keeps a copy, {copy}"
        return Finding("schema", OK, text)
    return Finding("schema", OK, f"schema {version}, the newest")


def currency_finding(fixed: str, config: Config) -> Finding:
    try:
        check_currency(fixed, config)
    except ConfigError as error:
        return Finding(
            "currency", FAIL, str(error), f"set billing.currency to {fixed}: the start fails like this"
        )
    return Finding("currency", OK, f"amounts are in {fixed}")


def ledger_finding(path: Path) -> Finding:
    try:
        proof = prove_file(path)
    except LedgerUnavailable as error:
        return Finding("ledger", FAIL, str(error), "run this as the user that runs the server")
    counts = ", ".join(
        (
            counted(proof.accounts, "account"),
            f"{proof.entries} ledger entries",
            counted(proof.exchanges, "exchange"),
        )
    )
    if proof.ok:
        return Finding("ledger", OK, f"every balance and every total is right: {counts}")
    differences = counted(proof.difference_count, "difference")
    return Finding("ledger", FAIL, f"{differences} in {counts}", "`python -m proxy ledger verify` lists them")


def _log(database: Path) -> Path:
    return database.with_name(database.name + "-wal")


def _length(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
