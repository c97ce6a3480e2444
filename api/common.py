"""Types that the CRDs share."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

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
"""A ``LocalReference``, or as the origin has it the object's name alone: ``tokenSecretRef: kubeadm-join-token``."""


class SecretReference(Model):
    """A Secret, in another namespace if ``namespace`` says so."""

    name: Name = Field(min_length=1, max_length=253)
    namespace: Namespace | None = Field(default=None, max_length=63)


MACHINE_FITS = "MachineFits"
"""Type of the condition: True if some machine that may be bought can ever run the template's pod. False buys none."""


class Condition(Model):
    """metav1.Condition: what a person reads and ``kubectl wait`` waits for."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    last_transition_time: datetime | None = None
    observed_generation: int | None = None
