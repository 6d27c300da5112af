"""What is wrong with a configuration file, in the form in which the start prints it."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

#: Where a value stands: names of keys, and indexes of list items.
Place = tuple[str | int, ...]

# So many problems are printed; more come from one cause, or from no configuration at all.
MOST_PRINTED = 50
# A name longer than this is shown and compared by its beginning.
_LONGEST_SHOWN = 60
# Up to so many valid names are listed when none is near.
_MOST_LISTED = 12


_QUOTED = re.compile(r"""\"[^"\n]*\"|(?<!\w)'[^'\n]*'(?!\w)""")


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong. `line` 0 means the file as a whole; `path` may be empty."""

    line: int
    path: str
    message: str

    def text(self, file: str) -> str:
        place = f"{file}:{self.line}" if self.line else file
        return ": ".join(filter(None, (place, self.path, self.message)))


class ConfigError(Exception):
    """A file that cannot be used. Its text is one line for each problem, in the file's order."""

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        lines = [problem.text(file) for problem in self.problems]
        if more := lines[MOST_PRINTED:]:
            lines[MOST_PRINTED:] = [f"{file}: and {len(more)} more problems"]
        super().__init__("\n".join(lines))

    @property
    def discreet(self) -> str:
        """What strangers may read: without any value that the file has."""
        return _QUOTED.sub("…", str(self))


class Invalid(Exception):
    """Raised where a value cannot be read; whoever reads its neighbours collects it."""

    def __init__(self, line: int, path: Place, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(line, dotted(path), message)


class Unusable(Exception):
    """Raised by a mapping or list after problems inside of it, all of them already collected."""


class Wrong(ValueError):
    """A value is wrong in the light of others. `path` leads to it from where it is raised."""

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


def dotted(path: Place) -> str:
    """Return a path as text: `providers.ali.api_keys[1].rpm`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{clipped(step)}" for step in path)
    return text.removeprefix(".")


def clipped(text: str) -> str:
    """Return text on one line, shortened: what a person needs in order to recognise it."""
    short = text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
    return short if short.isprintable() else json.dumps(short)[1:-1]


def quoted(text: str) -> str:
    return f'"{clipped(text)}"'


def named(path: Path) -> str:
    """Return how a message names a file: whole, on one line."""
    return f"the file {json.dumps(str(path), ensure_ascii=False)}"


def hint(name: str, valid: Iterable[str]) -> str:
    """Return ` (did you mean "x"?)` for the nearest valid name, else the valid ones if they are few."""
    names = sorted(valid)
    folded = {known.casefold(): known for known in names}
    near = get_close_matches(name[:_LONGEST_SHOWN].casefold(), folded, n=1)
    if near:
        return f" (did you mean {quoted(folded[near[0]])}?)"
    if names and len(names) <= _MOST_LISTED:
        return f" (valid: {', '.join(map(clipped, names))})"
    return ""
