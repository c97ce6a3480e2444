"""Errors of cloud services, and what workflows receive of them.

Virtual machines (:mod:`activities.compute`) and buckets (:mod:`activities.storage`) raise these errors, never one of a
client library. The kinds differ in what helps::

    CloudError
    ├── NoCapacity   another zone or machine type, or this one later
    ├── Quota        another region, or a person who raises the limit
    ├── Unsupported  another machine type, GPU or zone, because this combination does not exist
    ├── Invalid      a person who edits the spec or the Secret; waiting does not help
    ├── Missing      a person who makes what the spec names: a Secret, an image, a network, a bucket
    ├── Permission   a person who grants it
    ├── Conflict     nothing, because the name belongs to somebody else
    └── Transient    to repeat the same call
"""

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from api import errors


class CloudError(Exception):
    """The base class. Workflows recognise an error by its ``type`` (``api.errors``).

    ``scope`` names exactly what is lacking: a quota's metric, or a permission.
    """

    type = errors.TRANSIENT
    scope = ""


class NoCapacity(CloudError):
    """The zone has no machine of this type now."""

    type = errors.NO_CAPACITY

    def __init__(self, message: str, zone: str = "", machine_type: str = "") -> None:
        super().__init__(message)
        self.zone = zone
        self.machine_type = machine_type


class Quota(CloudError):
    """The project is at its limit. ``scope`` is the limit's name: ``NVIDIA_T4_GPUS``, ``GPUS_ALL_REGIONS``, …"""

    type = errors.QUOTA

    def __init__(self, message: str, scope: str = "") -> None:
        super().__init__(message)
        self.scope = scope


class Unsupported(CloudError):
    """This configuration does not exist in this place."""

    type = errors.UNSUPPORTED


class Invalid(CloudError):
    """The API refuses the request at any time, or a Secret contains no credentials."""

    type = errors.INVALID


class Missing(CloudError):
    """Something that the spec names does not exist."""

    type = errors.MISSING


class Permission(CloudError):
    """``permission`` is the lacking one, such as ``compute.instances.create``; empty if the cloud does not name it."""

    type = errors.PERMISSION

    def __init__(self, message: str, permission: str = "") -> None:
        super().__init__(message)
        self.permission = self.scope = permission


class Conflict(CloudError):
    """Something of this name exists already."""

    type = errors.CONFLICT


class Transient(CloudError):
    """The same call may succeed later: rate limits, time-outs, 5xx, a busy resource."""


def to_application_error(error: CloudError) -> ApplicationError:
    """Convert an error for the workflow.

    Typed errors reach it at once, because it alone can choose another way. Temporal retries transient ones.
    """
    benign = isinstance(error, NoCapacity)
    return ApplicationError(
        str(error),
        *filter(None, [error.scope]),
        type=error.type,
        non_retryable=not isinstance(error, Transient),
        category=ApplicationErrorCategory.BENIGN if benign else ApplicationErrorCategory.UNSPECIFIED,
    )
