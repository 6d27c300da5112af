"""`account`: make, list, show and change accounts."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from proxy.cli.client import admin_client
from proxy.cli.output import Output, fields, table
from proxy.cli.settings import load_config

Json = dict[str, Any]

_ENTRY = ("created_at", "kind", "fund", "amount", "balance_after", "exchange", "actor", "note")
# So many entries of its ledger are shown with an account.
_LATEST = 10


async def create(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    body = {"name": args.name} | ({"plan": args.plan} if "plan" in args else {})
    async with admin_client(load_config(args, environ)) as api:
        account = await api.post("accounts", body=body)
    return Output(account, f"Created the account {account['name']}.\n\n{described(account)}")


async def list_accounts(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    async with admin_client(load_config(args, environ)) as api:
        accounts = await api.all("accounts")
    rows = [
        (account["name"], account["plan"], _state(account), account["available"], account["created_at"])
        for account in accounts
    ]
    return Output(accounts, table(("NAME", "PLAN", "STATE", "AVAILABLE", "CREATED"), rows, empty=""))


async def show(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    """Show an account; people see the latest entries of its ledger, too."""
    async with admin_client(load_config(args, environ)) as api:
        account = await api.get("accounts", args.name)
        entries = await api.all("accounts", args.name, "ledger", limit=_LATEST)
    return Output(account, f"{described(account)}\n\n{ledger_table(entries)}")


async def set_plan(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    return await _change(args, environ, {"plan": None if args.plan == "none" else args.plan})


async def disable(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    return await _change(args, environ, {"enabled": False})


async def enable(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    return await _change(args, environ, {"enabled": True})


async def _change(args: argparse.Namespace, environ: Mapping[str, str], body: Json) -> Output:
    async with admin_client(load_config(args, environ)) as api:
        account = await api.patch("accounts", args.name, body=body)
    return Output(account, described(account))


def described(account: Json) -> str:
    """Return an account as lines for people, with its funds in the order in which they are used."""
    shown = {"name": account["name"], "plan": account["plan"]}
    if account["own_plan"] != account["plan"]:
        shown["own plan"] = account["own_plan"]
    shown["state"] = _state(account)
    funds = account["funds"]
    shown |= {f"grant {grant['id']}": _grant(grant) for grant in funds["grants"]}
    if funds["subscription"]:
        shown["subscription"] = _subscription(funds["subscription"])
    shown |= {"wallet": funds["wallet"], "held": account["held"], "available": account["available"]}
    return fields(shown | {"created": account["created_at"]})


def ledger_table(entries: Sequence[Json]) -> str:
    """Return entries of a ledger as a table."""
    rows = [[entry[name] for name in _ENTRY] for entry in entries]
    headers = [name.removesuffix("_at").upper().replace("_", " ") for name in _ENTRY]
    return table(headers, rows, empty="Nothing in its ledger yet.")


def _grant(grant: Json) -> str:
    text = f"{grant['tokens_left']:,} of {grant['tokens']:,} tokens left"
    if grant["models"] is not None:
        text += f", for {', '.join(grant['models']) or 'no model'}"
    return text if grant["expires_at"] is None else f"{text}, until {grant['expires_at']}"


def _subscription(subscription: Json) -> str:
    return (
        f"{subscription['plan']}, {subscription['credit_left']} of {subscription['credit']} left, "
        f"until {subscription['expires_at']}"
    )


def _state(account: Json) -> str:
    return "enabled" if account["enabled"] else "disabled"
