"""State that another version of the code wrote is read: by the next version, and by the one before after a roll-back.

``states/`` holds inputs of runs that were continued as new, as `temporal workflow show` has them. One that was recorded
stays: what is open when a version is rolled out has state like it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from api.market import MarketStart
from api.messages import JobStart, VmStart
from workflows.market_state import MarketState
from workflows.state import JobState
from workflows.vm_state import VmState

STATES = sorted((Path(__file__).parent / "states").glob("*.json"))
TYPES: dict[str, tuple[type[BaseModel], type[BaseModel]]] = {
    "job": (JobStart, JobState),
    "vm": (VmStart, VmState),
    "market": (MarketStart, MarketState),
}
# Fields that a later version gave up on purpose: nobody read them, or what they held is read from elsewhere.
DROPPED = (
    ".observations",
    ".exposures",
    ".counted_until",
    ".ran_since",
    ".ended_at",
    ".node_uid",
    ".pod.ready",
    ".pod.scheduled",
    ".job_deleting",
    ".provider_id",
    ".view.machine_type",
)
UNKNOWN = {"of a later version": [1, {"two": None}]}


def test_each_kind_of_workflow_has_a_state() -> None:
    assert {path.stem.partition("-")[0] for path in STATES} == set(TYPES)


def recorded(path: Path) -> tuple[Any, type[BaseModel], type[BaseModel]]:
    """What was written, the type of the input, and that of the state in it."""
    return json.loads(path.read_text()), *TYPES[path.stem.partition("-")[0]]


@pytest.mark.parametrize("path", STATES, ids=lambda path: path.stem)
def test_everything_that_was_written_is_read_and_written_again(path: Path) -> None:
    written, start, state = recorded(path)
    read = start.model_validate(written)
    assert lost(written, read.model_dump(mode="json", by_alias=True) | {"state": written["state"]}) == []
    assert lost(written["state"], state.model_validate(written["state"]).model_dump(mode="json")) == []


@pytest.mark.parametrize("path", STATES, ids=lambda path: path.stem)
def test_fields_that_are_not_known_are_dropped(path: Path) -> None:
    written, start, state = recorded(path)
    assert start.model_validate(written | UNKNOWN) == start.model_validate(written)
    assert state.model_validate(with_unknown(state, written["state"])) == state.model_validate(written["state"])


@pytest.mark.parametrize("path", STATES, ids=lambda path: path.stem)
def test_a_field_that_was_added_since_has_a_default(path: Path) -> None:
    """Each field may be the newest: what was written before it lacks it."""
    written, _, state = recorded(path)
    for name in written["state"]:
        state.model_validate({key: value for key, value in written["state"].items() if key != name})


def lost(written: Any, read: Any, path: str = "state") -> list[str]:
    """Where what is read differs from what was written; neither fields on top nor dropped ones are told."""
    if isinstance(written, dict) and isinstance(read, dict):
        gone = [f"{path}.{key}" for key in written if key not in read]
        return [each for each in gone if not each.endswith(DROPPED)] + [
            each for key in written.keys() & read.keys() for each in lost(written[key], read[key], f"{path}.{key}")
        ]
    if isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        return [each for n, pair in enumerate(zip(written, read, strict=True)) for each in lost(*pair, f"{path}[{n}]")]
    return [] if written == read else [f"{path}: {written!r} became {read!r}"]


def with_unknown(model: type[BaseModel], value: dict[str, Any]) -> dict[str, Any]:
    """A field more in this object, and in each object below that is of a type of ours."""
    shapes = {id(each) for each in shaped(model.model_validate(value), value)}

    def widened(one: Any) -> Any:
        if isinstance(one, dict):
            inner = {key: widened(item) for key, item in one.items()}
            return inner | UNKNOWN if id(one) in shapes else inner
        return [widened(item) for item in one] if isinstance(one, list) else one

    result: dict[str, Any] = widened(value)
    return result


def shaped(read: Any, written: Any) -> Iterator[dict[str, Any]]:
    """The written objects that are read as models; those of a free form have no fields of ours."""
    if isinstance(read, BaseModel) and isinstance(written, dict):
        yield written
        by_alias = {info.alias or name: name for name, info in type(read).model_fields.items()}
        for key, item in written.items():
            name = key if key in type(read).model_fields else by_alias.get(key)
            if name is not None:
                yield from shaped(getattr(read, name), item)
    elif isinstance(read, dict) and isinstance(written, dict):
        for key, item in read.items():
            yield from shaped(item, written.get(str(key)))
    elif isinstance(read, list | tuple) and isinstance(written, list):
        for one, other in zip(read, written, strict=True):
            yield from shaped(one, other)
