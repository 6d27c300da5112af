"""A keyring over a real database, with a clock that a test sets."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from proxy.config.schema import Billing, Config, LimitDefaults, Plan
from proxy.core.secret import Secret
from proxy.gateway.adminkey import AdminKey
from proxy.gateway.clock import Clock
from proxy.gateway.keyring import Keyring
from proxy.gateway.management import Management
from proxy.gateway.treasury import Treasury
from proxy.store.accounts import AccountStore
from proxy.store.database import Database
from proxy.store.funds import FundStore
from proxy.store.keys import KeyStore
from proxy.store.settings import SettingStore
from proxy.store.usage import UsageStore

NOW_MS = int(datetime(2100, 5, 21, 12, tzinfo=UTC).timestamp()) * 1000


class SetClock(Clock):
    """Stands still at `ms` until a test moves it."""

    def __init__(self, zone: tzinfo = UTC) -> None:
        self.ms = NOW_MS
        super().__init__(zone)

    def time_s(self) -> float:
        return self.ms / 1000

    def monotonic_ns(self) -> int:
        return self.ms * 10**6


@dataclass(slots=True)
class Installation:
    """What is built over one database."""

    config: Config
    clock: SetClock
    database: Database
    settings: SettingStore
    usage: UsageStore
    admin: AdminKey
    treasury: Treasury
    keyring: Keyring
    management: Management


def settings_of(
    folder: Path,
    *,
    plans: Mapping[str, Plan] | None = None,
    default_plan: str | None = None,
    currency: str = "USD",
    admin_key: str | None = None,
    api_key: str | None = None,
) -> Config:
    return Config(
        path=folder / "config.yaml",
        database=folder / "sluice.db",
        plans=plans or {},
        limits=LimitDefaults(default_plan=default_plan),
        billing=Billing(currency=currency),
        admin_key=Secret(admin_key) if admin_key else None,
        api_key=Secret(api_key) if api_key else None,
    )


@asynccontextmanager
async def installed(config: Config) -> AsyncIterator[Installation]:
    """Open the database of a configuration, as a start of the program does."""
    clock = SetClock()
    database = await Database.open(config.database)
    try:
        settings, usage = SettingStore(database), UsageStore(database)
        admin = await AdminKey.open(settings, config.admin_key)
        treasury = Treasury(FundStore(database), clock)
        keyring = Keyring(KeyStore(database), AccountStore(database), treasury, admin, config, clock)
        await treasury.load()
        await keyring.load(usage)
        management = Management(keyring, treasury, clock, lambda: config)
        yield Installation(config, clock, database, settings, usage, admin, treasury, keyring, management)
        treasury.close()
    finally:
        await database.close()
