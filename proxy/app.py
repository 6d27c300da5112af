"""Builds every object once, hands it down, and takes it all apart again in the reverse order."""

import asyncio
import os
from zoneinfo import ZoneInfo

from starlette.types import ASGIApp

from proxy.config.load import ConfigFile
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
from proxy.gateway.money_calls import MoneyCalls
from proxy.gateway.price_imports import PriceImports, catalogue_of
from proxy.gateway.provider_states import ProviderStates
from proxy.gateway.reload import Reloader, synchronous
from proxy.gateway.reports import Reports
from proxy.gateway.router import Router
from proxy.gateway.snapshot import Snapshot
from proxy.gateway.statements import Statements
from proxy.gateway.treasury import Treasury
from proxy.store.accounts import AccountStore
from proxy.store.backups import Backups
from proxy.store.database import Database
from proxy.store.funds import FundStore
from proxy.store.keys import KeyStore
from proxy.store.prices import PriceStore
from proxy.store.proof import Prover
from proxy.store.settings import SettingStore
from proxy.store.usage import UsageStore
from proxy.upstream.client import UpstreamClient
from proxy.web.admin import AccountsApi, KeysApi, ReportsApi, admin_routes
from proxy.web.backup import BackupApi
from proxy.web.clients import ClientSetup
from proxy.web.console import Console
from proxy.web.health import health_routes
from proxy.web.inference import Inference
from proxy.web.key_chat import KeyChat
from proxy.web.metrics import metrics_routes
from proxy.web.money import MoneyApi
from proxy.web.price_imports import PricesApi
from proxy.web.providers import ProvidersApi
from proxy.web.reload import ReloadApi
from proxy.web.routes import Cors, Routes
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
        reloader: Reloader,
        keyring: Keyring,
        treasury: Treasury,
        admin_key: AdminKey,
        settings: SettingStore,
        prover: Prover,
        backups: Backups,
        database: Database,
    ) -> None:
        self.asgi = asgi
        self.gateway = gateway
        self.reloader = reloader
        self._keyring = keyring
        self._treasury = treasury
        self._admin_key = admin_key
        self._settings = settings
        self._prover = prover
        self._backups = backups
        self._database = database
        self._flushing = asyncio.create_task(self._flush_last_used())

    @classmethod
    async def open(cls, config: Config, log: ExchangeLog, file: ConfigFile | None = None) -> "App":
        """Open the database and build the gateway on it. `file` is where the configuration was read.

        Raises StoreError when the database cannot be used, ConfigError when it does not fit the
        configuration.
        """
        file = file or ConfigFile(config.path, os.environ)
        database = await Database.open(config.database, synchronous=synchronous(config))
        try:
            return await cls._build(config, file, database, log)
        except BaseException:
            await database.close()
            raise

    @classmethod
    async def _build(cls, config: Config, file: ConfigFile, database: Database, log: ExchangeLog) -> "App":
        clock = Clock(ZoneInfo(config.limits.timezone))
        settings, usage = SettingStore(database), UsageStore(database)
        admin_key = await AdminKey.open(settings, config.admin_key)
        funds = FundStore(database)
        treasury = Treasury(funds, clock)
        keyring = Keyring(KeyStore(database), AccountStore(database), treasury, admin_key, config, clock)
        await usage.recover()
        await treasury.load()
        await keyring.load(usage)
        await installation.claim(keyring, treasury, settings, config, clock.now_ms())

        prices = PriceStore(database)
        imported = await prices.load()
        services = Services(UpstreamClient(), usage, clock, log, Passing.new(), Router(clock))
        gateway = Gateway(Snapshot.build(config, catalogue_of(imported)), services, database.writer)
        management = Management(keyring, treasury, clock, gateway.config)
        reports = Reports(usage, clock, gateway.config)
        directory = Directory(gateway.current, gateway.list_models, clock)
        calls = MoneyCalls(management, treasury, clock, gateway.config)
        prover = Prover(database.path)
        backups = Backups(database.path)
        reloader = Reloader(file, gateway, keyring, admin_key, settings, database)
        inference = Inference(gateway, keyring)
        clients = ClientSetup(gateway.current)
        routes = [
            *health_routes(gateway, database.writer, reloader),
            *metrics_routes(gateway, database.writer, admin_key),
            *Console(gateway.config).routes(),
            *self_service_routes(
                keyring, treasury, clock, reports, usage, directory, clients, gateway.config
            ),
            *admin_routes(
                admin_key,
                clock,
                KeysApi(keyring, management, clock),
                KeyChat(inference, management),
                AccountsApi(keyring, management, treasury, clock),
                MoneyApi(admin_key, management, calls, funds, Statements(funds, clock), prover),
                ReportsApi(reports, usage, directory, gateway.config),
                PricesApi(PriceImports(prices, clock, gateway, imported)),
                ReloadApi(reloader),
                BackupApi(backups, clock),
                ProvidersApi(
                    ProviderStates(gateway.current, services.router, services.client, clock),
                    gateway,
                    management,
                ),
                clients,
            ),
        ]
        asgi = Cors(Routes(inference, routes), gateway.config)
        return cls(asgi, gateway, reloader, keyring, treasury, admin_key, settings, prover, backups, database)

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
        await self.reloader.close()
        self._treasury.close()
        self._prover.close()
        await self._backups.close()
        await self.gateway.drained()
        await self.gateway.services.client.close()
        self._keyring.flush_last_used()
        self.gateway.services.usage.flush()
        await self._database.close()

    async def _flush_last_used(self) -> None:
        while True:
            await asyncio.sleep(LAST_USED_S)
            self._keyring.flush_last_used()
