"""YAML text as a tree of nodes that know their lines. What a node means is its key's to say."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import yaml

from proxy.config.problems import Invalid, quoted

# A real file has some hundreds of nodes, ten deep. Aliases count as what they stand for, so that
# a few lines of nested aliases cannot become millions of values.
MAX_NODES = 100_000
MAX_DEPTH = 50

# PyYAML's two event parsers differ in speed alone; some builds lack the C one.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# "c-printable" of YAML 1.2.2, section 5.1, negated.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# The core schema of YAML 1.2.2, section 10.3.2: `yes` is text, and so is a date.
_PLAIN_TYPES = (
    ("nothing", re.compile(r"~|null|Null|NULL|")),
    ("true or false", re.compile(r"true|True|TRUE|false|False|FALSE")),
    ("a number", re.compile(r"[-+]?\d+|0o[0-7]+|0x[\da-fA-F]+", re.ASCII)),
    ("a number", re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?", re.ASCII)),
    ("a number", re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")),
)


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value or key. `plain`: written without quotes, so that it may be other than text."""

    line: int
    text: str
    plain: bool

    @property
    def type(self) -> str:
        """What it is by YAML's own rules: nothing, true or false, a number, or text."""
        matching = (name for name, pattern in _PLAIN_TYPES if pattern.fullmatch(self.text))
        return next(matching, "text") if self.plain else "text"


@dataclass(frozen=True, slots=True)
class Items:
    line: int
    nodes: "tuple[Node, ...]"
    type: ClassVar[str] = "a list"


@dataclass(frozen=True, slots=True)
class Table:
    line: int
    entries: "tuple[tuple[Scalar, Node], ...]"
    type: ClassVar[str] = "a mapping"


Node = Scalar | Items | Table


def is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.type == "nothing"


def parse_yaml(text: str) -> Node:
    """Return the one document of a YAML text, its merge keys (`<<`) merged.

    Raises Invalid: not YAML, no document or several, tags, too many or too deeply nested values.
    """
    if bad := _UNPRINTABLE.search(text):
        line = text.count("\n", 0, bad.start()) + 1
        raise Invalid(line, (), f"character U+{ord(bad.group()):04X} is not allowed in YAML")
    try:
        return _Tree(yaml.parse(text, Loader=_LOADER)).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # An error at the end is counted to the last line that has anything on it.
        line = min(mark.line, text.rstrip().count("\n")) + 1 if mark else 0
        raise Invalid(line, (), f"not valid YAML: {error.problem}") from None


class _Tree:
    """Builds nodes from the parser's events, and keeps count of them."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self._count = 0
        self._anchors: dict[str, tuple[Node, int]] = {}

    def document(self) -> Node:
        next(self._events)  # the stream begins
        if isinstance(next(self._events), yaml.StreamEndEvent):
            raise Invalid(0, (), "the file is empty")
        node = self._node(next(self._events), 0)
        next(self._events)  # the document ends
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise Invalid(_line(after), (), "a second document begins here; a configuration is one")
        return node

    def _node(self, event: yaml.Event, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise Invalid(_line(event), (), f"nested more than {MAX_DEPTH} deep")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._count
        self._add(1, event)
        node = self._content(event, depth)
        if anchor := getattr(event, "anchor", None):
            self._anchors[anchor] = node, self._count - before
        return node

    def _content(self, event: yaml.Event, depth: int) -> Node:
        line = _line(event)
        if tag := getattr(event, "tag", None):
            raise Invalid(line, (), f"the tag {quoted(tag)} is not supported: leave it out")
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(line, event.value, plain=event.implicit[0])
        if isinstance(event, yaml.SequenceStartEvent):
            return Items(line, tuple(self._children(yaml.SequenceEndEvent, depth)))
        children = self._children(yaml.MappingEndEvent, depth)
        return Table(line, _merged([(_key(key), next(children)) for key in children]))

    def _children(self, end: type[yaml.Event], depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), end):
            yield self._node(event, depth + 1)

    def _alias(self, event: yaml.AliasEvent) -> Node:
        if event.anchor not in self._anchors:
            raise Invalid(_line(event), (), f"the alias *{event.anchor} has no anchor above it")
        node, count = self._anchors[event.anchor]
        self._add(count, event)
        return node

    def _add(self, count: int, event: yaml.Event) -> None:
        self._count += count
        if self._count > MAX_NODES:
            raise Invalid(
                _line(event), (), f"more than {MAX_NODES} values, aliases counted as what they name"
            )


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _key(node: Node) -> Scalar:
    if not isinstance(node, Scalar):
        raise Invalid(node.line, (), f"a key must be text, not {node.type}")
    return node


def _merged(entries: list[tuple[Scalar, Node]]) -> tuple[tuple[Scalar, Node], ...]:
    """Return the entries with those of `<<` added that are not written beside it.

    Source: YAML's merge key language-independent type, https://yaml.org/type/merge.html
    """
    own = [(key, node) for key, node in entries if not _is_merge(key)]
    seen = {key.text for key, _ in own}
    for key, node in entries:
        if _is_merge(key):
            for source in node.nodes if isinstance(node, Items) else (node,):
                if not isinstance(source, Table):
                    raise Invalid(key.line, (), f"<< merges mappings, not {source.type}")
                own += [entry for entry in source.entries if entry[0].text not in seen]
                seen |= {key.text for key, _ in source.entries}
    return tuple(own)


def _is_merge(key: Scalar) -> bool:
    return key.plain and key.text == "<<"
