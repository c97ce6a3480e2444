"""A SpotInstanceJob in a real cluster, and what many tests do with it."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from temporalio.testing import ActivityEnvironment

from activities.documents.identity import parse_grants
from activities.network.gate import Gate
from activities.network.networks import ALLOWED, networks
from activities.signatures import CreateReplica, LoadJob, ReplicaRef
from api import names
from api.views import ReplicaView
from clients.kube import Kube, path
from tests.activities.rights import acting

T = TypeVar("T")
Json = dict[str, Any]

JOB_ID = "0a1b2c3d"
VM = {
    "vmImage": "ubuntu-os-cloud/ubuntu-2404-lts-amd64",
    "gcp": {"project": "p", "zone": "us-central1-a", "machineType": "n1-standard-4"},
}


LENT = parse_grants("*: gcp://* gs://* s3://* azure://*", own="")
"""The grants of an installation that lends the worker's identity to everybody."""


def loopback_gate() -> Gate:
    """Make the worker's way to registries and buckets, with loopback allowed as in the sandbox."""
    return Gate(networks({ALLOWED: "127.0.0.0/8"}))


async def run(activity: Callable[[Any], Awaitable[T]], request: Any) -> T:
    """Run an activity as a worker would, with the worker's rights."""
    with acting():
        found: T = await ActivityEnvironment().run(activity, request)
    return found


async def eventually(what: str, check: Callable[[], Awaitable[T | None]], seconds: float = 150) -> T:
    """Wait until ``check`` returns something true, and return it."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                if found := await check():
                    return found
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{what}: not within {seconds} s") from None


def training(steps: int = 100_000, **container: Any) -> Json:
    """Make a jobTemplate of the sandbox's training, with a step each 50 ms at the speed of the tests' nodes."""
    env = [{"name": "SANDBOX_STEPS", "value": str(steps)}]
    main = {"name": "trainer", "image": "pytorch/pytorch:2.9", "env": env, **container}
    return {"spec": {"template": {"spec": {"containers": [main]}}}}


@dataclass(frozen=True)
class World:
    """One SpotInstanceJob, with its namespace."""

    kube: Kube
    job: LoadJob

    @classmethod
    async def create(cls, kube: Kube, namespace: str) -> "World":
        """Apply the job and the VM that it names."""
        await cls._create(kube, namespace, "SpotInstanceVM", "spot", VM)
        spec = {
            "jobTemplate": training(),
            "checkpointConfig": {"checkpointImageRepo": "gcr.io/p/repo"},
            "spotInstanceVMRef": {"name": "spot"},
        }
        made = await cls._create(kube, namespace, "SpotInstanceJob", "resnet", spec)
        return cls(kube, LoadJob(namespace=namespace, name="resnet", uid=made["metadata"]["uid"], job_id=JOB_ID))

    @staticmethod
    async def _create(kube: Kube, namespace: str, kind: str, name: str, spec: Json) -> Json:
        body = {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
        return await kube.create(path(names.API_VERSION, f"{kind.lower()}s", namespace), body)

    def path(self, api_version: str, plural: str, name: str | None = None) -> str:
        """Make a path in the job's namespace."""
        return path(api_version, plural, self.job.namespace, name)

    @property
    def job_path(self) -> str:
        """Return the path of the SpotInstanceJob."""
        return self.path(names.API_VERSION, names.JOB_PLURAL, self.job.name)

    @property
    def vm_path(self) -> str:
        """Return the path of the SpotInstanceVM."""
        return self.path(names.API_VERSION, names.VM_PLURAL, "spot")

    async def secret(self, name: str, **entries: str) -> str:
        """Create a Secret and return its path."""
        data = {key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in entries.items()}
        await self.kube.create(self.path("v1", "secrets"), {"metadata": {"name": name}, "data": data})
        return self.path("v1", "secrets", name)

    def replica(self, replica: int = 0, incarnation: int = 1) -> ReplicaRef:
        """Name one incarnation."""
        return ReplicaRef(job=self.job, replica=replica, incarnation=incarnation)

    def create_replica(self, *nodes: str, incarnation: int = 1, **more: Any) -> CreateReplica:
        """Make the request to create an incarnation of replica 0."""
        request: Json = {"job_template": training(), "replica": 0, "bought": False, **more}
        return CreateReplica(job=self.job, incarnation=incarnation, nodes=list(nodes) or ["nowhere"], **request)

    async def running(self, observe: Callable[[ReplicaRef], Awaitable[ReplicaView]], ref: ReplicaRef) -> ReplicaView:
        """Wait until a replica's pod runs."""

        async def runs() -> ReplicaView | None:
            view = await run(observe, ref)
            return view if view.pod is not None and view.pod.phase == "Running" and view.pod.started_at else None

        return await eventually(f"replica {ref.replica} runs", runs)
