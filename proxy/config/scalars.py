"""The kinds of values without parts."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from proxy.config.kinds import REFERENCE, Check, Kind, ListOf, MapOf, ScalarKind, Schema
from proxy.config.nodes import Items, Node, Scalar, Table
from proxy.config.problems import Invalid, Place, hint, quoted
from proxy.config.reading import Reading
from proxy.config.references import Value
from proxy.config.values import credential, text
from proxy.core.secret import Secret

_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[-+]?(\.[0-9]{1,30}|[0-9]{1,30}(\.[0-9]{0,30})?)([eE][-+]?[0-9]{1,2})?")


def shown(value: Value) -> str:
    """Return how to name a value in an error: the values of variables and files are not repeated."""
    return value.source or quoted(value.text)


class Text(ScalarKind[str]):
    def __init__(self, wanted: str = "text", check: Check = text) -> None:
        self.wanted = wanted
        self.check = check

    def parse(self, value: Value) -> str:
        return self.check(value.text, shown(value))

    def schema(self) -> Schema:
        return {"type": "string"}


class Choice(ScalarKind[str]):
    def __init__(self, *names: str, wanted: str | None = None) -> None:
        self.names = names
        self.wanted = wanted or f"{', '.join(names[:-1])} or {names[-1]}"

    def parse(self, value: Value) -> str:
        if value.text not in self.names:
            raise ValueError(f"expected {self.wanted}, not {shown(value)}{hint(value.text, self.names)}")
        return value.text

    def schema(self) -> Schema:
        return {"anyOf": [{"enum": list(self.names)}, REFERENCE]}


class Flag(ScalarKind[bool]):
    wanted = yaml_type = "true or false"

    def parse(self, value: Value) -> bool:
        if value.text.lower() not in ("true", "false"):
            raise ValueError(f"expected {self.wanted}, not {shown(value)}")
        return value.text.lower() == "true"

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "boolean"}, REFERENCE]}


class Integer(ScalarKind[int]):
    yaml_type = "a number"

    def __init__(self, least: int, most: int) -> None:
        self.least = least
        self.most = most
        self.wanted = f"a whole number from {least} to {most}"

    def parse(self, value: Value) -> int:
        number = int(value.text) if _INTEGER.fullmatch(value.text) else None
        if number is None or not self.least <= number <= self.most:
            raise ValueError(f"expected {self.wanted}, not {shown(value)}")
        return number

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "integer", "minimum": self.least, "maximum": self.most}, REFERENCE]}


class Number(ScalarKind[Decimal]):
    """A decimal, exactly as it is written; `places` bounds the digits after the point."""

    yaml_type = "a number"

    def __init__(self, least: Decimal | int, most: Decimal | int, *, places: int = 30) -> None:
        self.least = Decimal(least)
        self.most = Decimal(most)
        self.places = places
        self.wanted = f"a number from {self.least} to {self.most}"

    def parse(self, value: Value) -> Decimal:
        number = Decimal(value.text) if _DECIMAL.fullmatch(value.text) else None
        if number is None or not self.least <= number <= self.most:
            raise ValueError(f"expected {self.wanted}, not {shown(value)}")
        if (number.as_integer_ratio()[0] * 10**self.places) % number.as_integer_ratio()[1]:
            raise ValueError(f"expected at most {self.places} digits after the point, not {shown(value)}")
        return number

    def schema(self) -> Schema:
        bounds = {"minimum": _plain(self.least), "maximum": _plain(self.most)}
        return {"anyOf": [{"type": "number", **bounds}, REFERENCE]}


class Seconds(ScalarKind[float]):
    """A time span of at most a day."""

    yaml_type = "a number"

    def __init__(self, least: str = "0.001") -> None:
        self._number = Number(Decimal(least), 86_400)
        self.wanted = self._number.wanted

    def parse(self, value: Value) -> float:
        return float(self._number.parse(value))

    def schema(self) -> Schema:
        return self._number.schema()


class SecretText(ScalarKind[Secret]):
    """A secret. Empty is an error; no error shows it."""

    is_secret = True

    def __init__(self, check: Check = credential) -> None:
        self.check = check

    def parse(self, value: Value) -> Secret:
        return secret(value, self.check)

    def schema(self) -> Schema:
        return {"type": "string", "minLength": 1}


class GeneratedSecret(ScalarKind[Secret | None]):
    """A secret that is made by the gateway where it is empty: None."""

    is_secret = True

    def parse(self, value: Value) -> Secret | None:
        return secret(value, credential) if value.text else None

    def schema(self) -> Schema:
        return {"type": "string"}


@dataclass(frozen=True, slots=True)
class Unset:
    """A provider key that came out empty through `${VAR:-}`."""

    variable: str


class ProviderSecret(ScalarKind[Secret | Unset]):
    """A provider key."""

    is_secret = True

    def parse(self, value: Value) -> Secret | Unset:
        return Unset(value.unset) if value.unset else secret(value, credential)

    def schema(self) -> Schema:
        return {"type": "string", "minLength": 1}


class Json(Kind[Any]):
    """Any value, with the types that YAML gives it; a reference is text."""

    def read(self, node: Node, path: Place, reading: Reading) -> Any:
        if isinstance(node, Items):
            return list(ListOf(self).read(node, path, reading))
        if isinstance(node, Table):
            return MapOf(text, self).read(node, path, reading)
        try:
            value = reading.references.replaced(node.text)
            return value.text if value.source else _json_scalar(node)
        except ValueError as error:
            raise Invalid(node.line, path, str(error)) from None

    def schema(self) -> Schema:
        return {}


def secret(value: Value, check: Check) -> Secret:
    """Return a secret that is not empty and can be sent. Raises ValueError."""
    if not value.text:
        where = f"{value.source} is empty" if value.source else "it is empty"
        raise ValueError(f"expected a secret, but {where}")
    return Secret(check(value.text, value.source or "the secret"))


def _json_scalar(node: Scalar) -> bool | int | float | str | None:
    match node.type:
        case "nothing":
            return None
        case "true or false":
            return node.text.lower() == "true"
        case "a number":
            return _json_number(node.text)
    return node.text


def _json_number(text: str) -> int | float:
    if _INTEGER.fullmatch(text):
        return int(text)
    if not _DECIMAL.fullmatch(text) or text.lstrip("-+").isdecimal():
        raise ValueError(f"expected a number that JSON can hold, not {quoted(text)}")
    return float(text)


def _plain(number: Decimal) -> int | float:
    return int(number) if number == int(number) else float(number)
