"""The activities on VMs' workflows: start them, ask who owns a VM, find VMs that nobody owns."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError
from temporalio import activity
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from activities import signatures
from activities.cloud_errors import CloudError
from activities.compute import Cloud
from activities.signatures import CheckOwner, EnsuredVm, Orphan, Orphans, Owner, SweepRequest
from api import names
from api.common import LocalReference, SecretReference
from api.messages import VmStart
from api.spot_instance_vm import SpotInstanceVMSpec
from api.views import VmView
from clients.kube import Json, Kube, KubeError, path
from clients.temporal import latest_run

RPC_SECONDS = timedelta(seconds=5)
YOUNG = timedelta(minutes=10)  # an instance so new may still be on its way into its workflow's state
_FINISHED = {"Completed", "Failed"}  # conditions of a SpotInstanceJob
_NOBODY = "-"  # a name that no object can have


class FleetActivities:
    """Knows VMs by their workflows.

    Args:
        temporal: the service that runs them.
        kube: the cluster whose CRs they serve.
        cloud: where the VMs are.
        task_queue: of the worker that is to run them.
    """

    def __init__(self, temporal: Client, kube: Kube, cloud: Cloud, task_queue: str = names.TASK_QUEUE) -> None:
        self._temporal = temporal
        self._kube = kube
        self._cloud = cloud
        self._task_queue = task_queue

    @activity.defn(name=signatures.ENSURE_VM.name)
    async def ensure_vm(self, start: VmStart) -> EnsuredVm:
        """Start a VM's workflow, or tell the running one that the job asks. A life that is over is not begun again."""
        try:
            await self._start(start, WorkflowIDReusePolicy.REJECT_DUPLICATE, signal="ensure")
        except WorkflowAlreadyStartedError:
            return EnsuredVm(open=False)
        return EnsuredVm(open=True)

    @activity.defn(name=signatures.ADOPT_ORPHAN.name)
    async def adopt_orphan(self, start: VmStart) -> EnsuredVm:
        """Start the teardown of a VM under its own workflow id; where that workflow runs, it goes on undisturbed.

        Who takes stock by names alone may not know the replica. The key does, and the instance's label says the same.
        """
        teardown = start.model_copy(update={"teardown": True, "replica": _replica_in(start.key)})
        await self._start(teardown, WorkflowIDReusePolicy.ALLOW_DUPLICATE)
        return EnsuredVm(open=True)

    async def _start(self, start: VmStart, reuse: WorkflowIDReusePolicy, signal: str | None = None) -> None:
        gcp = start.spec.gcp
        await self._temporal.start_workflow(
            names.VM_WORKFLOW,
            start,
            id=names.vm_workflow_id(start.key),
            task_queue=self._task_queue,
            id_reuse_policy=reuse,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal=signal,
            start_signal_args=[start.wish] if signal else [],
            static_summary=f"{start.namespace}/{start.job_name} · replica {start.replica} · {gcp.machine_type}"[:200],
            rpc_timeout=RPC_SECONDS,
        )

    @activity.defn(name=signatures.CHECK_OWNER.name)
    async def check_owner(self, check: CheckOwner) -> Owner:
        """Does the job still live for which a VM was bought? What cannot be read is raised, never taken for a no."""
        job = check.job
        found = await self._kube.find(path(names.API_VERSION, names.JOB_PLURAL, job.namespace, job.name))
        if await self._is_open(names.job_workflow_id(job.namespace, job.name)):
            if found is not None and found["metadata"]["uid"] != job.uid:
                return Owner(alive=False, reason=f"{job.namespace}/{job.name} is another job by now")
            return Owner(alive=True, reason="its workflow is open")
        if found is None:
            return Owner(alive=False, reason=f"SpotInstanceJob {job.namespace}/{job.name} is gone")
        if found["metadata"]["uid"] != job.uid:
            return Owner(alive=False, reason=f"{job.namespace}/{job.name} is another job by now")
        if _is_finished(found):
            return Owner(alive=False, reason=f"SpotInstanceJob {job.namespace}/{job.name} has ended")
        return Owner(alive=True, reason="its workflow may be started again")

    @activity.defn(name=signatures.FIND_ORPHANS.name)
    async def find_orphans(self, request: SweepRequest) -> Orphans:
        """List this cluster's VMs in every project that a CR names, and keep those that no open workflow owns."""
        vm_objects, job_objects = await asyncio.gather(
            self._kube.list(path(names.API_VERSION, names.VM_PLURAL)),
            self._kube.list(path(names.API_VERSION, names.JOB_PLURAL)),
        )
        jobs = {names.job_id(request.cluster_id, job["metadata"]["uid"]): job for job in job_objects}
        seen, orphans, unreadable = 0, list[Orphan](), list[str]()
        for project, sources in sources_by_project(vm_objects, job_objects).items():
            try:
                source, vms = await self._list(project, sources, names.cluster_label(request.cluster_id))
            except (CloudError, KubeError) as error:
                unreadable.append(f"{project}: {error}")
                continue
            seen += len(vms)
            for key, found in _by_key(vms).items():
                if await self._has_no_owner(key, jobs):
                    orphans.append(_orphan(key, found, source, jobs, request.cluster_id))
        return Orphans(orphans=orphans, seen=seen, unreadable=unreadable)

    async def _list(self, project: str, sources: list["Source"], cluster: str) -> tuple["Source", list[VmView]]:
        """Whichever credentials can list the project; the last one's error where none can."""
        for number, source in enumerate(sources, 1):
            try:
                compute = await self._cloud.open(source.credentials, source.namespace)
                return source, await compute.labelled(project, names.GCE_LABEL_CLUSTER, cluster)
            except (CloudError, KubeError):
                if number == len(sources):
                    raise
        raise AssertionError(f"a project without sources: {project}")

    async def _has_no_owner(self, key: str, jobs: dict[str, Json]) -> bool:
        """No open workflow; and its job, where that lives, is one that this Temporal service knows.

        A job that lives and has no open workflow here will get one from the bridge, or belongs to a Temporal service
        that this worker should be using: hands off, the next sweep sees more.
        """
        if await self._is_open(names.vm_workflow_id(key)):
            return False
        job = jobs.get(key.partition("-")[0])
        if job is None or _is_finished(job):
            return True
        return await self._is_open(names.job_workflow_id(job["metadata"]["namespace"], job["metadata"]["name"]))

    async def _is_open(self, workflow_id: str) -> bool:
        found = await latest_run(self._temporal, workflow_id, RPC_SECONDS)
        return found is not None and found.close_time is None


@dataclass(frozen=True)
class Source:
    """A way to see a project: what a VM of it was made from, with whose credentials."""

    namespace: str
    vm_name: str
    spec: SpotInstanceVMSpec
    credentials: SecretReference | None
    ssh_key: LocalReference | None


def sources_by_project(vm_objects: list[Json], job_objects: list[Json]) -> dict[str, list[Source]]:
    """The projects that CRs name; a job's credentials are tried before the worker's own identity."""
    specs = {(vm["metadata"]["namespace"], vm["metadata"]["name"]): vm["spec"] for vm in vm_objects}
    wanted: list[tuple[str, str, Json | None]] = [
        (
            job["metadata"]["namespace"],
            job["spec"]["spotInstanceVMRef"]["name"],
            job["spec"].get("gcpCredentialsSecretRef"),
        )
        for job in job_objects
    ]
    wanted += [(namespace, name, None) for namespace, name in specs]
    sources: dict[str, list[Source]] = {}
    tried: set[tuple[str, str, str]] = set()
    for namespace, name, reference in wanted:
        try:
            spec = SpotInstanceVMSpec.model_validate(specs[namespace, name])
        except (KeyError, ValidationError):
            continue  # nothing can have been bought from it
        credentials = SecretReference.model_validate(reference) if reference else None
        secret = (credentials.namespace or namespace, credentials.name) if credentials else ("", "")
        if (spec.gcp.project, *secret) in tried:
            continue
        tried.add((spec.gcp.project, *secret))
        source = Source(namespace, name, spec, credentials, spec.ssh_key_secret_ref)
        sources.setdefault(spec.gcp.project, []).append(source)
    return sources


def _by_key(vms: Iterable[VmView]) -> dict[str, list[VmView]]:
    """VMs by whose they are; without those that are too young to judge and those whose name is none of ours."""
    old_enough = datetime.now(UTC) - YOUNG
    grouped: dict[str, list[VmView]] = {}
    for vm in vms:
        key = names.vm_key_of(vm.name)
        if key and vm.creation_time and vm.creation_time < old_enough:
            grouped.setdefault(key, []).append(vm)
    return grouped


def _orphan(key: str, vms: list[VmView], source: Source, jobs: dict[str, Json], cluster_id: str) -> Orphan:
    job_id = key.partition("-")[0]
    owner = jobs.get(job_id, {}).get("metadata", {})
    start = VmStart(
        key=key,
        cluster_id=cluster_id,
        job_id=job_id,
        replica=_replica_in(key),
        namespace=owner.get("namespace", source.namespace),
        job_name=owner.get("name", _NOBODY),
        job_uid=owner.get("uid", _NOBODY),
        vm_name=source.vm_name,
        spec=source.spec,
        # Resolved here: the owner's namespace may be another than the one that the reference is relative to.
        credentials=source.credentials
        and SecretReference(name=source.credentials.name, namespace=source.credentials.namespace or source.namespace),
        ssh_key=source.ssh_key,
        teardown=True,
        found=[f"{vm.zone}/{vm.name}" for vm in vms],
    )
    return Orphan(start=start, names=[vm.name for vm in vms])


def _replica_in(key: str) -> int:
    return int(key.split("-")[1].removeprefix("r"))


def _is_finished(job: Json) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(condition["type"] in _FINISHED and condition["status"] == "True" for condition in conditions)
