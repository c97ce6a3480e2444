"""``activeDeadlineSeconds``: how long a training may take, over all its incarnations."""

from api.fixed import CONTINUE
from api.spot_instance_job import SpotInstanceJobSpec
from workflows.policy.bounds import bounded


def deadline_seconds(spec: SpotInstanceJobSpec) -> float | None:
    """Return the shorter of the Job's and its pod's limit, in seconds; None if the template has neither."""
    limits = [each.get("activeDeadlineSeconds") for each in (spec.job_spec, spec.pod) if isinstance(each, dict)]
    numbers = [bounded(limit) for limit in limits if isinstance(limit, int) and not isinstance(limit, bool)]
    return min(numbers, default=None)


def exceeded(seconds: float | None) -> str:
    """Say that the time is up, and what to do about it."""
    limit = f"{seconds:.0f} s" if seconds is not None else "time"
    return (
        f"the training has used up its {limit} (jobTemplate's activeDeadlineSeconds). To give it more, raise that: "
        f"{CONTINUE}"
    )
