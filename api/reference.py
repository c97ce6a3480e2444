"""``python -m api.reference``: write ``docs/fields.md`` from the schemas of the CRDs.

With ``--check`` it compares the page and fails on drift.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from api import names
from api.crd import KINDS, Kind, schema
from api.crd_rules import Schema
from api.generated import write_or_compare

PAGE = Path(__file__).parent.parent / "docs" / "fields.md"
HEAD = f"""\
# Fields

After this page you know each field of Outlast's kinds, `{names.GROUP}/{names.VERSION}`. It is
generated from the types in `api/` by `python -m api.reference`. `kubectl explain sij.spec` says the same in a terminal.

A field in **bold** is required. A field in *italics* has fields of its own, in a table below.
"""


def page() -> str:
    """Write the whole page."""
    return "\n".join([HEAD, *(line for kind in KINDS for line in _kind(kind))])


def _kind(kind: Kind) -> Iterator[str]:
    root = schema(kind)
    yield f"## {kind.name}\n"
    yield f"Short name: `{kind.short}`. {_sentence(root)}\n"
    for part in ("spec", "status"):
        yield from _section(kind.name, part, root["properties"][part])


def _section(kind: str, path: str, node: Schema) -> Iterator[str]:
    """Write the table of an object, then those of the objects in it."""
    fields, required = node["properties"], node.get("required", [])
    yield f"### {kind} `{path}`\n"
    yield "| field | type | default | what it is |"
    yield "|---|---|---|---|"
    for name, field in fields.items():
        yield f"| {_name(name, field, name in required)} | {_type(field)} | {_default(field)} | {_about(field)} |"
    yield ""
    for name, field in fields.items():
        suffix, inner = ("[]", field["items"]) if field.get("type") == "array" else ("", field)
        if inner.get("properties"):
            yield from _section(kind, f"{path}.{name}{suffix}", inner)


def _name(name: str, field: Schema, required: bool) -> str:
    shown = f"`{name}`"
    if (field.get("items") or field).get("properties"):
        shown = f"*{shown}*"
    return f"**{shown}**" if required else shown


def _type(field: Schema) -> str:
    if words := field.get("enum"):
        return ", ".join(f"`{word}`" for word in words)
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    if field.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if isinstance(field.get("additionalProperties"), dict):
        return f"map to {_type(field['additionalProperties'])}"
    return "time" if field.get("format") == "date-time" else str(field.get("type", "any"))


def _default(field: Schema) -> str:
    return f"`{json.dumps(field['default'])}`" if "default" in field else ""


def _about(field: Schema) -> str:
    bounds = [
        f"{words} {field[key]}"
        for key, words in (("minimum", "at least"), ("maximum", "at most"), ("maxItems", "at most so many:"))
        if key in field
    ]
    return " ".join([_sentence(field), f"({', '.join(bounds)})" if bounds else ""]).strip()


def _sentence(node: Schema) -> str:
    return " ".join(str(node.get("description", "")).split()).replace("|", "\\|").replace("<", "&lt;")


def main(words: list[str] | None = None) -> int:
    """Write the page, or compare it; return the exit code."""
    return write_or_compare("api.reference", {PAGE: page()}, words)


if __name__ == "__main__":
    sys.exit(main())
