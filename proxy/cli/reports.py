"""`usage`, `requests`, `request`, `models`: what was used, and what there is."""

import argparse
import csv
import io
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from proxy.cli.client import admin_client
from proxy.cli.output import Output, cell, fields, table
from proxy.cli.settings import load_config
from proxy.core.quoting import unformulaic

Json = dict[str, Any]

_COLUMNS = ("requests", "failed", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")


async def usage(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    query = {name: vars(args)[name] for name in ("start_date", "end_date") if name in args}
    async with admin_client(load_config(args, environ)) as api:
        report = await api.get("usage", group_by=args.group_by, **query)
    return Output(report, _as_csv(report, args.group_by) if args.csv else _as_table(report, args.group_by))


async def requests(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    query = {"status": args.status} if "status" in args else {}
    async with admin_client(load_config(args, environ)) as api:
        receipts = await api.all("requests", limit=args.limit, **query)
    rows = [
        (
            receipt["created"],
            receipt["id"],
            receipt["model"],
            receipt["provider"],
            receipt["status"],
            receipt["finish"],
            receipt["usage"]["total_tokens"],
            receipt["cost"],
            _milliseconds(receipt),
        )
        for receipt in receipts
    ]
    headers = ("CREATED", "ID", "MODEL", "PROVIDER", "STATUS", "FINISH", "TOKENS", "COST", "MS")
    return Output(receipts, table(headers, rows, empty="No requests yet."))


async def request(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    async with admin_client(load_config(args, environ)) as api:
        receipt = await api.get("requests", args.id)
    return Output(receipt, _as_receipt(receipt))


async def explain(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    query = {name: vars(args)[name] for name in ("provider", "key") if name in args}
    async with admin_client(load_config(args, environ)) as api:
        explained = await api.get("explain", model=args.model, **query)
    rows = [
        (
            number,
            row["provider"],
            row["model"],
            row["provider_key"],
            row["priority"],
            row["weight"],
            row["state"],
            row["reason"],
        )
        for number, row in enumerate(explained["candidates"], 1)
    ]
    headers = ("", "PROVIDER", "MODEL", "KEY", "PRIORITY", "WEIGHT", "STATE", "WHY")
    names = " → ".join(explained["names"])
    return Output(explained, f"{names}\n\n{table(headers, rows, empty='Nobody.')}")


async def models(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    async with admin_client(load_config(args, environ)) as api:
        entries = await api.all("models")
    rows = [
        (
            entry["id"] if entry["alias"] is None else f"{entry['id']} → {entry['alias']}",
            entry["providers"],
            entry["category"],
            entry["context_window"],
            entry["pricing"] and entry["pricing"]["input"],
            entry["pricing"] and entry["pricing"]["output"],
            _price_as_of(entry, datetime.now(UTC).date()),
        )
        for entry in entries
    ]
    headers = ("ID", "PROVIDERS", "CATEGORY", "CONTEXT", "INPUT", "OUTPUT", "PRICE AS OF")
    return Output(entries, table(headers, rows, empty="No models: the configuration has no active provider."))


def _price_as_of(entry: Json, today: date) -> str | None:
    """Return where a price comes from and, of one out of a list, its day and age."""
    source: str | None = entry["price_source"]
    if entry["price_date"] is None:
        return source
    days = (today - date.fromisoformat(entry["price_date"])).days
    return f"{source}, {entry['price_date']} ({days} days)"


def _as_table(report: Json, name: str) -> str:
    rows = [_row(line, line[name]) for line in (*report["data"], report | {name: "total"})]
    headers = (name.upper(), *(column.upper().replace("_", " ") for column in _COLUMNS), "TOKENS", "COST")
    period = f"{report['period']['start_date']} to {report['period']['end_date']}, in {report['currency']}"
    return f"{period}\n\n{table(headers, rows, empty='')}"


def _as_csv(report: Json, name: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((name, *_COLUMNS, "total_tokens", "total_cost", "currency"))
    for line in report["data"]:
        writer.writerow((*_row(line, unformulaic(line[name] or "")), report["currency"]))
    return text.getvalue().rstrip("\n")


def _row(line: Json, label: object) -> tuple[object, ...]:
    return (label, *(line[column] for column in _COLUMNS), line["total_tokens"], line["total_cost_value"])


def _as_receipt(receipt: Json) -> str:
    shown: Json = {
        name: receipt[name] for name in ("id", "created", "key", "account", "endpoint", "model", "provider")
    }
    shown |= {name: receipt[name] for name in ("status", "billing", "finish", "error")}
    shown |= {name.replace("_", " "): count for name, count in receipt["usage"].items()}
    shown |= {"estimated": receipt["estimated"], "price": _price(receipt["price"])}
    shown |= {"discount": receipt["discount"], "cost": receipt["cost"]}
    shown |= {
        name.removesuffix("_ms").replace("_", " "): f"{ms} ms" for name, ms in receipt["timings"].items()
    }
    attempts = [
        (
            attempt["provider"],
            attempt["model"],
            attempt["provider_key"],
            attempt["status"],
            attempt["error"],
            attempt["first_byte_ms"],
            attempt["total_ms"],
        )
        for attempt in receipt["attempts"]
    ]
    headers = ("PROVIDER", "MODEL", "KEY", "STATUS", "ERROR", "FIRST BYTE MS", "TOTAL MS")
    return f"{fields(shown)}\n\n{table(headers, attempts, empty='No provider was asked.')}"


def _price(price: Json | None) -> str | None:
    return None if price is None else ", ".join(f"{name} {cell(value)}" for name, value in price.items())


def _milliseconds(receipt: Json) -> object:
    return receipt["timings"].get("total_ms")
