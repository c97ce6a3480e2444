"""``outlast convert``: turns a PyTorchJob or a TrainJob into a SpotInstanceJob. Pure.

What has no counterpart is told, and left out. docs/distributed.md has the table of what becomes what.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from api.names import API_VERSION, GPU_RESOURCE
from cli.session import USAGE, Told

Json = dict[str, Any]
_Reader = Callable[[Json, list[str]], Json]

TO_SET = "CHANGE-ME"
"""What stands where nobody can know the value."""

PROCESSES = "PET_NPROC_PER_NODE"
_TORCHRUN = re.compile(
    r"--(?:nnodes|node[-_]rank|master[-_](?:addr|port)|rdzv[-_]\w+|max[-_]restarts|standalone|num_machines|machine_rank)\b"
)
_MEETING = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PET_NNODES", "PET_NODE_RANK", "PET_MASTER_ADDR"}
_MET_OTHERWISE = {"cleanPodPolicy", "schedulingPolicy", "managedBy"}  # of runPolicy: Outlast does these by itself


@dataclass
class Converted:
    """A SpotInstanceJob, and what a person has to know or do about it."""

    manifest: Json
    notes: list[str] = field(default_factory=list)

    def as_yaml(self) -> str:
        """Write the manifest as YAML."""
        return str(yaml.safe_dump(self.manifest, sort_keys=False, width=120))


def convert(text: str, vm: str = TO_SET, bucket: str = TO_SET) -> list[Converted]:
    """Convert every PyTorchJob and TrainJob of a YAML file.

    Args:
        text: the file.
        vm: the name of the SpotInstanceVM that says which machines to buy.
        bucket: the bucket into which the training saves itself.

    Raises:
        Told: the file is no YAML, or has neither kind of object.
    """
    try:
        objects = [each for each in yaml.safe_load_all(text) if isinstance(each, dict)]
    except yaml.YAMLError as error:
        raise Told(f"this is no YAML: {error}", USAGE) from error
    kinds = {"PyTorchJob": _pytorch_job, "TrainJob": _train_job}
    found = [(each, kinds[each["kind"]]) for each in objects if each.get("kind") in kinds]
    if not found:
        raise Told("there is neither a PyTorchJob nor a TrainJob in this file", USAGE)
    return [_checked(each, read, vm, bucket) for each, read in found]


def _checked(source: Json, read: _Reader, vm: str, bucket: str) -> Converted:
    try:
        return _whole(source, read, vm, bucket)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Told(f"this {source['kind']} has not the form of one: {error}", USAGE) from error


def _whole(source: Json, read: _Reader, vm: str, bucket: str) -> Converted:
    notes: list[str] = []
    spec, old = read(source.get("spec") or {}, notes), source.get("metadata") or {}
    spec |= {
        "spotInstanceVMRef": {"name": vm},
        "checkpointConfig": {"mode": "Application", "checkpointStorage": {"type": "gcs", "bucket": bucket}},
    }
    pod = spec["jobTemplate"]["spec"]["template"].setdefault("spec", {})
    _read_pod(pod, notes)
    if vm == TO_SET or bucket == TO_SET:
        notes.append(f"replace {TO_SET}: the SpotInstanceVM (--vm) and the bucket for checkpoints (--bucket)")
    notes.append(
        "the training has to save itself when it gets SIGTERM: see docs/application.md and docs/distributed.md"
    )
    metadata = {key: old[key] for key in ("name", "namespace", "labels", "annotations") if old.get(key)}
    manifest = {"apiVersion": API_VERSION, "kind": "SpotInstanceJob", "metadata": metadata, "spec": spec}
    return Converted(manifest, notes)


def _pytorch_job(spec: Json, notes: list[str]) -> Json:
    roles: Json = spec.get("pytorchReplicaSpecs") or {}
    workers, master = roles.get("Worker"), roles.get("Master")
    if (chosen := workers or master) is None:
        raise Told("pytorchReplicaSpecs has neither Master nor Worker", USAGE)
    if workers and master and workers.get("template") != master.get("template"):
        notes.append("the templates of Master and Worker differ: that of Worker is used for all members")
    size = sum(int(role.get("replicas", 1)) for role in (master, workers) if role)
    elastic: Json = spec.get("elasticPolicy") or {}
    least, most = int(elastic.get("minReplicas", size)), int(elastic.get("maxReplicas", size))
    if left := sorted(elastic.keys() - {"minReplicas", "maxReplicas", "nProcPerNode"}):
        notes.append(f"elasticPolicy: {', '.join(left)} left out: Outlast starts all members again with another size")
    template = copy.deepcopy(chosen.get("template") or {})
    _set_processes(template, spec.get("nprocPerNode") or elastic.get("nProcPerNode"))
    return _spec(template, least, most, spec.get("runPolicy") or {}, notes)


def _train_job(spec: Json, notes: list[str]) -> Json:
    trainer: Json = spec.get("trainer") or {}
    container = {key: trainer[key] for key in ("image", "command", "args", "env") if trainer.get(key)}
    container = {"name": "train", "image": TO_SET} | container
    if "image" not in trainer:
        notes.append("trainer.image is missing: write the image of the runtime")
    if resources := trainer.get("resourcesPerNode"):
        container["resources"] = resources
    if runtime := spec.get("runtimeRef"):
        notes.append(
            f"runtimeRef {runtime.get('name')}: write what its pod template has beside image, command, args, env and "
            "resources (kubectl get clustertrainingruntime -o yaml)"
        )
    taken = {"trainer", "runtimeRef", "suspend", "managedBy"}
    if left := sorted(spec.keys() - taken):
        notes.append(f"spec: {', '.join(left)} left out")
    template: Json = {"spec": {"containers": [container]}}
    _set_processes(template, trainer.get("numProcPerNode"))
    size = int(trainer.get("numNodes", 1))
    return _spec(template, size, size, {"suspend": spec.get("suspend")}, notes)


def _spec(template: Json, least: int, most: int, policy: Json, notes: list[str]) -> Json:
    spec: Json = {"replicas": 1}
    if most > 1:
        spec["gang"] = {"minSize": least, "maxSize": most}
    if policy.get("backoffLimit") is not None:
        spec["maxRestarts"] = policy["backoffLimit"]
    if policy.get("ttlSecondsAfterFinished") is not None:
        spec["ttlSecondsAfterFinished"] = policy["ttlSecondsAfterFinished"]
    if policy.get("suspend"):
        spec["suspend"] = True
    job: Json = {"template": template}
    if policy.get("activeDeadlineSeconds") is not None:
        job["activeDeadlineSeconds"] = policy["activeDeadlineSeconds"]
    known = {"backoffLimit", "ttlSecondsAfterFinished", "suspend", "activeDeadlineSeconds"}
    if left := sorted(policy.keys() - known - _MET_OTHERWISE):
        notes.append(f"runPolicy: {', '.join(left)} left out")
    return spec | {"jobTemplate": {"spec": job}}


def _set_processes(template: Json, number: object) -> None:
    """Say how many processes each member starts, unless that is the number of its GPUs."""
    containers = (template.get("spec") or {}).get("containers") or []
    if not containers or not str(number or "").isdecimal():
        return  # "auto" and "gpu" mean what Outlast sets anyway
    limits = (containers[0].get("resources") or {}).get("limits") or {}
    if str(limits.get(GPU_RESOURCE)) != str(number):
        containers[0].setdefault("env", []).append({"name": PROCESSES, "value": str(number)})


def _read_pod(pod: Json, notes: list[str]) -> None:
    """Leave out what belongs to the other operator, and tell what does not go with Outlast."""
    pod.pop("restartPolicy", None)  # Outlast starts all members again itself
    for container in pod.get("containers") or []:
        ports = [each for each in container.pop("ports", []) if each.get("name") != "pytorchjob-port"]
        if ports:
            container["ports"] = ports
        words = " ".join(map(str, [*container.get("command", []), *container.get("args", [])]))
        if options := sorted(set(_TORCHRUN.findall(words))):
            notes.append(
                f"container {container['name']}: remove {', '.join(options)}: options win over the variables that "
                "Outlast sets"
            )
        if named := sorted({each["name"] for each in container.get("env") or []} & _MEETING):
            notes.append(f"container {container['name']}: remove {', '.join(named)} from env: Outlast sets them")
