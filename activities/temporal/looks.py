"""The activity that looks at a bought machine from all sides: in the cloud, in the cluster, and at its job."""

import asyncio

from temporalio import activity

from activities import signatures
from activities.compute.activities import ComputeActivities
from activities.kubernetes.nodes import NodeActivities
from activities.signatures import CheckOwner, LookAtVm, Owner, SeenVm
from activities.temporal.fleet import FleetActivities


class LookActivities:
    """Looks by what the activities of each side read."""

    def __init__(self, compute: ComputeActivities, nodes: NodeActivities, fleet: FleetActivities) -> None:
        self._compute = compute
        self._nodes = nodes
        self._fleet = fleet

    @activity.defn(name=signatures.LOOK_AT_VM.name)
    async def look_at_vm(self, look: LookAtVm) -> SeenVm:
        """Read the instance, its Node, and whether its job still exists."""
        vm, node, owner = await asyncio.gather(
            self._compute.observe_vm(look.vm), self._nodes.observe_node(look.node), self._owner(look)
        )
        return SeenVm(vm=vm, node=node, owner=owner)

    async def _owner(self, look: LookAtVm) -> Owner | None:
        try:
            return await self._fleet.check_owner(CheckOwner(job=look.job))
        except Exception as error:  # the machine is looked at all the same, and the next look asks again
            activity.logger.warning("the job of %s: %r", look.vm.name, error)
            return None
