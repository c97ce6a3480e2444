"""``status.lastReconcileTime``: people notice by it a job that no workflow looks after."""

import logging
from datetime import UTC, datetime, timedelta

import aiohttp

from activities.kubernetes.ownership import FIELD_MANAGER
from activities.signatures import JobRef
from api import names
from api.cost import CostStatus, told
from clients.kube import Json, Kube, KubeError, of_version, path

MANAGER = f"{FIELD_MANAGER}/look"
OFTEN = 2
"""Each regular look is recorded, and of reads in between those that are a half of ``Timings.resync`` apart."""

log = logging.getLogger(__name__)


async def record_read(kube: Kube, job: JobRef, found: Json, resync: timedelta) -> None:
    """Record that a workflow reads this job.

    It does so once a resync or twice, to spare the API server, and as a field manager of its own, so that the writer of
    all other fields need not know. A failure to record it does not fail the read.
    """
    now = datetime.now(UTC)
    if "deletionTimestamp" in found["metadata"] or not _is_due(found, now - resync / OFTEN):
        return
    metadata = {"name": job.name, "namespace": job.namespace}
    status = {"lastReconcileTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"), **_cost_so_far(found, now)}
    body = {"apiVersion": names.API_VERSION, "kind": "SpotInstanceJob", "metadata": metadata, "status": status}
    where = path(names.API_VERSION, names.JOB_PLURAL, job.namespace, job.name, "status")
    try:
        await kube.apply(where, of_version(found, body), MANAGER)
    except KubeError as error:
        if error.status not in (404, 409):  # gone, or just changed: the next poll comes soon
            log.warning("lastReconcileTime of %s/%s: %s", job.namespace, job.name, error.message)
    except (aiohttp.ClientError, TimeoutError) as error:
        log.warning("lastReconcileTime of %s/%s: %r", job.namespace, job.name, error)


def _cost_so_far(found: Json, now: datetime) -> dict[str, str]:
    """Return what the job's VMs cost until now: a job of which nothing else changes is written for nothing else."""
    cost = (found.get("status") or {}).get("cost")
    return {"costSoFar": told(CostStatus.model_validate(cost), now)} if cost else {}


def _is_due(found: Json, before: datetime) -> bool:
    """True if the last recorded poll is older than ``before``; what is no time counts as old."""
    try:
        return datetime.fromisoformat((found.get("status") or {})["lastReconcileTime"]) <= before
    except (KeyError, TypeError, ValueError):
        return True
