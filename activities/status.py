"""What people read: the CRs' status, by server-side apply, and Kubernetes Events."""

import hashlib

from temporalio import activity

from activities.ownership import FIELD_MANAGER
from activities.signatures import REPORT, WRITE_VM_ENTRY, Done, JobEvent, JobRef, Report, WriteVmEntry
from api import names
from api.overview import overview
from api.spot_instance_job import SpotInstanceJobStatus
from clients.kube import Json, Kube, KubeError, path

NOTE_BYTES = 1024
"""Of an Event's note that the API takes; its own message says characters."""
TRIES = 5


class StatusActivities:
    """The only writer of the status of SpotInstanceJobs and SpotInstanceVMs.

    ``kube`` may patch both kinds' status and create Events anywhere.
    """

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    @activity.defn(name=REPORT.name)
    async def report(self, request: Report) -> Done:
        """Make the Events, then write the status; a retry finds what was made.

        Raises:
            KubeError: an Event was refused, after all else was written; or the status was.
        """
        refusals = [refusal for event in request.events if (refusal := await emit(self._kube, request.job, event))]
        if request.status is not None:
            await self._write(request.job, request.status)
        if refusals:
            raise refusals[0]
        return Done()

    async def _write(self, job: JobRef, status: SpotInstanceJobStatus) -> None:
        """Write the whole status; for a job that is gone, or another's by now, there is nothing to do.

        A status write takes no UID as precondition: the API server overwrites it with the stored one. So the version
        that was read with the right UID is the precondition.
        """
        where = path(names.API_VERSION, names.JOB_PLURAL, job.namespace, job.name)
        status_path = path(names.API_VERSION, names.JOB_PLURAL, job.namespace, job.name, "status")
        state, message = overview(status)
        told = status.model_copy(update={"state": state, "message": message or None})
        fields = told.model_dump(mode="json", by_alias=True, exclude_none=True)
        for _ in range(TRIES):
            found = await self._kube.find(where)
            if found is None or found["metadata"]["uid"] != job.uid:
                return
            version = found["metadata"]["resourceVersion"]
            metadata = {"name": job.name, "namespace": job.namespace, "resourceVersion": version}
            body = {"apiVersion": names.API_VERSION, "kind": "SpotInstanceJob", "metadata": metadata, "status": fields}
            if await self._apply(status_path, body, FIELD_MANAGER):
                return
        raise TimeoutError(f"{where} is changed by others all the time: its status could not be written")

    @activity.defn(name=WRITE_VM_ENTRY.name)
    async def write_vm_entry(self, request: WriteVmEntry) -> Done:
        """Write a VM's entry of ``provisionedInstances``, or take it away, without touching the others'.

        Each VM is a field manager of its own: what a manager leaves out of its next apply goes.
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
        await self._apply(where, body, f"{FIELD_MANAGER}/{request.name}")
        return Done()

    async def _apply(self, where: str, body: Json, manager: str) -> bool:
        """Apply to what is there; False where it was changed or went since it was read."""
        try:
            await self._kube.apply(where, body, manager)
        except KubeError as error:
            if error.status in (404, 409):
                return False
            raise
        return True


async def emit(kube: Kube, job: JobRef, event: JobEvent) -> KubeError | None:
    """Make a Kubernetes Event on the job, or give the refusal. In a namespace that is going none is made."""
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
