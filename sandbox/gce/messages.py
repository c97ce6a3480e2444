"""The check of request bodies against Google's own message types: unknown fields, wrong types and enums are refused.

In ``google-cloud-compute``, enums travel as plain strings beside a nested enum of the same name, so they are checked
here.
"""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.json_format import ParseError

from sandbox.gce.errors import ApiError, bad_payload, invalid_field


def parse(message_type: Any, body: bytes) -> dict[str, Any]:
    """Parse and check ``body``; returns it as JSON in its normal form (int64 as strings, nulls dropped).

    Raises:
        ApiError: 400; it names the field.
    """
    try:
        raw = json.loads(body or b"{}")
    except ValueError as error:
        raise bad_payload(f"Expected a JSON object: {error}.") from error
    if not isinstance(raw, dict):
        raise bad_payload("Root element must be a message.")
    _check(raw, message_type.pb(message_type()).DESCRIPTOR, "resource")
    try:
        message = message_type.from_json(json.dumps(raw), ignore_unknown_fields=False)
    except ParseError as error:
        raise bad_payload(str(error).split("\n", 1)[0]) from error
    normalised: dict[str, Any] = json.loads(
        message_type.to_json(message, always_print_fields_with_no_presence=False, indent=None)
    )
    return normalised


def known_fields(message_type: Any) -> frozenset[str]:
    """Return the JSON names of the fields of ``message_type``."""
    return frozenset(field.json_name for field in message_type.pb(message_type()).DESCRIPTOR.fields)


def _check(value: dict[str, Any], descriptor: Any, path: str) -> None:
    """Walk through ``value`` beside its descriptor: names in camelCase, enum strings among the enum's values."""
    fields = {field.json_name: field for field in descriptor.fields}
    enums = {enum.name.lower(): enum for enum in descriptor.enum_types}
    for name, content in value.items():
        field = fields.get(name)
        if field is None:
            raise _unknown(name, path)
        here = f"{path}.{name}"
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        for index, item in enumerate(content) if isinstance(content, list) else ((None, content),):
            where = here if index is None else f"{here}[{index}]"
            if isinstance(item, dict) and field.message_type is not None and not is_map:
                _check(item, field.message_type, where)
            elif isinstance(item, str) and name.lower() in enums:
                _check_enum(item, enums[name.lower()], where)


def _check_enum(item: str, enum: Any, where: str) -> None:
    # The first value, UNDEFINED_…, is the client library's way to say "not set". The service does not know it.
    allowed = [value.name for value in enum.values if not value.name.startswith("UNDEFINED_")]
    if item not in allowed:
        raise invalid_field(where, item, f"Must be one of [{', '.join(sorted(allowed))}].")


def _unknown(name: str, path: str) -> ApiError:
    return bad_payload(f"Unknown name \"{name}\" at '{path}': Cannot find field.")
