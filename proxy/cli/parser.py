"""The tree of commands and their options.

Each command names its function as `module:function`; `proxy/cli/main.py` imports it only when it
is called, so that serving starts without the modules of the other commands.
"""

import argparse
from typing import Any

from proxy import __version__
from proxy.cli import options
from proxy.cli.options import or_word, strictly
from proxy.core.moments import parse_duration

LIMITS = ("rpm", "tpm", "rpd", "tpd", "concurrency", "max_context", "max_output")
GROUPS = ("day", "model", "provider", "key", "account")

# Only what was given appears in the namespace: what was not given is not sent.
_GIVEN: dict[str, Any] = {"default": argparse.SUPPRESS}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m proxy",
        description="Sluice, a one-box LLM gateway. Without a command: serve.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"sluice {__version__}")
    parser.set_defaults(run="proxy.cli.serve:serve", command="serve", config=None, json=False)
    _add_common(parser)
    _add_serve_options(parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_serve_options(_add(commands, "serve", "proxy.cli.serve:serve", "serve (the same as no command)"))
    _add_setup(commands)
    for name in ("key", "token"):
        _add_key(commands, name)
    _add_account(commands)
    _add_ledger(commands)
    _add_backup(commands)
    _add_reports(commands)
    _add_prices(commands)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help="default: $SLUICE_CONFIG, else ./config.yaml", **_GIVEN
    )
    parser.add_argument("--json", action="store_true", help="print JSON", **_GIVEN)


def _add(commands: Any, name: str, run: str, text: str) -> argparse.ArgumentParser:
    """Add one command; `Any` because argparse keeps the type of its sub-parsers private."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False
    )
    parser.set_defaults(run=run, command=parser.prog.removeprefix("python -m proxy "))
    _add_common(parser)
    return parser


def _add_group(commands: Any, name: str, text: str) -> Any:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def _add_serve_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="address to listen on, instead of server.host", **_GIVEN)
    parser.add_argument("--port", type=strictly(options.port), help="instead of server.port", **_GIVEN)
    parser.add_argument(
        "--init", action="store_true", help="write a starting configuration first if there is none", **_GIVEN
    )
    parser.add_argument(
        "--check", action="store_true", help="validate the configuration, print it, do not serve", **_GIVEN
    )


def _add_setup(commands: Any) -> None:
    init = _add(commands, "init", "proxy.cli.setup:init", "write a commented starting configuration")
    init.add_argument("file", nargs="?", metavar="FILE")
    check = _add(commands, "check", "proxy.cli.setup:check", "validate the configuration")
    check.add_argument("--schema", action="store_true", help="print a JSON Schema for editors")
    doctor = _add(
        commands, "doctor", "proxy.cli.doctor.command:doctor", "look for what is wrong, and change nothing"
    )
    doctor.add_argument(
        "--live",
        action="store_true",
        help="also ask each provider once, and speak as each kind of client: billed like any request",
    )
    _add(commands, "reset-admin-key", "proxy.cli.adminkey:reset", "make a new admin key, shown once")


def _add_key(commands: Any, name: str) -> None:
    text = "API keys" if name == "key" else "the same as key"
    group = _add_group(commands, name, text)
    create = _add(group, "create", "proxy.cli.keys:create", "make an API key, shown once")
    create.add_argument("--name", required=True)
    _add_key_fields(create)
    _add(group, "list", "proxy.cli.keys:list_keys", "list the API keys")
    _add(group, "show", "proxy.cli.keys:show", "show an API key").add_argument("id", metavar="ID")
    update = _add(group, "update", "proxy.cli.keys:update", "change what is given, nothing else")
    update.add_argument("id", metavar="ID")
    update.add_argument("--name", **_GIVEN)
    _add_key_fields(update)
    state = update.add_mutually_exclusive_group()
    state.add_argument("--enable", dest="enabled", action="store_true", **_GIVEN)
    state.add_argument("--disable", dest="enabled", action="store_false", **_GIVEN)
    _add(group, "revoke", "proxy.cli.keys:revoke", "end an API key for good").add_argument("id", metavar="ID")
    rotate = _add(group, "rotate", "proxy.cli.keys:rotate", "give an API key a new secret, shown once")
    rotate.add_argument("id", metavar="ID")
    rotate.add_argument(
        "--grace",
        type=strictly(parse_duration),
        metavar="1h",
        help="how long the old secret works on",
        **_GIVEN,
    )


def _add_key_fields(parser: argparse.ArgumentParser) -> None:
    patterns, addresses = or_word("all", options.names), or_word("all", options.networks)
    parser.add_argument("--account", metavar="A", **_GIVEN)
    parser.add_argument(
        "--models", type=strictly(patterns), metavar="G,G", help="names or globs, or all", **_GIVEN
    )
    parser.add_argument("--providers", type=strictly(patterns), metavar="P,P", help="names, or all", **_GIVEN)
    parser.add_argument("--ips", type=strictly(addresses), metavar="CIDR,CIDR", help="or all", **_GIVEN)
    for limit in LIMITS:
        parser.add_argument(
            f"--{limit.replace('_', '-')}",
            type=strictly(or_word("none", options.positive)),
            metavar="N",
            help="a limit, or none",
            **_GIVEN,
        )
    parser.add_argument(
        "--expires",
        type=strictly(or_word("never", options.expiry)),
        metavar="30d|2027-01-31",
        help="or never; a date ends at its start",
        **_GIVEN,
    )
    parser.add_argument(
        "--quota",
        type=strictly(or_word("none", options.amount)),
        metavar="5.00",
        help="what it may spend, in the billing currency, or none",
        **_GIVEN,
    )
    parser.add_argument("--quota-period", choices=("day", "week", "month", "total"), **_GIVEN)


def _add_account(commands: Any) -> None:
    group = _add_group(commands, "account", "accounts")
    create = _add(group, "create", "proxy.cli.accounts:create", "make an account")
    create.add_argument("name", metavar="NAME")
    create.add_argument("--plan", metavar="P", **_GIVEN)
    _add(group, "list", "proxy.cli.accounts:list_accounts", "list the accounts")
    for name, text in (
        ("show", "show an account"),
        ("disable", "refuse the keys of an account"),
        ("enable", "accept the keys of an account again"),
    ):
        _add(group, name, f"proxy.cli.accounts:{name}", text).add_argument("name", metavar="NAME")
    plan = _add(group, "set-plan", "proxy.cli.accounts:set_plan", "give an account a plan, or none")
    plan.add_argument("name", metavar="NAME")
    plan.add_argument("plan", metavar="PLAN")
    _add_money(group)


def _add_money(group: Any) -> None:
    top_up = _add(group, "topup", "proxy.cli.money:top_up", "add money to the wallet of an account")
    top_up.add_argument("name", metavar="NAME")
    top_up.add_argument(
        "amount",
        type=strictly(options.some_amount),
        metavar="AMOUNT",
        help="such as 5.00, in the billing currency",
    )
    adjust = _add(group, "adjust", "proxy.cli.money:adjust", "correct a balance of an account")
    adjust.add_argument("name", metavar="NAME")
    adjust.add_argument(
        "amount", type=strictly(options.signed_amount), metavar="AMOUNT", help="such as 5.00 or -5.00"
    )
    adjust.add_argument("--note", required=True, metavar="T", help="why")
    adjust.add_argument(
        "--fund",
        metavar="F",
        help="wallet (the default), subscription, or grant:ID (in LLM tokens)",
        **_GIVEN,
    )
    grant = _add(group, "grant-tokens", "proxy.cli.money:grant_tokens", "give an account LLM tokens")
    grant.add_argument("name", metavar="NAME")
    grant.add_argument("tokens", type=strictly(options.positive), metavar="COUNT")
    grant.add_argument(
        "--models",
        type=strictly(or_word("all", options.names)),
        metavar="G,G",
        help="names or globs that they pay for, or all",
        **_GIVEN,
    )
    grant.add_argument(
        "--expires",
        type=strictly(or_word("never", options.expiry)),
        metavar="30d|2027-01-31",
        help="or never; a date ends at its start",
        **_GIVEN,
    )
    subscribe = _add(group, "subscribe", "proxy.cli.money:subscribe", "sell an account a plan")
    subscribe.add_argument("name", metavar="NAME")
    subscribe.add_argument("plan", metavar="PLAN")
    for parser in (top_up, grant):
        parser.add_argument("--note", metavar="T", **_GIVEN)
    ledger = _add(group, "ledger", "proxy.cli.money:ledger", "list the latest entries of an account's ledger")
    ledger.add_argument("name", metavar="NAME")
    ledger.add_argument("--limit", type=strictly(options.positive), default=20, metavar="N")
    statement = _add(
        group, "statement", "proxy.cli.money:statement", "print a month of an account's ledger as CSV"
    )
    statement.add_argument("name", metavar="NAME")
    statement.add_argument(
        "--month",
        type=strictly(options.month),
        metavar="YYYY-MM",
        help="by default the current one",
        **_GIVEN,
    )


def _add_ledger(commands: Any) -> None:
    group = _add_group(commands, "ledger", "the ledger of all accounts")
    _add(group, "verify", "proxy.cli.money:verify", "compute every balance and every total anew")


def _add_backup(commands: Any) -> None:
    backup = _add(commands, "backup", "proxy.cli.backup:backup", "write the whole database into one file")
    backup.add_argument("file", metavar="FILE")
    backup.add_argument("--force", action="store_true", help="over an existing file, too")
    restore = _add(commands, "restore", "proxy.cli.backup:restore", "put a backup in the database's place")
    restore.add_argument("file", metavar="FILE")


def _add_reports(commands: Any) -> None:
    usage = _add(commands, "usage", "proxy.cli.reports:usage", "show what was used and what it cost")
    usage.add_argument("--from", dest="start_date", type=strictly(options.day), metavar="DATE", **_GIVEN)
    usage.add_argument("--to", dest="end_date", type=strictly(options.day), metavar="DATE", **_GIVEN)
    usage.add_argument("--by", dest="group_by", choices=GROUPS, default="day")
    usage.add_argument("--csv", action="store_true", help="print comma-separated values")
    requests = _add(commands, "requests", "proxy.cli.reports:requests", "list the latest exchanges")
    requests.add_argument("--limit", type=strictly(options.positive), default=20, metavar="N")
    requests.add_argument(
        "--status", metavar="S", help="an HTTP status, or how it ended: ok, timeout, …", **_GIVEN
    )
    request = _add(commands, "request", "proxy.cli.reports:request", "show the receipt of one exchange")
    request.add_argument("id", metavar="ID")
    explain = _add(commands, "explain", "proxy.cli.reports:explain", "show who would be asked for a model")
    explain.add_argument("model", metavar="MODEL")
    explain.add_argument("--provider", metavar="P", help="as if the client pinned it", **_GIVEN)
    explain.add_argument("--key", metavar="ID", help="as if this API key asked", **_GIVEN)
    _add(commands, "models", "proxy.cli.reports:models", "list models and prices")
    _add_clients(commands)


def _add_clients(commands: Any) -> None:
    clients = _add(
        commands, "clients", "proxy.cli.clients:clients", "list client tools, or show how one is set up"
    )
    clients.add_argument("name", nargs="?", metavar="NAME", help="such as codex; none: all that are known")
    clients.add_argument("--key", metavar="K", help="by default the variable SLUICE_API_KEY", **_GIVEN)
    clients.add_argument("--model", metavar="M", help="by default one that can be called", **_GIVEN)
    clients.add_argument("--base-url", metavar="U", help="by default where the server listens", **_GIVEN)


def _add_prices(commands: Any) -> None:
    group = _add_group(commands, "prices", "imported price lists")
    take = _add(group, "import", "proxy.cli.prices:import_file", "take over LiteLLM's price file")
    take.add_argument("file", metavar="FILE", help="model_prices_and_context_window.json")
    take.add_argument("--dry-run", action="store_true", help="say what would be taken over, change nothing")
    _add(group, "clear", "proxy.cli.prices:clear", "forget what was imported")
