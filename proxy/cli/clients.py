"""`clients`: the configuration with which a tool uses this gateway. docs/clients.md"""

import argparse
from collections.abc import Mapping
from dataclasses import replace

from proxy.cli.errors import CommandFailed
from proxy.cli.output import Output, table
from proxy.cli.settings import load_config
from proxy.config.schema import Config
from proxy.config.urls import host_of, is_loopback, port_of
from proxy.core.quoting import quoted
from proxy.gateway.clients.address import server_url
from proxy.gateway.clients.catalog import CLIENTS, client_object, find, near
from proxy.gateway.clients.client import Client, Step, Target, UnfitValue, target
from proxy.gateway.directory import first_name
from proxy.gateway.price_imports import catalogue_of
from proxy.gateway.snapshot import Snapshot
from proxy.store.lock import running
from proxy.store.prices import imported_into


def clients(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    """List the tools, or print how one of them is set up; the gateway may run or not."""
    config = load_config(args, environ)
    try:
        aim = target(
            args.base_url if "base_url" in args else _url(config),
            args.model if "model" in args else _model(config),
            getattr(args, "key", None),
        )
    except UnfitValue as error:
        raise CommandFailed(f"--{error.name.replace('_', '-')}: {error}", status=2) from None
    if args.name is None:
        rows = [(client.name, client.title, client.kind, client.needs_public_address) for client in CLIENTS]
        shown = table(("NAME", "TITLE", "KIND", "NEEDS A PUBLIC ADDRESS"), rows, empty="")
        return Output([client_object(client, aim) for client in CLIENTS], shown)
    client = find(args.name)
    if client is None:
        raise CommandFailed(_unknown(args.name))
    return Output(client_object(client, aim), _described(client, aim))


def _url(config: Config) -> str:
    """Return where the running server listens, else where the configuration would have it listen."""
    server = config.server
    info = running(config.database)
    if info is not None and info.url is not None:
        server = replace(server, port=port_of(info.url))
        if is_loopback(server.host):
            server = replace(server, host=host_of(info.url))  # perhaps --host says otherwise
    return server_url(server)


def _model(config: Config) -> str:
    return first_name(Snapshot.build(config, catalogue_of(imported_into(config.database))))


def _unknown(name: str) -> str:
    names = near(name) or [client.name for client in CLIENTS]
    question = "Did you mean" if near(name) else "There are"
    return f"There is no client {quoted(name)}. {question}: {', '.join(names)}"


def _described(client: Client, aim: Target) -> str:
    """Return steps and notes for people; what is to be copied stands at the margin."""
    steps = (f"{number}. {_step(step)}" for number, step in enumerate(client.steps(aim), 1))
    notes = "\n".join(f"- {note}" for note in client.notes)
    return "\n\n".join(filter(None, (client.title, *steps, notes)))


def _step(step: Step) -> str:
    file = "" if step.file is None else f"  [{step.file}]"
    content = "" if step.content is None else f"\n\n{step.content}"
    return f"{step.text}{file}{content}"
