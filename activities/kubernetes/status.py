"""What people read: the status of our objects, by server-side apply, and Kubernetes Events."""

import hashlib
from datetime import UTC, datetime

from temporalio import activity

from activities.kubernetes.ownership import FIELD_MANAGER
from activities.signatures import REPORT, WRITE_VM_ENTRY, Done, JobEvent, JobRef, Report, WriteVmEntry
from api import names
from api.cost import told
from api.overview import overview
from api.spot_instance_job import SpotInstanceJobStatus
from clients.changes import write_current
from clients.kube import Json, Kube, KubeError, of_version, path

NOTE_BYTES = 1024
"""Limit of an Event's note; the API's own message counts in characters."""


class StatusActivities:
    """Writes the status of SpotInstanceJobs and SpotInstanceVMs, which nobody else does.

    ``kube`` may patch both kinds' status and create Events anywhere.
    """

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    @activity.defn(name=REPORT.name)
    async def report(self, request: Report) -> Done:
        """Create the Events, then write the status; a retry finds the Events that were created.

        Raises:
            KubeError: the status was refused, or an Event was, after all else was written.
        """
        refusals = [refusal for event in request.events if (refusal := await emit(self._kube, request.job, event))]
        if request.status is not None:
            await self._write(request.job, request.status)
        if refusals:
            raise refusals[0]
        return Done()

    async def _write(self, job: JobRef, status: SpotInstanceJobStatus) -> None:
        """Write the whole status, unless the job is gone or another one has its name.

        A status write cannot have a UID as precondition, because the API server overwrites it with the stored one. So
        the version that was read with the right UID is the precondition.
        """
        where = path(names.API_VERSION, names.JOB_PLURAL, job.namespace, job.name)
        status_path = path(names.API_VERSION, names.JOB_PLURAL, job.namespace, job.name, "status")
        state, message = overview(status)
        so_far = told(status.cost, datetime.now(UTC)) if status.cost is not None else None
        summed = {"state": state, "message": message or None, "cost_so_far": so_far, **_of_all(status)}
        seen = status.model_copy(update=summed)
        fields = seen.model_dump(mode="json", by_alias=True, exclude_none=True)

        async def write(found: Json) -> None:
            if found["metadata"]["uid"] != job.uid:
                return
            metadata = {"name": job.name, "namespace": job.namespace}
            body = {"apiVersion": names.API_VERSION, "kind": "SpotInstanceJob", "metadata": metadata, "status": fields}
            await self._kube.apply(status_path, of_version(found, body), FIELD_MANAGER)

        await write_current(self._kube, where, write, "its status could not be written")

    @activity.defn(name=WRITE_VM_ENTRY.name)
    async def write_vm_entry(self, request: WriteVmEntry) -> Done:
        """Write or remove a VM's entry of ``provisionedInstances`` without touching the others.

        Each VM is a field manager of its own: what a manager leaves out of its next apply is removed.
        """
        entry = request.entry
        listed = [] if entry is None else [entry.model_dump(mode="json", by_alias=True, exclude_none=True)]
        body = {
            "apiVersion": names.API_VERSION,
            "kind": "SpotInstanceVM",
            "metadata": {"name": request.vm_name, "namespace": request.namespace},
            "status": {"provisionedInstances": listed},
        }
        where = path(names.API_VERSION, names.VM_PLURAL, request.namespace, request.vm_name, "status")
        try:
            await self._kube.apply(where, body, f"{FIELD_MANAGER}/{request.name}")
        except KubeError as error:
            if error.status not in (404, 409):  # the SpotInstanceVM is gone
                raise
        return Done()


def _of_all(status: SpotInstanceJobStatus) -> dict[str, float | int]:
    """Return what columns of ``kubectl get`` show of all replicas together, which jsonPath cannot compute."""
    entries = status.job_statuses
    reported = [entry.progress for entry in entries if entry.progress is not None]
    lost = {"preemptions": sum(entry.preemptions or 0 for entry in entries)} if entries else {}
    return {**({"progress": max(reported)} if reported else {}), **lost}


async def emit(kube: Kube, job: JobRef, event: JobEvent) -> KubeError | None:
    """Create a Kubernetes Event on the job; return the refusal if there is one. A terminating namespace gets none."""
    at = event.at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    what = f"{job.uid}/{event.type}/{event.reason}/{event.message}/{at}"
    body = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{job.name}.{hashlib.sha256(what.encode()).hexdigest()[:16]}",
            "namespace": job.namespace,
        },
        "regarding": {
            "apiVersion": names.API_VERSION,
            "kind": "SpotInstanceJob",
            "name": job.name,
            "namespace": job.namespace,
            "uid": job.uid,
        },
        "eventTime": at,
        "type": event.type,
        "reason": event.reason,
        "note": event.message.encode()[:NOTE_BYTES].decode(errors="ignore"),
        "action": event.reason,
        "reportingController": "outlast",
        "reportingInstance": FIELD_MANAGER,
    }
    try:
        await kube.create(path("events.k8s.io/v1", "events", job.namespace), body)
    except KubeError as error:
        ending = error.status == 403 and "NamespaceTerminating" in error.causes
        if not ending and error.status not in (404, 409):
            return error
    return None
