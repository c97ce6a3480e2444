"""The doctor's look at what ``deploy/base`` installs."""

from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version as installed
from typing import Any

from api import names
from api.crd import KINDS, schema
from api.diagnosis import Finding
from cli.doctor.versions import version_in
from cli.session import Cluster
from clients.kube import Json, KubeError, path

APPLY = "kubectl apply --server-side -k deploy/base"
OLDEST = (1, 28)
"""The oldest Kubernetes for which Outlast is tested: docs/install.md."""
POLICIES_SINCE = (1, 30)
OUR_POLICIES = ("outlast-worker", "outlast-bridge", "outlast-agent")
"""Those whose absence says that the policies of ``deploy/base`` are not there."""
OUR_ROLES = ("outlast-worker", "outlast-bridge", "outlast-agent")
TOLD = 5


async def version(cluster: Cluster, _: str) -> AsyncIterator[Finding]:
    """Check the version of Kubernetes."""
    told = (await cluster.kube.get("/version"))["gitVersion"]
    well = (version_in(told) or OLDEST) >= OLDEST
    remedy = f"Outlast needs {'.'.join(map(str, OLDEST))} or newer"
    yield Finding(part="Kubernetes", well=well, told=told, remedy=remedy)


async def definitions(cluster: Cluster, _: str) -> AsyncIterator[Finding]:
    """Check that the CRDs are there, and that they have all fields of this release."""
    for kind in KINDS:
        name = f"{kind.plural}.{names.GROUP}"
        found = await _crd(cluster, name)
        lacking = sorted(_fields(schema(kind)) - _fields(_served(found, names.VERSION))) if found else []
        if found is None:
            told = "is missing"
        elif lacking:
            told = f"is of another release than this command, {installed('outlast')}: it lacks {_some(lacking)}"
        else:
            told = "is there"
        yield Finding(part=f"CRD {name}", well=told == "is there", told=told, remedy=APPLY)
    name = f"{names.CHECKPOINT_PLURAL}.{names.CHECKPOINT_GROUP}"
    there = await _crd(cluster, name) is not None
    remedy = "install the checkpoint operator; without it only mode Application works"
    yield Finding(part=f"CRD {name}", well=there, told="is there" if there else "is missing", remedy=remedy)


async def policies(cluster: Cluster, _: str) -> AsyncIterator[Finding]:
    """Check that the admission policies are there, which hold what RBAC cannot."""
    running = version_in((await cluster.kube.get("/version"))["gitVersion"])
    if running is not None and running < POLICIES_SINCE:
        yield Finding(part="policies", well=True, told="this Kubernetes has none: components/before-1.30 replaces them")
        return
    group = "admissionregistration.k8s.io/v1"
    found = {each["metadata"]["name"] for each in await _all(cluster, group, "validatingadmissionpolicies")}
    bindings = await _all(cluster, group, "validatingadmissionpolicybindings")
    bound = {each["spec"]["policyName"] for each in bindings}
    lacking = [name for name in OUR_POLICIES if name not in found & bound]
    told = (
        f"lack {', '.join(lacking)}" if lacking else f"{len([n for n in found if n.startswith('outlast-')])} are bound"
    )
    yield Finding(part="policies", well=not lacking, told=told, remedy=APPLY)


async def roles(cluster: Cluster, system: str) -> AsyncIterator[Finding]:
    """Check that the roles are bound to the ServiceAccounts of this namespace."""
    group = "rbac.authorization.k8s.io/v1"
    for name in OUR_ROLES:
        binding = await cluster.kube.find(path(group, "clusterrolebindings", name=name))
        role = await cluster.kube.find(path(group, "clusterroles", name=name))
        accounts = [each.get("namespace") for each in (binding or {}).get("subjects") or []]
        if role is None or binding is None:
            told = "is missing" if role is None else "is not bound"
        else:
            told = "is bound" if system in accounts else f"is bound in {', '.join(map(str, accounts))}, not in {system}"
        yield Finding(part=f"role {name}", well=told == "is bound", told=told, remedy=APPLY)


async def programs(cluster: Cluster, system: str) -> AsyncIterator[Finding]:
    """Check the workers, the bridge and the node agent, and that nothing waits for the setup."""
    deployments = await cluster.kube.list(path("apps/v1", "deployments", system))
    for component in ("worker", "bridge"):
        mine = [each for each in deployments if each["metadata"]["name"].startswith(f"outlast-{component}")]
        if not mine:
            told, remedy = f"there is no Deployment of it in {system}", "install it, or name its namespace by --system"
            yield Finding(part=component, well=False, told=told, remedy=remedy)
        for each in mine:
            yield _deployment(component, each, system)
    for job in await cluster.kube.list(path("batch/v1", "jobs", system)):
        name = job["metadata"]["name"]
        if name.startswith("outlast-setup"):
            done = (job.get("status") or {}).get("succeeded", 0) > 0
            told = "has given the worker work" if done else "is not done"
            remedy = f"kubectl -n {system} logs job/{name} says what it waits for"
            yield Finding(part=f"setup {name}", well=done, told=told, remedy=remedy)


def _deployment(component: str, deployment: Json, system: str) -> Finding:
    meta, status = deployment["metadata"], deployment.get("status") or {}
    ready, wanted = status.get("readyReplicas", 0), deployment["spec"].get("replicas", 1)
    release = (meta.get("labels") or {}).get("app.kubernetes.io/version")
    of_release = f", release {release}" if release else ""
    ours = installed("outlast")
    if release and release != ours:
        of_release += f" (this command is of {ours})"
    told, remedy = f"{ready} of {wanted} ready{of_release}", f"kubectl -n {system} describe pods, and their logs"
    return Finding(part=f"{component} {meta['name']}", well=ready >= wanted, told=told, remedy=remedy)


async def settings(cluster: Cluster, system: str) -> AsyncIterator[Finding]:
    """Check the settings that have no default."""
    found = await cluster.kube.find(path("v1", "configmaps", system, "outlast-settings"))
    address = ((found or {}).get("data") or {}).get("TEMPORAL_ADDRESS")
    told = f"Temporal is at {address}" if address else "say nothing of Temporal"
    remedy = "write TEMPORAL_ADDRESS into deploy/base/settings.yaml"
    yield Finding(part="settings", well=address is not None, told=told, remedy=remedy)
    try:
        key = await cluster.kube.find(path("v1", "secrets", system, "outlast-ssh"))
    except KubeError as error:
        if error.status != 403:
            raise
        yield Finding(part="Secret outlast-ssh", well=True, told="may not be looked at")
        return
    remedy = "ssh-keygen, then kubectl create secret generic outlast-ssh: see docs/install.md"
    told = "is there" if key else "is missing: VMs can be joined only by keys of their own namespace"
    yield Finding(part="Secret outlast-ssh", well=key is not None, told=told, remedy=remedy)


async def _crd(cluster: Cluster, name: str) -> Json | None:
    return await cluster.kube.find(path("apiextensions.k8s.io/v1", "customresourcedefinitions", name=name))


async def _all(cluster: Cluster, version_: str, plural: str) -> list[Json]:
    return await cluster.kube.list(path(version_, plural))


def _served(crd: Json, version_: str) -> Json:
    for each in crd["spec"]["versions"]:
        if each["name"] == version_ and each["served"]:
            found: Json = each["schema"]["openAPIV3Schema"]
            return found
    return {}


def _fields(found: Any, at: str = "") -> set[str]:
    """List the paths of all fields of a schema."""
    return set(_paths(found, at))


def _paths(found: Any, at: str) -> Iterator[str]:
    if not isinstance(found, dict):
        return
    for name, inner in (found.get("properties") or {}).items():
        here = f"{at}.{name}" if at else name
        yield here
        yield from _paths(inner, here)
    yield from _paths(found.get("items"), f"{at}[]")


def _some(found: list[str]) -> str:
    more = len(found) - TOLD
    return ", ".join(found[:TOLD]) + (f" and {more} more" if more > 0 else "")
