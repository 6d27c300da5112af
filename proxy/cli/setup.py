"""`init` and `check`: what is done before serving."""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

from proxy.cli.errors import CommandFailed
from proxy.cli.output import Output, cell, table
from proxy.cli.settings import config_path, load_config
from proxy.config.check import Findings, RouteState, findings
from proxy.config.jsonschema import json_schema
from proxy.config.template import write_initial
from proxy.gateway.price_imports import catalogue_of
from proxy.store.funds import accounts_without_funds
from proxy.store.prices import imported_into


def init(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    """Write the starting configuration; never over an existing file."""
    path = Path(args.file) if args.file else config_path(args, environ)
    try:
        write_initial(path)
    except FileExistsError:
        raise CommandFailed(f"{path} exists already; nothing was written") from None
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written: {error.strerror}") from None
    option = "" if path == Path("config.yaml") else f" --config {path}"
    return Output({"path": str(path)}, f"Wrote {path}. To start: python -m proxy{option}")


def check(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    """Validate the configuration and tell what is in it; or print the schema of its file."""
    if getattr(args, "schema", False):
        return Output(json_schema())
    config = load_config(args, environ)
    now_ms = int(time.time() * 1000)
    without_funds = accounts_without_funds(config.database, now_ms, config.billing.credit_limit_nanos)
    found = findings(config, catalogue_of(imported_into(config.database)), without_funds)
    return Output(found.as_json(), f"{config.path} is valid.\n\n{_described(found)}")


def _described(found: Findings) -> str:
    providers = (
        (item.name, item.preset, item.base_url, item.keys, item.reason or "active")
        for item in found.providers
    )
    routes = (
        (item.model, f"{item.provider}/{item.upstream_model}", item.priority, item.weight, _state(item))
        for item in found.routes
    )
    findings = (f"line {item.line or '-'}: {item.path}: {cell(item.message)}" for item in found.findings)
    return "\n\n".join(
        (
            table(("PROVIDER", "PRESET", "BASE URL", "KEYS", "STATE"), providers, empty="No providers."),
            table(
                ("MODEL", "ROUTE", "PRIORITY", "WEIGHT", "STATE"),
                routes,
                empty="No models: every model is reachable as provider/model.",
            ),
            "\n".join(findings) or "Nothing to remark.",
        )
    )


def _state(route: RouteState) -> str:
    if not route.active:
        return "inactive"
    return "unpriced" if route.priced is False else "active"
