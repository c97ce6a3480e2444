"""Orphaned claims on CDI devices: Leases of jobs that are gone, have ended, or run elsewhere by now.

A lapsed claim blocks nobody, but it misleads people who read which devices are taken.
"""

from temporalio import activity
from temporalio.client import Client

from activities import signatures
from activities.orphans.owners import Owners, is_old, owners
from activities.placement.claims import LEASES, is_held
from activities.signatures import Done, OrphanedClaim, OrphanedClaims, SweepRequest
from api import names
from clients.kube import Json, Kube, KubeError, path, selector


class OrphanedClaimActivities:
    """Finds and removes orphaned claims.

    Args:
        temporal: the service that runs the jobs' workflows.
        kube: the cluster.
        namespace: the namespace of the installation and its claims.
    """

    def __init__(self, temporal: Client, kube: Kube, namespace: str) -> None:
        self._temporal = temporal
        self._kube = kube
        self._namespace = namespace

    @activity.defn(name=signatures.FIND_ORPHANED_CLAIMS.name)
    async def find_orphaned_claims(self, request: SweepRequest) -> OrphanedClaims:
        """Look for orphans among all claims. A claim is in use while its Job may run, whoever else is gone."""
        ours = selector({names.LABEL_MANAGED_BY: names.MANAGED_BY})
        leases = await self._kube.list(path(LEASES, "leases", self._namespace), labelSelector=ours)
        asked = await owners(self._temporal, self._kube, request.cluster_id)
        claims = list(filter(_names_its_job, leases))
        orphans = [claim["metadata"] for claim in claims if await self._is_orphan(claim, asked, request.grace)]
        return OrphanedClaims(
            claims=[OrphanedClaim(name=each["name"], version=each["resourceVersion"]) for each in orphans],
            seen=len(claims),
        )

    async def _is_orphan(self, lease: Json, asked: Owners, grace: float) -> bool:
        if not is_old(lease["spec"]["renewTime"], grace):
            return False
        labels, annotations = lease["metadata"]["labels"], lease["metadata"]["annotations"]
        over = await asked.is_over(labels[names.LABEL_JOB], annotations[names.ANNOTATION_WORKFLOW])
        return over and not await is_held(self._kube, lease)

    @activity.defn(name=signatures.REMOVE_CLAIM.name)
    async def remove_claim(self, claim: OrphanedClaim) -> Done:
        """Delete the Lease that was seen, unless somebody took it over meanwhile or it is gone."""
        try:
            await self._kube.delete(path(LEASES, "leases", self._namespace, claim.name), version=claim.version)
        except KubeError as error:
            if error.status != 409:
                raise
        return Done()


def _names_its_job(lease: Json) -> bool:
    metadata = lease["metadata"]
    return names.LABEL_JOB in metadata["labels"] and names.ANNOTATION_WORKFLOW in (metadata.get("annotations") or {})
