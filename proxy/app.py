"""Builds every object once, hands it down, and takes it all apart again in the reverse order."""

import asyncio
from zoneinfo import ZoneInfo

from starlette.types import ASGIApp

from proxy.config.schema import Config
from proxy.gateway import installation
from proxy.gateway.adminkey import AdminKey
from proxy.gateway.clock import Clock
from proxy.gateway.crossing import Passing
from proxy.gateway.directory import Directory
from proxy.gateway.exchange import ExchangeLog, Services
from proxy.gateway.gateway import Gateway
from proxy.gateway.installation import NewSecrets
from proxy.gateway.keyring import Keyring
from proxy.gateway.management import Management
from proxy.gateway.reports import Reports
from proxy.gateway.snapshot import Snapshot
from proxy.store.accounts import AccountStore
from proxy.store.database import Database
from proxy.store.keys import KeyStore
from proxy.store.settings import SettingStore
from proxy.store.usage import UsageStore
from proxy.upstream.client import UpstreamClient
from proxy.web.admin import AccountsApi, KeysApi, ReportsApi, admin_routes
from proxy.web.health import health_routes
from proxy.web.inference import Inference
from proxy.web.routes import Routes, with_cors
from proxy.web.self_service import self_service_routes

# How often it is written down when keys were last used.
LAST_USED_S = 10.0


class App:
    """One gateway, built and ready to serve; it does not listen by itself.

    The caller holds the lock of the database. docs/operations.md
    """

    def __init__(
        self,
        asgi: ASGIApp,
        gateway: Gateway,
        keyring: Keyring,
        admin_key: AdminKey,
        settings: SettingStore,
        database: Database,
    ) -> None:
        self.asgi = asgi
        self.gateway = gateway
        self._keyring = keyring
        self._admin_key = admin_key
        self._settings = settings
        self._database = database
        self._flushing = asyncio.create_task(self._flush_last_used())

    @classmethod
    async def open(cls, config: Config, log: ExchangeLog) -> "App":
        """Open the database and build the gateway on it.

        Raises StoreError when the database cannot be used, ConfigError when it does not fit the
        configuration.
        """
        synchronous = "FULL" if config.billing.mode == "prepaid" else "NORMAL"
        database = await Database.open(config.database, synchronous=synchronous)
        try:
            return await cls._build(config, database, log)
        except BaseException:
            await database.close()
            raise

    @classmethod
    async def _build(cls, config: Config, database: Database, log: ExchangeLog) -> "App":
        clock = Clock(ZoneInfo(config.limits.timezone))
        settings, usage = SettingStore(database), UsageStore(database)
        admin_key = await AdminKey.open(settings, config.admin_key)
        keyring = Keyring(KeyStore(database), AccountStore(database), admin_key, config, clock)
        await usage.recover()
        await keyring.load(usage)
        await installation.claim(keyring, settings, config)

        services = Services(UpstreamClient(), usage, clock, log, Passing.new())
        gateway = Gateway(Snapshot.build(config), services, database.writer)
        management = Management(keyring, clock, gateway.config)
        reports = Reports(usage, clock, gateway.config)
        directory = Directory(gateway.current, gateway.list_models, clock)
        routes = [
            *health_routes(gateway, database.writer, clock.now_ms()),
            *self_service_routes(keyring, clock, reports, usage, directory),
            *admin_routes(
                admin_key,
                clock,
                KeysApi(keyring, management, reports),
                AccountsApi(keyring, management),
                ReportsApi(reports, usage, directory, gateway.config),
            ),
        ]
        asgi = with_cors(Routes(Inference(gateway, keyring), routes), config.server.cors_origins)
        return cls(asgi, gateway, keyring, admin_key, settings, database)

    @property
    def run_secret(self) -> str:
        """The secret of this start, by which the same system user's commands are let in."""
        return self._admin_key.run_secret

    async def first_secrets(self) -> NewSecrets:
        """Make the keys that serving needs and the database lacks; they can be shown only now."""
        clock, config = self.gateway.services.clock, self.gateway.config()
        return await installation.prepare(
            self._keyring, self._admin_key, self._settings, config, clock.now_ms()
        )

    async def close(self) -> None:
        """Wait for what runs, record it, and leave the database as one file."""
        self._flushing.cancel()
        await self.gateway.drained()
        await self.gateway.services.client.close()
        self._keyring.flush_last_used()
        await self._database.close()

    async def _flush_last_used(self) -> None:
        while True:
            await asyncio.sleep(LAST_USED_S)
            self._keyring.flush_last_used()
