"""References in a configuration: `${VAR}`, `${VAR:-default}` and `file:PATH`.

They are hidden from the YAML parser and put back into its scalars only: so they need no quotes,
a comment is left alone, and no value can become YAML. docs/configuration.md, "References"
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from proxy.config.files import Files
from proxy.config.problems import named, quoted

_REFERENCE = re.compile(r"\$\{[^}\r\n]*\}")
_PARTS = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?\}")
_FILE = "file:"

# Keys and certificates have a few KiB.
MAX_FILE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Value:
    """A scalar, its references replaced.

    `source` names what it came from, None when it is written in the file itself. `whole`: it is
    one reference and nothing else, so that it takes its key's type. `unset` names the variable of
    a whole `${VAR:-}` that came out empty. `in_clear`: the file shows all of it.
    """

    text: str
    source: str | None = None
    whole: bool = False
    unset: str | None = None
    in_clear: bool = False


class References:
    """The references of one file. `hidden` is its text with a mark in the place of each."""

    def __init__(
        self, text: str, environ: Mapping[str, str], folder: Path, files: Files | None = None
    ) -> None:
        """`files` reads, and remembers, what `file:` names."""
        self._environ = environ
        self._folder = folder
        self._files = files or Files()
        # A word that is plain text anywhere in YAML, and that the file does not hold.
        self._word = "ref"
        while self._word in text:
            self._word += "x"
        self._marks: dict[str, str] = {}
        self._any_mark = re.compile(rf"{self._word}[0-9]+_")
        self.hidden = _REFERENCE.sub(self._hide, text)

    def _hide(self, match: re.Match[str]) -> str:
        mark = f"{self._word}{len(self._marks)}_"
        self._marks[mark] = match.group()
        return mark

    def as_written(self, text: str) -> str:
        """Return a parsed scalar as it stands in the file."""
        return self._with(text, lambda reference: reference)

    def value(self, text: str) -> Value:
        """Return a parsed scalar with what it refers to.

        Raises ValueError: a variable is not set, a reference is malformed, a file is unreadable.
        """
        if not text.startswith(_FILE):
            return self.replaced(text)
        path = self._folder / self.replaced(text.removeprefix(_FILE)).text
        return Value(_file_text(path, self._files), source=named(path), whole=True)

    def replaced(self, text: str) -> Value:
        """Return a parsed scalar with its variables replaced; `file:` is ordinary text here."""
        if "${" in text:
            raise ValueError("a reference is not closed: write ${NAME} or ${NAME:-default} on one line")
        written = self._marks.get(text)
        if written is not None:
            return self._variable(written)
        source = self.as_written(text)
        if source == text:
            return Value(text, in_clear=True)
        result = self._with(text, lambda reference: self._variable(reference).text)
        return Value(result, source=f"the value of {source}")

    def _with(self, text: str, replacement: Callable[[str], str]) -> str:
        def replace(found: re.Match[str]) -> str:
            mark = found.group()
            return replacement(self._marks[mark]) if mark in self._marks else mark

        return self._any_mark.sub(replace, text)

    def _variable(self, reference: str) -> Value:
        """Return the value of one `${…}`. Source: POSIX shell, 2.6.2, for `:-` and empty variables."""
        parts = _PARTS.fullmatch(reference)
        if parts is None or "${" in reference[2:]:
            raise ValueError(f"{quoted(reference)} is no reference: write ${{NAME}} or ${{NAME:-default}}")
        name, default = parts.groups()
        source = f"the value of ${{{name}}}"
        value = self._environ.get(name)
        if value is None and default is None:
            raise ValueError(f"the environment variable {name} is not set")
        if value or default is None:
            return Value(_utf8(value or "", name), source, whole=True)
        return Value(default, source, whole=True, unset=None if default else name, in_clear=bool(default))


def _utf8(value: str, name: str) -> str:
    """Return a variable's value. Python keeps bytes of it that are not UTF-8 as lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the environment variable {name} is not UTF-8 text") from None
    return value


def _file_text(path: Path, files: Files) -> str:
    """Return the text of a small file, without the line break at its end. Raises ValueError."""
    try:
        data = files.read(path, MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{named(path)} cannot be read: {reason}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"{named(path)} is larger than {MAX_FILE_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{named(path)} is not UTF-8 text") from None
    return text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")
