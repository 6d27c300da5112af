"""What a key of the file may hold: each kind reads a node, and describes itself as JSON Schema.

`proxy/config/description.py` puts these together to the whole file.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Generic, TypeVar

from proxy.config.nodes import Items, Node, Scalar, Table, is_null
from proxy.config.problems import Invalid, Place, Unusable, Wrong, hint, quoted
from proxy.config.reading import Reading
from proxy.config.references import Value

T = TypeVar("T")
K = TypeVar("K", int, str)
Schema = dict[str, Any]

#: Returns the text, perhaps normalised. `shown` is how to name it in an error: it may be secret.
#: Raises ValueError.
Check = Callable[[str, str], str]

#: The default of a key that takes another key's value, or nothing.
UNSAID = object()

REFERENCE: Schema = {"$ref": "#/$defs/reference"}


class Kind(ABC, Generic[T]):
    """One sort of value."""

    @abstractmethod
    def read(self, node: Node, path: Place, reading: Reading) -> T:
        """Return the value of a node. Raises Invalid, or Unusable after collecting problems."""

    @abstractmethod
    def schema(self) -> Schema:
        """Return the JSON Schema (2020-12) of the value as it may be written in the file."""


class ScalarKind(Kind[T]):
    """A value without parts. Written in the file itself it must be of the YAML type `yaml_type`.

    `wanted` completes the sentence "expected …".
    """

    wanted = "text"
    yaml_type = "text"
    is_secret = False

    def read(self, node: Node, path: Place, reading: Reading) -> T:
        if not isinstance(node, Scalar):
            raise Invalid(reading.line(path), path, f"expected {self.wanted}, not {node.type}")
        value = reading.value(node, path)
        if not value.whole and node.type != self.yaml_type:
            quotes = ": put it in quotes" if self.yaml_type == "text" and not is_null(node) else ""
            raise Invalid(node.line, path, f"expected {self.wanted}, not {node.type}{quotes}")
        if self.is_secret and value.in_clear and value.text:
            reading.secrets_in_clear.append(path)
        try:
            return self.parse(value)
        except ValueError as error:
            raise Invalid(node.line, path, str(error)) from None

    @abstractmethod
    def parse(self, value: Value) -> T:
        """Return what the text means. Raises ValueError."""


class Nullable(Kind[T | None]):
    """A kind, or nothing: `null`, or a `${VAR:-}` that came out empty."""

    def __init__(self, kind: Kind[T]) -> None:
        self.kind = kind

    def read(self, node: Node, path: Place, reading: Reading) -> T | None:
        if is_null(node) or (isinstance(node, Scalar) and reading.value(node, path).unset):
            return None
        return self.kind.read(node, path, reading)

    def schema(self) -> Schema:
        return {"anyOf": [self.kind.schema(), {"type": "null"}]}


class ListOf(Kind[tuple[T, ...]]):
    """A list of one kind. `null` is the empty list."""

    def __init__(self, kind: Kind[T], *, least: int = 0) -> None:
        self.kind = kind
        self.least = least

    def read(self, node: Node, path: Place, reading: Reading) -> tuple[T, ...]:
        if not isinstance(node, Items):
            if not is_null(node):
                raise Invalid(reading.line(path), path, f"expected a list, not {node.type}")
            node = Items(node.line, ())
        if len(node.nodes) < self.least:
            raise Invalid(reading.line(path), path, "the list is empty")
        children = ((step, child.line, self.kind, child) for step, child in enumerate(node.nodes))
        return tuple(_read_all(children, path, reading).values())

    def schema(self) -> Schema:
        items = self.kind.schema()
        if self.least:
            return {"type": "array", "items": items, "minItems": self.least}
        return {"type": ["array", "null"], "items": items}


class MapOf(Kind[dict[str, T]]):
    """A mapping from names of the operator's choice to one kind. `null` is the empty mapping."""

    def __init__(self, check: Check, kind: Kind[T]) -> None:
        self.check = check
        self.kind = kind

    def read(self, node: Node, path: Place, reading: Reading) -> dict[str, T]:
        return _read_all(self._children(node, path, reading), path, reading)

    def _children(
        self, node: Node, path: Place, reading: Reading
    ) -> Iterator[tuple[str, int, Kind[T], Node]]:
        for name, line, child in entries(node, path, reading):
            try:
                self.check(name, quoted(name))
            except ValueError as error:
                reading.report((*path, name), str(error), line)
            yield name, line, self.kind, child

    def schema(self) -> Schema:
        return {"type": ["object", "null"], "additionalProperties": self.kind.schema()}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a record. `about` says what it means and its unit; `default` is for reading."""

    kind: Kind[Any]
    about: str
    default: object = UNSAID
    required: bool = False


class Record(Kind[T]):
    """A mapping with known keys, out of which `build` makes a value.

    What the file leaves out is not passed to `build`; where that is a dataclass, the defaults of
    its fields are the keys' defaults.
    """

    def __init__(self, build: Callable[..., T], /, **keys: Key) -> None:
        self.build = build
        self.keys: Mapping[str, Key] = keys

    def read(self, node: Node, path: Place, reading: Reading) -> T:
        values = _read_all(self._children(node, path, reading), path, reading)
        try:
            return self.build(**values)
        except Wrong as error:
            there = (*path, *error.path)
            raise Invalid(reading.line(there), there, str(error)) from None

    def _children(
        self, node: Node, path: Place, reading: Reading
    ) -> Iterator[tuple[str, int, Kind[Any], Node]]:
        missing = {name for name, key in self.keys.items() if key.required}
        for name, line, child in entries(node, path, reading):
            missing.discard(name)
            if name in self.keys:
                yield name, line, self.keys[name].kind, child
            else:
                reading.report((*path, name), f"unknown key{hint(name, self.keys)}", line)
        for name in missing:
            reading.report((*path, name), "is required", reading.line(path))

    def default(self, name: str) -> object:
        """Return the default of a key, UNSAID if it has none to show."""
        default = self.keys[name].default
        if default is UNSAID and is_dataclass(self.build):
            return next(field.default for field in fields(self.build) if field.name == name)
        return default

    def schema(self) -> Schema:
        schema: Schema = {
            "type": ["object", "null"],
            "additionalProperties": False,
            "properties": {name: self._key_schema(name) for name in self.keys},
        }
        if required := [name for name, key in self.keys.items() if key.required]:
            schema |= {"type": "object", "required": required}
        return schema

    def _key_schema(self, name: str) -> Schema:
        schema = {"description": self.keys[name].about, **self.keys[name].kind.schema()}
        default = self.default(name)
        return schema if default is UNSAID else {**schema, "default": default}


class Either(Kind[Any]):
    """A short form, or a mapping that says more."""

    def __init__(self, short: Kind[Any], long: Kind[Any]) -> None:
        self.short = short
        self.long = long

    def read(self, node: Node, path: Place, reading: Reading) -> Any:
        return (self.long if isinstance(node, Table) else self.short).read(node, path, reading)

    def schema(self) -> Schema:
        return {"anyOf": [self.short.schema(), self.long.schema()]}


def entries(node: Node, path: Place, reading: Reading) -> Iterator[tuple[str, int, Node]]:
    """Yield name, line and value of each entry of a mapping; duplicates and bad names are reported."""
    if not isinstance(node, Table):
        if is_null(node):
            return
        raise Invalid(reading.line(path), path, f"expected a mapping, not {node.type}")
    first: dict[str, int] = {}
    for key, child in node.entries:
        try:
            name = reading.references.replaced(key.text).text
        except ValueError as error:
            reading.report(path, str(error), key.line)
            continue
        if name in first:
            reading.report((*path, name), f"duplicate key (first on line {first[name]})", key.line)
        else:
            first[name] = key.line
            yield name, key.line, child


def _read_all(children: Iterable[tuple[K, int, Kind[T], Node]], path: Place, reading: Reading) -> dict[K, T]:
    """Read all children, so that one run names all problems. Raises Unusable if there were any."""
    values: dict[K, T] = {}
    before = len(reading.problems)
    for step, line, kind, node in children:
        here = (*path, step)
        reading.enter(here, line, node)
        try:
            values[step] = kind.read(node, here, reading)
        except Invalid as error:
            reading.problems.append(error.problem)
        except Unusable:
            pass  # its problems are among those counted below
    if len(reading.problems) > before:
        raise Unusable
    return values
