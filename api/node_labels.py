"""Labels of bought Nodes, by which other people's templates select. Pure.

``cloud.google.com/…`` are those of GKE's nodes, because templates written for GKE name them. The worker sets all of
them when the Node registers: a kubelet may not set them, and could not be believed.
"""

from collections.abc import Iterable

from api.market import Candidate
from api.spot_instance_vm import NodeLabel

HOSTNAME = "kubernetes.io/hostname"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
REGION = "topology.kubernetes.io/region"
ZONE = "topology.kubernetes.io/zone"
GKE_ACCELERATOR = "cloud.google.com/gke-accelerator"
GKE_ACCELERATOR_COUNT = "cloud.google.com/gke-accelerator-count"
GKE_FAMILY = "cloud.google.com/machine-family"
GKE_PROVISIONING = "cloud.google.com/gke-provisioning"
GKE_SPOT = "cloud.google.com/gke-spot"


def node_labels(candidate: Candidate, declared: Iterable[NodeLabel] = ()) -> dict[str, str]:
    """List the labels of a Node that is bought as this candidate; ``declared`` are the SpotInstanceVM's own."""
    spot = candidate.provisioning == "Spot"
    labels = {each.key: each.value for each in declared}
    labels |= {
        INSTANCE_TYPE: candidate.machine_type,
        REGION: candidate.region,
        ZONE: candidate.zone,
        GKE_FAMILY: candidate.machine_type.partition("-")[0],
        GKE_PROVISIONING: "spot" if spot else "standard",
    }
    if spot:
        labels[GKE_SPOT] = "true"
    if candidate.gpu:
        labels |= {GKE_ACCELERATOR: candidate.gpu.type, GKE_ACCELERATOR_COUNT: str(candidate.gpu.count)}
    return labels
