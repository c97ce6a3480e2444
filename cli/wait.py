"""``outlast wait``: until a job has ended, well or not."""

from datetime import timedelta

from api import conditions
from api.object_conditions import is_over, is_true
from api.overview import overview
from cli.changes import next_change
from cli.session import ABSENT, FAILED, LATE, Cluster, Told, console, status_of
from cli.times import now
from clients.kube import Json


async def until_over(cluster: Cluster, name: str, timeout: timedelta | None) -> str:
    """Tell each change of the job's state until it has ended, and return how it ended.

    Raises:
        Told: it failed, was deleted, or had not ended in time.
    """
    deadline = now() + timeout if timeout is not None else None
    job, said = await cluster.job(name), ""
    while not is_over(job):
        said = _say(job, said)
        changed = await next_change(cluster, job, deadline)
        if changed is None:
            raise Told(f"{name} was deleted before it had ended", ABSENT)
        if changed is job:
            raise Told(f"{name} has not ended in time: {said}", LATE)
        job = changed
    status = status_of(job)
    how = status.state or overview(status).state
    if is_true(job, conditions.FAILED):
        raise Told(f"{name}: {how}" + (f": {status.message}" if status.message else ""), FAILED)
    return how


def _say(job: Json, said: str) -> str:
    status = status_of(job)
    state = status.state or overview(status).state
    if state != said:
        console.print(f"{now():%H:%M:%S}  {state}", soft_wrap=True)
    return state
