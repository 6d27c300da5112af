"""A JSON Schema of the configuration, for completion and checking in editors."""

from typing import Any

from proxy.config.description import FILE


def json_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12), made from the same description that reads the file."""
    schema = FILE.schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of Sluice",
        **schema,
        "type": "object",
        "patternProperties": {"^x-": {"description": "Ignored: a place for anchors."}},
        "$defs": {
            "reference": {
                "description": "A value from the environment or from a file.",
                "type": "string",
                "pattern": r"^(\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}|file:.+)$",
            }
        },
    }
