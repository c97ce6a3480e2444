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

    name: Name = Field(min_length=1, max_length=253)


def _by_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


NamedOrReference = Annotated[LocalReference, BeforeValidator(_by_name)]
"""A ``LocalReference``, or as the original operator has it, only the object's name (``kubeadm-join-token``)."""


class SecretReference(Model):
    """A Secret, in another namespace if ``namespace`` says so."""

    name: Name = Field(min_length=1, max_length=253)
    namespace: Namespace | None = Field(default=None, max_length=63)


class Condition(Model):
    """metav1.Condition: what a person reads and ``kubectl wait`` waits for."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    last_transition_time: datetime | None = None
    observed_generation: int | None = None


def not_accepted(reason: str, message: str) -> Condition:
    """Make the condition of a job that cannot be worked with as it is."""
    return Condition(type=conditions.ACCEPTED, status="False", reason=reason, message=message)
