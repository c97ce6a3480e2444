"""YAML with parts that Helm fills in.

An object of a manifest may contain an ``Expression`` as a value, and a ``Block`` as a value, as an item of a list, or
as a key whose value is None. They are dumped as words that no manifest contains, and these are replaced in the text.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml

Json = dict[Any, Any]

_WORD = re.compile(r"^( *)(- )?(?:([^\n]*: ))?BLOCK(\d+)END(?:: null)?$", re.MULTILINE)
_LONG = 90


class Expression(str):
    """What stands between double braces, in place of a value."""


class Block(str):
    """Lines of a template, indented as what they stand in place of. Lines that begin with braces need no indentation,
    but have it.
    """

    ONLY_IF: ClassVar[str] = "x-only-if"
    EACH_OF: ClassVar[str] = "x-each-of"
    """Keys of a document: the condition on which it is rendered, and the list for each item of which it is."""


class _Dumper(yaml.SafeDumper):
    """Writes long texts folded, no aliases, and lists as the blocks have them: indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def dump(documents: list[Json]) -> str:
    """Write the documents of one file."""
    return "".join(map(_document, documents))


def _document(document: Json) -> str:
    condition = document.pop(Block.ONLY_IF, None)
    items = document.pop(Block.EACH_OF, None)
    parts: list[str] = []
    text = yaml.dump(_marked(document, parts), Dumper=_Dumper, sort_keys=False, width=110)
    text = _WORD.sub(lambda match: _placed(match, parts), text)
    text = re.sub(r"EXPRESSION(\d+)END", lambda match: f"{{{{ {parts[int(match[1])]} }}}}", text)
    if condition:
        return f"{{{{- if {condition} }}}}\n---\n{text}{{{{- end }}}}\n"
    if items:
        return f"{{{{- range {items} }}}}\n---\n{text}{{{{- end }}}}\n"
    return f"---\n{text}"


def _marked(value: Any, parts: list[str]) -> Any:
    """Replace what Helm fills in by words."""
    if isinstance(value, (Expression, Block)):
        parts.append(str(value))
        return f"{type(value).__name__.upper()}{len(parts) - 1}END"
    if isinstance(value, dict):
        return {_marked(key, parts): _marked(each, parts) for key, each in value.items()}
    if isinstance(value, list):
        return [_marked(each, parts) for each in value]
    return value


def _placed(match: re.Match[str], parts: list[str]) -> str:
    indent, _, key, number = match.groups()
    lines = parts[int(number)].splitlines()
    if key:  # a value: the key stays, the block follows
        return "\n".join([f"{indent}{key.rstrip()}", *(f"{indent}  {line}" for line in lines)])
    return "\n".join(indent + line for line in lines)


def _string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    folded = "\n" not in text and (len(text) > _LONG or ("'" in text and '"' not in text and ": " not in text))
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=">" if folded else None)


_Dumper.add_representer(str, _string)
