"""What a crowd is made of: nodes with one GPU each, and jobs of two replicas that take them."""

from __future__ import annotations

import time

from api import names
from sandbox.kube_client import Json

ZONE = "us-central1-a"


def node(name: str) -> Json:
    """Make a Node as its kubelet registers it."""
    labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": ZONE}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def node_status() -> Json:
    """Make the status of a Ready Node with one GPU."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    room = {"cpu": "8", "memory": "64Gi", "pods": "110", names.GPU_RESOURCE: "1"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ok"}
    empty = ("machineID", "systemUUID", "bootID", "kubeProxyVersion")
    told = {"architecture": "amd64", "operatingSystem": "linux", "osImage": "Ubuntu", "kernelVersion": "6.8"}
    told |= {"containerRuntimeVersion": "containerd://2.1", "kubeletVersion": "v1.34.0", **dict.fromkeys(empty, "")}
    moments = {"lastHeartbeatTime": now, "lastTransitionTime": now}
    return {"status": {"capacity": room, "allocatable": room, "conditions": [{**ready, **moments}], "nodeInfo": told}}


def machine(name: str, zone: str = ZONE) -> Json:
    """Make the SpotInstanceVM by which jobs buy once no GPU is free."""
    gcp = {"project": "my-project", "zone": zone, "machineType": "n1-standard-4"}
    image, gpu = "ubuntu-os-cloud/ubuntu-2404-lts-amd64", {"type": "nvidia-tesla-t4", "count": 1}
    spec = {"vmImage": image, "gpu": gpu, "gcp": gcp}
    return {"apiVersion": names.API_VERSION, "kind": "SpotInstanceVM", "metadata": {"name": name}, "spec": spec}


def job(name: str, machine: str, registry: str, replicas: int = 2) -> Json:
    """Make a SpotInstanceJob whose replicas want a GPU each."""
    container = {
        "name": "train",
        "image": "docker.io/library/python:3.13-slim",
        "command": ["python"],
        "resources": {"limits": {names.GPU_RESOURCE: 1}},
    }
    return {
        "apiVersion": names.API_VERSION,
        "kind": "SpotInstanceJob",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "spotInstanceVMRef": {"name": machine},
            "checkpointConfig": {
                "checkpointImageRepo": f"{registry}/crowd/{name}",
                "checkpointInterval": "6h",
                "checkpointRepoCredentialRef": {"name": CREDENTIALS["metadata"]["name"]},
            },
            "jobTemplate": {"spec": {"template": {"spec": {"containers": [container]}}}},
        },
    }


CREDENTIALS: Json = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "registry"},
    "type": "Opaque",
    "stringData": {"username": "crowd", "password": "crowd"},
}
