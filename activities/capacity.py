"""The activity that looks for room in the cluster before a VM is bought."""

import asyncio

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities import signatures
from activities.fitting import find_fit
from activities.signatures import Capacity, FindCapacity
from api import errors
from clients.kube import Kube, path


class CapacityActivities:
    """Looks at nodes and what runs on them.

    Args:
        kube: the cluster.
    """

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    @activity.defn(name=signatures.FIND_CAPACITY.name)
    async def find_capacity(self, request: FindCapacity) -> Capacity:
        """Nodes on which a pod of the job's template would fit now, best first, without any that were bought.

        Pods that wait for the scheduler are not counted: it decides between them and us.
        """
        nodes, pods = await asyncio.gather(
            self._kube.list(path("v1", "nodes")),
            self._kube.list(
                path("v1", "pods"), fieldSelector="spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"
            ),
        )
        try:
            fit = find_fit(nodes, pods, request.job_template["spec"]["template"], request.avoid)
        except (KeyError, TypeError, ValueError) as error:
            raise ApplicationError(
                f"jobTemplate cannot be placed: {error}", type=errors.INVALID, non_retryable=True
            ) from error
        return Capacity(nodes=fit.nodes, reason=fit.reason or ("" if nodes else "the cluster has no nodes"))
