"""The tools of a Responses request as functions of Chat. docs/dialects.md, "Responses over Chat"

They come in `tools`, and in items of the input: Codex sends its own only there, with the models that
it knows. Functions are nested instead of flat. A freeform ("custom") tool becomes a function with one
string, tools in a namespace become functions with joined names. What only OpenAI's servers run is
dropped.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from proxy.core.quoting import quoted
from proxy.dialects import members
from proxy.dialects.members import Fields
from proxy.dialects.responses_context import Tool
from proxy.dialects.traits import ChatTraits

# OpenAI's rule for names of functions, which those of all others allow.
_MAX_NAME = 64
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")

_CALLABLE = ("function", "custom")

# Choices that some clients write as objects.
_MODES = ("auto", "none", "required")

#: The type of input items that offer further tools.
ADDITIONAL_TOOLS = "additional_tools"

_FREEFORM_PARAMETERS = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The tool's whole input, as plain text."}},
    "required": ["input"],
    "additionalProperties": False,
}


class _Definition(NamedTuple):
    """A tool that a client can run itself; `param` is its place in the request."""

    tool: Tool
    fields: Fields
    param: str


class OfferedTools:
    """The functions to offer upstream, in their order, and the tools that they stand for."""

    def __init__(
        self, tools: list[Fields], traits: ChatTraits, dropped: Counter[str], *, items: Sequence[Fields] = ()
    ) -> None:
        """`tools` are those of the request; those of its input `items` come behind them.

        Items may repeat what was offered before, which providers refuse: the first counts.
        """
        self.functions: list[Fields] = []
        #: By the name of the function.
        self.tools: dict[str, Tool] = {}
        self._strict = traits.strict_tools
        self._names: dict[tuple[str, str], str] = {}  # of functions, by namespace and name
        definitions = list(_definitions(tools, "tools", dropped))
        for position, item in enumerate(items):
            if item.get("type") == ADDITIONAL_TOOLS:
                place = f"input[{position}].tools"
                definitions += _definitions(members.objects(item.get("tools"), place), place, dropped)
        # A name outside of namespaces stays as it is; those inside give way.
        self._plain = {definition.tool.name for definition in definitions if not definition.tool.namespace}
        for definition in definitions:
            self._offer(definition)

    def function_name(self, namespace: object, name: str) -> str:
        """Return what a tool of the client is called upstream, whether it is offered or not."""
        if not isinstance(namespace, str) or not namespace:
            return name
        return self._names.get((namespace, name)) or _joined(namespace, name)

    def choose(self, choice: object) -> str | Fields | None:
        """Return Chat's `tool_choice`; None when there is nothing to say.

        Where the client allows only some tools, the others are no longer offered. Raises BadRequest
        where it forces one that is not there.
        """
        if isinstance(choice, dict):
            choice = self._choose_tool(choice)
        elif choice is not None and not isinstance(choice, str):
            raise members.invalid("tool_choice", "must be a string or an object")
        if self.functions:
            return choice
        if choice == "required" or isinstance(choice, dict):
            raise members.invalid(
                "tool_choice",
                "forces a tool, but none of those in 'tools' can be offered to this model's provider",
            )
        return None

    def _choose_tool(self, choice: Fields) -> str | Fields:
        kind = members.text(choice.get("type"), "tool_choice.type")
        if kind in _MODES:
            return kind
        if kind == "allowed_tools":
            self._keep(members.objects(choice.get("tools"), "tool_choice.tools"))
            return members.text(choice.get("mode"), "tool_choice.mode")
        if kind in _CALLABLE:
            name = members.text(_inner(choice, kind).get("name"), "tool_choice.name")
            return {
                "type": "function",
                "function": {"name": self.function_name(choice.get("namespace"), name)},
            }
        raise members.invalid(
            "tool_choice",
            f"forces {quoted(kind)}, which cannot be offered to this model's provider; "
            "force a function, or leave the choice to the model with 'auto'",
        )

    def _keep(self, allowed: list[Fields]) -> None:
        functions, namespaces = set(), set()
        for choice in allowed:
            name = choice.get("name")
            if not isinstance(name, str):
                continue  # one of those that were dropped
            if choice.get("type") == "namespace":
                namespaces.add(name)
            else:
                functions.add(self.function_name(choice.get("namespace"), name))
        self.functions = [
            function
            for function in self.functions
            if (name := function["function"]["name"]) in functions or self.tools[name].namespace in namespaces
        ]

    def _offer(self, definition: _Definition) -> None:
        tool, fields, param = definition
        namespace, name = tool.namespace or "", tool.name
        if (namespace, name) in self._names:
            return
        if namespace:
            name = self._joined_uniquely(namespace, name)
        self._names[namespace, tool.name] = name
        self.tools[name] = tool
        description = members.optional_text(fields.get("description"), f"{param}.description")
        parameters = fields.get("parameters")
        if tool.custom:
            description = _freeform_description(description, fields.get("format"))
            parameters = _FREEFORM_PARAMETERS
        elif not isinstance(parameters, dict):
            parameters = {"type": "object", "properties": {}}
        function: Fields = {"name": name}
        if description:
            function["description"] = description
        function["parameters"] = parameters
        if self._strict and isinstance(fields.get("strict"), bool):
            function["strict"] = fields["strict"]
        self.functions.append({"type": "function", "function": function})

    def _joined_uniquely(self, namespace: str, name: str) -> str:
        joined = _joined(namespace, name)
        taken = joined in self._plain or joined in self.tools
        return _hashed(joined, namespace, name) if taken else joined


def _definitions(
    tools: list[Fields], param: str, dropped: Counter[str], namespace: str | None = None
) -> Iterator[_Definition]:
    """Find the tools that can be offered, those in namespaces too; count the others."""
    for position, fields in enumerate(tools):
        place = f"{param}[{position}]"
        kind = members.text(fields.get("type"), f"{place}.type")
        if kind == "namespace" and namespace is None:
            inner = members.objects(fields.get("tools"), f"{place}.tools")
            name = members.text(fields.get("name"), f"{place}.name")
            yield from _definitions(inner, f"{place}.tools", dropped, name)
        elif kind in _CALLABLE:
            fields = _inner(fields, kind)
            name = members.text(fields.get("name"), f"{place}.name")
            yield _Definition(Tool(name, namespace, kind == "custom"), fields, place)
        else:
            dropped[f"tools.{kind[:64]}"] += 1


def _inner(fields: Fields, kind: str) -> Fields:
    """Return the members of a tool; some clients nest them, as Chat does."""
    nested = fields.get(kind)
    return nested if isinstance(nested, dict) else fields


def _freeform_description(description: str, format: object) -> str:
    """Describe how to write the input, and the grammar, which Chat has no other place for."""
    parts = [description, "Put the whole input into the string `input`, as plain text."]
    if isinstance(format, dict) and isinstance(grammar := format.get("definition"), str):
        syntax = "regular expression" if format.get("syntax") == "regex" else "Lark grammar"
        parts.append(f"The input must match this {syntax}:\n{grammar}")
    return "\n\n".join(filter(None, parts))


def _joined(namespace: str, name: str) -> str:
    joined = _UNFIT.sub("_", f"{namespace}__{name}")
    return joined if len(joined) <= _MAX_NAME else _hashed(joined, namespace, name)


def _hashed(joined: str, namespace: str, name: str) -> str:
    """Return a name that depends on nothing but its parts, so that it is the same in the next turn."""
    digest = hashlib.sha256(f"{namespace}\0{name}".encode(errors="replace")).hexdigest()[:8]
    return f"{joined[: _MAX_NAME - 9]}_{digest}"
