"""Headers in the service's form, and in that of the worker's commands and jobs."""

from collections.abc import Mapping

from temporalio.api.common.v1 import Header, Payload


def header_of(headers: Mapping[str, Payload]) -> Header:
    """Convert a command's headers to the service's form."""
    header = Header()
    for key, value in headers.items():
        header.fields[key].CopyFrom(value)
    return header


def fill(headers: Mapping[str, Payload], header: Header) -> None:
    """Convert them back, into a job."""
    for key, value in header.fields.items():
        headers[key].CopyFrom(value)
