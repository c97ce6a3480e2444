"""The ``batch/v1`` Job of one incarnation of a replica: the user's template, made ours. Pure.

What only a gang needs is in :mod:`activities.replicas.gang`.

The workflow alone decides when a replica starts, restarts or is lost. So every field by which the Job controller would
decide is removed or set: otherwise it restarts the training from step 0 on its own, or erases its success. What the pod
does, and how long it takes to stop, stays the user's choice.
"""

from copy import deepcopy
from typing import Any

from activities.kubernetes import ownership
from activities.registry.credentials import pulls_by
from activities.replicas import gang
from activities.replicas.pods import all_containers
from activities.replicas.probes import bear_dumps, warning
from activities.signatures import CreateReplica
from api import names
from api.node_labels import HOSTNAME
from api.storage import incarnation_prefix

Json = dict[str, Any]

IDENTITY_PATH = "/etc/outlast"
"""Directory of a container's identity: a volume, because a restored process keeps the environment of its source."""
IDENTITY_VOLUME = "outlast-identity"

# What the workflow does in the controller's place: a deadline, and the meaning of a failure, span all incarnations.
# After a failure that a rule ignores, the controller would start again from step 0.
_WORKFLOWS_OWN = ("activeDeadlineSeconds", "podFailurePolicy")
# Fields of a JobSpec by which its controller would restart, end, index, hold or erase the training.
_TAKEN_OUT = (
    "ttlSecondsAfterFinished",
    *_WORKFLOWS_OWN,
    "successPolicy",
    "selector",
    "manualSelector",
    "managedBy",
    "suspend",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
    "completionMode",
)
# Labels of an exported Job: the controller sets them again, and the API server refuses those of another Job.
_CONTROLLER_LABELS = {
    "controller-uid",
    "job-name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
}
_LOST_NODE_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def build_job(request: CreateReplica) -> Json:
    """Build the Job to create.

    Raises:
        ValueError: the template is no JobTemplateSpec with containers; the message names the field.
    """
    try:
        return _build(request)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"jobTemplate is no JobTemplateSpec: {error}") from error


def job_to_judge(request: CreateReplica) -> Json:
    """Build the Job with the fields that the workflow handles itself, so that the API server judges them.

    Raises:
        ValueError: see :func:`build_job`.
    """
    job = build_job(request)
    theirs = request.job_template["spec"]
    job["spec"] |= {field: theirs[field] for field in _WORKFLOWS_OWN if field in theirs}
    pod, deadline = job["spec"]["template"]["spec"], theirs["template"]["spec"].get("activeDeadlineSeconds")
    if deadline is not None:
        pod["activeDeadlineSeconds"] = deadline
    return job


def _build(request: CreateReplica) -> Json:
    template = deepcopy(request.job_template)
    spec = _object(template, "jobTemplate", "spec")
    pod_template = _object(spec, "jobTemplate.spec", "template")
    pod = _object(pod_template, "jobTemplate.spec.template", "spec")
    if not isinstance(pod.get("containers"), list) or not pod["containers"]:
        raise ValueError("jobTemplate.spec.template.spec.containers: at least one container is needed")

    _own_job_spec(spec, request)
    _own_pod(pod, request)
    raised = [each for container in pod["containers"] for each in bear_dumps(container, request.probe_patience)]
    pod_template["metadata"] = _metadata(pod_template.get("metadata"), request)
    metadata = _metadata(_with_labels(template.get("metadata"), request.labels), request)
    if raised:
        metadata["annotations"][names.ANNOTATION_PROBES] = warning(raised, request.probe_patience)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            **metadata,
            "name": names.replica_job_name(request.job.name, request.job.job_id, request.replica, request.incarnation),
            "namespace": request.job.namespace,
            "ownerReferences": [ownership.owner(request.job)],
        },
        "spec": spec,
    }


def _object(parent: Json, path: str, key: str) -> Json:
    found = parent.get(key)
    if not isinstance(found, dict):
        raise ValueError(f"{path}.{key}: an object is needed")
    return found


def _own_job_spec(spec: Json, request: CreateReplica) -> None:
    for field in _TAKEN_OUT:
        spec.pop(field, None)
    if gang.is_gang(request):
        spec.pop("backoffLimit", None)  # there is one for each member instead
        spec |= gang.job_fields(request)
    else:
        spec |= {"parallelism": 1, "completions": 1, "backoffLimit": 0}
    spec["podReplacementPolicy"] = "Failed"
    if request.suspended:
        spec["suspend"] = True  # even if the queue's own webhook is unreachable


def _metadata(given: Json | None, request: CreateReplica) -> Json:
    """Join the template's labels and annotations with ours; ours win."""
    theirs = given or {}
    labels = {key: value for key, value in (theirs.get("labels") or {}).items() if key not in _CONTROLLER_LABELS}
    return {
        "labels": labels | ownership.labels(request.job.job_id, request.replica, request.incarnation),
        "annotations": (theirs.get("annotations") or {})
        | ownership.annotations(request.job)
        | {names.ANNOTATION_RESTORED_FROM: request.restore.label if request.restore else ""}
        | {f"{names.ANNOTATION_STORAGE}{key}": value for key, value in _storage(request).items()}
        | (gang.annotations(request) if gang.is_gang(request) else {}),
    }


def _with_labels(given: Json | None, labels: dict[str, str]) -> Json:
    """Put the template's metadata on top of these labels."""
    theirs = given or {}
    return {**theirs, "labels": labels | (theirs.get("labels") or {})}


def _storage(request: CreateReplica) -> dict[str, str]:
    """Say where this incarnation may keep checkpoints of its own; empty if the job names no bucket."""
    storage = request.storage
    if storage is None:
        return {}
    prefix = incarnation_prefix(storage, request.job.job_id, request.replica, request.incarnation)
    return {
        "type": storage.type,
        "bucket": storage.bucket,
        "prefix": prefix,
        "endpoint": storage.endpoint or "",
        "region": storage.region or "",
    }


def _own_pod(pod: Json, request: CreateReplica) -> None:
    pod["restartPolicy"] = "Never"
    pod.pop("activeDeadlineSeconds", None)  # the workflow counts it over all incarnations
    pod.pop("nodeName", None)  # it would bypass the scheduler, and ignore who else uses the GPUs
    pod["affinity"] = _affinity(pod.get("affinity") or {}, request)
    pod["tolerations"] = _tolerations(pod.get("tolerations") or [], request)
    for container in all_containers(pod):
        _limit_what_is_requested(container)
        _tell_who_it_is(container)
    pod["volumes"] = [*(pod.get("volumes") or []), _identity_volume(request)]
    if gang.is_gang(request):
        gang.own_pod(pod, all_containers(pod), request)
    if request.restore is not None:
        for container in pod["containers"]:
            container["image"] = request.restore.images.get(container.get("name"), container.get("image"))
    if pulls_by(request) is not None:
        secret = {"name": names.pull_secret_name(request.job.name, request.job.job_id)}
        pod["imagePullSecrets"] = [*(pod.get("imagePullSecrets") or []), secret]


def _affinity(affinity: Json, request: CreateReplica) -> Json:
    """Allow only the chosen nodes, and never two pods of a job on one node: they would be lost together."""
    always = "requiredDuringSchedulingIgnoredDuringExecution"
    node: Json = affinity.get("nodeAffinity") or {}
    required: Json = node.get(always) or {}
    apart: Json = affinity.get("podAntiAffinity") or {}
    siblings = {"labelSelector": {"matchLabels": {names.LABEL_JOB: request.job.job_id}}, "topologyKey": HOSTNAME}
    return affinity | {
        "nodeAffinity": node | {always: {"nodeSelectorTerms": _terms(required, _pins(request))}},
        "podAntiAffinity": apart | {always: [*(apart.get(always) or []), siblings]},
    }


def _pins(request: CreateReplica) -> list[Json]:
    """Name the nodes that the Job is for, or the label of the node that will be bought for it."""
    named = {"key": HOSTNAME, "operator": "In", "values": request.nodes}
    if request.place is None:
        return [named]
    to_come = {"key": names.LABEL_PLACE, "operator": "In", "values": [request.place]}
    return [named, to_come] if request.nodes else [to_come]


def _terms(required: Json, pins: list[Json]) -> list[Json]:
    """Narrow each of the template's node selector terms to each of ``pins``, because terms are alternatives."""
    given: list[Json] = required.get("nodeSelectorTerms") or []
    if not given:
        return [{"matchExpressions": [pin]} for pin in pins]
    # A term without conditions matches no node, and must stay so.
    return [
        {**term, "matchExpressions": [*(term.get("matchExpressions") or []), pin]} if any(term.values()) else term
        for term in given
        for pin in pins
    ]


def _tolerations(given: list[Json], request: CreateReplica) -> list[Json]:
    """Extend the template's; lost nodes are tolerated without limit, as only the workflow decides that one is lost."""
    kept = [_without_limit(each) if each.get("key") in (*_LOST_NODE_TAINTS, None) else each for each in given]
    ours: list[Json] = [{"key": key, "operator": "Exists", "effect": "NoExecute"} for key in _LOST_NODE_TAINTS]
    if request.bought or request.place is not None:
        ours += [
            {"key": names.GPU_RESOURCE, "operator": "Equal", "value": request.job.job_id, "effect": "NoSchedule"},
            {"key": names.TAINT_CORDONED, "operator": "Exists", "effect": "NoSchedule"},
        ]
    return [*kept, *(each for each in ours if each not in kept)]


def _without_limit(toleration: Json) -> Json:
    """Drop the time limit: the shortest toleration of a taint counts, so each that may match (no key: any) loses it."""
    return {field: value for field, value in toleration.items() if field != "tolerationSeconds"}


def _limit_what_is_requested(container: Json) -> None:
    """Copy requests of extended resources to the limits, without which Kubernetes refuses the pod."""
    resources = container.get("resources") or {}
    extended = {name: amount for name, amount in (resources.get("requests") or {}).items() if _extended(name)}
    if extended:
        container["resources"] = resources | {"limits": extended | (resources.get("limits") or {})}


def _extended(resource: str) -> bool:
    domain, slash, _ = resource.partition("/")
    return bool(slash) and not domain.endswith("kubernetes.io")


def _tell_who_it_is(container: Json) -> None:
    mounts: list[Json] = container.get("volumeMounts") or []
    if all(mount.get("mountPath", "").rstrip("/") != IDENTITY_PATH for mount in mounts):
        mine = {"name": IDENTITY_VOLUME, "mountPath": IDENTITY_PATH, "readOnly": True}
        container["volumeMounts"] = [*mounts, mine]


def _identity_volume(request: CreateReplica) -> Json:
    """Build the files ``job``, ``replica``, ``incarnation`` and ``restoredFrom`` (empty after a cold start).

    If the job names a bucket, there are also ``storageType``, ``storageBucket``, ``storagePrefix``,
    ``storageEndpoint`` and ``storageRegion``. A member of a gang has ``member``, ``size`` and ``coordinator``, too.
    """
    sources = {
        "job": f"metadata.labels['{names.LABEL_JOB}']",
        "replica": f"metadata.labels['{names.LABEL_REPLICA}']",
        "incarnation": f"metadata.labels['{names.LABEL_INCARNATION}']",
        "restoredFrom": f"metadata.annotations['{names.ANNOTATION_RESTORED_FROM}']",
    }
    sources |= {
        f"storage{key.capitalize()}": f"metadata.annotations['{names.ANNOTATION_STORAGE}{key}']"
        for key in _storage(request)
    }
    if gang.is_gang(request):
        sources |= gang.IDENTITY
    items = [{"path": file, "fieldRef": {"fieldPath": field}} for file, field in sources.items()]
    return {"name": IDENTITY_VOLUME, "downwardAPI": {"items": items}}
