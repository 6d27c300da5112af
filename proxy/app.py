"""Builds every object once, hands it down, and takes it all apart again."""

import asyncio
import logging
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from starlette.types import ASGIApp

from proxy.config.schema import Config
from proxy.gateway.adminkey import AdminKey
from proxy.gateway.clock import Clock
from proxy.gateway.exchange import Services
from proxy.gateway.gateway import Gateway
from proxy.gateway.keyring import Keyring
from proxy.gateway.snapshot import Snapshot
from proxy.logs import ExchangeLog
from proxy.store.accounts import AccountStore
from proxy.store.database import Database
from proxy.store.keys import KeyStore
from proxy.store.settings import SettingStore
from proxy.store.usage import UsageStore
from proxy.upstream.client import UpstreamClient
from proxy.web.health import Health
from proxy.web.inference import Inference
