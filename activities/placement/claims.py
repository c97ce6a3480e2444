"""Claims on CDI devices, which the scheduler does not see: of two jobs that want a device, only one gets it.

A claim is a Lease in the installation's namespace, one for each node and device. It names the Job that it was taken
for. Nobody renews it: it is valid as long as that Job may run, and then lapses. A Job that does not exist yet has
``CLAIM_SECONDS``. Whoever wants a lapsed claim takes it over; by the Lease's name or version, the API server lets only
one of several do so. Claims are deleted with their Node, and the sweep removes those of jobs that have ended.
"""

from datetime import UTC, datetime, timedelta

from temporalio.exceptions import ApplicationError

from activities.kubernetes import ownership
from activities.kubernetes.strangers import strangers_on
from activities.placement.demand import demand_of
from activities.placement.hosts import host_of
from activities.signatures import CreateReplica
from api import errors, names
from api.object_conditions import is_true
from clients.kube import Json, Kube, KubeError, path

LEASES = "coordination.k8s.io/v1"
CLAIM_SECONDS = 60  # from a claim to its Job: longer than the activity that makes both
TRIES = 5


class Claims:
    """The claims of one cluster's jobs.

    Args:
        kube: the cluster.
        namespace: the installation's namespace, which the claims of all namespaces share.
    """

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace

    async def pin(self, request: CreateReplica) -> list[str]:
        """List the nodes on which the replica may run: all that were found, or the first with all its CDI devices free.

        A gang gets as many of those as it has members.

        Nothing has to be claimed on a bought node, which belongs to its buyer. But a stranger's pod may have come
        there, and the scheduler would let both use the device.

        Raises:
            ApplicationError: BUSY if other jobs have the devices of all nodes; ROOM_TAKEN if strangers have those of
                the node that was bought.
        """
        template = request.job_template["spec"]["template"]
        asked = demand_of(template).devices
        if not asked:
            return request.nodes
        if request.place is not None:
            return []  # a Job may wait in a queue for days, and claims no device meanwhile
        if request.bought:
            await self._refuse_strangers(request, template)
            return request.nodes
        claimed: list[str] = []
        for name in request.nodes:
            node = await self._kube.find(path("v1", "nodes", name=name))
            if node is not None and await self._claim(node, sorted(host_of(node).devices(asked)), request):
                claimed.append(name)
            if len(claimed) == request.members:
                return claimed
        raise ApplicationError(
            f"another job was quicker: CDI devices {', '.join(sorted(asked))} of {', '.join(request.nodes)} are taken",
            type=errors.BUSY,
            non_retryable=True,
        )

    async def _refuse_strangers(self, request: CreateReplica, template: Json) -> None:
        for name in request.nodes:
            found = await strangers_on(self._kube, name, request.job, template)
            if found.pods:
                raise ApplicationError(
                    f"{', '.join(found.pods)} on {name}: {found.lacks}", type=errors.ROOM_TAKEN, non_retryable=True
                )

    async def _claim(self, node: Json, devices: list[str], request: CreateReplica) -> bool:
        """True if all devices were claimed, in the same order for everybody. Claims made without success lapse."""
        for device in devices:
            if not await self._take(_lease(node, device, request)):
                return False
        return True

    async def _take(self, lease: Json) -> bool:
        """True if the device was claimed; False if another job has it."""
        collection = path(LEASES, "leases", self._namespace)
        where = path(LEASES, "leases", self._namespace, lease["metadata"]["name"])
        for _ in range(TRIES):
            try:
                await self._kube.create(collection, lease)
                return True
            except KubeError as error:
                if error.reason != "AlreadyExists":
                    raise
            found = await self._kube.find(where)
            if found is None:
                continue
            if not _same_replica(found, lease) and await is_held(self._kube, found):
                return False
            if await self._kube.rewrite(where, found, lease):
                return True
        return False  # others change it all the time


async def is_held(kube: Kube, lease: Json) -> bool:
    """True if the claim's Job exists and has not ended, or may be about to be created."""
    spec = lease["spec"]
    since = datetime.fromisoformat(spec["renewTime"])
    if datetime.now(UTC) < since + timedelta(seconds=spec["leaseDurationSeconds"]):
        return True
    if not names.is_job_workflow_id(spec["holderIdentity"]):  # of the same form: namespace and name
        return False
    namespace, _, name = spec["holderIdentity"].partition("/")
    job = await kube.find(path("batch/v1", "jobs", namespace, name))
    return job is not None and not is_true(job, "Complete", "Failed")


def _lease(node: Json, device: str, request: CreateReplica) -> Json:
    job, metadata = request.job, node["metadata"]
    holder = names.replica_job_name(job.name, job.job_id, request.replica, request.incarnation)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    owner = {"apiVersion": "v1", "kind": "Node", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": LEASES,
        "kind": "Lease",
        "metadata": {
            "name": names.claim_name(metadata["name"], device),
            "labels": ownership.labels(job.job_id, request.replica, request.incarnation),
            "annotations": ownership.annotations(job),
            "ownerReferences": [owner],
        },
        "spec": {
            "holderIdentity": f"{job.namespace}/{holder}",
            "acquireTime": now,
            "renewTime": now,
            "leaseDurationSeconds": CLAIM_SECONDS,
        },
    }


def _same_replica(one: Json, other: Json) -> bool:
    """True if both are incarnations of one replica, which may keep using the device."""
    return all(
        one["metadata"].get("labels", {}).get(key) == other["metadata"]["labels"][key]
        for key in (names.LABEL_JOB, names.LABEL_REPLICA)
    )
