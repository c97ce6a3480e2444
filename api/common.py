"""Types that the CRDs share."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from api import conditions
from api.formats import NAME, NAMESPACE
from api.model import Model

Name = Annotated[str, NAME]
Namespace = Annotated[str, NAMESPACE]


class LocalReference(Model):
    """An object in the same namespace."""

    name: Name = Field(min_length=1, max_length=253, description="its name")


def _by_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


NamedOrReference = Annotated[LocalReference, BeforeValidator(_by_name)]
"""A ``LocalReference``, or as the original operator has it, only the object's name (``kubeadm-join-token``)."""


class SecretReference(Model):
    """A Secret, in another namespace if ``namespace`` says so."""

    name: Name = Field(min_length=1, max_length=253, description="its name")
    namespace: Namespace | None = Field(
        default=None,
        max_length=63,
        description="its namespace, whose owner has to share it (training.dcnlab.com/shared-with); default: the job's",
    )


class Condition(Model):
    """metav1.Condition: what a person reads and ``kubectl wait`` waits for."""

    type: str = Field(description="what it is about; docs/conditions.md lists them")
    status: Literal["True", "False", "Unknown"] = Field(description="Unknown if whom it depends on does not answer")
    reason: str = Field(description="why, in one word for programs")
    message: str = Field(default="", description="why, and what to do, for people")
    last_transition_time: datetime | None = Field(default=None, description="since when status is so")
    observed_generation: int | None = Field(default=None, description="the generation of the spec for which this is so")


def not_accepted(reason: str, message: str) -> Condition:
    """Make the condition of a job that cannot be worked with as it is."""
    return Condition(type=conditions.ACCEPTED, status="False", reason=reason, message=message)
