"""What people send with a request, read strictly: a misspelt field is a mistake to be told, never a default.

Programs are read leniently, because a newer one may say more. What was sent is quoted only as far as it is the value of
a known field: anything else may be a Secret that somebody pasted.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json
from temporalio.common import RawValue

from api.messages import NodeNotice, Resize
from api.names import is_segment
from api.spot_instance_job import LONGEST_REQUEST
from workflows.job.state.requests import Request, RequestName

LONGEST_INPUT = 4096
LONGEST_QUOTE = 64
LONGEST_SOURCE = 400

TAKES: dict[RequestName, dict[str, str]] = {
    "suspend": {},
    "resume": {},
    "resize": {"replicas": "a whole number from 1 to 16"},
    "checkpoint_now": {},
    "preemption_notice": {
        "node": "the name of a node",
        "replica": "the index of a replica, such as 0",
        "seconds": "a number of seconds, 0 or more",
        "source": "a text that says who announces it",
        "at": "a time such as 2026-01-31T12:00:00Z",
    },
}
"""The fields of each request's input, and what each of them is."""

EXAMPLES: dict[RequestName, str] = {
    "resize": '{"replicas": 3}',
    "preemption_notice": '{"replica": 0, "seconds": 120} or {"node": "<name>"}',
}

CHECKPOINT_NOW, PREEMPTION_NOTICE = "checkpoint-now", "preemption-notice"
BY_ANNOTATION: dict[str, RequestName] = {CHECKPOINT_NOW: "checkpoint_now", PREEMPTION_NOTICE: "preemption_notice"}
"""What the request annotation may ask for."""
BY_SPEC: Mapping[str, str] = {
    "suspend": "set spec.suspend: true",
    "resume": "set spec.suspend: false",
    "resize": "set spec.replicas, or use kubectl scale",
}
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")


@dataclass(frozen=True)
class Mistake:
    """A request makes no sense; the message says what was received and what is right.

    Args:
        message: for people.
        by_person: False if a program sent it: a newer one may say what this version does not know.
    """

    message: str
    by_person: bool = True


class _MistakeError(Exception):
    """The message of a ``Mistake``, on its way out."""


def read(name: RequestName, given: Sequence[Any]) -> Request | Mistake:
    """Read a request as a signal or an update brings it: raw, or decoded if there is more than one input."""
    by_person = True
    try:
        fields = _fields(name, given)
        by_person = name != "preemption_notice" or fields.get("source", "person") == "person"
        return _request(name, fields) if by_person else _announced(name, fields)
    except _MistakeError as error:
        return Mistake(str(error), by_person)


def read_as_before(name: RequestName, given: Sequence[Any]) -> Request | None:
    """Read a signal as releases before 0.2.0 did: they ignored unknown fields, and dropped what they could not read."""
    try:
        fields = _fields(name, given)
        if name == "resize":
            return Request(name=name, replicas=Resize.model_validate(fields).replicas)
        return _announced(name, fields) if name == "preemption_notice" else None
    except (_MistakeError, ValidationError):
        return None


def read_annotation(value: str) -> Request | Mistake:
    """Read the request annotation: ``checkpoint-now 1764531300``, ``preemption-notice replica=1 seconds=120 2nd``.

    The last word may be anything that makes the value another one than before.
    """
    try:
        return _requested(value)
    except _MistakeError as error:
        return Mistake(str(error))


def _requested(value: str) -> Request:
    what = f"write {CHECKPOINT_NOW}, or {PREEMPTION_NOTICE} with replica=N or node=NAME and seconds=N"
    if len(value) > LONGEST_REQUEST:
        raise _MistakeError(f"a request has at most {LONGEST_REQUEST} characters: {what}")
    asked, *words = value.split() or [""]
    if asked.replace("-", "_") in BY_SPEC:
        raise _MistakeError(f"{asked} is no request but an edit of the spec: {BY_SPEC[asked.replace('-', '_')]}")
    if asked not in BY_ANNOTATION:
        raise _MistakeError(f"{quoted(asked)} cannot be requested: {what}, and a word that makes the value new")
    pairs = [word.partition("=") for word in words if "=" in word]
    rest = [word for word in words if "=" not in word]
    if len(rest) > 1:
        raise _MistakeError(f"{len(rest)} words follow {asked}, and one makes the value new: {what}")
    fields: dict[str, Any] = {key: _number(text) for key, _, text in pairs}
    if len(fields) < len(pairs):
        raise _MistakeError(f"a field is given twice: {what}")
    return _request(BY_ANNOTATION[asked], fields)


def quoted(text: str) -> str:
    """Quote somebody's words: of bounded length, and a word at most."""
    word = _WORD.match(text)
    if word is None or word.group() != text:
        return f"a text of {len(text)} characters"
    return repr(text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}…")


# --- what was sent


def _fields(name: RequestName, given: Sequence[Any]) -> dict[str, Any]:
    if len(given) > 1:
        raise _MistakeError(f"{len(given)} inputs were given: {right(name)}")
    content = _content(name, given[0]) if given else None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise _MistakeError(f"the input is {_kind(content)}: {right(name)}")
    return content


def _content(name: RequestName, value: Any) -> Any:
    if not isinstance(value, RawValue):
        return value
    encoding, data = value.payload.metadata.get("encoding", b""), value.payload.data
    if encoding == b"binary/null":
        return None
    if encoding != b"json/plain":
        raise _MistakeError(f"the input is no JSON: {right(name)}")
    if len(data) > LONGEST_INPUT:
        raise _MistakeError(f"the input has {len(data)} bytes, of {LONGEST_INPUT} at most: {right(name)}")
    try:
        return from_json(data)  # refuses texts that cannot be written again, such as half of a surrogate pair
    except ValueError:
        raise _MistakeError(f"the input is no JSON: {right(name)}") from None


def right(name: RequestName) -> str:
    """Say what a request takes."""
    return f"{name} takes {EXAMPLES[name]}" if name in EXAMPLES else f"{name} takes no input"


# --- what it says


def _request(name: RequestName, fields: dict[str, Any]) -> Request:
    """Read what a person has written."""
    takes = TAKES[name]
    unknown = [quoted(field) for field in fields if field not in takes]
    if unknown:
        raise _MistakeError(f"there is no field {', '.join(unknown[:5])}: {right(name)}")
    for field, value in fields.items():
        if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
            raise _MistakeError(_wrong(name, field, value))
    match name:
        case "suspend" | "resume":
            return Request(name=name, suspend=name == "suspend")
        case "checkpoint_now":
            return Request(name=name)
        case "resize":
            return Request(name=name, replicas=_parsed(name, Resize, fields).replicas)
    request = _announced(name, fields)
    if request.seconds is not None and request.seconds < 0:
        raise _MistakeError(_wrong(name, "seconds", request.seconds))
    if request.node is None and request.replica is None:
        raise _MistakeError(f"neither a node nor a replica is named: {right(name)}")
    if request.node is not None and not is_segment(request.node):
        raise _MistakeError(_wrong(name, "node", request.node))
    return request


def _announced(name: RequestName, fields: dict[str, Any]) -> Request:
    notice = _parsed(name, NodeNotice, fields)
    source = notice.source[:LONGEST_SOURCE]
    return Request(name=name, **notice.model_dump(exclude_none=True) | {"source": source})


def _parsed(name: RequestName, model: Any, fields: dict[str, Any]) -> Any:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        field = str(error.errors(include_url=False)[0]["loc"][0])
        if field not in fields:
            raise _MistakeError(f"{field} is missing: {right(name)}") from None
        raise _MistakeError(_wrong(name, field, fields[field])) from None


def _wrong(name: RequestName, field: str, value: Any) -> str:
    return f"{field} is {_shown(value)}, and has to be {TAKES[name][field]}: {right(name)}"


def _shown(value: Any) -> str:
    """Show the value of a known field."""
    if isinstance(value, bool | int | float):
        text = json.dumps(value)
        return text if len(text) <= LONGEST_QUOTE else "a number of many digits"
    return quoted(value) if isinstance(value, str) else _kind(value)


def _kind(value: Any) -> str:
    """Say what something is without showing it."""
    kinds: list[tuple[Any, str]] = [
        (type(None), "null"),
        (bool, "true or false"),
        (int | float, "a number"),
        (str, "a text"),
        (list, "a list"),
    ]
    return next((said for kind, said in kinds if isinstance(value, kind)), "an object")


def _number(text: str) -> Any:
    """Read ``replica=1`` as a number; what is none stays a text."""
    try:
        return json.loads(text) if re.fullmatch(r"-?\d{1,9}(\.\d{1,9})?", text) else text
    except ValueError:  # 007
        return text
