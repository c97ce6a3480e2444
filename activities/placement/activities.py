"""The activity that looks for room in the cluster before a VM is bought."""

import asyncio
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from sys import intern

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities import signatures
from activities.placement.demand import Demand, demand_of
from activities.placement.fitting import NODES, Survey, Taken, choose, survey
from activities.placement.hosts import Host, host_of
from activities.signatures import Capacity, FindCapacity
from api import errors
from clients.informer import Informer, Kind, Store
from clients.kube import Json
from clients.watch import Resource


@dataclass(frozen=True, slots=True)
class Placed:
    """A pod on its node: all that matters of it is what it takes there."""

    node: str
    demand: Demand


def placed(pod: Json) -> Placed:
    """Read a pod that was bound to a node."""
    demand = demand_of(pod)
    return Placed(intern(pod["spec"]["nodeName"]), _one_copy(frozenset(demand.amounts.items()), demand.devices))


@lru_cache(10_000)
def _one_copy(amounts: frozenset[tuple[str, Decimal]], devices: frozenset[str]) -> Demand:
    """Make one object for all pods that take the same: there are tens of thousands of pods, and few different ones."""
    return Demand(dict(amounts), devices)


HOSTS = Kind("nodes", Resource("v1", "nodes"), host_of)
PLACED = Kind(
    "pods on nodes",
    Resource("v1", "pods", fields="spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"),
    placed,
    group=lambda pod: pod.node,
)
"""All pods that occupy a node. Pods that wait for the scheduler do not: it decides between them and ours."""


MANY = 3 * NODES
"""Nodes with room above which nobody minds if some of them were taken within a second."""
SECONDS = 1.0


class CapacityActivities:
    """Knows the nodes and what runs on them.

    Args:
        hosts: the nodes, of the kind ``HOSTS``.
        pods: the pods that occupy them, of the kind ``PLACED``.
    """

    def __init__(self, hosts: Informer[Host], pods: Informer[Placed]) -> None:
        self._hosts = hosts
        self._pods = pods
        self._surveys: dict[str, tuple[float, Survey]] = {}  # of the last moments, with their end

    @activity.defn(name=signatures.FIND_CAPACITY.name)
    async def find_capacity(self, request: FindCapacity) -> Capacity:
        """List nodes on which a pod of the job's template would fit now, best first, without any that were bought."""
        hosts, pods = await asyncio.gather(self._hosts.read(), self._pods.read())
        try:
            found = self._survey(hosts, pods, request.job_template["spec"]["template"])
        except (KeyError, TypeError, ValueError) as error:
            raise ApplicationError(
                f"jobTemplate cannot be placed: {error}", type=errors.INVALID, non_retryable=True
            ) from error
        fit = choose(
            found,
            hosts.items,
            request.avoid,
            members=request.members,
            one_zone=request.one_zone,
            beside=request.beside,
        )
        return Capacity(nodes=fit.nodes, reason=fit.reason or ("" if hosts.items else "the cluster has no nodes"))

    def _survey(self, hosts: Store[Host], pods: Store[Placed], template: Json) -> Survey:
        """Look at each node. If many have room, those who come within a second with the same wish use what was found.

        Then a wave of jobs looks at each node once a second, and not once each. If few have room, each looks itself.
        """
        wish, now = _placement(template), time.monotonic()
        until, found = self._surveys.get(wish, (0.0, None))
        if found is not None and now < until:
            return found
        found = survey(hosts.items.values(), lambda node: pods.summed(node, _taken), template)
        self._surveys = {key: kept for key, kept in self._surveys.items() if now < kept[0]}
        if len(found.rooms) > MANY:
            self._surveys[wish] = (now + SECONDS, found)
        return found


def _placement(template: Json) -> str:
    """Write down what of a pod template decides which nodes fit."""
    spec, demand = template.get("spec") or {}, demand_of(template)
    affinity = (spec.get("affinity") or {}).get("nodeAffinity")
    takes = [sorted((name, str(amount)) for name, amount in demand.amounts.items()), sorted(demand.devices)]
    return json.dumps([spec.get("tolerations"), spec.get("nodeSelector"), affinity, takes], sort_keys=True)


def _taken(pods: Iterable[Placed]) -> Taken:
    return Taken.by(pod.demand for pod in pods)
