"""The nodes on which a pod would fit: the scheduler's filters, as far as they decide on a VM. Pure.

The scheduler has the last word: a node found here is tried, not promised. Left out on purpose: other pods' affinities,
volumes' zones, topology spread, host ports, preemption by priority.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any

from activities.placement.demand import ALL_DEVICES, Amounts, Demand, demand_of
from activities.placement.hosts import Host, host_of
from api.names import GPU_RESOURCE

Json = dict[str, Any]

NODES = 100
"""Nodes that are named at most: a Job lists them, and so does the workflow's history."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What the pods of a node take together."""

    pods: int
    amounts: Amounts
    devices: frozenset[str]

    @classmethod
    def by(cls, demands: Iterable[Demand]) -> "Taken":
        """Sum what pods take."""
        pods, amounts, devices = 0, dict[str, Decimal](), set[str]()
        for demand in demands:
            pods += 1
            devices |= demand.devices
            for name, amount in demand.amounts.items():
                amounts[name] = amounts.get(name, Decimal(0)) + amount
        return cls(pods, amounts, frozenset(devices))


Room = tuple[Decimal, str, str | None]
"""A node with room for a pod: its free GPUs, its name, its zone."""


@dataclass(frozen=True)
class Fit:
    """Names of nodes with room, best first, and how many of the others failed for which reason.

    ``lacking`` says of how many nodes a gang finds too few.
    """

    nodes: list[str]
    passed_over: Mapping[str, int] = field(default_factory=dict)
    lacking: str = ""

    @property
    def reason(self) -> str:
        """Write one line for people; empty if every node fits."""
        passed_over = ", ".join(f"{count} {why}" for why, count in sorted(self.passed_over.items()))
        without = f"nodes without room: {passed_over}" if passed_over else ""
        return "; ".join(filter(None, (self.lacking, without)))


@dataclass(frozen=True)
class Survey:
    """The nodes with room for a pod, whoever asks.

    Attributes:
        rooms: the nodes with room, the fewest free GPUs first.
        lacks: why each of the other nodes has no room.
        passed_over: how many nodes have no room for which reason.
    """

    rooms: list[Room]
    lacks: Mapping[str, str]
    passed_over: Mapping[str, int]


def survey(hosts: Iterable[Host], taken_on: Callable[[str], Taken], pod_template: Json) -> Survey:
    """Find the nodes on which a pod of ``pod_template`` ({metadata, spec}) would run now.

    ``taken_on`` says what the pods of a node take.
    """
    spec, wanted = pod_template.get("spec") or {}, demand_of(pod_template)
    rooms: list[Room] = []
    lacks: dict[str, str] = {}
    for host in hosts:
        why = host.unusable or host.admits(spec)
        if not why:
            taken = taken_on(host.name)
            why = _what_lacks(host, wanted, taken)
            if not why:
                rooms.append((_free_gpus(host, taken), host.name, host.zone))
        if why:
            lacks[host.name] = why
    rooms.sort(key=lambda room: room[:2])
    return Survey(rooms, lacks, Counter(lacks.values()))


def choose(
    found: Survey,
    hosts: Mapping[str, Host],
    avoid: Iterable[str] = (),
    *,
    members: int = 1,
    one_zone: bool = False,
    beside: Iterable[str] = (),
) -> Fit:
    """Name the best nodes, at most ``NODES``, without those to ``avoid``; none if there are fewer than ``members``.

    With ``one_zone`` all of them are in the first zone that has enough, or in that of the nodes ``beside``.

    The best node is in a zone without any node of ``avoid``, because preemptions in one zone come together; then the
    one with the fewest free GPUs left. Of too many that are equally good, some are chosen at random, so that replicas
    that look at the same moment do not all want the same nodes.
    """
    shunned = hosts.keys() & avoid
    passed_over = Counter(found.passed_over)
    passed_over.subtract(found.lacks[name] for name in shunned if name in found.lacks)
    passed_over["with a replica of this job, or that failed it"] = len(shunned)
    crowded = {hosts[name].zone for name in shunned} - {None}
    stay = {hosts[name].zone for name in beside if name in hosts} if one_zone else set()
    rooms = [room for room in found.rooms if room[1] not in shunned and (not stay or room[2] in stay)]
    apart, near = [room for room in rooms if room[2] not in crowded], [room for room in rooms if room[2] in crowded]
    skipped = {why: count for why, count in passed_over.items() if count}
    for some, others in _by_zone(apart, near) if one_zone else [(apart, near)]:
        nodes = _first(some, NODES)
        nodes += _first(others, NODES - len(nodes))
        if len(nodes) >= members:
            return Fit(nodes, skipped)
    return Fit([], skipped, lacking=_too_few(len(rooms), members, one_zone))


def _by_zone(apart: list[Room], near: list[Room]) -> Iterator[tuple[list[Room], list[Room]]]:
    """Split the rooms by zone, in the order of each zone's best room."""
    for zone in dict.fromkeys(zone for _, _, zone in [*apart, *near]):
        yield [room for room in apart if room[2] == zone], [room for room in near if room[2] == zone]


def _too_few(rooms: int, members: int, one_zone: bool) -> str:
    """Say that a gang finds too little room; nothing if there is none at all, or if one node would have been enough."""
    if members == 1 or not rooms:
        return ""
    nodes = "1 node has" if rooms == 1 else f"{rooms} nodes have"
    where = "in one zone " if one_zone and rooms >= members else ""
    return f"{nodes} room and the gang needs {members} {where}at once"


def _first(rooms: list[Room], at_most: int) -> list[str]:
    chosen: list[str] = []
    for _, group in groupby(rooms, key=itemgetter(0)):
        equal, left = [name for _, name, _ in group], at_most - len(chosen)
        chosen += equal if len(equal) <= left else random.sample(equal, left)
        if len(chosen) == at_most:
            break
    return chosen


def find_takers(
    node: Json, others: list[Json], residents: Iterable[Json], pod_template: Json
) -> tuple[list[Json], str]:
    """Find which of ``others`` keep a pod of ``pod_template`` off a node, and what they leave too little of.

    ``residents`` are pods that belong there. If the pod would not fit without the others either, none of them is named.
    """
    host, wanted, there = host_of(node), demand_of(pod_template), [demand_of(pod) for pod in residents]
    lacks = _what_lacks(host, wanted, Taken.by([*there, *map(demand_of, others)]))
    if not lacks or _what_lacks(host, wanted, Taken.by(there)):
        return [], ""

    def suffices(leaving: Json) -> bool:
        staying = [demand_of(pod) for pod in others if pod is not leaving]
        return not _what_lacks(host, wanted, Taken.by([*there, *staying]))

    # If the end of no single one is enough, all are named.
    return [pod for pod in others if suffices(pod)] or others, lacks


def _what_lacks(host: Host, wanted: Demand, taken: Taken) -> str:
    """Name the first resource of which too little is free, GPUs first, because they are what one would buy."""
    if wanted.devices:
        asks_all = ALL_DEVICES in wanted.devices
        if _free_gpus(host, taken) < (host.gpus or 1 if asks_all else len(wanted.devices)):
            return "with too few free GPUs"
        if wanted.devices & taken.devices:
            return "with a pod on the same CDI device"
    elif wanted.amounts.get(GPU_RESOURCE) and _free_gpus(host, taken) < wanted.amounts[GPU_RESOURCE]:
        return "with too few free GPUs"
    if taken.pods >= host.allocatable.get("pods", Decimal("Infinity")):
        return "full of pods"
    for resource, amount in wanted.amounts.items():
        if amount > host.allocatable.get(resource, Decimal(0)) - taken.amounts.get(resource, Decimal(0)):
            return f"with too little {resource}"
    return ""


def _free_gpus(host: Host, taken: Taken) -> Decimal:
    if ALL_DEVICES in taken.devices:
        return Decimal(0)
    return host.gpus - taken.amounts.get(GPU_RESOURCE, Decimal(0)) - len(taken.devices)
