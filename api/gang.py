"""Gangs: replicas of several pods, each on a machine of its own, that train together as one."""

from typing import Literal

from pydantic import Field

from api.model import Model

LARGEST = 256
"""Members of a gang: the views of all their pods go through Temporal in one message of 2 MiB at most."""

INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
"""Annotation and label by which the Job controller numbers the pods of an Indexed Job from 0."""

MASTER_PORT = 29500
"""Port of the first member at which all meet: torch's own default."""


# What a spec needs whose pods train together, in the words of the CRD's rules and of the condition Accepted.
MIN_ABOVE_MAX = "minSize is greater than maxSize: lower minSize, or write the same number in both for a fixed size"
_WHICH = "pods that train together (gang, jobTemplate's parallelism or completionMode Indexed)"
ONE_REPLICA = f"replicas: {_WHICH} are one replica: write replicas: 1, because it is 2 if it is left out"
SAVES_ITSELF = (
    f"checkpointConfig.mode: {_WHICH} cannot be restored from images of their memory, because they talk to each other: "
    "write mode: Application, in which the training saves itself to checkpointStorage"
)
TOO_MANY = f"jobTemplate.spec.parallelism is above {LARGEST}, the most pods that can train together: lower it"
ANOTHER_PARALLELISM = "jobTemplate.spec.parallelism differs from gang.maxSize: leave parallelism out"
ANOTHER_COMPLETIONS = (
    "jobTemplate.spec.completions differs from the number of pods that train together (gang.maxSize, or parallelism): "
    "leave completions out"
)


class Gang(Model):
    """A replica of several pods, its members, each on a machine of its own. They train together as one."""

    min_size: int = Field(ge=1, le=LARGEST, description="members without which the training does not run")
    max_size: int = Field(ge=1, le=LARGEST, description="members with which it runs if there are machines for all")
    step: int = Field(default=1, ge=1, le=LARGEST, description="sizes in between: minSize plus a multiple of this")
    placement: Literal["Zone", "Region", "Compact"] = Field(
        default="Zone",
        description=(
            "Zone: all members are in one zone; Region: they may be in several of its zones; Compact: in one zone, and "
            "bought machines are as near to each other as the cloud can place them"
        ),
    )
