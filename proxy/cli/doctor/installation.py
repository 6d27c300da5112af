"""What `doctor` looks at once the program can be loaded: the configuration, and all that it names."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from proxy.cli.doctor.database import database_findings, stored
from proxy.cli.doctor.findings import FAIL, OK, WARN, Finding
from proxy.cli.doctor.place import place_findings
from proxy.cli.doctor.server import address_finding, admin_key_finding, server_finding
from proxy.config.check import Finding as Remark
from proxy.config.check import findings
from proxy.config.problems import MOST_PRINTED, ConfigError
from proxy.config.schema import Config
from proxy.gateway.price_imports import catalogue_of
from proxy.store.funds import accounts_without_funds
from proxy.store.prices import imported_into


def problem_findings(error: ConfigError) -> Iterator[Finding]:
    """Yield a finding for each line that `check` prints."""
    *lines, last = str(error).splitlines()
    for line in lines:
        yield Finding("configuration", FAIL, line)
    yield Finding("configuration", FAIL, last, "what needs the configuration was not looked at")


def installation_findings(config: Config, files: Iterable[Path]) -> Iterator[Finding]:
    """Yield all that is found without asking a provider. `files` are what the configuration was read from."""
    now_ms = int(time.time() * 1000)
    without_funds = accounts_without_funds(config.database, now_ms, config.billing.credit_limit_nanos)
    about = findings(config, catalogue_of(imported_into(config.database)), without_funds)
    yield Finding("configuration", OK, f"{config.path} is valid")
    yield from _remarks(about.findings)
    yield from place_findings(config, files)
    yield from database_findings(config)
    yield asyncio.run(server_finding(config))
    yield address_finding(config)
    yield admin_key_finding(config, stored(config.database))
    yield from _providers(config)


def _remarks(remarks: tuple[Remark, ...]) -> Iterator[Finding]:
    for remark in remarks[:MOST_PRINTED]:
        yield Finding("configuration", WARN, f"line {remark.line or '-'}: {remark.path}: {remark.message}")
    if len(remarks) > MOST_PRINTED:
        more = f"and {len(remarks) - MOST_PRINTED} more"
        yield Finding("configuration", WARN, more, "`python -m proxy check` lists them all")


def _providers(config: Config) -> Iterator[Finding]:
    active = [provider for provider in config.providers.values() if provider.active]
    inactive = [
        f"{provider.name} ({', '.join(provider.missing_variables)})"
        for provider in config.providers.values()
        if not provider.active
    ]
    for provider in active:
        where = provider.base_url or "built in, needs no network"
        keys = f", keys: {len(provider.keys)}" if provider.keys else ""
        yield Finding("providers", OK, f"{provider.name} is active: {where}{keys}")
    if inactive:
        yield Finding("providers", OK, f"inactive, for want of a variable: {', '.join(inactive)}")
    if not active:
        advice = f"set a variable named here, or list a provider under providers: in {config.path.name}"
        yield Finding("providers", WARN, "none is active: nobody would answer", advice)
