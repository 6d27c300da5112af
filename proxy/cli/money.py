"""`account topup` and its kin, `account ledger`, `account statement`, `ledger verify`."""

import argparse
import csv
import io
import secrets
from collections.abc import Mapping
from typing import Any

from proxy.cli.accounts import described, ledger_table
from proxy.cli.client import PROOF_S, admin_client
from proxy.cli.keys import moment
from proxy.cli.output import Output, table
from proxy.cli.settings import load_config

Json = dict[str, Any]


async def top_up(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    return await _make(args, environ, "topup", {"amount": args.amount} | _given(args, "note"))


async def adjust(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    body = {"amount": args.amount, "note": args.note} | _given(args, "fund")
    return await _make(args, environ, "adjust", body)


async def grant_tokens(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    body = {"tokens": args.tokens} | _given(args, "models", "note")
    if "expires" in args:
        body["expires_at"] = moment(args.expires, load_config(args, environ))
    return await _make(args, environ, "grant-tokens", body)


async def subscribe(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    return await _make(args, environ, "subscribe", {"plan": args.plan})


async def ledger(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    async with admin_client(load_config(args, environ)) as api:
        entries = await api.all("accounts", args.name, "ledger", limit=args.limit)
    return Output(entries, ledger_table(entries))


async def statement(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    async with admin_client(load_config(args, environ)) as api:
        text = await api.text("accounts", args.name, "statement", **_given(args, "month"))
    return Output(list(csv.DictReader(io.StringIO(text))), text.rstrip("\n"))


async def verify(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    async with admin_client(load_config(args, environ)) as api:
        proof = await api.get("ledger", "verify", timeout_s=PROOF_S)
    return Output(proof, _as_verdict(proof), status=0 if proof["ok"] else 1)


def _given(args: argparse.Namespace, *names: str) -> Json:
    return {name: vars(args)[name] for name in names if name in args}


async def _make(args: argparse.Namespace, environ: Mapping[str, str], verb: str, body: Json) -> Output:
    # Whoever runs the command again means it again.
    headers = {"idempotency-key": secrets.token_hex(16)}
    async with admin_client(load_config(args, environ)) as api:
        made = await api.post("accounts", args.name, verb, body=body, headers=headers)
    return Output(made, f"{ledger_table(made['entries'])}\n\n{described(made)}")


def _as_verdict(proof: Json) -> str:
    compared = f"{proof['accounts']} accounts, {proof['entries']} entries, {proof['exchanges']} exchanges"
    if proof["ok"]:
        return f"Every balance and every total is right: {compared}."
    rows = [
        (item["what"], item["where"], *_told_apart(item["expected"], item["found"]))
        for item in proof["differences"]
    ]
    text = f"{proof['difference_count']} differences in {compared}.\n\n"
    text += table(("WHAT", "WHERE", "EXPECTED", "FOUND"), rows, empty="")
    more = proof["difference_count"] - len(rows)
    return f"{text}\n\nAnd {more} more." if more else text


def _told_apart(expected: object, found: object) -> tuple[object, object]:
    """Return both values; of those with several figures the ones that differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        names = [name for name in expected if expected[name] != found[name]]
        expected, found = ({name: value[name] for name in names} for value in (expected, found))
    return _figures(expected), _figures(found)


def _figures(value: object) -> object:
    return [f"{name} {figure}" for name, figure in value.items()] if isinstance(value, dict) else value
