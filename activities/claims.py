"""Claims on CDI devices, which the scheduler does not see: of two jobs that want one, only one gets it.

A claim is a Lease in the installation's namespace, one a node and device, that names the Job which it was taken for.
Nobody renews it: it holds as long as that Job may run, and lapses with it. A Job that is still to be created has
``CLAIM_SECONDS``. Whoever wants a claim that has lapsed takes it over; the API server lets one of several through, by
the Lease's name or its version. With the Node its claims go, too, and the sweep removes those of jobs that are over.
"""

from datetime import UTC, datetime, timedelta

from temporalio.exceptions import ApplicationError

from activities import ownership
from activities.fitting import demand_of, devices_of
from activities.signatures import CreateReplica
from activities.strangers import strangers_on
from api import errors, names
from clients.kube import Json, Kube, KubeError, path

LEASES = "coordination.k8s.io/v1"
CLAIM_SECONDS = 60  # from a claim to its Job: more than the activity has that makes both
TRIES = 5


class Claims:
    """The claims of one cluster's jobs.

    Args:
        kube: the cluster.
        namespace: where Outlast is installed: jobs of all namespaces meet there.
    """

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace

    async def pin(self, request: CreateReplica) -> list[str]:
        """Nodes on which the replica may run: all that were found, or the first on which its CDI devices are its own.

        A bought node is its buyer's: nothing has to be claimed there. But a stranger's pod may have got there, and the
        scheduler would let both use the device.

        Raises:
            ApplicationError: BUSY, if other jobs have the devices of all nodes; ROOM_TAKEN, if strangers have those
                of the node that was bought.
        """
        template = request.job_template["spec"]["template"]
        asked = demand_of(template).devices
        if not asked:
            return request.nodes
        if request.place is not None:
            return []  # who waits in a queue, perhaps for days, claims no device meanwhile
        if request.bought:
            await self._refuse_strangers(request, template)
            return request.nodes
        for name in request.nodes:
            node = await self._kube.find(path("v1", "nodes", name=name))
            if node is not None and await self._claim(node, sorted(devices_of(node, asked)), request):
                return [name]
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
        """All of them, in the same order for everybody. Those claimed in vain lapse: their Job is never created."""
        for device in devices:
            if not await self._take(_lease(node, device, request)):
                return False
        return True

    async def _take(self, lease: Json) -> bool:
        """One device, False where another job has it."""
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
            if not _same_replica(found, lease) and await holds(self._kube, found):
                return False
            if await self._kube.rewrite(where, found, lease):
                return True
        return False  # others are at it all the time


async def holds(kube: Kube, lease: Json) -> bool:
    """The claim's Job exists and is not over, or may be about to be created."""
    spec = lease["spec"]
    since = datetime.fromisoformat(spec["renewTime"])
    if datetime.now(UTC) < since + timedelta(seconds=spec["leaseDurationSeconds"]):
        return True
    if not names.is_job_workflow_id(spec["holderIdentity"]):  # of the same form: namespace and name
        return False
    namespace, _, name = spec["holderIdentity"].partition("/")
    job = await kube.find(path("batch/v1", "jobs", namespace, name))
    conditions = ((job or {}).get("status") or {}).get("conditions") or []
    over = any(each["type"] in ("Complete", "Failed") and each["status"] == "True" for each in conditions)
    return job is not None and not over


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
    """An incarnation follows another of its own replica on the device that this one had."""
    return all(
        one["metadata"].get("labels", {}).get(key) == other["metadata"]["labels"][key]
        for key in (names.LABEL_JOB, names.LABEL_REPLICA)
    )
