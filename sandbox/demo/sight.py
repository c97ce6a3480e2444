"""One SpotInstanceJob as it can be seen: its status, and what exists for it in the cluster and the cloud."""

from __future__ import annotations

from sandbox.demo.observer import Json, Observer, holds
from sandbox.demo.trainings import Training, Trainings
from sandbox.errors import SandboxError

KINDS_OF_A_JOB = ("spotinstancejobs", "spotinstancevms", "checkpointbackups", "jobs.batch", "pods")


class JobSight:
    """Reads one job and waits for nothing: it knows what the observer and the trainings' logs have brought so far."""

    def __init__(self, observer: Observer, trainings: Trainings, namespace: str, name: str) -> None:
        self.observer = observer
        self.trainings = trainings
        self.namespace = namespace
        self.name = name
        self._id = ""

    @property
    def object(self) -> Json | None:
        """The SpotInstanceJob; None if it does not exist, or not any more."""
        return self.observer.get("spotinstancejobs", self.name, self.namespace)

    @property
    def status(self) -> Json:
        """Its status, empty before there is one."""
        return (self.object or {}).get("status") or {}

    @property
    def id(self) -> str:
        """The job's id, which is in all its labels and tags. Empty before its workflow starts; kept once the job is
        gone.
        """
        self._id = str(self.status.get("jobID") or self._id)
        return self._id

    def entry(self, replica: int) -> Json:
        """Return the replica's entry in the status, empty before there is one."""
        entries = self.status.get("jobStatuses") or []
        return next((each for each in entries if each.get("replica") == replica), {})

    def phase(self, replica: int) -> str:
        """Return the replica's phase, empty before there is one."""
        return str(self.entry(replica).get("phase") or "")

    def run(self, replicas: int) -> bool:
        """True if replicas 0 to ``replicas`` - 1 are in phase Running."""
        return all(self.phase(replica) == "Running" for replica in range(replicas))

    def vm(self, replica: int) -> str:
        """Return the name of the VM that was bought for the replica, which is also the name of its Node."""
        return str(self.entry(replica).get("vmName") or "")

    def training(self, replica: int, member: int = 0) -> Training:
        """Return the log of the replica's newest incarnation, or that of another pod of it.

        Raises:
            SandboxError: the replica has not run yet.
        """
        found = self.trainings.newest(self.id, replica, member)
        if found is None:
            raise SandboxError(f"replica {replica} of {self.namespace}/{self.name} has not run yet")
        return found

    def step(self, replica: int) -> int:
        """Return the last step that the replica's newest incarnation has reported, 0 if none."""
        found = self.trainings.newest(self.id, replica)
        return (found.last or 0) if found else 0

    def ready_nodes(self) -> list[str]:
        """Return the names of the nodes that were bought for this job and are Ready."""
        nodes = self.observer.all("nodes", job=self.id) if self.id else []
        return sorted(each["metadata"]["name"] for each in nodes if holds(each, "Ready"))

    def completed_backups(self, pod: str | None = None, since: float = 0) -> list[Json]:
        """Return the CheckpointBackups, of this pod if given, that are Completed since then (Unix time), in order."""
        found: dict[str, Json] = {}
        for change in self.observer.history:
            if change.kind != "checkpointbackups" or change.object["metadata"]["namespace"] != self.namespace:
                continue
            of_pod = pod is None or change.object["spec"]["podRef"]["name"] == pod
            done = (change.object.get("status") or {}).get("phase") == "Completed"
            if of_pod and done and change.at >= since:
                found.setdefault(change.name, change.object)
        return list(found.values())

    def left_over(self) -> list[str]:
        """Return what still exists in the job's namespace or of its VMs and Nodes, as kind/name."""
        things = [(kind, each) for kind in KINDS_OF_A_JOB for each in self.observer.all(kind, self.namespace)]
        things += [("nodes", node) for node in self.observer.all("nodes") if self._is_mine(node["metadata"]["name"])]
        machines = [vm["name"] for vm in self.observer.vms if self._is_mine(vm["name"])]
        return [f"vm/{name}" for name in machines] + [f"{kind}/{each['metadata']['name']}" for kind, each in things]

    def _is_mine(self, vm: str) -> bool:
        return bool(self.id) and vm.startswith(f"outlast-{self.id}-")


def image_of(backup: Json) -> str:
    """Return the image of a Completed CheckpointBackup with the registry's host, which the operator leaves out."""
    host = backup["spec"]["registry"]["url"].removeprefix("http://").removeprefix("https://").rstrip("/")
    built = next(each for each in backup["status"]["builtImages"] if each.get("pushed"))
    return f"{host}/{built['imageName']}"


def tag_of(image: str) -> str:
    """Return the tag of an image, which may also have a digest."""
    return image.partition("@")[0].rpartition(":")[2]


def progress_of(image: str) -> int:
    """Return the progress of the training in one of Outlast's images, as the tag says it."""
    return int(tag_of(image).split("-p")[1].split("-")[0])
