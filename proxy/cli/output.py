"""What commands print: JSON, or tables for people."""

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Output:
    """The result of a command: `data` for `--json`, `text` for people (None: the same), the exit status."""

    data: object
    text: str | None = None
    status: int = 0

    def shown(self, *, as_json: bool) -> str:
        if as_json or self.text is None:
            return json.dumps(self.data, ensure_ascii=False, indent=2)
        return self.text


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> str:
    """Return aligned columns; a column whose every value is a number stands to the right.

    Without rows: the sentence `empty`.
    """
    cells = [[cell(value) for value in row] for row in rows]
    if not cells:
        return empty
    right = [all(_is_figure(row[column]) for row in cells) for column in range(len(headers))]
    widths = [max(_width(line[column]) for line in [headers, *cells]) for column in range(len(headers))]
    return "\n".join(
        "  ".join(
            _padded(text, width, to_right=is_right)
            for text, width, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in [headers, *cells]
    )


def fields(values: Mapping[str, object]) -> str:
    """Return one `name  value` line for each value, the values aligned."""
    width = max(map(len, values), default=0)
    return "\n".join(f"{name:<{width}}  {cell(value)}" for name, value in values.items())


def cell(value: object) -> str:
    """Return a value as text on one line: control characters escaped, nothing as a dash."""
    if value is None or value in ("", [], ()):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(cell(part) for part in value)
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(value))


def _is_figure(text: str) -> bool:
    return text == "-" or text.replace(".", "", 1).lstrip("-").isdecimal()


def _width(text: str) -> int:
    """Return how many columns a terminal gives to the text: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _padded(text: str, width: int, *, to_right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if to_right else text + space
