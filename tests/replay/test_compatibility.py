"""What counts as readable by another version, on small models and on the workflows' own."""

import copy
from datetime import datetime
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from api.model import Model
from tests.replay.compatibility import unreadable
from tests.replay.schemas import of, schemas

Json = dict[str, Any]


def told(writer: type[BaseModel], reader: type[BaseModel]) -> list[str]:
    """List where the reader's version may not read what the writer's may write."""
    return unreadable(document(writer), document(reader))


def document(model: type[BaseModel]) -> Json:
    return of({"it": model}, by_alias=True)


def has(annotation: Any, default: Any = ...) -> type[BaseModel]:
    """Make a model with one field of this type, below another model."""
    inner = type("Inner", (Model,), {"__annotations__": {"one": annotation}, "one": Field(default=default)})
    return type("Outer", (Model,), {"__annotations__": {"all": list[inner]}})  # type: ignore[valid-type]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (has(int), has(int)),
        (has(int), has(float)),
        (has(int), has(int | None)),
        (has(Literal["a"]), has(Literal["a", "b"])),
        (has(Literal["a"]), has(str)),
        (has(dict[str, int]), has(dict[str, int | str])),
        (has(tuple[int, str]), has(tuple[int, str])),
        (has(tuple[int, int]), has(list[int])),
        (has(datetime), has(datetime)),
        (has(Any), has(Any)),
        (has(list[str]), has(Any)),
        (has(int), has(int, 3)),
        (has(int, 3), has(int)),
    ],
)
def test_readable(written: type[BaseModel], read: type[BaseModel]) -> None:
    assert told(written, read) == []


@pytest.mark.parametrize(
    ("written", "read", "line"),
    [
        (has(str), has(int), "it.all[].one: string is written, integer is read"),
        (has(float), has(int), "it.all[].one: number is written, integer is read"),
        (has(int | None), has(int), "it.all[].one: null is written, integer is read"),
        (has(Literal["a", "b"]), has(Literal["a", "c"]), "it.all[].one: ['b'] may be written, and is not read"),
        (has(str), has(Literal["a"]), "it.all[].one: any string is written, only ['a'] is read"),
        (has(dict[str, str]), has(dict[str, int]), "it.all[].one.*: string is written, integer is read"),
        (has(tuple[int, str]), has(tuple[int]), "it.all[].one: 1 items are read, 2 written"),
        (has(list[str]), has(list[int]), "it.all[].one[]: string is written, integer is read"),
        (has(str), has(datetime), "it.all[].one: format date-time is read, any is written"),
        (has(Any), has(str), "it.all[].one: anything is written, string is read"),
    ],
)
def test_unreadable(written: type[BaseModel], read: type[BaseModel], line: str) -> None:
    assert told(written, read) == [line]


class Before(Model):
    kept: int
    needed: int


class After(Model):
    kept: int
    added: str = ""


def test_a_field_that_is_given_up_must_have_had_a_default() -> None:
    assert told(After, Before) == ["it.needed: is needed, and not written"]
    assert told(Before, After) == []


class Wide(Model):
    number: int = Field(ge=0, le=9)
    text: str = Field(pattern="^a", max_length=3)


class Narrow(Model):
    number: int = Field(ge=1, le=5)
    text: str = Field(pattern="^ab", max_length=2)


def test_bounds_may_only_get_wider() -> None:
    assert told(Narrow, Wide) == ["it.text: pattern ^a is read, ^ab is written"], "patterns are not understood"
    assert told(Wide, Narrow) == [
        "it.number: minimum 1 is read, and less may be written",
        "it.number: maximum 5 is read, and more may be written",
        "it.text: maxLength 2 is read, and more may be written",
        "it.text: pattern ^ab is read, ^a is written",
    ]


class Node(Model):
    value: int = 0
    children: "list[Node]" = []


def test_a_type_that_holds_itself_ends() -> None:
    assert told(Node, Node) == []


# --- on the real ones


def altered(kind: str, definition: str, field: str, change: Json) -> list[str]:
    """List what an older version could not read if one field had been so."""
    now = schemas()[kind]
    then = copy.deepcopy(now)
    ours = [name for name in then["$defs"] if name.split("-")[0] == definition]
    assert ours, f"there is no {definition}"
    for name in ours:
        assert field in then["$defs"][name]["properties"]
        then["$defs"][name]["properties"][field] = change
    return unreadable(now, then)


def test_a_phase_that_the_release_did_not_know_is_told() -> None:
    [line, *_] = altered("states", "Replica", "phase", {"type": "string", "enum": ["Running"]})
    assert line.startswith("job.replicas")
    assert "'Queued'" in line


def test_another_type_in_a_message_is_told() -> None:
    assert altered("messages", "VmReport", "number", {"type": "string"}) == [
        "SpotInstanceJob signal vm_changed.number: integer is written, string is read"
    ]
