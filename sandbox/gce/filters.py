"""List filters: the part of AIP-160 that Compute Engine's clients use, and the older ``eq`` / ``ne`` form of gcloud.

    (labels.outlast-job = "1a2b3c4d") AND (status != "TERMINATED")
    labels.outlast-job:*                 NOT name:train          insertTime > "2026-01-01T00:00:00Z"
    (name eq "vm-.*") (status eq RUNNING)

As in AIP-160, OR binds more tightly than AND, and expressions side by side are joined by AND. What the parser does not
know is refused with 400, like in the real service, rather than ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from sandbox.gce.errors import ApiError, invalid_field

Predicate = Callable[[Mapping[str, Any]], bool]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<paren>[()])
      | (?P<operator><=|>=|!=|=|<|>|:)
      | (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<word>[^\s()<>=!:"']+)
    )""",
    re.VERBOSE,
)
_OPERATORS = {"<=", ">=", "!=", "=", "<", ">", ":"}


def parse_filter(text: str, message_type: Any) -> Predicate:
    """Parse a filter into a predicate on resources (as JSON) of ``message_type``; an empty filter accepts everything.

    Raises:
        ApiError: 400; the syntax is wrong, or a field is unknown.
    """
    if not text.strip():
        return lambda _resource: True
    return _Parser(text, message_type.pb(message_type()).DESCRIPTOR).parse()


class _Parser:
    def __init__(self, text: str, descriptor: Any) -> None:
        self._text = text
        self._descriptor = descriptor
        self._tokens = list(self._tokenize())
        self._position = 0

    def parse(self) -> Predicate:
        predicate = self._conjunction()
        if self._position < len(self._tokens):
            raise self._error()
        return predicate

    def _conjunction(self) -> Predicate:
        parts = [self._disjunction()]
        while (token := self._peek()) is not None and token != ")":
            if token == "AND":
                self._next()
            elif token not in {"(", "NOT"}:  # side by side means AND, but only if it cannot be misread
                raise self._error()
            parts.append(self._disjunction())
        return parts[0] if len(parts) == 1 else lambda resource: all(part(resource) for part in parts)

    def _disjunction(self) -> Predicate:
        parts = [self._term()]
        while self._peek() == "OR":
            self._next()
            parts.append(self._term())
        return parts[0] if len(parts) == 1 else lambda resource: any(part(resource) for part in parts)

    def _term(self) -> Predicate:
        token = self._next()
        if token == "NOT" or token.startswith("-"):
            negated = self._term() if token in {"NOT", "-"} else self._comparison(token[1:])
            return lambda resource: not negated(resource)
        if token != "(":
            return self._comparison(token)
        inner = self._conjunction()
        if self._next() != ")":
            raise self._error()
        return inner

    def _comparison(self, field: str) -> Predicate:
        path = field.split(".")
        self._check_field(path)
        operator, value = self._next(), self._next()
        if value in {"(", ")", *_OPERATORS}:
            raise self._error()
        test = self._test(operator, _unquote(value))
        if operator in {"!=", "ne"}:
            return lambda resource: not any(test(found) for found in _values(resource, path))
        return lambda resource: any(test(found) for found in _values(resource, path))

    def _test(self, operator: str, value: str) -> Callable[[str], bool]:
        match operator:
            case "=" | "!=":
                return lambda found: found == value
            case ":" if value == "*":
                return lambda _found: True
            case ":":
                return lambda found: value.lower() in found.lower()
            case "eq" | "ne":
                try:
                    pattern = re.compile(value)
                except re.error as error:
                    raise self._error() from error
                return lambda found: pattern.fullmatch(found) is not None
            case "<":
                return lambda found: _ordered(found) < _ordered(value)
            case "<=":
                return lambda found: _ordered(found) <= _ordered(value)
            case ">":
                return lambda found: _ordered(found) > _ordered(value)
            case ">=":
                return lambda found: _ordered(found) >= _ordered(value)
        raise self._error()

    def _check_field(self, path: list[str]) -> None:
        descriptor = self._descriptor
        for name in path:
            if descriptor is None:
                raise self._error()
            field = next((field for field in descriptor.fields if field.json_name == name), None)
            if field is None:
                raise self._error()
            descriptor = field.message_type
            if descriptor is not None and descriptor.GetOptions().map_entry:
                return  # what follows is a key

    def _tokenize(self) -> Iterator[str]:
        position = 0
        text = self._text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._error()
            position = match.end()
            yield match.group().strip()

    def _peek(self) -> str | None:
        return self._tokens[self._position] if self._position < len(self._tokens) else None

    def _next(self) -> str:
        token = self._peek()
        if token is None:
            raise self._error()
        self._position += 1
        return token

    def _error(self) -> ApiError:
        return invalid_field("filter", self._text, "Invalid list filter expression.")


def _unquote(token: str) -> str:
    """Return the text of a token. Only quotes are unescaped: gcloud's regular expressions keep their backslashes."""
    return re.sub(r"\\([\"'])", r"\1", token[1:-1]) if token[0] in "\"'" else token


def _values(value: Any, path: list[str]) -> Iterator[str]:
    """Yield every value at ``path`` as text, through lists and through map keys that contain dots."""
    if isinstance(value, list):
        for item in value:
            yield from _values(item, path)
    elif not path:
        yield _text(value)
    elif isinstance(value, Mapping) and path[0] in value:
        yield from _values(value[path[0]], path[1:])


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ordered(text: str) -> tuple[int, float, str]:
    """Return a key that sorts numbers before times, and times before anything else."""
    try:
        return (0, float(text), "")
    except ValueError:
        pass
    try:
        return (1, datetime.fromisoformat(text).timestamp(), "")
    except ValueError:
        return (2, 0.0, text)
