"""State that another version wrote is read: by the next version, and by the one before it after a roll-back.

``states/<release>/`` contains inputs of runs that were continued as new, as `temporal workflow show` prints them.
``schemas/<release>/`` says what a release may write and what it reads.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from api.market import MarketStart
from api.messages import JobStart, VmStart
from tests.replay import continued
from tests.replay.compatibility import unreadable
from tests.replay.releases import HERE, kept
from tests.replay.schemas import KINDS, read, schemas
from workflows.job.state.job import JobState
from workflows.market.state import MarketState
from workflows.vm.state import VmState

STATES = [path for release in kept("states") for path in sorted((HERE / "states" / release).glob("*.json"))]
TYPES: dict[str, tuple[type[BaseModel], type[BaseModel]]] = {
    "job": (JobStart, JobState),
    "vm": (VmStart, VmState),
    "market": (MarketStart, MarketState),
}
# Fields that a later version gave up on purpose: nobody read them, or their content is read from elsewhere.
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
EXCEPTIONS: dict[str, str] = {}
"""What a supported release cannot read, though this version may write it, and why that harms nobody: line by reason."""
UNKNOWN = {"of a later version": [1, {"two": None}]}


def called(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def test_each_kind_of_workflow_has_a_state() -> None:
    assert {path.stem.partition("-")[0] for path in STATES} == set(TYPES)


def recorded(path: Path) -> tuple[Any, type[BaseModel], type[BaseModel]]:
    """Return what was written, the type of the input, and that of the state in it."""
    return json.loads(path.read_text()), *TYPES[path.stem.partition("-")[0]]


@pytest.mark.parametrize("path", STATES, ids=called)
def test_everything_that_was_written_is_read_and_written_again(path: Path) -> None:
    written, start, state = recorded(path)
    read = start.model_validate(written)
    assert lost(written, read.model_dump(mode="json", by_alias=True) | {"state": written["state"]}) == []
    assert lost(written["state"], state.model_validate(written["state"]).model_dump(mode="json")) == []


@pytest.mark.parametrize("path", STATES, ids=called)
def test_fields_that_are_not_known_are_dropped(path: Path) -> None:
    written, start, state = recorded(path)
    assert start.model_validate(written | UNKNOWN) == start.model_validate(written)
    assert state.model_validate(with_unknown(state, written["state"])) == state.model_validate(written["state"])


@pytest.mark.parametrize("path", STATES, ids=called)
def test_a_field_that_was_added_since_has_a_default(path: Path) -> None:
    """Each field may be the newest, and what was written before it lacks it."""
    written, _, state = recorded(path)
    for name in written["state"]:
        state.model_validate({key: value for key, value in written["state"].items() if key != name})


async def test_the_states_of_this_version_are_read_and_written_again() -> None:
    """They are written as `make histories` keeps them for the versions to come."""
    states = await continued.states()
    assert states.keys() == TYPES.keys()
    for kind, written in states.items():
        start, state = TYPES[kind]
        assert lost(written, start.model_validate(written).model_dump(mode="json", by_alias=True)) == []
        assert lost(written["state"], state.model_validate(written["state"]).model_dump(mode="json")) == []


# --- each version reads what the other writes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("release", kept("schemas"))
def test_what_the_release_wrote_is_read(release: str, kind: str) -> None:
    assert unreadable(read(release)[kind], schemas()[kind]) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("release", kept("schemas"))
def test_the_release_reads_what_is_written_now(release: str, kind: str) -> None:
    """Old and new run side by side, and a person may roll back."""
    assert [each for each in unreadable(schemas()[kind], read(release)[kind]) if each not in EXCEPTIONS] == []


def test_each_kind_of_schema_is_compared() -> None:
    assert sorted(schemas()) == list(KINDS)


@pytest.mark.parametrize("release", kept("schemas"))
def test_nothing_that_the_release_tells_is_unknown(release: str) -> None:
    """A signal, an update or an activity with a name that the other side does not have is lost, or retried for ever."""
    then, now = read(release), schemas()
    assert [name for kind in then for name in then[kind]["writes"] if name not in now[kind]["reads"]] == []


def test_each_exception_is_one_still() -> None:
    lines = {
        line for release in kept("schemas") for kind in schemas()
        for line in unreadable(schemas()[kind], read(release)[kind])
    }  # fmt: skip
    assert EXCEPTIONS.keys() <= lines


def lost(written: Any, read: Any, path: str = "state") -> list[str]:
    """List where what is read differs from what was written, without additional fields and without dropped ones."""
    if isinstance(written, dict) and isinstance(read, dict):
        gone = [f"{path}.{key}" for key in written if key not in read]
        return [each for each in gone if not each.endswith(DROPPED)] + [
            each for key in written.keys() & read.keys() for each in lost(written[key], read[key], f"{path}.{key}")
        ]
    if isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        return [each for n, pair in enumerate(zip(written, read, strict=True)) for each in lost(*pair, f"{path}[{n}]")]
    return [] if written == read else [f"{path}: {written!r} became {read!r}"]


def with_unknown(model: type[BaseModel], value: dict[str, Any]) -> dict[str, Any]:
    """Add a field to this object, and to each object below that is of a type of ours."""
    shapes = {id(each) for each in shaped(model.model_validate(value), value)}

    def widened(one: Any) -> Any:
        if isinstance(one, dict):
            inner = {key: widened(item) for key, item in one.items()}
            return inner | UNKNOWN if id(one) in shapes else inner
        return [widened(item) for item in one] if isinstance(one, list) else one

    result: dict[str, Any] = widened(value)
    return result


def shaped(read: Any, written: Any) -> Iterator[dict[str, Any]]:
    """List the written objects that are read as models. Those of a free form have no fields of ours."""
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
