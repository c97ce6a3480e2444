"""The whole bridge: one watch for each kind, all handlers, one set of queues."""

import asyncio
import contextlib
import logging

from temporalio.client import Client
from temporalio.common import MetricMeter

from api import names
from clients.kube import Json, Kube
from clients.watch import Changed, Resource, Watch
from crd_bridge import certificates, nodes, pods
from crd_bridge.certificates import Certificates
from crd_bridge.checkpoints import Checkpoints
from crd_bridge.gauges import Gauges
from crd_bridge.jobs import Jobs
from crd_bridge.missed import deletions
from crd_bridge.nodes import Nodes
from crd_bridge.pods import Replicas
from crd_bridge.queues import Permission, Queues, always
from crd_bridge.reported import NOTHING, Reported
from crd_bridge.templates import Templates
from crd_bridge.temporal import Gateway
from crd_bridge.vms import Vms

log = logging.getLogger(__name__)

CERTIFICATES_API = "certificates.k8s.io/v1"
CHECKPOINT_API = f"{names.CHECKPOINT_GROUP}/{names.CHECKPOINT_VERSION}"

LISTING = 10.0
"""How many seconds the kinds that are listed next wait for those before them."""
DELETED = (nodes.PLURAL, pods.PODS, pods.JOBS, names.CHECKPOINT_PLURAL)
"""The kinds whose deletion is news to a workflow."""
REPORTED = (nodes.PLURAL, pods.PODS, pods.JOBS, certificates.PLURAL, names.CHECKPOINT_PLURAL, names.VM_PLURAL)
"""The kinds of which the next bridge reports only what has changed."""


class Bridge:
    """All watches of one cluster; ``lasts`` and ``silence`` are in seconds. It acts only with ``permission``."""

    def __init__(
        self,
        kube: Kube,
        client: Client,
        cluster_id: str,
        *,
        lasts: float = 300,
        silence: float = 70,
        meter: MetricMeter = MetricMeter.noop,
        permission: Permission = always,
        reported: Reported = NOTHING,
    ) -> None:
        self._before = reported
        self._kube = kube
        self._behind = set(DELETED)  # kinds of which it is not yet known what was deleted before
        gateway = Gateway(client, meter)
        self._queues = Queues(meter, permission)
        self._gauges = Gauges(meter)
        jobs = Jobs(kube, gateway, self._queues, cluster_id, lambda: all(each.synced.is_set() for each in self._jobs))
        templates = Templates(kube, self._queues)
        vms = Vms(jobs, gateway, self._queues, templates.look, reported)
        checkpoints = Checkpoints(gateway, self._queues, reported)
        machines = Nodes(gateway, self._queues, reported)
        machines.replicas = replicas = Replicas(gateway, self._queues, machines.tell, reported)
        asked = Certificates(gateway, self._queues, reported)

        def job_changed(key: str, item: Json | None, version: int) -> None:
            jobs.changed(key, item, version)
            self._gauges.job(key, item)

        def vm_changed(key: str, item: Json | None, version: int) -> None:
            vms.changed(key, item, version)
            self._gauges.vm(key, item)

        def watch(api_version: str, plural: str, changed: Changed, selector: str = "", fields: str = "") -> Watch:
            resource = Resource(api_version, plural, selector, fields)
            return Watch(kube, resource, changed, lasts=lasts, silence=silence, meter=meter)

        self._first = [
            watch("v1", nodes.PLURAL, machines.changed),
            watch("v1", pods.PODS, replicas.pod_changed, names.LABEL_JOB),
        ]
        self._jobs = [watch(names.API_VERSION, names.JOB_PLURAL, job_changed)]
        self._others = [
            watch(names.API_VERSION, names.VM_PLURAL, vm_changed),
            watch(names.API_VERSION, names.TEMPLATE_PLURAL, templates.changed),
            watch("batch/v1", pods.JOBS, replicas.job_changed, names.LABEL_JOB),
            watch(CERTIFICATES_API, certificates.PLURAL, asked.changed, fields=certificates.SERVING),
            watch(CHECKPOINT_API, names.CHECKPOINT_PLURAL, checkpoints.changed, names.LABEL_JOB),
        ]

    @property
    def watches(self) -> list[Watch]:
        """List all watches."""
        return [*self._first, *self._jobs, *self._others]

    @property
    def reported(self) -> Reported:
        """Say what has been reported, by this bridge or before it, for the bridge that follows."""
        owed = self._queues.owes()
        versions = dict(self._before.versions)
        for watch in self.watches:
            kind = watch.resource.plural
            if kind in REPORTED and kind not in self._behind:
                reported = min(watch.position, owed.get(kind, watch.position + 1) - 1)
                versions[kind] = max(reported, versions.get(kind, 0))
        return Reported(versions)

    @property
    def stale(self) -> list[str]:
        """List what the cluster has not reported for too long."""
        return [f"nothing is heard of {watch.resource.plural}" for watch in self.watches if watch.stale]

    @property
    def stuck(self) -> list[str]:
        """List the watches that do not even try."""
        return [f"the watch on {watch.resource.plural} stands still" for watch in self.watches if watch.stuck]

    def hurry(self) -> None:
        """Retry everything now, because one of the two sides answers again."""
        self._queues.hurry()

    async def run(self) -> None:
        """Watch and signal until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._gauges.kept(), name="gauges")
                # Nodes and pods say together who is to be notified; jobs say who buys by a SpotInstanceVM.
                for watches in (self._first, self._jobs, self._others):
                    for watch in watches:
                        group.create_task(watch.run(), name=f"watch {watch.resource.plural}")
                    if watches is not self._others:
                        await _listed(watches)
                await self._catch_up()
        finally:
            await self._queues.close()

    async def _catch_up(self) -> None:
        """Report what was deleted while no bridge acted, once all that exists is known."""
        watches = [watch for watch in self.watches if watch.resource.plural in DELETED]
        await asyncio.gather(*map(self._find_deleted, watches))

    async def _find_deleted(self, watch: Watch) -> None:
        kind = watch.resource.plural
        for each in self.watches:  # pods and Jobs are judged together
            if each is watch or each.resource.plural in (pods.PODS, pods.JOBS):
                await each.synced.wait()
        for item in await deletions(self._kube, watch, self._before.versions.get(kind, 0)):
            watch.missed(item)
        self._behind.remove(kind)


async def _listed(watches: list[Watch]) -> None:
    """Wait until what exists is known, for ``LISTING`` seconds at most: a kind may not even be installed."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LISTING):
            for watch in watches:
                await watch.synced.wait()
