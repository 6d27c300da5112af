"""The JSON Schema for editors, checked with a small validator of the words that it uses."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from proxy.config.jsonschema import json_schema
from proxy.config.template import starting_configuration

TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}
SCHEMA = json_schema()


def is_valid(value: Any, schema: dict[str, Any]) -> bool:
    """Return whether a value fits a schema. Source: JSON Schema 2020-12."""
    known = {"description", "default", "format", "$schema", "title", "$defs"}
    if unknown := schema.keys() - known - RULES.keys() - {"additionalProperties", "patternProperties"}:
        raise NotImplementedError(unknown)
    return all(rule(value, schema) for name, rule in RULES.items() if name in schema)


def _has_type(value: Any, schema: dict[str, Any]) -> bool:
    names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    numeric = {"integer", "number"} & set(names)
    if isinstance(value, bool) and numeric:
        return "boolean" in names
    return any(isinstance(value, TYPES[name]) for name in names)


def _properties(value: Any, schema: dict[str, Any]) -> bool:
    if not isinstance(value, dict):
        return True
    return all(_property(name, child, schema) for name, child in value.items())


def _property(name: str, child: Any, schema: dict[str, Any]) -> bool:
    if name in schema.get("properties", {}):
        return is_valid(child, schema["properties"][name])
    for pattern, of_pattern in schema.get("patternProperties", {}).items():
        if re.search(pattern, name):
            return is_valid(child, of_pattern)
    rest = schema.get("additionalProperties", {})
    return rest is not False and is_valid(child, rest)


RULES: dict[str, Callable[[Any, dict[str, Any]], bool]] = {
    "type": _has_type,
    "properties": _properties,
    "additionalProperties": _properties,
    "required": lambda value, schema: value is None or set(schema["required"]) <= value.keys(),
    "items": lambda value, schema: value is None or all(is_valid(item, schema["items"]) for item in value),
    "minItems": lambda value, schema: len(value) >= schema["minItems"],
    "minLength": lambda value, schema: len(value) >= schema["minLength"],
    "anyOf": lambda value, schema: any(is_valid(value, option) for option in schema["anyOf"]),
    "enum": lambda value, schema: value in schema["enum"],
    "pattern": lambda value, schema: re.search(schema["pattern"], value) is not None,
    "minimum": lambda value, schema: value >= schema["minimum"],
    "maximum": lambda value, schema: value <= schema["maximum"],
    "$ref": lambda value, schema: is_valid(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]),
}


def yaml_value(text: str) -> Any:
    """Return a file as an editor sees it: references are text there."""
    return yaml.safe_load(re.sub(r"(?<![\w'\"])(\$\{[^}]*\})", r"'\1'", text))


def test_the_example_fits() -> None:
    assert is_valid(yaml_value(starting_configuration().decode()), SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "server: {port: 80}",
        "server: {port: ${PORT:-80}}",
        "console: file:console.txt",
        "server:",
        "x-anchors: [anything]",
        "providers: {ali: {api_keys: [a, {key: b, rpm: 1}], timeouts: {first_byte_s: null}}}",
        "models: {a: {routes: [b/c, {provider: b}], price: {per: 1M, tiers: [{above_input_tokens: 1}]}}}",
        "plans: {a: {rpm: null, models: null, subscription: {price: 1, credit: 1, days: 1}}}",
        "providers: {a: {overrides: {set: {a: {b: [1, null]}}}}}",
    ],
)
def test_good_files_fit(text: str) -> None:
    assert is_valid(yaml_value(text), SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "prot: 1",
        "server: {prot: 1}",
        "server: {port: 70000}",
        "server: {port: '80'}",
        "server: {port: 1.5}",
        "console: yes please",
        "log: {level: loud}",
        "providers: {ali: {api_keys: []}}",
        "providers: {ali: {api_keys: [{rpm: 1}]}}",
        "providers: {ali: {api_key: ''}}",
        "models: {a: {price: {input: 1}}}",
        "plans: {a: {rpm: 0}}",
    ],
)
def test_wrong_files_do_not_fit(text: str) -> None:
    assert not is_valid(yaml_value(text), SCHEMA)


def test_it_is_json() -> None:
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_every_key_is_described_and_defaults_fit() -> None:
    def properties(schema: Any) -> Any:
        if isinstance(schema, dict):
            yield from schema.get("properties", {}).items()
        for child in (
            schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
        ):
            yield from properties(child)

    found = list(properties(SCHEMA))
    assert len(found) > 100
    for name, schema in found:
        assert schema["description"].endswith("."), name
        assert "default" not in schema or is_valid(schema["default"], schema), name
