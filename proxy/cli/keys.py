"""`key`: make, list, show, change, end and renew API keys."""

import argparse
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from proxy.cli.client import admin_client
from proxy.cli.output import Output, fields, table
from proxy.cli.parser import LIMITS
from proxy.cli.settings import load_config
from proxy.config.schema import Config
from proxy.core.moments import rfc3339

Json = dict[str, Any]

# What --quota means when nothing else is said: the safest, it never comes back.
_DEFAULT_PERIOD = "total"
_PLAIN = ("name", "account", "enabled", "models", "providers", "ips")


async def create(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    config = load_config(args, environ)
    body = _given(args, config)
    if "quota" in body:
        body["quota"] = {"period": _DEFAULT_PERIOD, **body["quota"]} if body["quota"] else None
    async with admin_client(config) as api:
        return _with_secret(await api.post("keys", body=body))


async def list_keys(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    async with admin_client(load_config(args, environ)) as api:
        keys = await api.all("keys")
    rows = [
        (
            key["id"],
            key["name"],
            key["account"],
            f"{key['prefix']}…{key['last4']}",
            state_of(key),
            key["models"] or "all",
            key["last_used_at"],
        )
        for key in keys
    ]
    headers = ("ID", "NAME", "ACCOUNT", "KEY", "STATE", "MODELS", "LAST USED")
    return Output(keys, table(headers, rows, empty="No API keys yet: `key create --name NAME` makes one."))


async def show(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    async with admin_client(load_config(args, environ)) as api:
        key = await api.get("keys", args.id)
    return Output(key, _described(key))


async def update(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    config = load_config(args, environ)
    async with admin_client(config) as api:
        key = await api.patch("keys", args.id, body=_given(args, config))
    return Output(key, _described(key))


async def revoke(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    async with admin_client(load_config(args, environ)) as api:
        key = await api.delete("keys", args.id)
    return Output(key, f"Revoked {key['id']} ({key['name']}); what ran on it has ended.")


async def rotate(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    body = {"grace_s": args.grace} if "grace" in args else {}
    async with admin_client(load_config(args, environ)) as api:
        return _with_secret(await api.post("keys", args.id, "rotate", body=body))


def state_of(key: Json) -> str:
    """Return one word for whether a key is accepted."""
    if key["revoked_at"]:
        return "revoked"
    if not key["enabled"]:
        return "disabled"
    now = datetime.now(ZoneInfo("UTC"))
    expired = key["expires_at"] and datetime.fromisoformat(key["expires_at"]) <= now
    return "expired" if expired else "active"


def _given(args: argparse.Namespace, config: Config) -> Json:
    """Return the members of a key that the options set; nothing else is sent."""
    given = vars(args)
    body: Json = {name: given[name] for name in _PLAIN if name in given}
    limits = {name: given[name] for name in LIMITS if name in given}
    if limits:
        body["limits"] = limits
    quota = {}
    if given.get("quota", ...) is None:
        body["quota"] = None
    else:
        quota = {"amount": given["quota"]} if "quota" in given else {}
        quota |= {"period": given["quota_period"]} if "quota_period" in given else {}
    if quota:
        body["quota"] = quota
    if "expires" in given:
        body["expires_at"] = moment(given["expires"], config)
    return body


def moment(expires: int | date | None, config: Config) -> str | None:
    """Return when something ends: seconds from now, or at the start of a day in the zone of the limits."""
    if expires is None:
        return None
    zone = ZoneInfo(config.limits.timezone)
    if isinstance(expires, int):
        end_s = datetime.now(zone).timestamp() + expires
    else:
        end_s = datetime.combine(expires, time(), zone).timestamp()
    return rfc3339(int(end_s) * 1000)


def _with_secret(key: Json) -> Output:
    text = f"API key: {key['key']}\nIt is not shown again.\n\n"
    return Output(key, text + _described(key))


def _described(key: Json) -> str:
    quota = key["quota"]
    shown = {name: key[name] for name in ("id", "name", "account")}
    shown |= {"key": f"{key['prefix']}…{key['last4']}", "state": state_of(key)}
    shown |= {name: key[name] or "all" for name in ("models", "providers", "ips")}
    shown |= {name: value for name, value in key["limits"].items() if value is not None}
    if quota:
        shown["quota"] = f"{quota['spent']} of {quota['amount']} spent ({quota['period']})"
        shown["quota resets"] = quota["resets_at"]
    shown |= {"created": key["created_at"], "expires": key["expires_at"], "last used": key["last_used_at"]}
    return fields(shown)
