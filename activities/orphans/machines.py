"""Orphaned machines: VMs in the projects that something in this cluster names, and Nodes without their VM."""

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from temporalio import activity
from temporalio.client import Client

from activities import signatures
from activities.cloud_errors import CloudError, Permission
from activities.compute import Cloud, Compute, PlacementView
from activities.compute.instance import placement_owner
from activities.documents.protected import protected_by_any
from activities.kubernetes.secret import Sharing
from activities.orphans.owners import Owners, is_old, owners
from activities.orphans.sources import NOBODY, Source, left_behind, nobodys, sources_by_project
from activities.signatures import Orphan, Orphans, SweepRequest
from api import names
from api.common import SecretReference
from api.messages import VmStart
from api.views import VmView
from clients.kube import Json, Kube, KubeError, path

_SEGMENT = "[a-z0-9][a-z0-9.:-]*"
_PROVIDER = re.compile(rf"gce://(?P<project>{_SEGMENT})/(?P<zone>{_SEGMENT})/(?P<name>{_SEGMENT})")


class OrphanedMachineActivities:
    """Finds orphaned machines; a workflow tears them down.

    Args:
        temporal: the service that runs the VMs' workflows.
        kube: the cluster that they joined.
        cloud: the cloud that runs the VMs.
        sharing: the rules on Secrets of other namespaces.
    """

    def __init__(self, temporal: Client, kube: Kube, cloud: Cloud, sharing: Sharing | None = None) -> None:
        self._temporal = temporal
        self._kube = kube
        self._cloud = cloud
        self._sharing = sharing or Sharing(kube)

    @activity.defn(name=signatures.FIND_ORPHANS.name)
    async def find_orphans(self, request: SweepRequest) -> Orphans:
        """List this cluster's VMs and Nodes, and keep those that no open workflow owns.

        The projects are those that a SpotInstanceVM, a Node or an open market names. Only VMs with this cluster's label
        are listed, so another cluster's VMs in the same project are never touched.
        """
        nodes = [node async for node in self._kube.each(path("v1", "nodes")) if _is_ours(node)]
        vm_objects = await self._kube.list(path(names.API_VERSION, names.VM_PLURAL))
        asked = await owners(self._temporal, self._kube, request.cluster_id)
        sources = await self._permitted(sources_by_project(vm_objects, list(asked.jobs.values())))
        for project, ways in (await self._left_behind(vm_objects, asked)).items():
            sources[project] = [*ways, *sources.get(project, [])]
        for project in [*map(_project_of, nodes), *await self._markets()]:
            sources.setdefault(project, [nobodys(project)])
        seen, orphans, jobs, unreadable = 0, list[Orphan](), set[str](), list[str]()
        for project, ways in sources.items():
            try:
                source, vms, policies = await self._list(project, ways, names.cluster_label(request.cluster_id))
            except (CloudError, KubeError) as error:
                unreadable.append(f"{project}: {error}")
                continue
            machines = _machines(vms, [node for node in nodes if _project_of(node) == project], policies)
            seen += len({name for machine in machines.values() for name in machine.names})
            for key, machine in machines.items():
                jobs.add(names.job_id_in(key))
                if machine.is_old(request.grace) and await asked.has_no_machine(key):
                    orphans.append(_orphan(key, machine, source, asked, request.cluster_id))
        return Orphans(orphans=orphans, seen=seen, jobs=sorted(jobs), unreadable=unreadable)

    async def _left_behind(self, vm_objects: list[Json], asked: Owners) -> dict[str, list[Source]]:
        protected = await protected_by_any(self._kube, vm_objects, self._sharing.namespaces)
        return left_behind(vm_objects, protected, asked.jobs)

    async def _permitted(self, sources: dict[str, list[Source]]) -> dict[str, list[Source]]:
        """Drop the sources that use a Secret of a namespace that does not share it."""

        async def permitted(source: Source) -> bool:
            secret = source.credentials
            return secret is None or await self._sharing.permits(secret, source.namespace)

        kept = {}
        for project, ways in sources.items():
            allowed = await asyncio.gather(*map(permitted, ways))
            kept[project] = [way for way, good in zip(ways, allowed, strict=True) if good] or [nobodys(project)]
        return kept

    async def _markets(self) -> list[str]:
        """List the projects in which something was bought, even if no object names them any more."""
        query = f'WorkflowType="{names.MARKET_WORKFLOW}" AND ExecutionStatus="Running"'
        prefix = names.market_workflow_id("")
        return [found.id.removeprefix(prefix) async for found in self._temporal.list_workflows(query)]

    async def _list(
        self, project: str, sources: list[Source], cluster: str
    ) -> tuple[Source, list[VmView], list[PlacementView]]:
        """List the project with the first credentials that can; if none can, raise the last error."""
        for number, source in enumerate(sources, 1):
            try:
                compute = await self._cloud.open(source.credentials, source.namespace)
                vms = await compute.labelled(project, names.GCE_LABEL_CLUSTER, cluster)
            except (CloudError, KubeError):
                if number == len(sources):
                    raise
                continue
            return source, vms, await self._placements(compute, project, cluster)
        raise AssertionError(f"a project without sources: {project}")

    async def _placements(self, compute: Compute, project: str, cluster: str) -> list[PlacementView]:
        """List the placement policies of gangs. Credentials that may not list them have made none."""
        try:
            return await compute.placements(project, placement_owner(cluster))
        except Permission:
            return []


@dataclass
class Machine:
    """What exists under one VM key: the instances of its attempts, and their Nodes."""

    vms: list[VmView] = field(default_factory=list)
    nodes: list[Json] = field(default_factory=list)
    policies: list[PlacementView] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """List the names of instances, Nodes and placement policies; an instance and its Node have the same name."""
        instances = {vm.name for vm in self.vms} | {node["metadata"]["name"] for node in self.nodes}
        return sorted(instances | {policy.name for policy in self.policies})

    def found(self, key: str) -> list[str]:
        """List their zones and names, in the form that a teardown takes.

        A policy goes with the last instance of its gang. If it is left alone, an instance that never was stands for it.
        """
        places = {vm.name: f"{vm.zone}/{vm.name}" for vm in self.vms}
        for node in self.nodes:
            provider = _provider(node)
            assert provider is not None
            places.setdefault(node["metadata"]["name"], f"{provider['zone']}/{node['metadata']['name']}")
        alone = [] if places else [f"{policy.zone}/{names.vm_name(key, 0)}" for policy in self.policies]
        return sorted([*places.values(), *alone])

    def is_old(self, grace: float) -> bool:
        """True if everything known of it is old enough to be judged."""
        ages = [vm.creation_time for vm in self.vms]
        born = [node["metadata"]["creationTimestamp"] for node in self.nodes]
        made = [policy.creation_time for policy in self.policies]
        return all(is_old(at, grace) for at in [*ages, *born, *made])


def _machines(vms: Iterable[VmView], nodes: Iterable[Json], policies: Iterable[PlacementView]) -> dict[str, Machine]:
    """Group VMs and Nodes by VM key, without those that do not have a name of ours.

    The placement policy of a gang belongs to each of its machines, whichever is the last. If it has none, the policy
    has a key of its own, with the number that no machine has.
    """
    machines: dict[str, Machine] = {}
    for vm in vms:
        if key := names.vm_key_of(vm.name):
            machines.setdefault(key, Machine()).vms.append(vm)
    for node in nodes:
        if key := names.vm_key_of(node["metadata"]["name"]):
            machines.setdefault(key, Machine()).nodes.append(node)
    for policy in policies:
        if gang := names.gang_of_placement(policy.name):
            members = [key for key in machines if (names.job_id_in(key), names.replica_in(key)) == gang]
            for key in members or [names.vm_key(*gang, 0)]:
                machines.setdefault(key, Machine()).policies.append(policy)
    return machines


def _is_ours(node: Json) -> bool:
    """True if it has the name of a VM of ours and its kubelet says that it is that machine."""
    name, provider = node["metadata"]["name"], _provider(node)
    return names.vm_key_of(name) is not None and provider is not None and provider["name"] == name


def _project_of(node: Json) -> str:
    provider = _provider(node)
    assert provider is not None  # true for each Node that is ours
    return provider["project"]


def _provider(node: Json) -> re.Match[str] | None:
    return _PROVIDER.fullmatch((node.get("spec") or {}).get("providerID") or "")


def _orphan(key: str, machine: Machine, source: Source, asked: Owners, cluster_id: str) -> Orphan:
    job_id = names.job_id_in(key)
    owner = asked.jobs.get(job_id, {}).get("metadata", {})
    start = VmStart(
        key=key,
        cluster_id=cluster_id,
        job_id=job_id,
        replica=names.replica_in(key),
        namespace=owner.get("namespace", source.namespace),
        job_name=owner.get("name", NOBODY),
        job_uid=owner.get("uid", NOBODY),
        vm_name=source.vm_name,
        spec=source.spec,
        # Resolved here, because the owner's namespace may differ from the one that the reference is relative to.
        credentials=source.credentials
        and SecretReference(name=source.credentials.name, namespace=source.credentials.namespace or source.namespace),
        ssh_key=source.ssh_key,
        placement=machine.policies[0].name if machine.policies else None,
        teardown=True,
        found=machine.found(key),
    )
    return Orphan(start=start, names=machine.names)
