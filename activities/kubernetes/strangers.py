"""Other owners' pods on a bought node, which use the room that was bought for a replica."""

import asyncio
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities import signatures
from activities.kubernetes import ownership
from activities.kubernetes.nodes import belongs_to_node
from activities.placement.fitting import find_takers
from activities.signatures import FindStrangers, JobRef, Strangers
from api import errors
from clients.kube import Json, Kube, path, selector


class StrangerActivities:
    """Reads the pods of bought nodes.

    Args:
        kube: the cluster.
    """

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    @activity.defn(name=signatures.FIND_STRANGERS.name)
    async def find_strangers(self, request: FindStrangers) -> Strangers:
        """Name the pods that keep this job's pod off the node that was bought for it."""
        template = request.job_template["spec"]["template"]
        try:
            return await strangers_on(self._kube, request.node, request.job, template)
        except (KeyError, TypeError, ValueError) as error:
            raise ApplicationError(
                f"jobTemplate cannot be placed: {error}", type=errors.INVALID, non_retryable=True
            ) from error


async def strangers_on(kube: Kube, name: str, job: JobRef, pod_template: Json) -> Strangers:
    """Name the pods without which a pod of ``pod_template`` would fit on a node, except those that belong there."""
    node, pods = await asyncio.gather(
        kube.find(path("v1", "nodes", name=name)),
        kube.list(path("v1", "pods"), fieldSelector=selector({"spec.nodeName": name})),
    )
    if node is None:
        return Strangers(pods=[])
    pods = [pod for pod in pods if pod["status"].get("phase") not in {"Succeeded", "Failed"}]
    there = [pod for pod in pods if belongs_to_node(pod) or _is_of(pod, job)]
    takers, lacks = find_takers(node, [pod for pod in pods if pod not in there], there, pod_template)
    return Strangers(pods=sorted(map(_name, takers)), lacks=lacks.removeprefix("with "))


def _is_of(pod: Json, job: JobRef) -> bool:
    return pod["metadata"]["namespace"] == job.namespace and ownership.belongs_to(pod, job.job_id)


def _name(pod: dict[str, Any]) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
