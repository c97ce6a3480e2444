"""What this version writes and reads, as JSON schemas: `schemas/<release>/<kind>.json` keeps them of each release.

- ``states``: what a run hands to its successor, which may be of another version;
- ``messages``: what workflows are started with, told and asked, by bridge, people and each other;
- ``activities``: inputs and results, for a worker without a version carries out what one before it asked for.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from temporalio import workflow
from temporalio.common import RawValue

from activities.signatures import ALL
from api.messages import PreemptionNotice, Resize
from tests.replay.releases import HERE, folder
from worker.registration import WORKFLOWS
from workflows.job.state.job import JobState
from workflows.market.state import MarketState
from workflows.vm.state import VmState

Json = dict[str, Any]
Types = dict[str, Any]

PROSE = {"title", "description", "examples", "default", "x-kubernetes-validations"}
"""What a schema says to people and the API server only. A default concerns the reader alone."""


LOOKED_FOR: Types = {"preemption_notice": PreemptionNotice, "resize": Resize}
"""The types of the inputs that ``workflows/job/policy/request_inputs.py`` reads itself, to report mistakes in them."""


def states() -> Types:
    """Return the types of the states, by their workflow."""
    return {"job": JobState, "vm": VmState, "market": MarketState}


def messages() -> Types:
    """Return the types of the messages, by workflow and handler: ``SpotVM start``, ``SpotVM signal release``."""
    found: Types = {}
    for each in WORKFLOWS:
        definition = workflow._Definition.must_from_class(each)
        found |= _of_handler(f"{definition.name} start", definition.arg_types)
        for name, signal in definition.signals.items():
            if name is None:  # for whatever has no handler
                continue
            found |= _of_handler(f"{definition.name} signal {name}", signal.arg_types)
        for name, update in definition.updates.items():
            found |= _of_handler(f"{definition.name} update {name}", update.arg_types)
            found |= _of_handler(f"{definition.name} answer {name}", [update.ret_type])
    return found


def activities() -> Types:
    """Return the types of inputs and results, by activity."""
    takes = {f"{each.name} input": each.takes for each in ALL}
    gives = {f"{each.name} result": each.gives for each in ALL}
    return takes | gives


def _of_handler(name: str, types: Any) -> Types:
    """Return the type of a handler's only argument; of one that takes any input, what it looks for in there."""
    takes = types[0] if types else None
    if takes is RawValue:
        takes = LOOKED_FOR.get(name.rpartition(" ")[2])
    return {name: takes} if takes else {}


KINDS = ("activities", "messages", "states")


@functools.cache  # it takes a second
def schemas() -> dict[str, Json]:
    """Return the schemas of this version, by kind; whoever changes one needs a copy."""
    return {
        "states": of(states(), by_alias=False),  # as workflows.common.continue_as_new.go_on writes them
        "messages": of(messages(), by_alias=True),
        "activities": of(activities(), by_alias=True),
    }


def of(types: Types, *, by_alias: bool) -> Json:
    """Make the schemas: ``writes`` and ``reads`` by name, and the definitions that they refer to."""
    modes = ("serialization", "validation")
    inputs: list[Any] = [(name, mode, TypeAdapter(each)) for name, each in types.items() for mode in modes]
    roots, whole = TypeAdapter.json_schemas(inputs, by_alias=by_alias)
    return {
        "writes": {name: _terse(roots[name, "serialization"]) for name in sorted(types)},
        "reads": {name: _terse(roots[name, "validation"]) for name in sorted(types)},
        "$defs": _terse(whole.get("$defs", {}), names=True),
    }


def _terse(value: Any, *, names: bool = False) -> Any:
    """Remove prose; ``names``: the keys of this object are names and not keywords."""
    if isinstance(value, dict):
        kept = value if names else {key: each for key, each in value.items() if key not in PROSE}
        return {key: _terse(each, names=not names and key == "properties") for key, each in kept.items()}
    return [_terse(each) for each in value] if isinstance(value, list) else value


def write(release: str) -> list[Path]:
    """Keep the schemas of the release to come.

    Raises:
        ReleasedError: it is out.
    """
    directory = folder("schemas", release)
    paths = []
    for kind, schema in schemas().items():
        path = directory / f"{kind}.json"
        path.write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n")
        paths.append(path)
    return paths


def read(release: str) -> dict[str, Json]:
    """Read the schemas of a release."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((HERE / "schemas" / release).glob("*.json"))}
