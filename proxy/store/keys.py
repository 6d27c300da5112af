"""API keys on disk: what is known of each, and the digests of its secrets.

While serving they are held in memory, and change there after the commit.
"""

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from proxy.core.entities import ApiKey, Limits, Quota
from proxy.store.database import Database

T = TypeVar("T")

_KEYS = "SELECT * FROM api_keys ORDER BY created_ms, id"

_SECRETS = "SELECT digest, key_id, expires_ms FROM key_secrets"

_INSERT = """
INSERT INTO api_keys (
    id, name, account, prefix, last4, enabled, created_ms, expires_ms, revoked_ms, last_used_ms,
    models, providers, ips, limits, quota
) VALUES (
    :id, :name, :account, :prefix, :last4, :enabled, :created_ms, :expires_ms, :revoked_ms, :last_used_ms,
    :models, :providers, :ips, :limits, :quota
)
"""

_INSERT_SECRET = "INSERT INTO key_secrets (digest, key_id) VALUES (?, ?)"

_DELETE_SECRET = "DELETE FROM key_secrets WHERE digest = ? AND key_id = ?"

# `last_used_ms` is missing: touch() alone writes it.
_REPLACE = """
UPDATE api_keys
SET name = :name, account = :account, prefix = :prefix, last4 = :last4, enabled = :enabled,
    expires_ms = :expires_ms, revoked_ms = :revoked_ms,
    models = :models, providers = :providers, ips = :ips, limits = :limits, quota = :quota
WHERE id = :id
"""

_EXPIRE_SECRETS = """
UPDATE key_secrets SET expires_ms = min(:expires_ms, coalesce(expires_ms, :expires_ms)) WHERE key_id = :id
"""

_TOUCH = "UPDATE api_keys SET last_used_ms = max(?1, coalesce(last_used_ms, ?1)) WHERE id = ?2"


@dataclass(frozen=True, slots=True)
class KeySecret:
    """The SHA-256 of one secret of a key; after a rotation the older one has an end."""

    digest: bytes
    expires_ms: int | None


@dataclass(frozen=True, slots=True)
class StoredKey:
    key: ApiKey
    secrets: tuple[KeySecret, ...]


class KeyStore:
    """All API keys, revoked ones too: none is ever removed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> list[StoredKey]:
        """Return all keys, oldest first."""
        secrets = defaultdict(list)
        for row in await self._database.fetch_all(_SECRETS):
            secrets[row["key_id"]].append(KeySecret(row["digest"], row["expires_ms"]))
        rows = await self._database.fetch_all(_KEYS)
        return [StoredKey(_key(row), tuple(secrets[row["id"]])) for row in rows]

    def insert(self, key: ApiKey, digest: bytes) -> asyncio.Future[None]:
        """Add a key; the future fails with sqlite3.IntegrityError for an unknown account."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_INSERT, _values(key))
            connection.execute(_INSERT_SECRET, (digest, key.id))

        return self._database.writer.submit(work)

    def replace(self, key: ApiKey) -> asyncio.Future[None]:
        """Write all that may change; the future fails with LookupError if there is no such key."""

        def work(connection: sqlite3.Connection) -> None:
            _replace(connection, key)

        return self._database.writer.submit(work)

    def rotate(self, key: ApiKey, digest: bytes, old_expire_ms: int) -> asyncio.Future[None]:
        """Give the key another secret, whose prefix and end `key` shows; older ones end at a time.

        A secret that it had before is valid again.
        """

        def work(connection: sqlite3.Connection) -> None:
            _replace(connection, key)
            connection.execute(_EXPIRE_SECRETS, {"expires_ms": old_expire_ms, "id": key.id})
            connection.execute(_DELETE_SECRET, (digest, key.id))
            connection.execute(_INSERT_SECRET, (digest, key.id))

        return self._database.writer.submit(work)

    def touch(self, last_used_ms: Mapping[str, int]) -> None:
        """Note when keys, by id, were last used; nobody waits for it."""
        values = [(used_ms, id) for id, used_ms in last_used_ms.items()]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(_TOUCH, values)

        self._database.writer.post(work)


def _replace(connection: sqlite3.Connection, key: ApiKey) -> None:
    if not connection.execute(_REPLACE, _values(key)).rowcount:
        raise LookupError(f"no such key: {key.id}")


def _values(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "account": key.account,
        "prefix": key.prefix,
        "last4": key.last4,
        "enabled": key.enabled,
        "created_ms": key.created_ms,
        "expires_ms": key.expires_ms,
        "revoked_ms": key.revoked_ms,
        "last_used_ms": key.last_used_ms,
        "models": _text(key.models),
        "providers": _text(key.providers),
        "ips": _text(key.ips),
        "limits": _text(key.limits),
        "quota": _text(key.quota),
    }


def _key(row: sqlite3.Row) -> ApiKey:
    return ApiKey(
        id=row["id"],
        name=row["name"],
        account=row["account"],
        prefix=row["prefix"],
        last4=row["last4"],
        enabled=bool(row["enabled"]),
        created_ms=row["created_ms"],
        expires_ms=row["expires_ms"],
        revoked_ms=row["revoked_ms"],
        last_used_ms=row["last_used_ms"],
        models=_parsed(row["models"], tuple[str, ...]),
        providers=_parsed(row["providers"], tuple[str, ...]),
        ips=_parsed(row["ips"], tuple[str, ...]),
        limits=msgspec.json.decode(row["limits"], type=Limits),
        quota=_parsed(row["quota"], Quota),
    )


def _text(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _parsed(text: str | None, kind: type[T]) -> T | None:
    return None if text is None else msgspec.json.decode(text, type=kind)
