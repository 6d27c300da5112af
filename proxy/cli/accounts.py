"""`account`: make, list, show and change accounts."""

import argparse
from collections.abc import Mapping
from typing import Any

from proxy.cli.client import admin_client
from proxy.cli.output import Output, fields, table
from proxy.cli.settings import load_config

Json = dict[str, Any]


async def create(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    body = {"name": args.name} | ({"plan": args.plan} if "plan" in args else {})
    async with admin_client(load_config(args, environ)) as api:
        account = await api.post("accounts", body=body)
    return Output(account, f"Created the account {account['name']}.\n\n{_described(account)}")


async def list_accounts(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    async with admin_client(load_config(args, environ)) as api:
        accounts = await api.all("accounts")
    rows = [
        (account["name"], account["plan"], _state(account), account["available"], account["created_at"])
        for account in accounts
    ]
    return Output(accounts, table(("NAME", "PLAN", "STATE", "AVAILABLE", "CREATED"), rows, empty=""))


async def show(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    async with admin_client(load_config(args, environ)) as api:
        account = await api.get("accounts", args.name)
    return Output(account, _described(account))


async def set_plan(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    return await _change(args, environ, {"plan": None if args.plan == "none" else args.plan})


async def disable(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    return await _change(args, environ, {"enabled": False})


async def enable(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    return await _change(args, environ, {"enabled": True})


async def _change(args: argparse.Namespace, environ: Mapping[str, str], body: Json) -> Output:
    async with admin_client(load_config(args, environ)) as api:
        account = await api.patch("accounts", args.name, body=body)
    return Output(account, _described(account))


def _described(account: Json) -> str:
    return fields(
        {
            "name": account["name"],
            "plan": account["plan"],
            "state": _state(account),
            "wallet": account["funds"]["wallet"],
            "held": account["held"],
            "available": account["available"],
            "created": account["created_at"],
        }
    )


def _state(account: Json) -> str:
    return "enabled" if account["enabled"] else "disabled"
