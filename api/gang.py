"""Gangs: replicas of several pods, each on a machine of its own, that train together as one."""

from typing import Literal

from pydantic import Field

from api.model import Model

LARGEST = 32
"""Members of a gang: the views of all their pods go through Temporal in one message of 2 MiB at most."""

INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
"""Annotation and label by which the Job controller numbers the pods of an Indexed Job from 0."""

MASTER_PORT = 29500
"""Port of the first member at which all meet: torch's own default."""


class Gang(Model):
    """A replica of several pods, its members, each on a machine of its own. They train together as one."""

    min_size: int = Field(ge=1, le=LARGEST, description="members without which the training does not run")
    max_size: int = Field(ge=1, le=LARGEST, description="members with which it runs if there are machines for all")
    step: int = Field(default=1, ge=1, le=LARGEST, description="sizes in between: minSize plus a multiple of this")
    placement: Literal["Zone", "Region"] = Field(
        default="Zone", description="Zone: all members are in one zone; Region: they may be in several of its zones"
    )
