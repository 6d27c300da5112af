"""The clients there are, by their names."""

import re
from difflib import get_close_matches
from typing import Any

from proxy.gateway.clients.applications import APPLICATIONS
from proxy.gateway.clients.client import Client, Target
from proxy.gateway.clients.command_line import CODING_TOOLS
from proxy.gateway.clients.libraries import LIBRARIES

CLIENTS = (*LIBRARIES, *CODING_TOOLS, *APPLICATIONS)


def find(name: str) -> Client | None:
    """Return the client of a name, a title or an alias, written in any case and with any separators."""
    wanted = _plain(name)
    return next((client for client in CLIENTS if wanted in map(_plain, _names(client))), None)


def near(name: str) -> list[str]:
    """Return the names of clients that a wrong one may have meant, best first."""
    names = {_plain(word): client.name for client in CLIENTS for word in _names(client)}
    close = get_close_matches(_plain(name), names, n=3)
    return list(dict.fromkeys(names[word] for word in close))


def client_object(client: Client, target: Target) -> dict[str, Any]:
    """Return a client's set-up as the API shows it."""
    return {
        "name": client.name,
        "title": client.title,
        "kind": client.kind,
        "dialect": client.dialect,
        "needs_public_address": client.needs_public_address,
        "steps": [
            {"text": step.text, "file": step.file, "content": step.content, "language": step.language}
            for step in client.steps(target)
        ],
        "notes": list(client.notes),
    }


def _names(client: Client) -> tuple[str, ...]:
    return (client.name, client.title, *client.aliases)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())
