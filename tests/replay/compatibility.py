"""Compare JSON schemas: can one version read whatever another one may write?

In doubt the answer is no: what cannot be shown to be readable is reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

AT_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems")
AT_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
OF_ARRAYS = ("minItems", "maxItems")
SAME = ("pattern", "format")


def unreadable(writer: Json, reader: Json) -> list[str]:
    """List where the reader would refuse or misread the writer's documents, for each name that both know."""
    comparison = _Comparison(writer["$defs"], reader["$defs"])
    return [
        line
        for name, written in writer["writes"].items()
        if name in reader["reads"]
        for line in comparison.differences(written, reader["reads"][name], name)
    ]


class _Comparison:
    """A comparison of two versions' documents; ``written`` and ``read`` are their definitions."""

    def __init__(self, written: Json, read: Json) -> None:
        self._written, self._read = written, read
        self._compared: set[tuple[str, str]] = set()

    def differences(self, written: Json, read: Json, path: str) -> Iterator[str]:
        """List each place below ``path`` at which the reader may fail, in a line for people."""
        pair = (written.get("$ref", ""), read.get("$ref", ""))
        if all(pair):
            if pair in self._compared:  # and reported, if there was anything to report
                return
            self._compared.add(pair)
        written, read = _resolved(written, self._written), _resolved(read, self._read)
        if not read:  # anything
            return
        for choice in _choices(written, self._written):
            yield from self._of_one(choice, _choices(read, self._read), path)

    def _of_one(self, written: Json, choices: list[Json], path: str) -> Iterator[str]:
        """Compare one form of what is written with all forms that are read: one has to fit."""
        fitting = [each for each in choices if not each or _kind(written) in _kinds_read(each)]
        if not fitting:
            told = " or ".join(str(_kind(each)) for each in choices)
            yield f"{path}: {_kind(written)} is written, {told} is read"
            return
        found = [list(self._within(written, each, path)) for each in fitting]
        yield from min(found, key=len)

    def _within(self, written: Json, read: Json, path: str) -> Iterator[str]:
        if not read:
            return
        values, known = _values(written), _values(read)
        if known is not None:
            if values is None:
                yield f"{path}: any {_kind(written)} is written, only {known} is read"
            elif unknown := [each for each in values if each not in known]:
                yield f"{path}: {unknown} may be written, and is not read"
            return
        yield from self._bounds(written, read, path) if values is None else ()
        if _kind(written) == "object":
            yield from self._object(written, read, path)
        if _kind(written) == "array":
            yield from self._array(written, read, path)

    def _bounds(self, written: Json, read: Json, path: str) -> Iterator[str]:
        read = {key: each for key, each in read.items() if "prefixItems" not in read or key not in OF_ARRAYS}
        for bound in AT_LEAST:
            if bound in read and not written.get(bound, float("-inf")) >= read[bound]:
                yield f"{path}: {bound} {read[bound]} is read, and less may be written"
        for bound in AT_MOST:
            if bound in read and not written.get(bound, float("inf")) <= read[bound]:
                yield f"{path}: {bound} {read[bound]} is read, and more may be written"
        for keyword in SAME:
            if keyword in read and written.get(keyword) != read[keyword]:
                yield f"{path}: {keyword} {read[keyword]} is read, {written.get(keyword, 'any')} is written"

    def _object(self, written: Json, read: Json, path: str) -> Iterator[str]:
        """Compare objects. Nobody leaves out unset fields, so each field of the writer is always written."""
        fields, known = written.get("properties", {}), read.get("properties", {})
        yield from (
            f"{path}.{name}: is needed, and not written" for name in read.get("required", []) if name not in fields
        )
        for name in [each for each in fields if each in known]:
            yield from self.differences(fields[name], known[name], f"{path}.{name}")
        others = read.get("additionalProperties", True)
        for name in [each for each in fields if each not in known]:
            yield from self._other(fields[name], others, f"{path}.{name}")
        if written.get("additionalProperties"):
            yield from self._other(written["additionalProperties"], others, f"{path}.*")

    def _other(self, written: Any, read: Any, path: str) -> Iterator[str]:
        """Compare a field, or all values of a mapping, for which the reader has no name."""
        if read is False:
            yield f"{path}: is written, and refused"
        elif isinstance(read, dict):
            yield from self.differences(written if isinstance(written, dict) else {}, read, path)

    def _array(self, written: Json, read: Json, path: str) -> Iterator[str]:
        first, known = written.get("prefixItems", []), read.get("prefixItems", [])
        if known and len(first) != len(known):
            yield f"{path}: {len(known)} items are read, {len(first) or 'any number'} written"
            return
        for number, pair in enumerate(zip(first, known, strict=bool(known)) if known else ()):
            yield from self.differences(*pair, f"{path}[{number}]")
        if not known and "items" in read:
            for each in first or [written.get("items", {})]:
                yield from self.differences(each, read["items"], f"{path}[]")


def _resolved(schema: Json, definitions: Json) -> Json:
    while "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    return schema


def _choices(schema: Json, definitions: Json) -> list[Json]:
    """List the forms that a document may have."""
    options = schema.get("anyOf") or schema.get("oneOf")
    if options is None:
        return [schema]
    return [choice for each in options for choice in _choices(_resolved(each, definitions), definitions)]


def _values(schema: Json) -> list[Any] | None:
    """List all values that it may have; None if they are not listed."""
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _kind(schema: Json) -> str:
    return str(schema.get("type", "anything"))


def _kinds_read(schema: Json) -> set[str]:
    kind = _kind(schema)
    return {"number", "integer"} if kind == "number" else {kind}
