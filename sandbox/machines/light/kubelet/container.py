"""One container of a pod: pulled, created, started, and restarted according to the pod's restart policy."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

from sandbox.kube_client import UNREACHABLE, ApiError
from sandbox.machines.light.kubelet.checkpoint import Checkpoint
from sandbox.machines.light.kubelet.gang import Seat
from sandbox.machines.light.kubelet.images import Image, PullError
from sandbox.machines.light.kubelet.logs import ContainerLog
from sandbox.machines.light.kubelet.process import OUR_PROGRAM, CheckpointError, Json, Process, RealProcess
from sandbox.machines.light.kubelet.runtime import PodContext, Stopped, now, write_event
from sandbox.machines.light.kubelet.service_account import write_kubeconfig
from sandbox.machines.light.kubelet.training import IDENTITY, LightTraining, Memory
from sandbox.machines.light.kubelet.volumes import MissingSource, expand

FIRST_BACK_OFF = 10.0
LONGEST_BACK_OFF = 300.0
RETRY_SECONDS = 2.0
DUMP_SECONDS = 4.0
PULL_SECONDS = "SANDBOX_PULL_SECONDS"
"""An environment variable of a container: how long its image takes to be pulled, before each start of it."""
LAYERS = "var/lib/containers/storage/overlay"
"""The directory in which CRI-O keeps the writable layers of containers, each in ``<id>/diff``."""


def init_containers(pod: Json) -> list[Json]:
    """Return the containers that run before the others, without sidecars: on a light machine they do nothing."""
    return [each for each in pod["spec"].get("initContainers", ()) if each.get("restartPolicy") != "Always"]


class CreateError(Exception):
    """The runtime refuses to create the container."""


class Container:
    """Runs one container; ``state`` and ``last_state`` are as in the Pod's status. Durations are emulated ones."""

    def __init__(self, spec: Json, context: PodContext, *, init: bool = False) -> None:
        self.spec = spec
        self.name: str = spec["name"]
        self.init = init
        waits = init or not init_containers(context.pod)
        self.state: Json = {"waiting": {"reason": "ContainerCreating" if waits else "PodInitializing"}}
        self.last_state: Json = {}
        self.restarts = 0
        self.image = Image(id="")
        self._id = ""
        self._context = context
        self._process: Process | None = None

    async def run(self) -> None:
        """Run it until it is not restarted any more.

        Raises:
            Stopped: the pod is stopped while the container does not run.
        """
        back_off = 0.0
        while True:
            self.image = await self._pull()
            self._process = await self._create()
            if self._context.stopping.is_set():  # it was stopped while the container was created
                self._process.terminate()
            self._set({"running": {"startedAt": now()}})
            code = await self._process.wait()
            self._process = None
            self._set({"terminated": self._terminated(code)})
            if self._context.stopping.is_set() or not self._starts_again(code):
                return
            # The first restart comes at once, as the kubelet does it.
            if back_off:
                message = f"back-off {back_off:.0f}s restarting failed container={self.name}"
                self._set_waiting("CrashLoopBackOff", message)
                await self._context.pause(back_off)
            back_off = min(max(2 * back_off, FIRST_BACK_OFF), LONGEST_BACK_OFF)
            self.restarts += 1

    def terminate(self) -> None:
        """Send SIGTERM to its process, if it has one."""
        if self._process:
            self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to its process, if it has one."""
        if self._process:
            self._process.kill()

    def vanish(self) -> None:
        """End its process, if it has one, with its machine."""
        if self._process:
            self._process.vanish()

    async def dead(self) -> None:
        """Wait until its process, if it has one, has ended."""
        if self._process:
            await self._process.wait()

    async def checkpoint(self, path: Path, timeout: float | None) -> None:
        """Dump it into an archive at ``path``, within ``timeout`` real seconds.

        Raises:
            CheckpointError: it cannot be dumped.
        """
        if self._process is None:
            raise CheckpointError(f'container not found ("{self.name}")')
        seconds = self._context.node.scaled(DUMP_SECONDS)
        if timeout and seconds > timeout:
            await self._process.dump(timeout)
            raise CheckpointError("context deadline exceeded")
        probing = asyncio.create_task(self._probe_in_vain())
        try:
            memory = await self._process.dump(seconds)
        finally:
            probing.cancel()
        # If the container was itself restored, its base is still the first image.
        base = self.image.checkpoint.base_image if self.image.checkpoint else self.spec["image"]
        Checkpoint(self.name, base, tuple(self._mounts()), memory).write(path, now())

    async def _probe_in_vain(self) -> None:
        """Stop a process whose livenessProbe runs out of failures: while it is dumped it answers no probe."""
        probe, pod = self.spec.get("livenessProbe"), self._context.pod["spec"]
        if probe is None:
            return
        await asyncio.sleep(self._context.node.scaled(probe["periodSeconds"] * probe["failureThreshold"]))
        self.terminate()
        grace = probe.get("terminationGracePeriodSeconds", pod.get("terminationGracePeriodSeconds", 30))
        await asyncio.sleep(self._context.node.scaled(grace))
        self.kill()

    def end_unstarted(self) -> None:
        """Give it the final state that the kubelet gives to a container that never started in the stopped pod."""
        if "terminated" in self.state:
            return
        message = "The container could not be located when the pod was terminated"
        unknown = {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": message}
        self.state = {"terminated": self.last_state.get("terminated", unknown)}

    @property
    def running(self) -> bool:
        """True if its process runs."""
        return "running" in self.state

    @property
    def has_started(self) -> bool:
        """True if it ever ran."""
        return "waiting" not in self.state or bool(self.last_state)

    @property
    def exit_code(self) -> int | None:
        """How it ended; None if it has not, or is restarted."""
        code: int | None = self.state.get("terminated", {}).get("exitCode")
        return code

    @property
    def status(self) -> Json:
        """The ContainerStatus."""
        return {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": self.image.id,
            "containerID": self._id,
            "state": self.state,
            "lastState": self.last_state,
            "ready": self.exit_code == 0 if self.init else self.running,
            "started": self.running,
            "restartCount": self.restarts,
        }

    async def _pull(self) -> Image:
        back_off = FIRST_BACK_OFF
        while True:
            try:
                await self._download()
                return await self._context.node.images.get(self._context.pod, self.spec)
            except PullError as error:
                reason, why = error.reason, str(error)
            self._set_waiting(reason, why)
            await self._context.pause(RETRY_SECONDS)
            # The kubelet keeps the reason in the message while it waits (kubernetes/kubernetes#127918, since 1.32).
            self._set_waiting("ImagePullBackOff", f'Back-off pulling image "{self.spec["image"]}": {reason}: {why}')
            await self._context.pause(back_off)
            back_off = min(2 * back_off, LONGEST_BACK_OFF)

    async def _download(self) -> None:
        """Take as long as ``SANDBOX_PULL_SECONDS`` of its environment says, and write the Events of a kubelet."""
        seconds = self._knob(PULL_SECONDS)
        if not seconds:
            return
        image = self.spec["image"]
        await write_event(self._context, "Pulling", f'Pulling image "{image}"')
        await self._context.pause(seconds)
        await write_event(self._context, "Pulled", f'Successfully pulled image "{image}" in {seconds:g}s')

    def _knob(self, name: str) -> float:
        given = next((each.get("value") for each in self.spec.get("env", ()) if each["name"] == name), None)
        return float(given or 0)

    async def _create(self) -> Process:
        back_off = RETRY_SECONDS
        while True:
            try:
                env = await self._context.node.sources.environment(self._context.pod, self.spec)
                return await self._start(env)
            except MissingSource as error:
                self._set_waiting("CreateContainerConfigError", str(error))
            except (CreateError, ApiError, *UNREACHABLE) as error:
                self._set_waiting("CreateContainerError", str(error))
            await self._context.pause(back_off)
            back_off = min(2 * back_off, LONGEST_BACK_OFF)

    async def _start(self, env: dict[str, str]) -> Process:
        context, node = self._context, self._context.node
        command = [expand(part, env) for part in (*self.spec.get("command", ()), *self.spec.get("args", ()))]
        if is_ours := tuple(command[: len(OUR_PROGRAM)]) == OUR_PROGRAM:
            env = {**env, **node.environment, "KUBECONFIG": str(await write_kubeconfig(context))}
        log = ContainerLog(context.log_path(self.name, self.restarts))
        mounts = self._mounts()
        if context.stopping.is_set():
            raise Stopped
        self._id = f"cri-o://{uuid4().hex}{uuid4().hex}"
        if is_ours:
            return await RealProcess.start(command[1:], env, log.write)
        if self.init:
            env = {"SANDBOX_STEPS": "0", **env}
        if (checkpoint := self.image.checkpoint) is None:
            memory = Memory(step=0, environment=env, hostname=env["HOSTNAME"])
        elif refusal := checkpoint.refusal(self.name, mounts):
            raise CreateError(refusal)
        else:
            memory = Memory(**checkpoint.memory)
        layer = node.root / LAYERS / self._id.rpartition("/")[2] / "diff"
        layer.mkdir(parents=True)
        seat = None if self.init else Seat.of(context.pod, self.name, env, mounts.get(IDENTITY))
        return LightTraining(memory, mounts, log.write, node.speed, layer, seat)

    def _mounts(self) -> dict[str, Path]:
        """Return the container's mounts of volumes: path in the container, and path on the node."""
        volumes = self._context.mounts
        mounts = self.spec.get("volumeMounts", ())
        return {mount["mountPath"]: volumes[mount["name"]] for mount in mounts if mount["name"] in volumes}

    def _starts_again(self, code: int) -> bool:
        policy = self._context.pod["spec"].get("restartPolicy", "Always")
        return (policy == "Always" and not self.init) or (policy != "Never" and code != 0)

    def _terminated(self, code: int) -> Json:
        return {
            "exitCode": code,
            "reason": "Error" if code else "Completed",
            "startedAt": self.state["running"]["startedAt"],
            "finishedAt": now(),
            "containerID": self._id,
        }

    def _set_waiting(self, reason: str, message: str) -> None:
        self._set({"waiting": {"reason": reason, "message": message}})

    def _set(self, state: Json) -> None:
        if "terminated" in self.state:
            self.last_state = self.state
        self.state = state
        self._context.changed()
