"""The bridge put together: one watch for each kind, all handlers, one set of queues."""

import asyncio
import logging

from temporalio.client import Client
from temporalio.common import MetricMeter

from api import names
from clients.kube import Kube
from crd_bridge.certificates import SERVING, Certificates
from crd_bridge.checkpoints import Checkpoints
from crd_bridge.jobs import Jobs
from crd_bridge.nodes import Nodes
from crd_bridge.pods import Replicas
from crd_bridge.queues import Queues
from crd_bridge.templates import Templates
from crd_bridge.temporal import Gateway
from crd_bridge.vms import Vms
from crd_bridge.watch import Changed, Resource, Watch

log = logging.getLogger(__name__)

CERTIFICATES_API = "certificates.k8s.io/v1"
CHECKPOINT_API = f"{names.CHECKPOINT_GROUP}/{names.CHECKPOINT_VERSION}"


class Bridge:
    """All watches of one cluster. ``lasts`` and ``silence`` of each in seconds."""

    def __init__(
        self,
        kube: Kube,
        client: Client,
        cluster_id: str,
        *,
        lasts: float = 300,
        silence: float = 70,
        meter: MetricMeter = MetricMeter.noop,
    ) -> None:
        gateway = Gateway(client, meter)
        self._queues = Queues(meter)
        jobs = Jobs(kube, gateway, self._queues, cluster_id)
        templates = Templates(kube, self._queues)
        vms = Vms(jobs, gateway, self._queues, moved=templates.look)
        checkpoints = Checkpoints(gateway, self._queues)
        nodes = Nodes(gateway, self._queues)
        nodes.replicas = replicas = Replicas(gateway, self._queues, moved=nodes.tell)

        certificates = Certificates(gateway, self._queues)

        def watch(api_version: str, plural: str, changed: Changed, selector: str = "", fields: str = "") -> Watch:
            resource = Resource(api_version, plural, selector, fields)
            return Watch(kube, resource, changed, lasts=lasts, silence=silence, meter=meter)

        self.watches = [
            watch(names.API_VERSION, names.JOB_PLURAL, jobs.changed),
            watch(names.API_VERSION, names.VM_PLURAL, vms.changed),
            watch(names.API_VERSION, names.TEMPLATE_PLURAL, templates.changed),
            watch("v1", "nodes", nodes.changed),
            watch("v1", "pods", replicas.pod_changed, names.LABEL_JOB),
            watch("batch/v1", "jobs", replicas.job_changed, names.LABEL_JOB),
            watch(CERTIFICATES_API, "certificatesigningrequests", certificates.changed, fields=SERVING),
            watch(CHECKPOINT_API, names.CHECKPOINT_PLURAL, checkpoints.changed, names.LABEL_JOB),
        ]

    @property
    def stale(self) -> list[str]:
        """What of the cluster is not heard of for too long."""
        return [f"nothing is heard of {watch.resource.plural}" for watch in self.watches if watch.stale]

    @property
    def stuck(self) -> list[str]:
        """Watches that do not even try."""
        return [f"the watch on {watch.resource.plural} stands still" for watch in self.watches if watch.stuck]

    def hurry(self) -> None:
        """One of both sides answers again: do now what waits for its next try."""
        self._queues.hurry()

    async def run(self) -> None:
        """Watch and tell until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for watch in self.watches:
                    group.create_task(watch.run(), name=f"watch {watch.resource.plural}")
        finally:
            await self._queues.close()
