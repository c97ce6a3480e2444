"""The activity ``diagnose``: what only the worker can see, because it has the keys, the rights and the network."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.cloud_errors import CloudError
from activities.compute import Cloud
from activities.diagnosis.quota import Quotas, lack_of_room
from activities.diagnosis.rights import check_rights
from activities.join.ssh import SshKeys
from activities.join.tokens import cluster_info
from activities.signatures import DIAGNOSE, Diagnose, Diagnosed, DiagnosedVm
from api.diagnosis import Finding
from clients.kube import Kube, KubeError

CONNECT_SECONDS = 8.0
PART_SECONDS = 30.0
"""Seconds for one part: what does not answer must not keep the others from being told."""
QUOTA = "ask for more at https://console.cloud.google.com/iam-admin/quotas, or name other zones or GPUs"

UNKNOWN = "not known: compute.regions.get and compute.projects.get are not granted, which only this line needs"


class DiagnosisActivities:
    """Looks, and changes nothing.

    Args:
        kube: the cluster.
        cloud: the cloud in which VMs are bought.
        keys: the keys by which VMs are entered.
    """

    def __init__(self, kube: Kube, cloud: Cloud, keys: SshKeys) -> None:
        self._kube = kube
        self._cloud = cloud
        self._keys = keys

    @activity.defn(name=DIAGNOSE.name)
    async def diagnose(self, request: Diagnose) -> Diagnosed:
        """Look at everything at once, and say of each part how it is."""
        looks: list[tuple[str, Callable[[], Awaitable[Finding]]]] = [
            ("the worker's rights", lambda: check_rights(self._kube)),
            ("join endpoint", self._join_endpoint),
        ]
        for vm in request.vms:
            looks += [
                (f"SSH key of {vm.namespace}/{vm.name}", lambda vm=vm: self._ssh_key(vm)),  # type: ignore[misc]
                (f"quota for {vm.namespace}/{vm.name}", lambda vm=vm: self._quota(vm)),  # type: ignore[misc]
            ]
        if not request.vms:
            looks.append(("SSH key", self._own_key))
        return Diagnosed(findings=list(await asyncio.gather(*(_looked(part, look) for part, look in looks))))

    async def _join_endpoint(self) -> Finding:
        """Connect to the API server as a new machine does: at the address and by the CA of ``cluster-info``."""
        server, ca = await cluster_info(self._kube)
        found = urlsplit(server)
        trust = ssl.create_default_context(cadata=ca)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, writer = await asyncio.open_connection(found.hostname, found.port or 443, ssl=trust)
            writer.close()
        except (OSError, TimeoutError) as error:
            why = str(error) or "no answer"
            remedy = "VMs join there: correct server in ConfigMap kube-public/cluster-info, or open its port to them"
            return Finding(part="join endpoint", well=False, told=f"{server}: {why}", remedy=remedy)
        told = f"{server} answers the worker and has the published CA"
        return Finding(part="join endpoint", well=True, told=told)

    async def _own_key(self) -> Finding:
        key = await self._keys.load(None, "")
        return Finding(part="SSH key", well=True, told=f"the installation's, {key.get_fingerprint()}")

    async def _ssh_key(self, vm: DiagnosedVm) -> Finding:
        key = await self._keys.load(vm.spec.ssh_key_secret_ref, vm.namespace)
        whose = "its Secret's" if vm.spec.ssh_key_secret_ref else "the installation's"
        return Finding(part=f"SSH key of {vm.namespace}/{vm.name}", well=True, told=f"{whose}, {key.get_fingerprint()}")

    async def _quota(self, vm: DiagnosedVm) -> Finding:
        """Find room for one VM in some region that the spec allows."""
        part, project = f"quota for {vm.namespace}/{vm.name}", vm.spec.gcp.project
        compute = await self._cloud.open(vm.credentials, vm.namespace)
        of_project = await compute.quotas(project, None)
        regions: dict[str, Quotas | None] = {}
        told = []
        for candidate in vm.candidates:
            if candidate.region not in regions:
                regions[candidate.region] = await compute.quotas(project, candidate.region)
            of_region = regions[candidate.region]
            if of_project is None or of_region is None:
                return Finding(part=part, well=True, told=UNKNOWN)
            lack = lack_of_room(candidate, of_region, of_project)
            if lack is None:
                return Finding(part=part, well=True, told=f"has room for {candidate.label} on {project}")
            told.append(lack)
        return Finding(part=part, well=False, told="; ".join(dict.fromkeys(told)), remedy=QUOTA)


async def _looked(part: str, look: Callable[[], Awaitable[Finding]]) -> Finding:
    """Look at one part, and say so if that cannot be done."""
    try:
        async with asyncio.timeout(PART_SECONDS):
            return await look()
    except ApplicationError as error:
        return Finding(part=part, well=False, told=error.message)
    except (CloudError, KubeError, OSError, TimeoutError) as error:
        return Finding(part=part, well=False, told=str(error) or "no answer in time", remedy="see the worker's log")
