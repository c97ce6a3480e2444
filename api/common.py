"""Types that both CRDs use."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from api.model import Model


class LocalReference(Model):
    """An object in the same namespace."""

    name: str = Field(min_length=1, max_length=253)


class SecretReference(Model):
    """A Secret, in another namespace where ``namespace`` says so."""

    name: str = Field(min_length=1, max_length=253)
    namespace: str | None = Field(default=None, max_length=63)


class Condition(Model):
    """metav1.Condition: what a person reads and ``kubectl wait`` waits for."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    last_transition_time: datetime | None = None
    observed_generation: int | None = None
