"""`prices import` and `prices clear`: price lists besides those that ship with the program."""

import argparse
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from proxy.cli.client import admin_client
from proxy.cli.errors import CommandFailed
from proxy.cli.output import Output, cell
from proxy.cli.settings import load_config
from proxy.config.litellm import PriceFile, UnusablePriceFile, read_price_file

# Ten times the file of November 2026.
MAX_BYTES = 32 << 20


async def import_file(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    """Take LiteLLM's price file over, in the place of what was imported before."""
    config = load_config(args, environ)
    path = Path(args.file)
    day = datetime.now(UTC).date().isoformat()
    try:
        found = read_price_file(_content(path), day)
    except UnusablePriceFile as error:
        raise CommandFailed(f"{cell(path)}: {error}. Nothing was changed.", status=2) from None
    if not found.lists:
        raise CommandFailed(f"{cell(path)}: has no model of a provider with a preset.", status=2)
    if not args.dry_run:
        async with admin_client(config) as api:
            await api.post(
                "prices", body={"file": path.name[:200], "lists": msgspec.to_builtins(found.lists)}
            )
    return Output(_as_json(path, found, dry_run=args.dry_run), _described(path, found, dry_run=args.dry_run))


async def clear(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    """Forget what was imported."""
    async with admin_client(load_config(args, environ)) as api:
        before = await api.get("prices")
        after = await api.delete("prices")
    if before["file"] is None:
        return Output(after, "Nothing was imported.")
    return Output(after, f"Forgot the {before['models']} models of {cell(before['file'])}.")


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnusablePriceFile(f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise UnusablePriceFile(f"larger than {MAX_BYTES >> 20} MiB")
    return data


def _as_json(path: Path, found: PriceFile, *, dry_run: bool) -> dict[str, Any]:
    return {
        "file": str(path),
        "dry_run": dry_run,
        "entries": found.entries,
        "taken": sum(found.taken.values()),
        "taken_by_preset": dict(found.taken),
        "unpriced": found.unpriced,
        "skipped": dict(found.skipped),
        "rounded": found.rounded,
    }


def _described(path: Path, found: PriceFile, *, dry_run: bool) -> str:
    by_count = sorted(found.skipped.items(), key=lambda item: item[1], reverse=True)
    presets = ", ".join(f"{preset} {count}" for preset, count in sorted(found.taken.items()))
    lines = [
        f"Read {found.entries} entries of {cell(path)}.",
        f"Taken: {sum(found.taken.values())} ({presets})",
        *(f"Skipped: {count} {reason}" for reason, count in by_count),
    ]
    if found.unpriced:
        lines.append(f"Without a price, but with limits: {found.unpriced} of them")
    if found.rounded:
        lines.append(f"Rounded: {found.rounded} amounts finer than nine places per million tokens")
    if dry_run:
        lines.append("A dry run: nothing was changed.")
    return "\n".join(lines)
