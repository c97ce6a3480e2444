"""What a cloud answers instead of doing what it is asked for, whichever of its services, and what workflows get of it.

Virtual machines (:mod:`activities.compute`) and buckets (:mod:`activities.storage`) raise these, never an error of a
client library. The kinds differ in what helps::

    CloudError
    ├── NoCapacity   another zone or machine type, or this one later
    ├── Quota        another region, or a person who raises the limit
    ├── Unsupported  another machine type, GPU or zone: this combination does not exist
    ├── Invalid      a person who edits the spec or the Secret: refused whatever the moment
    ├── Missing      a person who makes what the spec names: a Secret, an image, a network, a bucket
    ├── Permission   a person who grants it
    ├── Conflict     nothing: the name is somebody else's
    └── Transient    the same call again
"""

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from api import errors


class CloudError(Exception):
    """One of those below. ``type`` is what a workflow knows it by (``api.errors``).

    ``scope`` names what exactly is lacking: a quota's metric, or a permission.
    """

    type = "Transient"
    scope = ""


class NoCapacity(CloudError):
    """The zone has none of this machine type now."""

    type = errors.NO_CAPACITY

    def __init__(self, message: str, zone: str = "", machine_type: str = "") -> None:
        super().__init__(message)
        self.zone = zone
        self.machine_type = machine_type


class Quota(CloudError):
    """The project may not have more. ``scope`` is the limit's name: ``NVIDIA_T4_GPUS``, ``GPUS_ALL_REGIONS``, …"""

    type = errors.QUOTA

    def __init__(self, message: str, scope: str = "") -> None:
        super().__init__(message)
        self.scope = scope


class Unsupported(CloudError):
    """This configuration does not exist there."""

    type = errors.UNSUPPORTED


class Invalid(CloudError):
    """The API refuses what we ask for, whatever the moment; or a Secret holds no credentials."""

    type = errors.INVALID


class Missing(CloudError):
    """A thing that the spec names is not there."""

    type = errors.MISSING


class Permission(CloudError):
    """``permission`` is what is lacking, such as ``compute.instances.create``; empty where the cloud does not say."""

    type = errors.PERMISSION

    def __init__(self, message: str, permission: str = "") -> None:
        super().__init__(message)
        self.permission = self.scope = permission


class Conflict(CloudError):
    """Something of this name is there already."""

    type = errors.CONFLICT


class Transient(CloudError):
    """Worth another try as it is: rate limits, time-outs, 5xx, a resource that is busy."""


def to_application_error(error: CloudError) -> ApplicationError:
    """What the workflow gets: typed errors at once, as it alone can choose another way; transient ones are retried."""
    benign = isinstance(error, NoCapacity)
    return ApplicationError(
        str(error),
        *filter(None, [error.scope]),
        type=error.type,
        non_retryable=not isinstance(error, Transient),
        category=ApplicationErrorCategory.BENIGN if benign else ApplicationErrorCategory.UNSPECIFIED,
    )
