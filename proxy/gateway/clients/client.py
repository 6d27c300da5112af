"""What a client tool needs to be told, and for what it is written. docs/clients.md"""

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from proxy.config.urls import base_url

#: Where the key is expected when none is given.
VARIABLE = "SLUICE_API_KEY"
# What stands for a key where a tool cannot take it from the environment.
_SAMPLE = "sk-sluice-…"

Kind = Literal["library", "command line", "application"]
Dialect = Literal["chat", "messages", "responses"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a client is pointed at: `root` is the gateway's URL without `/v1`.

    Without a key, what is written takes it from the environment, or shows where it goes.
    """

    root: str
    model: str
    key: str | None = None

    @property
    def v1(self) -> str:
        return f"{self.root}/v1"

    @property
    def key_text(self) -> str:
        """The key for a place that takes nothing but the key itself."""
        return _SAMPLE if self.key is None else self.key

    @property
    def key_in_shell(self) -> str:
        return f'"${VARIABLE}"' if self.key is None else shlex.quote(self.key)

    def key_or(self, reference: str) -> str:
        """Return the key, or the tool's own way to refer to the environment."""
        return reference if self.key is None else self.key


class UnfitValue(ValueError):
    """A part of a target cannot be used; `name` says which."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do; `content` belongs into `file`, or is run, or typed into fields."""

    text: str
    content: str | None = None
    language: str | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Client:
    """One tool, and how it is set up."""

    name: str
    title: str
    kind: Kind
    steps: Callable[[Target], tuple[Step, ...]]
    notes: tuple[str, ...] = ()
    #: In which it calls; None where it cannot be pointed at a gateway.
    dialect: Dialect | None = "chat"
    #: Whether the tool's vendor calls the gateway, from outside.
    needs_public_address: bool = False
    #: Other words by which people ask for it.
    aliases: tuple[str, ...] = ()


def target(url: str, model: str, key: str | None = None) -> Target:
    """Return a target. `url` may end in `/v1` or not.

    Raises UnfitValue for what cannot be written down safely: no http(s) URL, control characters.
    """
    try:
        root = base_url(url, repr(url)).removesuffix("/v1").rstrip("/")
    except ValueError as error:
        raise UnfitValue("base_url", str(error)) from None
    for name, text in (("model", model), ("key", key)):
        if text is not None and not (text.strip() and text.isprintable()):
            raise UnfitValue(name, "expected printable text")
    return Target(root, model, key)


# How things are written


def literal(text: str) -> str:
    """Return a string literal that Python, JavaScript, TOML and YAML all read, given printable text."""
    return json.dumps(text, ensure_ascii=False)


def exports(variables: Mapping[str, str]) -> str:
    """Return lines for a POSIX shell; the values are written as the shell reads them."""
    return "\n".join(f"export {name}={value}" for name, value in variables.items())


def json_file(text: str, file: str, value: object) -> Step:
    return Step(text, json.dumps(value, ensure_ascii=False, indent=2), "json", file)


def shell(text: str, content: str) -> Step:
    return Step(text, content, "sh")


def form(text: str, fields: Mapping[str, str]) -> Step:
    """Return what is typed into the fields of a dialog, one a line."""
    return Step(text, "\n".join(f"{name}: {value}" for name, value in fields.items()), "text")
