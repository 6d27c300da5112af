import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from proxy.core.entities import ApiKey, Limits, Quota
from proxy.store.database import Database
from proxy.store.keys import KeySecret, KeyStore, StoredKey

Rows = Callable[..., list[tuple[Any, ...]]]

PLAIN = ApiKey("key_1", "laptop", "default", "sk-sluice-ab", "wxyz", enabled=True, created_ms=1)

FULL = ApiKey(
    id="key_2",
    name="team «Ω»",
    account="default",
    prefix="sk-sluice-cd",
    last4="stuv",
    enabled=False,
    created_ms=2,
    expires_ms=3,
    revoked_ms=4,
    last_used_ms=5,
    models=("gpt-*", "fast"),
    providers=(),
    ips=("10.0.0.0/8",),
    limits=Limits(rpm=60, tpd=1_000_000, max_output=100),
    quota=Quota(5_000_000_000, "month"),
)

DIGESTS = [bytes([number]) * 32 for number in range(4)]


@pytest.fixture
def keys(database: Database) -> KeyStore:
    return KeyStore(database)


async def test_keys_come_back_as_they_were(keys: KeyStore) -> None:
    await keys.insert(FULL, DIGESTS[1])
    await keys.insert(PLAIN, DIGESTS[0])
    assert await keys.load() == [
        StoredKey(PLAIN, (KeySecret(DIGESTS[0], None),)),
        StoredKey(FULL, (KeySecret(DIGESTS[1], None),)),
    ]


async def test_an_unknown_account_is_refused_whole(keys: KeyStore, rows: Rows) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        await keys.insert(replace(PLAIN, account="nobody"), DIGESTS[0])
    assert rows("SELECT (SELECT count(*) FROM api_keys) + (SELECT count(*) FROM key_secrets)") == [(0,)]


async def test_a_secret_belongs_to_one_key(keys: KeyStore) -> None:
    await keys.insert(PLAIN, DIGESTS[0])
    with pytest.raises(sqlite3.IntegrityError):
        await keys.insert(FULL, DIGESTS[0])
    assert [stored.key for stored in await keys.load()] == [PLAIN]


async def test_replacing_writes_all_but_the_last_use(keys: KeyStore) -> None:
    await keys.insert(PLAIN, DIGESTS[0])
    changed = replace(FULL, id=PLAIN.id, created_ms=PLAIN.created_ms)
    await keys.replace(changed)
    (stored,) = await keys.load()
    assert stored == StoredKey(replace(changed, last_used_ms=None), (KeySecret(DIGESTS[0], None),))


async def test_replacing_and_rotating_need_a_key(keys: KeyStore) -> None:
    with pytest.raises(LookupError, match="key_1"):
        await keys.replace(PLAIN)
    with pytest.raises(LookupError, match="key_1"):
        await keys.rotate(PLAIN, DIGESTS[0], 0)


async def test_a_rotation_ends_the_older_secrets(keys: KeyStore) -> None:
    await keys.insert(PLAIN, DIGESTS[0])
    await keys.rotate(replace(PLAIN, prefix="sk-sluice-ef", last4="opqr"), DIGESTS[1], 1000)
    (stored,) = await keys.load()
    assert (stored.key.prefix, stored.key.last4) == ("sk-sluice-ef", "opqr")
    assert set(stored.secrets) == {KeySecret(DIGESTS[0], 1000), KeySecret(DIGESTS[1], None)}
    # A second rotation with a longer grace does not give the first secret more time.
    await keys.rotate(stored.key, DIGESTS[2], 5000)
    (stored,) = await keys.load()
    assert set(stored.secrets) == {
        KeySecret(DIGESTS[0], 1000),
        KeySecret(DIGESTS[1], 5000),
        KeySecret(DIGESTS[2], None),
    }


async def test_the_last_use_only_moves_on(keys: KeyStore, database: Database) -> None:
    await keys.insert(PLAIN, DIGESTS[0])
    await keys.insert(FULL, DIGESTS[1])
    keys.touch({"key_1": 100, "key_2": 200, "gone": 300})
    keys.touch({"key_1": 90})
    await database.writer.submit(lambda connection: None)
    assert [stored.key.last_used_ms for stored in await keys.load()] == [100, 200]


async def test_a_secret_is_a_whole_digest(keys: KeyStore) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        await keys.insert(PLAIN, b"short")
