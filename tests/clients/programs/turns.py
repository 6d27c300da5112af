"""The conversation that every program has with the scripted model, in no dialect.

The model asks for two tool calls at once, each of which reads one half of a token from a file of the
program's working directory. When both results have come back, it says the token backwards: only a
program whose tool calls and results went through unharmed can print that.
"""

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

PROMPT = "Read first.txt and second.txt, each with a call of its own, and tell me what they hold."

_HALVES = ("first", "second")
_HALF = re.compile(r"(first|second) half: ([0-9a-f]{8})")
_PATCHED = '“third” = "\\third"\n'
_PATCH = f"*** Begin Patch\n*** Add File: third.txt\n+{_PATCHED}*** End Patch\n"


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool on offer. Where there are no namespaces, a translation may have put one into the name."""

    name: str
    namespace: str | None = None

    def is_called(self, name: str) -> bool:
        return self.name.rpartition("__")[2] == name


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call that the model asks for; the input of a freeform tool is plain text."""

    id: str
    tool: Tool
    input: Mapping[str, object] | str

    @property
    def object(self) -> dict[str, object]:
        """The input as functions take it; those that stand for freeform tools have one parameter."""
        return {"input": self.input} if isinstance(self.input, str) else dict(self.input)

    @property
    def arguments(self) -> str:
        return json.dumps(self.object)


@dataclass(frozen=True, slots=True)
class Turn:
    """What the model says: its thoughts, its text, and the calls it asks for."""

    thought: str
    text: str
    calls: tuple[Call, ...] = ()


def write_halves(directory: Path) -> str:
    """Write the files that the model wants to know, with a fresh token; return what it will say."""
    token = secrets.token_hex(8)
    for name, half in zip(_HALVES, (token[:8], token[8:]), strict=True):
        (directory / f"{name}.txt").write_text(f"{name} half: {half}\n")
    return token[::-1]


def is_patched_wrong(directory: Path) -> bool:
    """Return whether a program has applied another patch than the one it was asked to."""
    patched = directory / "third.txt"
    return patched.exists() and patched.read_text() != _PATCHED


def next_turn(results: str, tools: Sequence[Tool]) -> Turn:
    """Return what the model says next, given all results of tools so far and the tools on offer.

    A program that offers Codex's freeform tool for patches is asked for one besides. Programs ask
    for other things too, such as a title for the conversation; those requests offer no tool that is
    known here, and are answered with a greeting.
    """
    reader = next((tool for name in _READERS for tool in tools if tool.is_called(name)), None)
    patcher = next((tool for tool in tools if tool.is_called("apply_patch")), None)
    if not results and reader is None:
        return Turn("Nothing to do.", "Hello.")
    if not results and reader is not None:
        read = next(read for name, read in _READERS.items() if reader.is_called(name))
        calls = [_call(reader, read(half)) for half in _HALVES]
        calls += [_call(patcher, _PATCH)] if patcher else []
        return Turn("Several files, several calls…", "Let me look — 見てみます.", tuple(calls))
    found = dict(_HALF.findall(results))
    if len(found) < len(_HALVES) or (patcher and "third.txt" not in results):
        return Turn("That is not it.", f"The tools did not say what was wanted: {results}")
    token = found["first"] + found["second"]
    return Turn("Both halves are here…", f"Backwards, “together” (合わせて): {token[::-1]} — done.")


def pieces(text: str, size: int = 5) -> list[str]:
    """Cut a text as models stream it: anywhere."""
    return [text[start : start + size] for start in range(0, len(text), size)]


def _call(tool: Tool, input: Mapping[str, object] | str) -> Call:
    return Call(f"call_{secrets.token_hex(8)}", tool, input)


def _cat(half: str) -> str:
    return f"cat {half}.txt"


#: How the tools of the programs read a file, by the names of the tools.
_READERS: Mapping[str, Callable[[str], Mapping[str, object] | str]] = MappingProxyType(
    {
        "read_half": lambda half: {"name": half},  # our own programs, for the SDKs
        "Bash": lambda half: {"command": _cat(half), "description": f"Read the {half} half"},  # Claude Code
        "run_shell_command": lambda half: {  # Qwen Code, which loses the output of what ends at once
            "command": f"sleep 0.5; {_cat(half)}",
            "description": f"Read the {half} half",
            "is_background": False,
        },
        "bash": lambda half: {"command": _cat(half), "description": f"Read the {half} half"},  # OpenCode
        "run_commands": lambda half: {"commands": [_cat(half)]},  # Cline
        "exec_command": lambda half: {"cmd": _cat(half)},  # Codex
        "exec": lambda half: (  # Codex's JavaScript, for models that it knows to like it
            f'const found = await tools.exec_command({{cmd: "{_cat(half)}"}});\ntext(found);'
        ),
    }
)
