"""`reset-admin-key`: a new admin key, when the old one is lost."""

import argparse
from collections.abc import Mapping

from proxy.cli.client import admin_client
from proxy.cli.errors import CommandFailed
from proxy.cli.output import Output
from proxy.cli.settings import load_config


async def reset(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    """Make a new admin key, unless the configuration has one."""
    config = load_config(args, environ)
    if config.admin_key is not None:
        line = config.line("admin_key")
        raise CommandFailed(f"{config.path.name}:{line}: admin_key is configured: change it there")
    async with admin_client(config) as api:
        made = await api.post("admin-key")
    return Output(
        {"key": made["key"]}, f"Admin key: {made['key']}\nIt is not shown again; the old one has ended."
    )
