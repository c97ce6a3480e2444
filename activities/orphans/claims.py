"""Claims on CDI devices that nobody has any more: Leases of jobs that are gone, or over, or elsewhere by now.

A claim that has lapsed is in nobody's way; what it would be in the way of is whoever reads which devices are taken.
"""

from temporalio import activity
from temporalio.client import Client

from activities import signatures
from activities.claims import LEASES, holds
from activities.orphans.owners import Owners, is_old, owners
from activities.signatures import Done, OrphanedClaim, OrphanedClaims, SweepRequest
from api import names
from clients.kube import Json, Kube, KubeError, path, selector


class OrphanedClaimActivities:
    """Finds them, and removes them.

    Args:
        temporal: the service that runs the jobs' workflows.
        kube: the cluster.
        namespace: where Outlast is installed, and the claims are.
    """

    def __init__(self, temporal: Client, kube: Kube, namespace: str) -> None:
        self._temporal = temporal
        self._kube = kube
        self._namespace = namespace

    @activity.defn(name=signatures.FIND_ORPHANED_CLAIMS.name)
    async def find_orphaned_claims(self, request: SweepRequest) -> OrphanedClaims:
        """Look at all claims; one whose Job still may run is its own, whoever else is gone."""
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
        return over and not await holds(self._kube, lease)

    @activity.defn(name=signatures.REMOVE_CLAIM.name)
    async def remove_claim(self, claim: OrphanedClaim) -> Done:
        """Delete the Lease that was seen; one that somebody took over meanwhile, or that is gone, is left alone."""
        try:
            await self._kube.delete(path(LEASES, "leases", self._namespace, claim.name), version=claim.version)
        except KubeError as error:
            if error.status != 409:
                raise
        return Done()


def _names_its_job(lease: Json) -> bool:
    metadata = lease["metadata"]
    return names.LABEL_JOB in metadata["labels"] and names.ANNOTATION_WORKFLOW in (metadata.get("annotations") or {})
