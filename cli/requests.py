"""What is asked of a job: an edit of its spec, or a request by annotation, and its answer."""

import secrets
from datetime import timedelta

from api import names
from api.spot_instance_job import RequestStatus
from cli.changes import next_change
from cli.session import FAILED, LATE, Cluster, Told, console, status_of
from cli.times import now
from clients.kube import Json


async def edit(cluster: Cluster, name: str, **fields: object) -> None:
    """Change fields of the job's spec."""
    await cluster.kube.patch(cluster.job_path(name), {"spec": fields})


async def scale(cluster: Cluster, name: str, replicas: int) -> None:
    """Change the number of replicas, by the scale subresource as ``kubectl scale`` does."""
    await cluster.kube.patch(cluster.job_path(name, "scale"), {"spec": {"replicas": replicas}})


async def request(cluster: Cluster, name: str, words: str, timeout: timedelta) -> str:
    """Make a request by annotation, tell what it waits for, and return the answer.

    Raises:
        Told: it was refused, failed, or was not done in time.
    """
    value = f"{words} {secrets.token_hex(4)}"  # each value is carried out once
    change = {"metadata": {"annotations": {names.ANNOTATION_REQUEST: value}}}
    job = await cluster.kube.patch(cluster.job_path(name), change)
    deadline, said = now() + timeout, ""
    while True:
        answer = _answer(job, value)
        if answer is not None and answer.state in ("Failed", "Refused"):
            raise Told(f"{answer.state.lower()}: {answer.message}", FAILED)
        if answer is not None and answer.state == "Done":
            return answer.message
        if answer is not None and answer.message != said:
            said = answer.message
            console.print(said, style="dim")
        changed = await next_change(cluster, job, deadline)
        if changed is None:
            raise Told(f"{name} was deleted", FAILED)
        if changed is job:
            raise Told(f"no answer in time ({said or 'nobody has taken it up'}); it may still be carried out", LATE)
        job = changed


def _answer(job: Json, value: str) -> RequestStatus | None:
    answer = status_of(job).request
    return answer if answer is not None and answer.value == value else None
