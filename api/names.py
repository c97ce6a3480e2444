"""Names, labels and ids: everything that says to what an object belongs.

A name is made of job, replica, incarnation and purpose, never of an attempt, so that a repeated call finds the first
one's object. Every name, tag and label contains the job's id. So a job that was created again, another namespace, or
another cluster in the same project or registry is never mistaken for this one.
"""

import hashlib
import re
import uuid
from collections.abc import Mapping
from datetime import datetime

GROUP = "training.training.dcnlab.com"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
JOB_PLURAL = "spotinstancejobs"
VM_PLURAL = "spotinstancevms"
TEMPLATE_PLURAL = "instancetemplates"

CHECKPOINT_GROUP = "migration.dcnlab.com"
CHECKPOINT_VERSION = "v1"
CHECKPOINT_PLURAL = "checkpointbackups"

PREFIX = "training.dcnlab.com"
LABEL_JOB = f"{PREFIX}/job"
LABEL_REPLICA = f"{PREFIX}/replica"
LABEL_INCARNATION = f"{PREFIX}/incarnation"
LABEL_PLACE = f"{PREFIX}.node-restriction.kubernetes.io/place"
"""On a Node: the incarnation whose Job was pinned before there was a machine. No kubelet may set it (NodeRestriction):
root on another job's machine would attract the pod."""
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "outlast"
LABEL_COSTS = f"{PREFIX}/costs"  # on the ConfigMaps that keep what ended jobs have cost
COSTS = "outlast-costs-"
LABEL_PROTECTED = f"{PREFIX}/held"  # on a Secret or a SpotInstanceVM that some job protects by its finalizer
ANNOTATION_WORKFLOW = f"{PREFIX}/workflow"  # "<namespace>/<name>": to which the bridge reports an object's changes
ANNOTATION_RESTORED_FROM = f"{PREFIX}/restored-from"
ANNOTATION_PROBES = f"{PREFIX}/probes"  # on a replica's Job: what was changed in the template's probes, and why
ANNOTATION_NODE = f"{PREFIX}/node"  # on a CheckpointBackup: the node of its pod
ANNOTATION_STORAGE = f"{PREFIX}/storage-"  # + type, bucket, prefix, endpoint: for this incarnation's checkpoints
ANNOTATION_GANG_SIZE = f"{PREFIX}/gang-size"  # on a gang's pods: how many members this incarnation has
ANNOTATION_COORDINATOR = f"{PREFIX}/coordinator"  # on a gang's pods: "<name in DNS>:<port>" of the first member
ANNOTATION_TAG = f"{PREFIX}/tag"  # on a CheckpointBackup: the tag of the requested images
ANNOTATION_PROGRESS = f"{PREFIX}/progress"  # the training's when the checkpoint was requested
ANNOTATION_REPORTED = f"{PREFIX}/progress-reported"  # "true" if the training itself reported it
ANNOTATION_SHARED = f"{PREFIX}/shared-with"  # on a Secret: namespaces whose jobs may name it, or *
ANNOTATION_REQUEST = f"{PREFIX}/request"  # on a SpotInstanceJob: what a person asks for once; answered in its status
ANNOTATION_BRIDGED = f"{PREFIX}/bridged"  # on the bridge's Lease: up to which versions changes were reported
FINALIZER = f"{PREFIX}/teardown"
ANNOTATION_CERTIFICATE = f"{PREFIX}/certificate"  # on a bootstrap token: UID of the one request approved for it
TAINT_PREEMPTED = f"{PREFIX}/preempted"  # set by the node agent on its own Node
TAINT_JOINING = f"{PREFIX}/joining"  # a bought Node registers with it, and loses it when it is cordoned
TAINT_CORDONED = "node.kubernetes.io/unschedulable"  # Kubernetes' own, which the pods of every DaemonSet tolerate
MARK_TIME = "%Y%m%dT%H%M%SZ"  # the taint's value: when the cloud gave its notice, in UTC. Label values have no colons
GPU_RESOURCE = "nvidia.com/gpu"

BOOTSTRAP_GROUP = "system:bootstrappers:outlast:one-node"
"""Group of the bootstrap tokens that Outlast makes. Requests of kubeadm's own group are approved for any Node."""
JOIN_SECRET = "kubeadm-join-token"  # in the SpotInstanceVM's namespace; takes precedence if it exists

GCE_LABEL_JOB = "outlast-job"
GCE_LABEL_REPLICA = "outlast-replica"
GCE_LABEL_CLUSTER = "outlast-cluster"

JOB_WORKFLOW = "SpotInstanceJob"
VM_WORKFLOW = "SpotVM"
MARKET_WORKFLOW = "SpotMarket"
SWEEP_WORKFLOW = "Sweep"
DIAGNOSIS_WORKFLOW = "Diagnosis"
TASK_QUEUE = "outlast"
CREATES_QUEUE = "outlast-creates"  # VMs are created at a limited rate
URGENT = 1  # the priority, at Temporal, of what leads from a notice to its checkpoint; others have 3
LONG_QUEUE = "outlast-long"  # activities that may last: what they wait for is outside of the cluster
SWEEP_SCHEDULE = "outlast-sweep"
BRIDGE_LEASE = "outlast-bridge"  # held by the bridge that acts

SHOWN = 60
"""Characters of a value that a message shows."""

_REQUEST_IDS = uuid.UUID("6f0a5f0e-0f4e-5c86-9a7b-0d1f3c2b1a90")
_TAG = re.compile(r"(?P<job>[0-9a-f]{8})-p(?P<progress>[0-9]{12})-(?P<unix>[0-9]{1,11})")
_SEGMENT = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_JOB_ID = "[0-9a-f]{8}"
_VM_KEY = rf"{_JOB_ID}-r[0-9]{{1,4}}-v[0-9]{{1,9}}"
_VM_NAME = re.compile(rf"outlast-({_VM_KEY})-t[0-9]{{1,9}}")
_PLACEMENT_NAME = re.compile(rf"outlast-({_JOB_ID})-r([0-9]{{1,4}})-near")
_ZONE = re.compile(r"[a-z]+-[a-z0-9]+-[a-z0-9]+")
_WORKFLOW_ID = re.compile(r"[a-z0-9][-a-z0-9]{0,62}/[a-z0-9][-a-z0-9.]{0,252}")


def is_segment(value: object) -> bool:
    """True if the value can be one segment of a path and nothing else: no ``/``, ``..``, ``?``, ``%`` or space."""
    return isinstance(value, str) and _SEGMENT.fullmatch(value) is not None and value not in (".", "..")


def shown(value: object, length: int = SHOWN) -> str:
    """Quote a value for a message: in ASCII, without control characters, and shortened."""
    text = ascii(value)
    return text if len(text) <= length else f"{text[:length]}…"


def job_id(cluster_id: str, uid: str) -> str:
    """Make 8 hex digits that name one SpotInstanceJob of one cluster (the kube-system namespace's UID)."""
    return hashlib.sha256(f"{cluster_id}/{uid}".encode()).hexdigest()[:8]


def cluster_label(cluster_id: str) -> str:
    """Make a GCE label value of the cluster's id: lower case hex, at most 63 characters."""
    return hashlib.sha256(cluster_id.encode()).hexdigest()[:16]


def job_finalizer(job: str) -> str:
    """Name one job's finalizer on the objects that its teardown needs: one for each job, so no count can be wrong."""
    return f"{PREFIX}/{job}"


def job_id_of(finalizer: str) -> str | None:
    """Read the job's id in such a finalizer; None if it is another finalizer."""
    found = re.fullmatch(rf"{re.escape(PREFIX)}/({_JOB_ID})", finalizer)
    return found.group(1) if found else None


def job_workflow_id(namespace: str, name: str) -> str:
    """Name the workflow of a SpotInstanceJob."""
    return f"{namespace}/{name}"


def is_job_workflow_id(text: str) -> bool:
    """True if this can be the id of a job's workflow; an annotation meant for one may contain anything."""
    return _WORKFLOW_ID.fullmatch(text) is not None


def is_zone(text: object) -> bool:
    """True if this has the form of a zone, for example ``us-central1-a`` or ``us-central1-ai1a``."""
    return isinstance(text, str) and len(text) <= 63 and _ZONE.fullmatch(text) is not None


def vm_key(job: str, replica: int, place: int) -> str:
    """Name one bought VM before a candidate for it is chosen; ``place`` counts the replica's VMs from 1."""
    return f"{job}-r{replica}-v{place}"


def is_vm_key(text: str) -> bool:
    """True if this can be the key of a VM."""
    return re.fullmatch(_VM_KEY, text) is not None


def vm_workflow_id(key: str) -> str:
    """Name the workflow of a VM."""
    return f"vm:{key}"


def market_workflow_id(project: str) -> str:
    """Name the workflow of a project's market."""
    return f"market:{project}"


def vm_name(key: str, attempt: int) -> str:
    """Name the GCE instance and its Node; each create attempt has its own name (GCE names are per zone)."""
    return f"outlast-{key}-t{attempt}"


def placement_name(job: str, replica: int) -> str:
    """Name the placement policy of a gang, which exists in each region in which machines of it do."""
    return f"outlast-{job}-r{replica}-near"


def gang_of_placement(name: str) -> tuple[str, int] | None:
    """Read the job's id and the replica in a placement policy's name; None if the name is not one of ours."""
    found = _PLACEMENT_NAME.fullmatch(name)
    return (found.group(1), int(found.group(2))) if found else None


def region_of(zone: str) -> str:
    """Give the region of a zone."""
    return zone.rpartition("-")[0]


def vm_key_of(name: str) -> str | None:
    """Read the key in a VM's or a Node's name; None if the name is not one of ours."""
    found = _VM_NAME.fullmatch(name)
    return found.group(1) if found else None


def node_user(node: str) -> str:
    """Give the user name of a kubelet, which is also the common name of its certificates."""
    return f"system:node:{node}"


def token_user(token_id: str) -> str:
    """Give the user name of whoever shows a bootstrap token."""
    return f"system:bootstrap:{token_id}"


def job_id_in(key: str) -> str:
    """Read the job's id in a VM's key."""
    return key.partition("-")[0]


def replica_in(key: str) -> int:
    """Read the replica in a VM's key."""
    return int(key.split("-")[1].removeprefix("r"))


def request_id(name: str, zone: str) -> str:
    """Make GCE's idempotency key for the creation of this VM: the same for every retry of a call."""
    return str(uuid.uuid5(_REQUEST_IDS, f"{zone}/{name}"))


def replica_job_name(name: str, job: str, replica: int, incarnation: int) -> str:
    """Name the Job of one incarnation of a replica; at most 57 characters if the object's name has 40."""
    return f"{name}-{job}-r{replica}-i{incarnation}"


def place_label(job: str, replica: int, incarnation: int) -> str:
    """Make the value of the label that pins a Job that queues: the machine that is bought for it will have it."""
    return f"{job}-r{replica}-i{incarnation}"


def incarnation_in(labels: Mapping[str, str]) -> tuple[int, int] | None:
    """Read (replica, incarnation) in an object's labels; None if they name none, as labels that a person wrote may."""
    replica, incarnation = labels.get(LABEL_REPLICA, ""), labels.get(LABEL_INCARNATION, "")
    numbers = all(re.fullmatch("[0-9]{1,9}", each) for each in (replica, incarnation))
    return (int(replica), int(incarnation)) if numbers else None


def claim_name(node: str, device: str) -> str:
    """Name the Lease by which a CDI device of a node is claimed; devices are numbers, UUIDs or "all"."""
    whole = f"cdi-{node}-{device}"
    readable = re.sub(r"[^a-z0-9.-]", "-", whole.lower())[:180].rstrip("-.")
    return f"{readable}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def checkpoint_name(name: str, job: str, number: int) -> str:
    """Name a CheckpointBackup; ``number`` counts the job's checkpoints from 1."""
    return f"{name}-{job}-c{number}"


def checkpoint_number(name: str) -> int | None:
    """Read the number in the name of a CheckpointBackup; None if the name is not ours, whatever the labels say."""
    last = name.rpartition("-c")[2]
    return int(last) if last.isascii() and last.isdigit() else None


def pull_secret_name(name: str, job: str) -> str:
    """Name the Secret with which a job's pods pull their images, derived from the checkpoint repository's."""
    return f"{name}-{job}-pull"


def budget_name(name: str, job: str) -> str:
    """Name the PodDisruptionBudget of a job's pods."""
    return f"{name}-{job}"


def log_name(name: str, job: str, replica: int) -> str:
    """Name the ConfigMap that keeps a replica's log, joined over its incarnations."""
    return f"{name}-{job}-r{replica}-log"


def costs_name(ended_at: datetime) -> str:
    """Name the ConfigMap that keeps what the jobs of one month have cost."""
    return f"{COSTS}{ended_at:%Y-%m}"


def gang_service_name(name: str, job: str, replica: int) -> str:
    """Name the headless Service by which the members of a gang find each other."""
    return f"{name}-{job}-r{replica}"


def image_tag(job: str, progress: float, unix: int) -> str:
    """Make the tag of a checkpoint image, which sorts by progress, not by time. ``unix`` in seconds."""
    return f"{job}-p{int(progress):012d}-{unix}"


def container_tag(tag: str, container: str, containers: list[str]) -> str:
    """Make the tag of one container's image: a pod of several containers has an image for each."""
    return tag if len(containers) == 1 else f"{tag}_{container}"


def tag_in(image: str) -> str:
    """Read the tag in an image's name; empty if it has none."""
    last = image.partition("@")[0].rpartition("/")[2]
    return last.partition(":")[2]


def parse_image_tag(tag: str) -> tuple[str, int, int] | None:
    """Read (job id, progress, unix seconds) in a tag of ours; None for anybody else's."""
    found = _TAG.fullmatch(tag.split("_", 1)[0])
    return (found["job"], int(found["progress"]), int(found["unix"])) if found else None
